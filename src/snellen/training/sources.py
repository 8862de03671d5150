"""What a stage of fine-tuning learns from: activations that were kept, or made anew from pixels each time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snellen.core.array_store import release_pages
from snellen.training.features import FeatureStore


class Source(Protocol):
    """Inputs of the part that learns, by position of the picture and view (0 is the picture itself)."""

    def take(self, positions: NDArray[np.intp], views: NDArray[np.intp]) -> torch.Tensor:
        """float32 `(n, C, h, w)`."""
        ...


@dataclass(frozen=True)
class KeptActivations:
    """`arrays` holds a memory-mapped float16 array a view; `rows` `(N,)` are the pictures' rows in each."""

    arrays: tuple[NDArray[Any], ...]
    rows: NDArray[np.intp]

    def take(self, positions: NDArray[np.intp], views: NDArray[np.intp]) -> torch.Tensor:
        found = np.empty((len(positions), *self.arrays[0].shape[1:]), np.float32)
        for view in np.unique(views):
            here = views == view
            found[here] = self.arrays[view][self.rows[positions[here]]]
            release_pages(self.arrays[view])
        return torch.from_numpy(found)


@dataclass(frozen=True)
class Joined:
    """Two sources as one: positions from `n_first` on are those of `second`."""

    first: Source
    second: Source
    n_first: int

    def take(self, positions: NDArray[np.intp], views: NDArray[np.intp]) -> torch.Tensor:
        is_second = positions >= self.n_first
        if not is_second.any():
            return self.first.take(positions, views)
        behind = self.second.take(positions[is_second] - self.n_first, views[is_second])
        if is_second.all():
            return behind
        found = behind.new_empty((len(positions), *behind.shape[1:]))
        found[torch.from_numpy(is_second)] = behind
        found[torch.from_numpy(~is_second)] = self.first.take(positions[~is_second], views[~is_second])
        return found


@dataclass(frozen=True)
class LivePixels:
    """The same views, drawn and sent through the frozen `lower` part each time they are needed."""

    store: FeatureStore
    rows: NDArray[np.intp]
    lower: nn.Module
    device: torch.device

    def take(self, positions: NDArray[np.intp], views: NDArray[np.intp]) -> torch.Tensor:
        drawn: NDArray[np.uint8] | None = None
        for view in np.unique(views):
            here = np.flatnonzero(views == view)
            pictures = self.store.draw(self.rows[positions[here]], int(view))
            if drawn is None:
                drawn = np.empty((len(positions), *pictures.shape[1:]), np.uint8)
            drawn[here] = pictures
        with torch.no_grad():
            found: torch.Tensor = self.lower(torch.from_numpy(drawn).to(self.device))
        return found
