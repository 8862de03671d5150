"""Sketches made comparable: the field of view found, slow shades and fine noise removed, contrast evened out.

This room knows one sketch at a time. It must not know other pictures, samples or what is decided of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

Shades = NDArray[np.float32]
Inside = NDArray[np.bool_]
_DARK = 12
_BRIGHT = 243
_MIN_SURROUND = 0.01
_FINE_ENOUGH_PX = 3  # a Gaussian of so many pixels hardly sees them
_FLAT_LEVELS = 1.5  # below this contrast there is nothing but noise and the blocks of JPEG


@dataclass(frozen=True)
class Coarse:
    """The details of a comparable sketch, smaller: `detail` and `inside` `(h, w)`.

    `scale` `(3, 3)` takes points of the sketch to points here.
    """

    detail: Shades
    inside: NDArray[np.uint8]
    scale: NDArray[np.float64]


@dataclass(frozen=True)
class Comparable:
    """`grey` `(h, w)` as it is; `detail` has mean 0 and a spread of about 1 in the field of view, and is 0 elsewhere.

    `whole` is the field of view, `inside` the same without its rim.
    """

    grey: Shades
    detail: Shades
    whole: Inside
    inside: Inside

    @property
    def same(self) -> Coarse:
        """At its own resolution."""
        return Coarse(self.detail, self.inside.astype(np.uint8), np.eye(3))

    @cached_property
    def half(self) -> Coarse:
        """At half the resolution."""
        return _shrink(self, 2)

    @cached_property
    def quarter(self) -> Coarse:
        """At a quarter of the resolution."""
        return _shrink(self, 4)

    def mirror(self) -> Comparable:
        """The same of the picture mirrored left to right."""
        return Comparable(
            np.ascontiguousarray(self.grey[:, ::-1]),
            np.ascontiguousarray(self.detail[:, ::-1]),
            np.ascontiguousarray(self.whole[:, ::-1]),
            np.ascontiguousarray(self.inside[:, ::-1]),
        )


def make_comparable(sketch: NDArray[np.uint8], side_px: int, *, fine: float = 1.0, coarse: float = 12.0) -> Comparable:
    """The sketch at `side_px` on its longer side: what lies between `fine` and `coarse` pixels (sigmas)."""
    grey = _to_grey(sketch)
    inside = find_inside(grey)
    height, width = grey.shape
    scale = side_px / max(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    if (width, height) != size:
        grey = np.asarray(cv2.resize(grey, size, interpolation=how), np.float32)
        inside = np.asarray(cv2.resize(inside.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.999)
    rim_px = max(1, side_px // 96)
    return Comparable(grey, even_out(grey, inside, fine, coarse), inside, erode(inside, rim_px))


def find_inside(grey: Shades) -> Inside:
    """What is picture and not its dark or white surround: flat, reaching the frame, and at least a hundredth of it."""
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    dark = _touching((smooth <= _DARK).astype(np.uint8), None)
    if dark.mean() >= _MIN_SURROUND:
        return ~dark
    bright = _touching((smooth >= _BRIGHT).astype(np.uint8), None)
    if bright.mean() < _MIN_SURROUND:
        return np.ones(grey.shape, np.bool_)
    return ~(bright | _touching((smooth <= _DARK).astype(np.uint8), bright))


def _touching(flags: NDArray[np.uint8], seed: Inside | None) -> Inside:
    """The connected parts of `flags` that reach `seed`, or the frame of the picture."""
    n_parts, parts = cv2.connectedComponents(flags, connectivity=4)
    if n_parts == 1:
        return np.zeros(flags.shape, np.bool_)
    if seed is None:
        reached = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    else:
        reached = np.unique(parts[cv2.dilate(seed.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0])
    return np.asarray(np.isin(parts, reached[reached > 0]))


def even_out(grey: Shades, inside: Inside, fine: float, coarse: float) -> Shades:
    """Band-passed shades over their own local spread; nothing outside takes part (normalised convolution)."""
    weight = inside.astype(np.float32)
    near, far = blur(weight, fine), blur(weight, coarse)
    band = (blur(grey * weight, fine, near) - blur(grey * weight, coarse, far)) * weight
    spread = np.sqrt(blur(band * band, coarse, far))
    return np.asarray(band / (spread + _FLAT_LEVELS) * weight, np.float32)


def blur(values: Shades, sigma: float, under: Shades | None = None) -> Shades:
    """Gaussian, over the blurred weights `under` if they are given; a wide one is computed on fewer pixels."""
    by = int(sigma // _FINE_ENOUGH_PX)
    if by > 1:
        height, width = values.shape
        size = (max(1, round(width / by)), max(1, round(height / by)))
        few = cv2.GaussianBlur(cv2.resize(values, size, interpolation=cv2.INTER_AREA), (0, 0), sigma / by)
        smooth = np.asarray(cv2.resize(few, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    else:
        smooth = np.asarray(cv2.GaussianBlur(values, (0, 0), sigma), np.float32)
    return smooth if under is None else np.asarray(smooth / np.maximum(under, 1e-3), np.float32)


def _to_grey(sketch: NDArray[np.uint8]) -> Shades:
    if sketch.ndim == 2:
        return sketch.astype(np.float32)
    return np.asarray(sketch.astype(np.float32) @ np.asarray([0.299, 0.587, 0.114], np.float32), np.float32)


def erode(inside: Inside, by_px: int) -> Inside:
    """Also at the frame: what lies at an edge was cut differently in a copy."""
    padded = cv2.copyMakeBorder(inside.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(cv2.erode(padded, np.ones((2 * by_px + 1,) * 2, np.uint8))[1:-1, 1:-1] > 0)


def _shrink(picture: Comparable, by: int) -> Coarse:
    height, width = picture.detail.shape
    size = (max(8, round(width / by)), max(8, round(height / by)))
    detail = np.asarray(cv2.resize(picture.detail, size, interpolation=cv2.INTER_AREA), np.float32)
    inside = cv2.resize(picture.inside.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.999
    across, down = size[0] / width, size[1] / height
    # the middle of a pixel is half a pixel from its edge
    scale = np.array([[across, 0, across / 2 - 0.5], [0, down, down / 2 - 0.5], [0, 0, 1]])
    return Coarse(detail, inside.astype(np.uint8), scale)
