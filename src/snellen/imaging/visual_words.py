"""Which pictures share many rare local features: an index over a vocabulary learned on the pictures themselves.

This room knows descriptors of numbered pictures (Sivic and Zisserman 2003; the vocabulary is a tree of two levels,
Nistér and Stewénius 2006). It must not know where features lie, samples or what is decided. The time grows with the
number of pictures, as does the vocabulary; every step gives the same each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Descriptors = NDArray[np.float32]
Codes = NDArray[np.uint8]  # descriptors in steps of 1/255
_A_WORD = 10
_MOST_BRANCHES = 256
_FEWEST_BRANCHES = 8
_LEARNED_ON = 400_000
_ROUNDS = 8
_PIECE = 20_000
_COMMON_SHARE = 0.05
_COMMON = 40


@dataclass(frozen=True)
class Vocabulary:
    """A tree of `(k, 128)` branches with `(k, k, 128)` words, each of length 1."""

    branches: Descriptors
    words: Descriptors

    @property
    def n_words(self) -> int:
        return int(self.words.shape[0]) * int(self.words.shape[1])

    def name_words(self, codes: Codes, n_each: int) -> NDArray[np.intp]:
        """`(n, n_each)`: the nearest word in each of the `n_each` nearest branches."""
        found = np.empty((len(codes), n_each), np.intp)
        k = self.words.shape[1]
        for start in range(0, len(codes), _PIECE):
            part = to_descriptors(codes[start : start + _PIECE])
            alike = part @ self.branches.T
            for column in range(n_each):
                nearest = alike.argmax(axis=1)
                alike[np.arange(len(part)), nearest] = -np.inf
                order = np.argsort(nearest, kind="stable")
                ends = np.cumsum(np.bincount(nearest, minlength=k))
                for branch, rows in enumerate(np.split(order, ends[:-1])):
                    if len(rows):
                        inner = (part[rows] @ self.words[branch].T).argmax(axis=1)
                        found[start + rows, column] = branch * k + inner
        return found

    def list_words(self, codes: Sequence[Codes]) -> list[NDArray[np.intp]]:
        """Of each picture `(n, 2)`: the two nearest words of each feature, all pictures at once."""
        ends = np.cumsum([len(part) for part in codes])
        return np.split(self.name_words(np.concatenate(list(codes)), 2), ends[:-1])


def to_descriptors(codes: Codes) -> Descriptors:
    """`(n, 128)`, each of length about 1."""
    return codes.astype(np.float32) / np.float32(255)


def learn_vocabulary(codes: Sequence[Codes]) -> Vocabulary:
    """About one word for ten features."""
    n = sum(len(part) for part in codes)
    step = max(1, n // _LEARNED_ON)
    sample = to_descriptors(np.concatenate([part[at % step :: step] for at, part in enumerate(codes)]))
    k = int(np.clip(round(np.sqrt(n / _A_WORD)), _FEWEST_BRANCHES, _MOST_BRANCHES))
    branches = _cluster(sample, k)
    of_branch = (sample @ branches.T).argmax(axis=1)
    words = np.stack([_cluster(sample[of_branch == branch], k) for branch in range(k)])
    return Vocabulary(branches, words)


def _cluster(points: Descriptors, k: int) -> Descriptors:
    """Spherical k-means from evenly picked points; `(k, 128)`, with zeros where there are fewer points than k."""
    centres = np.zeros((k, points.shape[1]), np.float32)
    if len(points) <= k:
        centres[: len(points)] = points
        return centres
    centres[:] = points[np.linspace(0, len(points) - 1, k).astype(int)]
    for _ in range(_ROUNDS):
        nearest = np.concatenate(
            [(points[at : at + _PIECE] @ centres.T).argmax(axis=1) for at in range(0, len(points), _PIECE)]
        )
        order = np.argsort(nearest, kind="stable")
        counts = np.bincount(nearest, minlength=k)
        filled = np.flatnonzero(counts)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])[filled]
        centres[filled] = np.add.reduceat(points[order], starts, axis=0)
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)
    return centres


class WordIndex:
    """Pictures by the nearest words of their features, each `(n, 2)`. Words that very many pictures show tell nothing
    and are passed over.
    """

    def __init__(self, n_words: int, words: Sequence[NDArray[np.intp]]) -> None:
        self._n = len(words)
        counts = np.array([len(part) for part in words])
        nearest = np.concatenate(list(words))[:, 0]
        pairs = np.unique(np.stack([nearest, np.repeat(np.arange(self._n), counts)], axis=1), axis=0)
        n_with = np.bincount(pairs[:, 0], minlength=n_words)
        self._pictures = pairs[:, 1]
        self._starts = np.concatenate([[0], np.cumsum(n_with)])
        weight = np.log(max(2, self._n) / np.maximum(1, n_with)) ** 2
        self._weights = np.where(n_with > max(_COMMON, _COMMON_SHARE * self._n), 0.0, weight)
        total = np.bincount(self._pictures, weights=self._weights[pairs[:, 0]], minlength=self._n)
        self._norms = np.sqrt(np.maximum(total, 1e-9))

    def find_alike(self, named: NDArray[np.intp], most: int) -> NDArray[np.intp]:
        """The numbers of up to `most` pictures that have most in common with one of these words, the best first."""
        words = np.unique(named)
        words = words[self._weights[words] > 0]
        lists = [self._pictures[self._starts[word] : self._starts[word + 1]] for word in words]
        if not lists:
            return np.zeros(0, np.intp)
        weights = np.repeat(self._weights[words], [len(part) for part in lists])
        scores = np.bincount(np.concatenate(lists), weights=weights, minlength=self._n) / self._norms
        first = np.argpartition(-scores, min(most, self._n - 1))[:most]
        first = first[np.lexsort((first, -scores[first]))]
        return first[scores[first] > 0]
