"""Transformed copies of pictures, made on the fly: what `bench/copies.py` looks for again. Pixels in, pixels out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Make = Callable[[Pixels, np.random.Generator], Pixels]


def compress(quality: int) -> Make:
    def make(pixels: Pixels, _: np.random.Generator) -> Pixels:
        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8)

    return make


def resize(share: float, stretch: float = 1.0) -> Make:
    def make(pixels: Pixels, _: np.random.Generator) -> Pixels:
        height, width = pixels.shape[:2]
        size = (max(8, round(width * share * stretch)), max(8, round(height * share)))
        how = cv2.INTER_AREA if share < 1 else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(pixels, size, interpolation=how), np.uint8)

    return make


def crop(share: float) -> Make:
    """A window with this share of both sides, anywhere."""

    def make(pixels: Pixels, random: np.random.Generator) -> Pixels:
        height, width = pixels.shape[:2]
        h, w = round(height * share), round(width * share)
        top, left = random.integers(height - h + 1), random.integers(width - w + 1)
        return np.ascontiguousarray(pixels[top : top + h, left : left + w])

    return make


def brighten(gain: float, offset: float = 0, gamma: float = 1) -> Make:
    def make(pixels: Pixels, _: np.random.Generator) -> Pixels:
        shades = 255 * (pixels.astype(np.float32) / 255) ** gamma * gain + offset
        return np.clip(np.rint(shades), 0, 255).astype(np.uint8)

    return make


def add_noise(levels: float) -> Make:
    def make(pixels: Pixels, random: np.random.Generator) -> Pixels:
        noisy = pixels + random.normal(0, levels, pixels.shape)
        return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)

    return make


def mirror(axis: int) -> Make:
    return lambda pixels, _: np.ascontiguousarray(np.flip(pixels, axis))


def rotate(degrees: float | None, *, is_framed: bool = True, border: int = cv2.BORDER_CONSTANT) -> Make:
    """About the centre, by any angle where none is given; in the same frame, or in one that holds all."""

    def make(pixels: Pixels, random: np.random.Generator) -> Pixels:
        height, width = pixels.shape[:2]
        angle = random.uniform(5, 355) if degrees is None else degrees
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
        size = (width, height)
        if not is_framed:
            corners = np.abs(turn[:, :2]) @ [width, height]
            size = (round(corners[0]), round(corners[1]))
            turn[:, 2] += (corners - [width, height]) / 2
        return np.asarray(cv2.warpAffine(pixels, turn, size, flags=cv2.INTER_LINEAR, borderMode=border), np.uint8)

    return make


def chain(*steps: Make) -> Make:
    def make(pixels: Pixels, random: np.random.Generator) -> Pixels:
        for step in steps:
            pixels = step(pixels, random)
        return pixels

    return make


KINDS: Mapping[str, Mapping[str, Make]] = {
    "compressed": {"quality 75": compress(75), "quality 30": compress(30), "quality 10": compress(10)},
    "resized": {"50 %": resize(0.5), "25 %": resize(0.25), "150 %": resize(1.5), "stretched 1.4": resize(1.0, 1.4)},
    "cropped": {"90 %": crop(0.9), "80 %": crop(0.8), "60 %": crop(0.6), "40 %": crop(0.4)},
    "brightness": {
        "gain 1.3": brighten(1.3), "gain 0.6": brighten(0.6), "offset 30": brighten(1, 30),
        "gamma 2": brighten(1, 0, 2),
    },
    "noise": {"5 levels": add_noise(5), "15 levels": add_noise(15), "30 levels": add_noise(30)},
    "mirrored": {"left-right": mirror(1), "top-bottom": mirror(0)},
    "rotated": {
        "90°": rotate(90, is_framed=False), "any angle": rotate(None),
        "any angle, frame grows": rotate(None, is_framed=False),
        "any angle, edges mirrored in": rotate(None, border=cv2.BORDER_REFLECT),
    },
    "combined": {
        "rotated, mirrored, noise 8": chain(rotate(None), mirror(1), add_noise(8)),
        "crop 80 %, gain 1.2, quality 50": chain(crop(0.8), brighten(1.2), compress(50)),
        "rotated, crop 75 %, 50 %, quality 60": chain(rotate(None), crop(0.75), resize(0.5), compress(60)),
        "all": chain(rotate(None), mirror(1), crop(0.8), brighten(1.2), add_noise(6), resize(0.7), compress(60)),
    },
}  # fmt: skip
