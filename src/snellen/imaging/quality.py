"""What a preprocessed picture looks like as a whole: a few facts with names, and a thumbnail as a vector. No model.

Facts are numbers whose quantiles over a cohort say what is usual there; they are no verdict on a picture by themselves.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

FACTS = ("brightness", "highlights", "contrast", "sharpness", "colour", "tint")
LOOK_SIDE = 16
_SMALLEST = 1e-3
Pixels = NDArray[np.uint8]


def compute_facts(pixels: Pixels) -> NDArray[np.float64]:
    """`(H, W, C)` → `FACTS` `(6,)`.

    - brightness: mean of the grey levels, 0 to 255; highlights: their 98th percentile.
    - contrast: natural logarithm of their standard deviation.
    - sharpness: logarithm of the finest detail over the coarse structure; low where a picture is blurred, high where it
      is noisy.
    - colour: mean distance from grey in the plane (a, b) of CIE Lab; tint: mean of b, blue to yellow. 0 of grey ones.
    """
    grey = to_grey(pixels).astype(np.float32)
    smooth, smoother = (cv2.GaussianBlur(grey, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for sigma in (1, 4))
    fine, coarse = float((grey - smooth).std()), float(smoother.std())
    colour, tint = _measure_colour(pixels)
    return np.array(
        [
            float(grey.mean()),
            float(np.percentile(grey, 98)),
            np.log(float(grey.std()) + 1),
            np.log((fine + _SMALLEST) / (coarse + _SMALLEST)),
            colour,
            tint,
        ]
    )


def compute_look(pixels: Pixels) -> NDArray[np.float32]:
    """`(H, W, C)` → `(16 · 16 · C,)`: the picture as a thumbnail, levels over 255."""
    small = cv2.resize(pixels, (LOOK_SIDE, LOOK_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small.reshape(-1) / 255, np.float32)


def to_grey(pixels: Pixels) -> Pixels:
    """`(H, W, C)` → `(H, W)`."""
    return pixels[..., 0] if pixels.shape[2] == 1 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def _measure_colour(pixels: Pixels) -> tuple[float, float]:
    if pixels.shape[2] == 1:
        return 0.0, 0.0
    small = cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_AREA)
    plane = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)[..., 1:].astype(np.float64) - 128
    return float(np.hypot(plane[..., 0], plane[..., 1]).mean()), float(plane[..., 1].mean())
