"""New pictures between pictures of a training part, and what a network says of them.

This room knows pixels of pictures that may be learned from. It must not know splits: the caller passes training only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from snellen.core.storage import compute_digest
from snellen.imaging.cache import PixelCache
from snellen.records.plan import ImbalancePlan
from snellen.training.feature_table import FeatureTable
from snellen.training.features import FeatureStore
from snellen.training.resampling import resample


@dataclass(frozen=True)
class ResampledPictures:
    """Positions `picked` `(P,)` of the pictures that stay, some maybe several times, and `new` ones with `labels`
    `(M,)`; None where none is made.
    """

    picked: NDArray[np.intp]
    new: PixelCache | None
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Pictures:
    """Pictures at `rows` `(N,)` of the pixel cache of `store`, which also computes their features."""

    store: FeatureStore
    rows: NDArray[np.intp]

    def select(self, positions: NDArray[np.intp]) -> Pictures:
        """Those at `positions` only."""
        return Pictures(self.store, self.rows[positions])

    def resample(self, labels: NDArray[np.int64], plan: ImbalancePlan, seed: int) -> ResampledPictures:
        """As the plan says, on the pixels of the pictures themselves: never of their augmented views."""
        return resample_pictures(self.store.pixels, self.rows, labels, plan, seed)

    def compute_features(self, new: PixelCache, views: int) -> FeatureTable:
        """Features of new pictures, and of `views` augmented views of them."""
        store = replace(self.store, pixels=new)
        return store.compute(np.arange(len(new.pixels)), views)


def resample_pictures(
    pixels: PixelCache, rows: NDArray[np.intp], labels: NDArray[np.int64], plan: ImbalancePlan, seed: int
) -> ResampledPictures:
    """`plan.method` on pictures at `rows` `(N,)` of the cache with `labels` `(N,)`; new ones are uint8 in memory."""
    makes = plan.method in ("smote", "smote_tomek")
    shape = pixels.pixels.shape[1:]
    values = (
        pixels.take(rows).reshape(len(rows), -1).astype(np.float32) if makes else np.zeros((len(rows), 1), np.float32)
    )
    found = resample(values, labels, plan.method, plan.neighbors, seed)
    if not len(found.made):
        return ResampledPictures(found.picked, None, found.made_labels)
    made = np.rint(found.made).clip(0, 255).astype(np.uint8).reshape(-1, *shape)
    hashes = tuple(hashlib.sha256(picture.tobytes()).hexdigest() for picture in made)
    new = PixelCache(made, hashes, compute_digest(["made", repr(shape), *hashes]), pixels.folder)
    return ResampledPictures(found.picked, new, found.made_labels)
