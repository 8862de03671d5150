"""Smaller classes shown more often, each time with other augmented views: which picture is shown when, in which view.

This room knows labels and numbers of views. It must not know pictures, nor which split it sees: training only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_VIEWS = 64


@dataclass(frozen=True)
class Showing:
    """Positions `picked` `(P,)` of pictures, some several times, and `views` `(S, P)`: the number of the view (0 is the
    picture itself) in each of the S slots that one showing has.
    """

    picked: NDArray[np.intp]
    views: NDArray[np.intp]


def show_evenly(labels: NDArray[np.int64], n_slots: int, seed: int) -> Showing:
    """Every class as often as the largest. Who comes once more than others of its class is drawn by `seed`.

    The first showing has views 0 … `n_slots` - 1, the second the next, and so on; beyond `MOST_VIEWS` they begin anew.
    """
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, len(labels)])))
    counts = np.bincount(labels)
    picked, turns = [np.arange(len(labels))], [np.zeros(len(labels), np.intp)]
    for label in np.flatnonzero(counts):
        more = np.arange(counts.max() - counts[label])
        own = random.permutation(np.flatnonzero(labels == label))
        picked.append(own[more % len(own)])
        turns.append(1 + more // len(own))
    numbers = np.concatenate(turns) * n_slots + np.arange(n_slots)[:, None]
    return Showing(np.concatenate(picked), numbers % max(n_slots, MOST_VIEWS))


def count_views(labels: NDArray[np.int64], n_slots: int) -> int:
    """Views that the smallest class would be shown in, were there no limit."""
    counts = np.bincount(labels)
    return int(np.ceil(counts.max() / counts[counts > 0].min())) * n_slots


def list_further_views(
    labels: NDArray[np.int64], parts: Iterable[NDArray[np.intp]], n_slots: int, seed: int
) -> dict[int, NDArray[np.intp]]:
    """View number from `n_slots` on → positions of the pictures that are shown in it by a training on one of `parts`
    (positions `(n,)` among `labels`).
    """
    wanted: dict[int, list[NDArray[np.intp]]] = {}
    for part in parts:
        showing = show_evenly(labels[part], n_slots, seed)
        for slot in showing.views:
            for number in np.unique(slot[slot >= n_slots]):
                wanted.setdefault(int(number), []).append(part[showing.picked[slot == number]])
    return {number: np.unique(np.concatenate(found)) for number, found in sorted(wanted.items())}
