"""Numbers of a picture that need no anatomy: its rim, its colours, how sharp, bright and whole it is.

This room knows decoded pixels. It must not know files, labels or what is normal in a cohort.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.imaging.burnt_text import count_letters
from snellen.imaging.picture import Levels
from snellen.imaging.window import apply_window

Wide = NDArray[np.float64]
Pixels = NDArray[np.uint8]

_SIDES = ("top", "bottom", "left", "right")
_CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")
BORDER = (
    *(f"{side}_{what}" for side in _SIDES for what in ("red", "green", "blue", "spread")),
    *(f"{corner}_{what}" for corner in _CORNERS for what in ("level", "spread", "dark")),
    "ring_dark", "ring_bright", "ring_low", "ring_steps", "ring_equal",
)  # fmt: skip
COLOURS = (
    "red", "green", "blue", "red_spread", "green_spread", "blue_spread", "saturation", "low", "middle", "high",
)  # fmt: skip
QUALITY = ("sharpness", "coarse_sharpness", "overexposed", "brightness", "contrast", "band", "letters")
LOOKS = (*BORDER, *COLOURS, *QUALITY)

_DARK, _BRIGHT, _BURNT = 12, 243, 250
_BORDER_SIDE_PX = 96
_RING_PX = 4
_CORNER_PX = 12
_QUALITY_SIDE_PX = 320
_TILES = 6
_BAND_LEVELS, _SUDDEN_LEVELS = 6, 12
_BLOCK_PX, _LEAP_LEVELS = 8, 24
_COLOURED_LETTERS = 6
_DEEP_SHARES = (0.005, 0.995)


def measure_looks(values: Levels) -> NDArray[np.float32]:
    """The numbers named in LOOKS, of pixels `(H, W)` or `(H, W, 3)`; deeper ones between their own quantiles."""
    pixels = to_shades(values)
    grey = pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    colour = np.repeat(pixels[..., None], 3, 2) if pixels.ndim == 2 else pixels
    small = np.asarray(cv2.resize(colour, (_BORDER_SIDE_PX, _BORDER_SIDE_PX), interpolation=cv2.INTER_AREA), np.uint8)
    found = [
        *_measure_border(small),
        *_measure_ring(grey),
        *_measure_colours(small),
        *_measure_quality(grey),
        _measure_band(grey),
        float(_count_letters(pixels, grey)),
    ]
    return np.array(found, np.float32)


def _count_letters(pixels: Pixels, grey: Pixels) -> int:
    """In grey and, as stamps may be of one pure colour, in the brightest channel: more of them, for there a scan in
    false colours has grains like letters.
    """
    found = count_letters(grey)
    coloured = 0 if pixels.ndim == 2 else count_letters(np.asarray(pixels.max(axis=2), np.uint8))
    return max(found, coloured if coloured >= _COLOURED_LETTERS else 0)


def to_shades(values: Levels) -> Pixels:
    """A picture of more than 8 bits between its own quantiles, to be looked at; the model sees the plan's window."""
    if values.dtype == np.uint8:
        return np.asarray(values, np.uint8)
    low, high = np.quantile(values, _DEEP_SHARES)
    return apply_window(values, (float(low), max(float(high), float(low) + 1)))


def _measure_border(small: Pixels) -> list[float]:
    """Sides without the corners' anatomy in between: mean colour and spread; corners: level, spread, share of dark."""
    ring, corner = _RING_PX, _CORNER_PX
    level = small.mean(axis=2)
    found: list[float] = []
    for side in (small[:ring], small[-ring:], small[:, :ring], small[:, -ring:]):
        found += [*side.reshape(-1, 3).mean(axis=0).tolist(), float(side.mean(axis=2).std())]
    for part in (
        level[:corner, :corner], level[:corner, -corner:], level[-corner:, :corner], level[-corner:, -corner:],
    ):  # fmt: skip
        found += [float(part.mean()), float(part.std()), float((part < _DARK).mean())]
    return found


def _measure_ring(grey: Pixels) -> list[float]:
    """The outermost pixels at full size: what is dark, what is bright, the lowest level, how neighbours differ."""
    lines = [np.asarray(line, np.int16) for line in (grey[0], grey[-1], grey[:, 0], grey[:, -1])]
    ring = np.concatenate(lines)
    steps = np.abs(np.concatenate([np.diff(line) for line in lines] or [ring])) if len(ring) > 4 else np.zeros(1)
    return [
        float((ring < _DARK).mean()),
        float((ring > _BRIGHT).mean()),
        float(np.quantile(ring, 0.05)),
        float(steps.mean()) if len(steps) else 0.0,
        float((steps == 0).mean()) if len(steps) else 1.0,
    ]


