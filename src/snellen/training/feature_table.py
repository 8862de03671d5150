"""Features of chosen pictures, in memory where they are few, else read from disk block by block.

What learns from them asks for blocks, so that a cohort of any size needs the same memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snellen.core.array_store import release_pages

HELD_BYTES = 96_000_000
BLOCK = 1024


@dataclass(frozen=True)
class FeatureTable:
    """Features `(1 + views, N, D)` float32: view 0 is the picture itself.

    `sources` holds an array a view, maybe memory-mapped; `rows` `(N,)` are the chosen rows of each. `spare` are further
    views, computed for some of the rows only. `shown` `(1 + views, N)` says which view stands in each slot of a row,
    where that is not the first, second and so on.
    """

    sources: tuple[NDArray[np.float32], ...]
    rows: NDArray[np.intp]
    spare: tuple[NDArray[np.float32], ...] = ()
    shown: NDArray[np.intp] | None = None

    @classmethod
    def hold(cls, values: NDArray[np.float32]) -> FeatureTable:
        """A table over an array `(1 + views, N, D)` in memory."""
        return cls(tuple(values), np.arange(values.shape[1]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(1 + views, N, D)`."""
        n_views = len(self.sources) if self.shown is None else len(self.shown)
        return n_views, len(self.rows), self.sources[0].shape[1]

    @property
    def is_small(self) -> bool:
        """Whether all of it may be held in memory."""
        return int(np.prod(self.shape)) * 4 <= HELD_BYTES

    def select(self, positions: NDArray[np.intp]) -> FeatureTable:
        """The pictures at `positions` only, in that order; a picture may come several times."""
        shown = None if self.shown is None else self.shown[:, positions]
        return FeatureTable(self.sources, self.rows[positions], self.spare, shown)

    def hold_small(self) -> FeatureTable:
        """The same in memory, with its spare views, where that is small enough; else as it is."""
        arrays = (*self.sources, *self.spare)
        if self.shown is not None or len(arrays) * len(self.rows) * self.shape[2] * 4 > HELD_BYTES:
            return self
        held = FeatureTable(arrays, self.rows).load()
        return FeatureTable(
            tuple(held[: len(self.sources)]), np.arange(len(self.rows)), tuple(held[len(self.sources) :])
        )

    def load(self) -> NDArray[np.float32]:
        """All of it: `(1 + views, N, D)`."""
        loaded = np.empty(self.shape, np.float32)
        for view in range(self.shape[0]):
            for start in range(0, self.shape[1], BLOCK):
                loaded[view, start : start + BLOCK] = self.take(view, slice(start, start + BLOCK))
        return loaded

    def take(self, view: int, positions: NDArray[np.intp] | slice) -> NDArray[np.float32]:
        """Features `(n, D)` of the pictures at `positions` in one view, copied."""
        rows = self.rows[positions]
        if self.shown is None:
            return _copy_rows(self.sources[view], rows)
        numbers, arrays = self.shown[view, positions], (*self.sources, *self.spare)
        taken = np.empty((len(rows), self.shape[2]), np.float32)
        for number in np.unique(numbers):
            here = numbers == number
            taken[here] = _copy_rows(arrays[number], rows[here])
        return taken

    def iterate_blocks(self, views: int | None = None) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Positions `(n,)` and features `(n, D)`, view by view (the first `views`), in the order of the file."""
        order = np.argsort(self.rows, kind="stable")
        for view in range(self.shape[0] if views is None else views):
            for start in range(0, len(order), BLOCK):
                positions = order[start : start + BLOCK]
                yield positions, self.take(view, positions)

    def compute_moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and variance `(D,)` over the pictures themselves, without views."""
        n, width = self.shape[1:]
        mean, square = np.zeros(width), np.zeros(width)
        for _, values in self.iterate_blocks(views=1):
            mean += values.sum(0, dtype=np.float64) / n
        for _, values in self.iterate_blocks(views=1):
            square += ((values - mean) ** 2).sum(0) / n
        return mean, square


def _copy_rows(source: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.float32]:
    taken = np.asarray(source[rows], np.float32)  # an index makes a copy
    release_pages(source)
    return taken
