"""Whether letters are burnt into the rim of a picture: names and dates there are a matter of privacy. Reads no word.

Letters are strokes of one shade on a plain ground, of one height, side by side on a line. Anatomy seldom is.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Boxes = NDArray[np.int32]

_MAX_SIDE_PX = 1024
_RIM = 0.22  # letters are looked for in so much of each side
_HEIGHT_PX = (5, 64)
_MAX_HEIGHT = 0.09
_CONTRAST = 50
_PLAIN = 14.0
_CONTRAST_OF_INK = 1.5 * _CONTRAST
_SAME_INK = 25
_PAD = 0.25  # of its height, the ground around a letter that is its own
_MIN_LETTERS = 3


def count_letters(grey: Pixels) -> int:
    """Letters of the longest line of text at the rim of `(H, W)`, 0 where there is no line of three."""
    height, width = grey.shape
    if min(height, width) < 64:
        return 0
    factor = _MAX_SIDE_PX / max(height, width)
    if factor < 1:
        size = (round(width * factor), round(height * factor))
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    height, width = grey.shape
    rim_y, rim_x = round(_RIM * height), round(_RIM * width)
    strips = (grey[:rim_y], grey[-rim_y:], grey[rim_y:-rim_y, :rim_x], grey[rim_y:-rim_y, -rim_x:])
    limit = min(_HEIGHT_PX[1], max(2 * _HEIGHT_PX[0], _MAX_HEIGHT * height))
    return max(_count_in(strip, limit) for strip in strips)


def _count_in(strip: Pixels, max_height: float) -> int:
    """Letters lighter or darker than the ground around them."""
    if min(strip.shape) < 2 * _HEIGHT_PX[0]:
        return 0
    # strokes are thinner than this: opening takes them away and leaves the ground
    kernel = np.ones((2 * round(max_height / 4) + 3,) * 2, np.uint8)
    return max(
        _count_line(strip, np.asarray(cv2.morphologyEx(strip, kind, kernel), np.uint8), max_height, is_light)
        for kind, is_light in ((cv2.MORPH_TOPHAT, True), (cv2.MORPH_BLACKHAT, False))
    )


def _count_line(strip: Pixels, above: Pixels, max_height: float, is_light: bool) -> int:
    mask = (above >= _CONTRAST).astype(np.uint8)
    n, _, facts, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if n < 1 + _MIN_LETTERS or n > 4000:
        return 0
    boxes = [
        facts[index]
        for index in range(1, n)
        if _HEIGHT_PX[0] <= facts[index][cv2.CC_STAT_HEIGHT] <= max_height
        and facts[index][cv2.CC_STAT_WIDTH] <= 1.6 * facts[index][cv2.CC_STAT_HEIGHT]
        and facts[index][cv2.CC_STAT_AREA] >= 0.12 * facts[index][cv2.CC_STAT_HEIGHT] * facts[index][cv2.CC_STAT_WIDTH]
    ]
    if len(boxes) < _MIN_LETTERS:
        return 0
    lines = _find_lines(np.array(boxes))
    return max(
        (len(line) if _is_plain(strip, mask, line) else _count_run(strip, mask, line, is_light) for line in lines),
        default=0,
    )


def _find_lines(boxes: Boxes) -> list[Boxes]:
    """Boxes side by side: equal base or top, like heights, gaps no wider than a letter and a half."""
    left, top, width, height = (boxes[:, at] for at in range(4))
    lines, used = [], np.zeros(len(boxes), bool)
    for start in np.argsort(left, kind="stable"):
        if used[start]:
            continue
        line = [int(start)]
        while True:
            last = line[-1]
            tall = height[last]
            gap = left - (left[last] + width[last])
            fits = (
                ~used
                & (left > left[last])
                & (gap <= 1.5 * tall)
                & (gap >= -0.3 * tall)
                & (np.abs(height - tall) <= 0.35 * tall)
                & (np.abs(top + height - top[last] - tall) <= 0.3 * tall)
            )
            fits[line] = False
            if not fits.any():
                break
            line.append(int(np.flatnonzero(fits)[np.argmin(left[fits])]))
        if len(line) >= _MIN_LETTERS:
            used[line] = True
            lines.append(boxes[line])
    return lines


def _count_run(strip: Pixels, mask: Pixels, line: Boxes, is_light: bool) -> int:
    """Letters side by side whose own ground is plain and whose ink is of one shade: a line may begin on the black
    surround and go on over the anatomy.
    """
    best = run = 0
    last = None
    for box in line[np.argsort(line[:, 0], kind="stable")]:
        ink = _find_ink(strip, mask, box, is_light)
        run = 0 if ink is None else run + 1 if last is not None and abs(ink - last) <= _SAME_INK else 1
        last, best = ink, max(best, run)
    return best if best >= _MIN_LETTERS else 0


def _is_plain(strip: Pixels, mask: Pixels, line: Boxes) -> bool:
    """Whether the ground between the letters is of one shade and the letters themselves are of another."""
    left, top = line[:, 0].min(), line[:, 1].min()
    right, bottom = (line[:, 0] + line[:, 2]).max(), (line[:, 1] + line[:, 3]).max()
    box = strip[top:bottom, left:right].astype(np.float32)
    inside = mask[top:bottom, left:right].astype(bool)
    # the soft edge of a stroke is neither letter nor ground
    near = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    core = cv2.erode(inside.astype(np.uint8), np.ones((2, 2), np.uint8)).astype(bool)
    ground, ink = box[~near], box[core if core.sum() >= 8 else inside]
    if ground.size < 12 or ink.size < 8:
        return False
    share = float(inside.mean())
    spread = float(np.percentile(ground, 90) - np.percentile(ground, 10)) / 2.56
    contrast = abs(float(np.median(ink)) - float(np.median(ground)))
    return 0.1 <= share <= 0.75 and spread <= _PLAIN and contrast >= _CONTRAST_OF_INK


def _find_ink(strip: Pixels, mask: Pixels, box: Boxes, is_light: bool) -> float | None:
    """The shade of a letter, `None` where its ground is not plain or too near to that shade."""
    left, top, width, height = (int(box[at]) for at in range(4))
    pad = max(2, round(_PAD * height))
    rows, columns = slice(max(0, top - pad), top + height + pad), slice(max(0, left - pad), left + width + pad)
    around, inside = strip[rows, columns].astype(np.float32), mask[rows, columns].astype(bool)
    # the soft edge of a stroke is neither letter nor ground
    near = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    ground, ink = around[~near], around[inside]
    if ground.size < 12 or ink.size < 4:
        return None
    spread = float(np.percentile(ground, 90) - np.percentile(ground, 10)) / 2.56
    shade = float(np.percentile(ink, 90 if is_light else 10))
    is_letter = spread <= _PLAIN and abs(shade - float(np.median(ground))) >= _CONTRAST_OF_INK
    return shade if is_letter else None