def _measure_colours(small: Pixels) -> list[float]:
    planes = [np.ascontiguousarray(small[..., channel]).ravel() for channel in range(3)]
    brightest = np.maximum(np.maximum(planes[0], planes[1]), planes[2]).astype(np.float32)
    darkest = np.minimum(np.minimum(planes[0], planes[1]), planes[2]).astype(np.float32)
    saturation = float(np.mean((brightest - darkest) / np.maximum(brightest, 1)))
    grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
    low, middle, high = _find_quantiles(grey, (0.05, 0.5, 0.95))
    mean, spread = (values.ravel().tolist() for values in cv2.meanStdDev(small))
    return [*mean, *spread, saturation, low, middle, high]


def _measure_quality(grey: Pixels) -> list[float]:
    """Sharpness twice, share of burnt-out pixels, brightness and contrast of what is not dark."""
    small = _shrink(grey)
    counts = np.bincount(small.ravel(), minlength=256)
    lit = counts.copy()
    lit[:_DARK] = 0
    low, middle, high = _find_levels(lit if lit.sum() >= 0.05 * small.size else counts, (0.05, 0.75, 0.95))
    return [*_measure_sharpness(small), float(counts[_BURNT:].sum() / small.size), middle, high - low]


def _find_quantiles(grey: Pixels, shares: tuple[float, ...]) -> list[float]:
    return _find_levels(np.bincount(grey.ravel(), minlength=256), shares)


def _find_levels(counts: NDArray[np.intp], shares: tuple[float, ...]) -> list[float]:
    """The levels below which lie `shares` of all pixels: quantiles of a histogram `(256,)`."""
    cumulated = np.cumsum(counts)
    return [float(np.searchsorted(cumulated, share * cumulated[-1])) for share in shares]


def _measure_sharpness(small: Pixels) -> tuple[float, float]:
    """Fine detail against coarse, and coarse against wide shades, as logarithms; the median of tiles, so that a sharp
    mask around a blurred disc or one sharp letter does not count. A strong blur takes fine and coarse detail alike: the
    second tells it.
    """
    level = small.astype(np.float32)
    fine = cv2.GaussianBlur(level, (5, 5), 1.0)
    coarse = cv2.blur(cv2.blur(fine, (9, 9)), (9, 9))
    wide = cv2.blur(cv2.blur(coarse, (41, 41)), (41, 41))
    tiles = (min(_TILES, small.shape[1]), min(_TILES, small.shape[0]))

    def measure(detail: NDArray[np.float32]) -> Wide:
        squares = cv2.resize(cv2.multiply(detail, detail), tiles, interpolation=cv2.INTER_AREA)
        return np.asarray(np.log(np.sqrt(squares.astype(np.float64)) + 0.05)).ravel()

    details = (level - fine, fine - coarse, coarse - wide)
    finest, middle, widest = (measure(np.asarray(detail, np.float32)) for detail in details)
    brightness = np.asarray(cv2.resize(level, tiles, interpolation=cv2.INTER_AREA)).ravel()
    lit = brightness > 2 * _DARK
    counted = lit if lit.sum() >= _TILES else np.ones_like(lit)
    return float(np.median((finest - middle)[counted])), float(np.median((middle - widest)[counted]))


def _measure_band(grey: Pixels) -> float:
    """The share of the picture, from one side inwards, that is all one shade and has no counterpart opposite."""
    found = 0.0
    for values in (grey, grey.T):
        spread = np.ptp(values.astype(np.int16), axis=1)
        rest = np.flatnonzero(spread >= _BAND_LEVELS)
        if not len(rest):
            continue  # all of it is flat
        first, last = int(rest[0]), len(spread) - 1 - int(rest[-1])
        edge = int(rest[0] if first > last else rest[-1])
        # a JPEG's block of 8 rows may end within the last rows of the flat side, and smear them a little
        near = spread[edge : edge + _BLOCK_PX + 1] if first > last else spread[max(0, edge - _BLOCK_PX) : edge + 1]
        leap = np.abs(np.diff(near)).max() if len(near) > 1 else 0
        # what fades away, as tissue at the rim of a dense film, was not cut off
        if spread[edge] >= _SUDDEN_LEVELS or leap >= _LEAP_LEVELS:
            found = max(found, abs(first - last) / len(spread))
    return found


def _shrink(grey: Pixels) -> Pixels:
    factor = _QUALITY_SIDE_PX / max(grey.shape)
    if factor >= 1:
        return grey
    size = (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor)))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
