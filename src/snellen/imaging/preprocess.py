"""The one preprocessing: decoded pixels → uint8 `(size, size, channels)`. Training, tests and serving call it.

Deterministic, NumPy and OpenCV only. Normalisation is not here: it lives inside the model's graph.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.imaging.readers import Picture, read_location, read_picture
from snellen.records.plan import PreprocessPlan

_BORDER_LEVEL = 12
_BRIGHT_SHARE = 0.05
_MIN_KEPT = 0.2
_AREA_FACTOR = 2.0
_MIN_SIGMA = 0.3  # a narrower 3×3 Gaussian changes no level


def preprocess(pixels: NDArray[np.uint8], plan: PreprocessPlan) -> NDArray[np.uint8]:
    """Pixels `(H, W)` or `(H, W, 3)` RGB, uint8 → `(size, size, channels)` uint8."""
    if plan.crop_border:
        top, bottom, left, right = find_content(pixels)
        pixels = pixels[top:bottom, left:right]
    pixels = _set_channels(pixels, plan.channels)
    pixels = _fit(pixels, plan)
    if plan.clahe > 0:
        pixels = _equalise(pixels, plan.clahe)
    return np.ascontiguousarray(pixels.reshape(plan.size, plan.size, plan.channels))


def preprocess_picture(source: Path | bytes, plan: PreprocessPlan) -> tuple[NDArray[np.uint8], Picture]:
    """Read one file or its bytes and preprocess it. Raises PictureError."""
    picture = read_picture(source, min_side_px=choose_min_side_px(plan))
    return preprocess(picture.pixels, plan), picture


def preprocess_location(root: Path, location: str, plan: PreprocessPlan) -> NDArray[np.uint8]:
    """Read one sample of a cohort and preprocess it. Raises PictureError."""
    return preprocess(read_location(root, location, min_side_px=choose_min_side_px(plan)).pixels, plan)


def choose_min_side_px(plan: PreprocessPlan) -> int:
    """How small a JPEG may be decoded: the target, twice that where a border will be cut off."""
    return plan.size * (2 if plan.crop_border else 1)


def find_content(pixels: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Rows and columns `(top, bottom, left, right)` outside which all is nearly black.

    The whole picture where the bright part is implausibly small (a dark or blank picture).
    """
    height, width = pixels.shape[:2]
    step = max(1, min(height, width) // 200)
    small = pixels[::step, ::step]
    # three comparisons of planes are ten times faster than one maximum over the last axis
    level = small if small.ndim == 2 else np.maximum(np.maximum(small[..., 0], small[..., 1]), small[..., 2])
    is_bright = level > _BORDER_LEVEL
    # a share, not any one pixel, so that hot pixels and JPEG noise are no content
    rows = np.flatnonzero(is_bright.mean(axis=1) > _BRIGHT_SHARE)
    columns = np.flatnonzero(is_bright.mean(axis=0) > _BRIGHT_SHARE)
    if len(rows) < _MIN_KEPT * len(small) or len(columns) < _MIN_KEPT * small.shape[1]:
        return 0, height, 0, width
    return (
        int(rows[0]) * step,
        min(height, (int(rows[-1]) + 1) * step),
        int(columns[0]) * step,
        min(width, (int(columns[-1]) + 1) * step),
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
    canvas = np.zeros((plan.size, plan.size, *pixels.shape[2:]), np.uint8)
    top, left = (plan.size - new_height) // 2, (plan.size - new_width) // 2
    canvas[top : top + new_height, left : left + new_width] = inner
    return canvas


def _resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if pixels.shape[:2] == (height, width):
        return pixels
    pixels = np.ascontiguousarray(pixels)
    factor = max(pixels.shape[0] / height, pixels.shape[1] / width)
    if factor >= _AREA_FACTOR:
        return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    # as wide as the area that a target pixel covers, at a third of the cost of averaging areas
    sigma = float(np.sqrt(max(factor**2 - 1, 0) / 12))
    if sigma > _MIN_SIGMA:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (3, 3), sigma), np.uint8)
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _equalise(pixels: NDArray[np.uint8], clip_limit: float) -> NDArray[np.uint8]:
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994) of the lightness."""
    clahe = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(8, 8))
    if pixels.ndim == 2:
        return np.asarray(clahe.apply(pixels), np.uint8)
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    lab[..., 0] = clahe.apply(np.ascontiguousarray(lab[..., 0]))
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)
