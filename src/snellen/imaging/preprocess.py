"""The one preprocessing: decoded pixels → uint8 `(size, size, channels)`. Training, tests and serving call it.

Deterministic, NumPy and OpenCV only. Normalisation is not here: it lives inside the model's graph.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.imaging.readers import Levels, Picture, read_location, read_picture
from snellen.imaging.window import apply_window
from snellen.records.plan import PreprocessPlan

_BORDER_LEVEL = 12
_BRIGHT_SHARE = 0.05
_MIN_KEPT = 0.2
_SAMPLED = 100  # lines that the search for the border looks at: an edge is found to one per cent
_MAX_FACTOR = 1.6
_ALIKE = 0.9


def preprocess(values: Levels, plan: PreprocessPlan) -> NDArray[np.uint8]:
    """Pixels `(H, W)` or `(H, W, 3)` RGB, uint8 or wider integers → `(size, size, channels)` uint8.

    Raises PictureError for wider integers where the plan has no window.
    """
    pixels = apply_window(values, plan.window)
    if plan.crop_border:
        top, bottom, left, right = find_content(pixels)
        pixels = pixels[top:bottom, left:right]
    pixels = _set_channels(pixels, plan.channels)
    pixels = _fit(pixels, plan)
    if plan.clahe > 0:
        pixels = _equalise(pixels, plan.clahe)
    return np.ascontiguousarray(pixels.reshape(plan.size, plan.size, plan.channels))


def preprocess_picture(
    source: Path | bytes, plan: PreprocessPlan, *, frame: int | None = None
) -> tuple[NDArray[np.uint8], Picture]:
    """Read one file or its bytes, `frame` of a DICOM that holds several, and preprocess it. Raises PictureError."""
    picture = read_picture(source, min_side_px=choose_min_side_px(plan), background=plan.background, frame=frame)
    return preprocess(picture.pixels, plan), picture


def preprocess_location(root: Path, location: str, plan: PreprocessPlan) -> NDArray[np.uint8]:
    """Read one sample of a cohort and preprocess it. Raises PictureError."""
    picture = read_location(root, location, min_side_px=choose_min_side_px(plan), background=plan.background)
    return preprocess(picture.pixels, plan)


def choose_min_side_px(plan: PreprocessPlan) -> int:
    """How small a JPEG may be decoded: the target, twice that where a border will be cut off."""
    return plan.size * (2 if plan.crop_border else 1)


def find_content(pixels: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Rows and columns `(top, bottom, left, right)` outside which all is nearly black.

    The whole picture where the bright part is implausibly small (a dark or blank picture).
    """
    height, width = pixels.shape[:2]
    step = max(1, min(height, width) // _SAMPLED)
    n_rows, n_columns = height // step, width // step
    small = cv2.resize(pixels, (n_columns, n_rows), interpolation=cv2.INTER_NEAREST)
    is_dark = cv2.inRange(small, (0,) * 4, (_BORDER_LEVEL,) * 4)  # four: OpenCV's scalar, whatever the channels
    # a share, not any one pixel, so that hot pixels and JPEG noise are no content
    rows, columns = (
        np.flatnonzero(cv2.reduce(is_dark, axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F) < 255 * (1 - _BRIGHT_SHARE))
        for axis in (1, 0)
    )
    if len(rows) < _MIN_KEPT * n_rows or len(columns) < _MIN_KEPT * n_columns:
        return 0, height, 0, width
    return (
        int(rows[0]) * height // n_rows,
        (int(rows[-1]) + 1) * height // n_rows,
        int(columns[0]) * width // n_columns,
        (int(columns[-1]) + 1) * width // n_columns,
    )


def _set_channels(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    if channels == 1 and pixels.ndim == 3:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    if channels == 3 and pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    return pixels


def _fit(pixels: NDArray[np.uint8], plan: PreprocessPlan) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if plan.fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        pixels = pixels[top : top + side, left : left + side]
    if plan.fit in ("stretch", "crop"):
        return _resize(pixels, plan.size, plan.size)
    scale = plan.size / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    inner = _resize(pixels, new_height, new_width)
    if new_height == new_width:
        return inner
    top, left = (plan.size - new_height) // 2, (plan.size - new_width) // 2
    bottom, right = plan.size - new_height - top, plan.size - new_width - left
    return np.asarray(cv2.copyMakeBorder(inner, top, bottom, left, right, cv2.BORDER_CONSTANT, value=0), np.uint8)


def _resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if pixels.shape[:2] == (height, width):
        return pixels
    # halves as in an image pyramid, then at most this factor by interpolation: averaging areas by an odd factor
    # takes six times as long, and small lesions look no clearer (docs/experiments.md)
    while True:
        factors = pixels.shape[0] / height, pixels.shape[1] / width
        if max(factors) < _MAX_FACTOR:
            break
        # an axis that shrinks about as much goes along
        rows, columns = (2 if factor > _ALIKE * max(factors) else 1 for factor in factors)
        whole = pixels[: pixels.shape[0] // rows * rows, : pixels.shape[1] // columns * columns]
        half = (whole.shape[1] // columns, whole.shape[0] // rows)
        pixels = np.asarray(cv2.resize(whole, half, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _equalise(pixels: NDArray[np.uint8], clip_limit: float) -> NDArray[np.uint8]:
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994) of the lightness."""
    clahe = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(8, 8))
    if pixels.ndim == 2:
        return np.asarray(clahe.apply(pixels), np.uint8)
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    lab[..., 0] = clahe.apply(np.ascontiguousarray(lab[..., 0]))
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)
