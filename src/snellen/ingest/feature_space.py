"""Which pictures look alike to a network: features reduced, distances between pictures of different people.

This room knows arrays and groups. It must not know where features come from, labels or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_COMPONENTS = 96
_BLOCK = 512
NEIGHBOURS = 6

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Space:
    """`points` `(N, D)` of length 1; `near` `(N, K)` are the rows of the nearest pictures of other groups.

    `near_cosine` `(N, K)` are their cosines, `own_cosine` `(N,)` that of the nearest picture of the same group, NaN
    where there is none. `distance` `(N,)` is how far the third nearest of other groups lies, lengths counted.
    """

    points: Array
    near: NDArray[np.intp]
    near_cosine: Array
    own_cosine: Array
    distance: Array


def build_space(features: Array, groups: Sequence[str]) -> Space:
    """Principal components of standardised features, and the neighbours of each picture."""
    components = reduce_features(features)
    lengths = np.linalg.norm(components, axis=1, keepdims=True)
    points = np.asarray(components / np.maximum(lengths, 1e-9), np.float32)
    numbers = np.unique(np.asarray(groups, np.str_), return_inverse=True)[1]
    n, k = len(points), min(NEIGHBOURS, max(1, len(points) - 1))
    near, near_cosine = np.zeros((n, k), np.intp), np.full((n, k), np.nan, np.float32)
    own_cosine, distance = np.full(n, np.nan, np.float32), np.full(n, np.nan, np.float32)
    for start in range(0, n, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, n))
        cosines = points[rows] @ points.T
        cosines[np.arange(len(rows)), rows] = -np.inf
        same = numbers[rows][:, None] == numbers[None]
        own = np.where(same, cosines, -np.inf).max(axis=1)
        own_cosine[rows] = np.where(np.isfinite(own), own, np.nan)
        others = np.where(same, -np.inf, cosines)
        squares = lengths[rows] ** 2 + lengths.T**2 - 2 * lengths[rows] * lengths.T * np.where(same, np.nan, cosines)
        third = np.partition(np.where(np.isfinite(squares), squares, np.inf), min(2, n - 1), axis=1)[:, min(2, n - 1)]
        distance[rows] = np.sqrt(np.maximum(third, 0))
        chosen = np.argpartition(-others, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(others, chosen, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        near[rows] = np.take_along_axis(chosen, order, axis=1)
        near_cosine[rows] = np.take_along_axis(values, order, axis=1)
    return Space(points, near, near_cosine, own_cosine, distance)


def reduce_features(features: Array) -> Array:
    """`(N, D)` → at most 96 principal components of the standardised features."""
    values = features.astype(np.float32)
    values = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-2)
    n_components = min(_COMPONENTS, values.shape[1], max(2, len(values) // 4))
    _, vectors = np.linalg.eigh(values.T @ values / len(values))
    return np.asarray(values @ vectors[:, ::-1][:, :n_components], np.float32)
