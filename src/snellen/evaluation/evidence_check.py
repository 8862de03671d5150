"""Whether evidence maps can be believed: two checks on pictures of the split that is evaluated.

Deletion (Petsiuk et al. 2018): what a map calls evidence is blurred away first, and the probability must fall faster
than in a random order: that of the same map moved to another place, because scattered holes would harm any picture more
than one of the same size. Randomisation (Adebayo et al. 2018): with random weights in place of the head the map must
change. This room knows a Predictor and arrays. It must not know figures or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.core.progress import follow
from snellen.inference.explain import CLASS_ACTIVATION, blur_away
from snellen.inference.predictor import Predictor
from snellen.records.evaluation import EvidenceCheck

SHARES = (0.0, 0.03, 0.07, 0.12, 0.2, 0.3, 0.45, 0.7, 1.0)
MOST_PICTURES = {CLASS_ACTIVATION: 16}
_MOST_WHERE_SLOW = 4  # occlusion asks the graph some two hundred times a picture
_CELLS = 16
_MOVES = 2
_RANDOM_HEADS = 2
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]


def check_evidence(predictor: Predictor, pictures: Sequence[Pixels], seed: int) -> EvidenceCheck | None:
    """Both checks on preprocessed pictures `(H, W, C)`, each for the class it is called; None of no picture."""
    explainer = predictor.open_explainer()
    n = min(len(pictures), MOST_PICTURES.get(explainer.method, _MOST_WHERE_SLOW))
    if not n:
        return None
    random = np.random.default_rng(seed)
    chosen = [pictures[at] for at in sorted(random.choice(len(pictures), n, replace=False))]
    by_map, by_random, alike = list[Floats](), list[Floats](), list[list[float]]()
    for pixels in follow(chosen, "Checking evidence maps", n):
        at = predictor.call(pixels)
        own, *others = explainer.explain_beside_random(pixels, at, [seed + k for k in _heads()])
        cells = _pool(own)
        by_map.append(_delete(predictor, pixels, at, cells))
        moved = [np.roll(cells, random.integers(_CELLS // 4, _CELLS - _CELLS // 4, 2), (0, 1)) for _ in range(_MOVES)]
        by_random.append(np.mean([_delete(predictor, pixels, at, each) for each in moved], axis=0))
        alike.append([_correlate(own, other) for other in others])
    return EvidenceCheck(
        method=explainer.method,
        n=n,
        shares=SHARES,
        by_map=_mean(by_map),
        by_random=_mean(by_random),
        n_faster=int(sum(one.mean() < other.mean() for one, other in zip(by_map, by_random, strict=True))),
        random_head=tuple(round(float(np.mean(each)), 4) for each in alike),
    )


def _heads() -> range:
    return range(1, _RANDOM_HEADS + 1)


def _delete(predictor: Predictor, pixels: Pixels, at: int, cells: NDArray[np.float32]) -> Floats:
    """Probability of class `at` with each of `SHARES` of the cells blurred away, those of most evidence first."""
    blurred = blur_away(pixels)
    order = np.argsort(-cells.ravel(), kind="stable")
    rank = np.empty(_CELLS**2)
    rank[order] = np.arange(_CELLS**2) / _CELLS**2
    size = (pixels.shape[1], pixels.shape[0])
    place = cv2.resize(rank.reshape(_CELLS, _CELLS), size, interpolation=cv2.INTER_NEAREST)[..., None]
    steps = np.stack([np.where(place < share, blurred, pixels) for share in SHARES])
    return predictor.score_pixels(steps).probabilities[:, at].astype(np.float64)


def _pool(found: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of the map in each cell."""
    return np.asarray(cv2.resize(found, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA), np.float32)


def _correlate(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Rank correlation (Spearman) of two maps by cells, without its sign; two flat maps are alike."""
    first, second = (_rank(_pool(each).ravel()) for each in (one, other))
    spread = sorted([float(first.std()), float(second.std())])
    if spread[0] == 0:
        return 1.0 if spread[1] == 0 else 0.0
    return abs(float(np.corrcoef(first, second)[0, 1]))


def _rank(values: NDArray[np.float32]) -> Floats:
    """Ranks with ties sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    after = np.cumsum(counts)
    return np.asarray((after - (counts - 1) / 2)[inverse], np.float64)


def _mean(curves: Sequence[Floats]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in np.mean(curves, axis=0))


def is_faster(check: EvidenceCheck) -> bool:
    """Whether the probability falls faster by the map than by chance."""
    return float(np.mean(check.by_map)) < float(np.mean(check.by_random))
