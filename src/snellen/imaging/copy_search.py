"""Which of many numbered pictures show the same picture again: features and rings propose, laid-on pictures decide.

This room knows sketches by number. It must not know samples, patients or labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.core.progress import follow
from snellen.imaging.comparable import Comparable, make_comparable
from snellen.imaging.keypoints import Affine, Features, find_features, fit_features, mirror_codes
from snellen.imaging.polar import Spectra, TurnIndex, compute_spectrum, guess_transform
from snellen.imaging.registration import Registration, glance, measure, refine, settle
from snellen.imaging.visual_words import WordIndex, learn_vocabulary

SEARCH_VERSION = "copies-5"
COMPARED_PX = 256
N_FEATURES = 120
N_PROPOSED = 4
FEWEST_INLIERS = 5
LEAST_TURN = 0.35
CONVINCING = 0.9
# chosen by measurement: docs/explanation/copies.md
LEAST_GLANCE, LEAST_ROUGH_GLANCE, LEAST_EXACT_GLANCE = 0.6, 0.4, 0.74
_HELD = 512
_PIECE = 4096
Load = Callable[[int], NDArray[np.uint8]]
Pair = tuple[int, int, bool]


@dataclass(frozen=True)
class Match:
    """Pictures `first` < `second`; `is_mirrored` where the second was mirrored left to right to fit.

    `found_by` tells whether local features or whole rings led to it. The transform takes points of the first to the
    second (mirrored, if so), both 256 pixels on their longer side.
    """

    first: int
    second: int
    is_mirrored: bool
    found_by: Literal["features", "rings"]
    found: Registration

    @property
    def correlation(self) -> float:
        """Of all bands but the finest, which compression and noise spoil."""
        return float(self.found.correlations[1:].mean())


class CopySearch:
    """All pairs among `n` pictures that features or rings propose, with what laying one on the other shows."""

    def __init__(self, load: Load, n: int, threads: int) -> None:
        self._n, self._threads = n, threads
        self._load = load
        self._hold = lru_cache(maxsize=_HELD)(lambda at: make_comparable(load(at), COMPARED_PX))

    def run(self) -> Iterator[Match]:
        """In the order of `first`'s number."""
        before = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            with ThreadPoolExecutor(self._threads) as pool:
                work = pool.map(self._find, range(self._n))
                looked = list(follow(work, "Looking for copies", self._n))
                features = [each for each, _ in looked]
                turns = TurnIndex(np.stack([spectrum for _, spectrum in looked]))
                pairs = sorted(self._propose(pool, features, turns))
                compared = self._compare_all(pool, features, turns, pairs)
                for match in follow(compared, "Comparing pictures", len(pairs), "pairs"):
                    if match is not None:
                        yield match
        finally:
            cv2.setNumThreads(before)

    def _find(self, number: int) -> tuple[Features, Spectra]:
        picture = make_comparable(self._load(number), COMPARED_PX)
        return find_features(picture, N_FEATURES), compute_spectrum(picture)

    def _propose(self, pool: ThreadPoolExecutor, features: Sequence[Features], turns: TurnIndex) -> set[Pair]:
        codes = [each.codes for each in features]
        vocabulary = learn_vocabulary(codes)
        plain = vocabulary.list_words(codes)
        mirrored = vocabulary.list_words([mirror_codes(part) for part in codes])
        index = WordIndex(vocabulary.n_words, plain)

        def ask(number: int) -> list[Pair]:
            found = list(turns.find_alike(number, N_PROPOSED, LEAST_TURN))
            for is_mirrored, words in ((False, plain[number]), (True, mirrored[number])):
                found += [(other, is_mirrored) for other in index.find_alike(words, N_PROPOSED + 1).tolist()]
            return [(min(number, other), max(number, other), flipped) for other, flipped in found if other != number]

        work = pool.map(ask, range(self._n))
        return {pair for found in follow(work, "Looking for copies", self._n) for pair in found}

    def _compare_all(
        self, pool: ThreadPoolExecutor, features: Sequence[Features], turns: TurnIndex, pairs: Sequence[Pair]
    ) -> Iterator[Match | None]:
        for start in range(0, len(pairs), _PIECE):  # the pool keeps what waits in memory
            part = pairs[start : start + _PIECE]
            yield from pool.map(lambda pair: self._compare(features, turns, pair), part)

    def _compare(self, features: Sequence[Features], turns: TurnIndex, pair: Pair) -> Match | None:
        """By features first; by rings where these do not convince."""
        first, second, is_mirrored = pair
        other = features[second].mirror() if is_mirrored else features[second]
        fit = fit_features(features[first], other)
        if fit is not None and fit.n_inliers < FEWEST_INLIERS:
            fit = None
        alike, turn = turns.tell_turn(first, second, is_mirrored)
        if fit is None and alike < LEAST_TURN:
            return None
        one, two = self._hold(first), self._hold(second)
        two = two.mirror() if is_mirrored else two
        matches = []
        if fit is not None and (found := register(one, two, fit.transform)) is not None:
            matches.append(Match(first, second, is_mirrored, "features", found))
        if alike >= LEAST_TURN and not any(match.correlation >= CONVINCING for match in matches):
            found = register(one, two, guess_transform(one, two, turn), is_rough=True)
            matches += [] if found is None else [Match(first, second, is_mirrored, "rings", found)]
        return max(matches, key=lambda match: match.correlation, default=None)


def register(one: Comparable, two: Comparable, guess: Affine, *, is_rough: bool = False) -> Registration | None:
    """The guess made exact where that succeeds, and what it shows. None where a glance tells two pictures apart."""
    if glance(one, two, guess) < (LEAST_ROUGH_GLANCE if is_rough else LEAST_GLANCE):
        return None
    exact = refine(one, two, guess, is_rough=is_rough)
    transform = guess if exact is None else exact
    if glance(one, two, transform) < LEAST_EXACT_GLANCE:
        return None
    return measure(one, two, settle(one, two, transform))
