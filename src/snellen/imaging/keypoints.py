"""Local features (SIFT) of a picture and of its mirror image, and how two pictures fit by them.

This room knows comparable sketches. It must not know samples or what is decided of a fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.imaging.comparable import Comparable

Affine = NDArray[np.float64]
_SHADE = 35.0
_SEARCHED_PX = 160
_LEAST_ALIKE = 0.8
_NEAR_PX = 9.0
_CLOSE_PX = 4.0
_FEWEST = 4
_FURTHEST = 3.0


@dataclass(frozen=True)
class Features:
    """`points` `(n, 2)` as (x, y), `arms` `(n, 2)` as long as the feature is large and pointing where it points,
    `codes` `(n, 128)` are RootSIFT (Arandjelović and Zisserman 2012) in steps of 1/255.
    """

    points: NDArray[np.float32]
    arms: NDArray[np.float32]
    codes: NDArray[np.uint8]
    width: int

    @property
    def descriptors(self) -> NDArray[np.float32]:
        """`(n, 128)`, each of length about 1."""
        return self.codes.astype(np.float32) / np.float32(255)

    def mirror(self) -> Features:
        """Those of the picture mirrored left to right, without a second search."""
        points, arms = self.points.copy(), self.arms.copy()
        points[:, 0] = self.width - 1 - points[:, 0]
        arms[:, 0] *= -1
        return Features(points, arms, mirror_codes(self.codes), self.width)


def mirror_codes(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What SIFT would find in the mirror image: 4 × 4 cells across and along the arm, 8 directions each."""
    cells = codes.reshape(-1, 4, 4, 8)[:, ::-1, :, (-np.arange(8)) % 8]
    return np.ascontiguousarray(cells.reshape(-1, 128))


def find_features(picture: Comparable, most: int) -> Features:
    """The strongest `most` features inside the field of view, the strongest first.

    They are looked for at `_SEARCHED_PX` on the longer side: SIFT doubles what it is given.
    """
    shades = np.clip(128 + _SHADE * picture.detail, 0, 255).astype(np.uint8)
    height, width = shades.shape
    scale = min(1.0, _SEARCHED_PX / max(height, width))
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    inside = cv2.resize(picture.inside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    search = cv2.SIFT.create(nfeatures=most, contrastThreshold=0.02, edgeThreshold=12)
    found, descriptors = search.detectAndCompute(cv2.resize(shades, size, interpolation=cv2.INTER_AREA), inside)
    if not found:
        empty = np.zeros((0, 2), np.float32)
        return Features(empty, empty, np.zeros((0, 128), np.uint8), width)
    order = sorted(range(len(found)), key=lambda at: (-found[at].response, found[at].pt, found[at].angle))[:most]
    points = (np.asarray([found[at].pt for at in order], np.float32) + 0.5) / np.float32(scale) - 0.5
    angles = np.deg2rad([found[at].angle for at in order])
    arms = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.asarray([[found[at].size / scale] for at in order])
    chosen = descriptors[order]
    roots = np.sqrt(chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1e-6))
    codes = np.clip(np.rint(255 * roots), 0, 255).astype(np.uint8)
    return Features(points, np.asarray(arms, np.float32), codes, width)


@dataclass(frozen=True)
class Fit:
    """`transform` `(2, 3)` takes points of the first picture to the second; `n_inliers` features agree with it."""

    transform: Affine
    n_inliers: int


def fit_features(first: Features, second: Features) -> Fit | None:
    """The affine map that most features agree with; None where too few are alike.

    Each pair of alike features tells a whole similarity (place, size, direction): all of them are tried.
    """
    if min(len(first.points), len(second.points)) < _FEWEST:
        return None
    alike = first.descriptors @ second.descriptors.T
    best = alike.argmax(axis=1)
    is_mutual = alike.argmax(axis=0)[best] == np.arange(len(best))
    chosen = np.flatnonzero(is_mutual & (alike[np.arange(len(best)), best] > _LEAST_ALIKE))
    if len(chosen) < _FEWEST:
        return None
    here, there = _to_complex(first.points[chosen]), _to_complex(second.points[best[chosen]])
    turns = _to_complex(second.arms[best[chosen]]) / _to_complex(first.arms[chosen])
    misses = np.abs(there[None] - (there[:, None] + turns[:, None] * (here[None] - here[:, None])))
    is_inlier = misses < _NEAR_PX
    agreed = is_inlier[is_inlier.sum(axis=1).argmax()]
    return _settle(first.points[chosen], second.points[best[chosen]], agreed)


def _settle(here: NDArray[np.float32], there: NDArray[np.float32], agreed: NDArray[np.bool_]) -> Fit | None:
    """Least squares on those that agree, three times, ever closer."""
    transform: Affine | None = None
    known = np.column_stack([here, np.ones(len(here))]).astype(np.float64)
    for limit in (_NEAR_PX, (_NEAR_PX + _CLOSE_PX) / 2, _CLOSE_PX):
        if agreed.sum() < _FEWEST:
            return None
        solution, *_ = np.linalg.lstsq(known[agreed], there[agreed].astype(np.float64), rcond=None)
        transform = np.asarray(solution.T, np.float64)
        agreed = np.linalg.norm(known @ solution - there, axis=1) < limit
    if transform is None or agreed.sum() < _FEWEST or not is_plausible(transform):
        return None
    return Fit(transform, int(agreed.sum()))


def _to_complex(pairs: NDArray[np.float32]) -> NDArray[np.complex64]:
    return np.asarray(pairs[:, 0] + 1j * pairs[:, 1], np.complex64)


def is_plausible(transform: Affine) -> bool:
    """Whether no side is stretched or shrunk more than threefold, nor one more than twice as much as the other."""
    long, short = np.linalg.svd(transform[:, :2], compute_uv=False)
    return bool(short > 1 / _FURTHEST and long < _FURTHEST and long < 2 * short and np.linalg.det(transform[:, :2]) > 0)
