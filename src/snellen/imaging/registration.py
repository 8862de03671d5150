"""How well one picture, laid on another by an affine map, shows the same: band by band, where both have content.

This room knows two comparable sketches and a first guess. It must not know samples or thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.imaging.comparable import Coarse, Comparable, Shades, blur, erode
from snellen.imaging.keypoints import Affine, is_plausible

BANDS_PX = ((1.0, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, 16.0))
_STEPS = 30
_CLOSE_ENOUGH = 1e-3
_LEAST_OVERLAP_PX = 400
_RIM_PX = 2
_ROUGH_PX, _FINE_PX = 7, 3
_LEAST_GLANCE_PX = 25
_LAST_ROW = np.array([[0.0, 0.0, 1.0]])
_FLAT_LEVELS = 0.5


@dataclass(frozen=True)
class Registration:
    """`transform` `(2, 3)` takes points of the first picture to the second; `correlations`: one a band of `BANDS_PX`.

    `overlap` is the common part of both as a share of the smaller one, `agreement` how far the borders of the two
    fields of view fall together where both frames lie (intersection over union).
    """

    transform: Affine
    correlations: NDArray[np.float64]
    overlap: float
    agreement: float


def refine(first: Comparable, second: Comparable, guess: Affine, *, is_rough: bool = False) -> Affine | None:
    """The guess improved on the details at half the resolution (ECC, Evangelidis and Psarakis 2008); None where that
    leads nowhere. A rough guess is improved on blurred details at a quarter first.
    """
    found = guess
    try:
        if is_rough:
            found = _climb(first.quarter, second.quarter, found, _ROUGH_PX)
        found = _climb(first.half, second.half, found, _FINE_PX)
    except cv2.error:  # it does not converge
        return None
    return found if is_plausible(found) else None


def settle(first: Comparable, second: Comparable, refined: Affine) -> Affine:
    """The same at the whole resolution, which takes ten times as long; as it was where that leads nowhere."""
    try:
        found = _climb(first.same, second.same, refined, _FINE_PX)
    except cv2.error:
        return refined
    return found if is_plausible(found) else refined


def _climb(first: Coarse, second: Coarse, guess: Affine, blurred_px: int) -> Affine:
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _STEPS, _CLOSE_ENOUGH)
    begin = np.ascontiguousarray(_to_coarse(first, second, guess), np.float32)
    _, better = cv2.findTransformECC(
        first.detail, second.detail, begin, cv2.MOTION_AFFINE, criteria, second.inside, blurred_px
    )
    whole = np.vstack([np.asarray(better, np.float64), _LAST_ROW])
    return np.asarray((np.linalg.inv(second.scale) @ whole @ first.scale)[:2], np.float64)


def _to_coarse(first: Coarse, second: Coarse, transform: Affine) -> Affine:
    return np.asarray((second.scale @ np.vstack([transform, _LAST_ROW]) @ np.linalg.inv(first.scale))[:2], np.float64)


def glance(first: Comparable, second: Comparable, transform: Affine) -> float:
    """The correlation of the coarse details where both have some, at a quarter of the resolution; -1 where none is."""
    one, two = first.quarter, second.quarter
    laid_on = _to_coarse(one, two, transform)
    size = (one.detail.shape[1], one.detail.shape[0])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(two.detail, laid_on, size, flags=how)
    common = (cv2.warpAffine(two.inside, laid_on, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP) > 0) & (
        one.inside > 0
    )
    if common.sum() < _LEAST_GLANCE_PX:
        return -1.0
    a, b = one.detail[common], laid[common]
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).mean() / max(float(np.sqrt((a * a).mean() * (b * b).mean())), 1e-9))


def measure(first: Comparable, second: Comparable, transform: Affine) -> Registration | None:
    """What both show in the pixels of the coarser one; None where they hardly overlap."""
    if np.linalg.det(transform[:, :2]) >= 1:
        return _measure_on_first(first, second, transform)
    # the second is the coarser one; of two of one size the inverse may be below 1 too, by rounding
    other = _measure_on_first(second, first, np.asarray(cv2.invertAffineTransform(transform), np.float64))
    return None if other is None else replace(other, transform=transform)


def _measure_on_first(first: Comparable, second: Comparable, transform: Affine) -> Registration | None:
    size = (first.grey.shape[1], first.grey.shape[0])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    scale = float(np.sqrt(np.linalg.det(transform[:, :2])))
    source = cv2.GaussianBlur(second.grey, (0, 0), 0.5 * scale) if scale > 1.2 else second.grey
    laid = cv2.warpAffine(source, transform, size, flags=how)
    framed = cv2.warpAffine(np.ones(second.grey.shape, np.float32), transform, size, flags=how) > 0.999
    laid_whole = cv2.warpAffine(second.whole.astype(np.float32), transform, size, flags=how) > 0.5
    both = first.whole & laid_whole & framed
    smaller = min(first.whole.sum(), second.whole.sum() / scale**2)
    common = erode(both, _RIM_PX)
    if common.sum() < _LEAST_OVERLAP_PX:
        return None
    either = (first.whole | laid_whole) & framed
    correlations = _compare_bands(first.grey, np.asarray(laid, np.float32), both, common)
    return Registration(transform, correlations, float(both.sum() / smaller), float(both.sum() / max(1, either.sum())))


def _compare_bands(
    one: Shades, other: Shades, both: NDArray[np.bool_], common: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Each band over its own local spread: a bright rim, a burnt-in mark or glare counts no more than the rest."""
    weight = both.astype(np.float32)
    under = blur(weight, BANDS_PX[0][0])
    before = (blur(one * weight, BANDS_PX[0][0], under), blur(other * weight, BANDS_PX[0][0], under))
    found = []
    for _, sigma in BANDS_PX:
        under, around = blur(weight, sigma), blur(weight, 2 * sigma)
        smooth = (blur(one * weight, sigma, under), blur(other * weight, sigma, under))
        a, b = (
            _even_out((near - far) * weight, 2 * sigma, around)[common]
            for near, far in zip(before, smooth, strict=True)
        )
        a, b = a - a.mean(), b - b.mean()
        found.append(float((a * b).mean() / max(float(np.sqrt((a * a).mean() * (b * b).mean())), 1e-9)))
        before = smooth
    return np.array(found)


def _even_out(band: Shades, sigma: float, around: Shades) -> NDArray[np.float64]:
    spread = np.sqrt(blur(band * band, sigma, around))
    return np.asarray(band / (spread + _FLAT_LEVELS), np.float64)
