"""Which of many numbered pictures show the same picture again: local features propose, laid-on pictures decide.

This room knows sketches by number. It must not know samples, patients or labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.core.progress import follow
from snellen.imaging.comparable import Comparable, make_comparable
from snellen.imaging.keypoints import Features, Fit, find_features, fit_features
from snellen.imaging.registration import Registration, measure, refine
from snellen.imaging.visual_words import WordIndex, learn_vocabulary

SEARCH_VERSION = "copies-1"
COMPARED_PX = 256
N_FEATURES = 120
N_PROPOSED = 6
FEWEST_INLIERS = 5
_HELD = 512
_PIECE = 4096
Load = Callable[[int], NDArray[np.uint8]]


@dataclass(frozen=True)
class Match:
    """Pictures `first` < `second`; `is_mirrored` where the second was mirrored left to right to fit.

    The transform takes points of the first to the second (mirrored, if so), both 256 pixels on their longer side.
    """

    first: int
    second: int
    is_mirrored: bool
    n_inliers: int
    found: Registration

    @property
    def correlation(self) -> float:
        """Of all bands but the finest, which compression and noise spoil."""
        return float(self.found.correlations[1:].mean())


class CopySearch:
    """All pairs among `n` pictures that local features propose, with what laying one on the other shows."""

    def __init__(self, load: Load, n: int, threads: int) -> None:
        self._n, self._threads = n, threads
        self._hold = lru_cache(maxsize=_HELD)(lambda at: make_comparable(load(at), COMPARED_PX))
        self._load = load

    def run(self) -> Iterator[Match]:
        """In the order of `first`'s number."""
        before = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            with ThreadPoolExecutor(self._threads) as pool:
                features = list(follow(pool.map(self._find, range(self._n)), "Looking for copies", self._n))
                codes = [each.codes for each in features]
                index = WordIndex(learn_vocabulary(codes), codes)
                proposed = self._propose(pool, index, features)
                pairs = sorted(proposed)
                work = self._compare_all(pool, features, pairs)
                for matches in follow(work, "Comparing pictures", len(pairs), "pairs"):
                    yield from matches
        finally:
            cv2.setNumThreads(before)

    def _find(self, number: int) -> Features:
        return find_features(make_comparable(self._load(number), COMPARED_PX), N_FEATURES)

    def _propose(
        self, pool: ThreadPoolExecutor, index: WordIndex, features: Sequence[Features]
    ) -> set[tuple[int, int, bool]]:
        def ask(number: int) -> list[tuple[int, int, bool]]:
            found = []
            for is_mirrored in (False, True):
                own = features[number].mirror() if is_mirrored else features[number]
                for other in index.find_alike(own.codes, N_PROPOSED + 1).tolist():
                    if other != number:
                        found.append((min(number, other), max(number, other), is_mirrored))
            return found

        work = pool.map(ask, range(self._n))
        return {pair for found in follow(work, "Looking for copies", self._n) for pair in found}

    def _compare_all(
        self, pool: ThreadPoolExecutor, features: Sequence[Features], pairs: Sequence[tuple[int, int, bool]]
    ) -> Iterator[list[Match]]:
        for start in range(0, len(pairs), _PIECE):  # the pool keeps what waits in memory
            yield from pool.map(lambda pair: self._compare(features, pair), pairs[start : start + _PIECE])

    def _compare(self, features: Sequence[Features], pair: tuple[int, int, bool]) -> list[Match]:
        first, second, is_mirrored = pair
        other = features[second].mirror() if is_mirrored else features[second]
        fit = fit_features(features[first], other)
        if fit is None or fit.n_inliers < FEWEST_INLIERS:
            return []
        one, two = self._hold(first), self._hold(second)
        found = register(one, two.mirror() if is_mirrored else two, fit)
        return [] if found is None else [Match(first, second, is_mirrored, fit.n_inliers, found)]


def register(one: Comparable, two: Comparable, fit: Fit) -> Registration | None:
    """The fit made exact where that succeeds, and what it shows."""
    exact = refine(one, two, fit.transform)
    return measure(one, two, fit.transform if exact is None else exact)
