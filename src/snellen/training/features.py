"""What the frozen part of a network says of pictures, computed once a picture and view, and kept memory-mapped.

The forward pass runs in ONNX Runtime on the exported part. What is cached is keyed by that
graph, the pixel cache and the augmentation, so that epochs, candidates, seeds and folds share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snellen.core.array_store import ArrayStore, open_array_store
from snellen.core.errors import BundleError
from snellen.core.progress import follow
from snellen.core.storage import compute_digest, compute_sha256, hold_lock
from snellen.imaging.augment import draw_view
from snellen.imaging.cache import PixelCache
from snellen.inference.session import BATCH, GraphSession
from snellen.records.plan import AugmentPlan
from snellen.training.feature_table import FeatureTable
from snellen.training.views import apply_randaugment

_FEATURES_VERSION = "features-1"
_EMBEDDING = "embedding"


@dataclass(frozen=True)
class FeatureStore:
    """Where an `output` of one graph on one pixel cache lies. `seed` fixes the augmented views.

    Features are kept as float32; activations, which are larger and only learned from, as float16 (`is_half`).
    """

    graph: Path
    pixels: PixelCache
    augment: AugmentPlan
    folder: Path
    seed: int
    threads: int
    output: str = _EMBEDDING
    is_half: bool = False
    randaugment: int = 0

    @cached_property
    def _session(self) -> GraphSession:
        return GraphSession(self.graph, threads=self.threads)

    @cached_property
    def _graph_sha256(self) -> str:
        return compute_sha256(self.graph)

    def compute(self, rows: NDArray[np.intp], views: int) -> FeatureTable:
        """Features of `rows` of the pixel cache, of the pictures themselves and of `views` augmented views."""
        return FeatureTable(self.fill(rows, views, "Computing features"), rows)

    def fill(self, rows: NDArray[np.intp], views: int, purpose: str) -> tuple[NDArray[Any], ...]:
        """Compute what is missing at `rows` of the pixel cache: an array a view, with a row each of its pictures."""
        return self.fill_views(dict.fromkeys(range(views + 1), rows), purpose)

    def fill_views(self, rows_of_view: Mapping[int, NDArray[np.intp]], purpose: str) -> tuple[NDArray[Any], ...]:
        """The same where each view is wanted of other rows: an array a view, in the order given."""
        session, graph_sha256 = self._session, self._graph_sha256
        shape = session.run(self.pixels.pixels[:1], (self.output,))[self.output].shape[1:]
        opened = [(view, self._open(view, graph_sha256, shape), np.unique(rows)) for view, rows in rows_of_view.items()]
        total = sum(int((~store.done[wanted]).sum()) for _, store, wanted in opened)
        for _ in follow(self._fill_all(session, opened), purpose, total, "views"):
            pass
        return tuple(store.values for _, store, _ in opened)

    def _fill_all(self, session: GraphSession, opened: list[tuple[int, ArrayStore, NDArray[np.intp]]]) -> Iterator[int]:
        for view, store, wanted in opened:
            with hold_lock(self._lock(store.place)):
                # asked again under the lock: another run may have computed them meanwhile
                missing = wanted[~store.done[wanted]]
                if len(missing):
                    yield from self._fill(session, store, missing, view)
                    store.settle()

    def _fill(self, session: GraphSession, store: ArrayStore, missing: NDArray[np.intp], view: int) -> Iterator[int]:
        batches = [missing[start : start + BATCH] for start in range(0, len(missing), BATCH)]
        with ThreadPoolExecutor(1) as pool, store.open_writer() as write:
            # the next batch is read and augmented while this one runs; never more than two lie in memory
            ahead = pool.submit(self.draw, batches[0], view)
            for batch, following in zip(batches, [*batches[1:], None], strict=True):
                drawn = ahead.result()
                if following is not None:
                    ahead = pool.submit(self.draw, following, view)
                found = session.run(drawn, (self.output,))[self.output]
                if not np.isfinite(found).all():
                    raise BundleError("The backbone gives values that are not finite.", "Check model.weights.")
                for row, features in zip(batch, found, strict=True):
                    write(int(row), features)
                store.done[batch] = True
                yield from range(len(batch))

    def draw(self, rows: NDArray[np.intp], view: int) -> NDArray[np.uint8]:
        """Pictures `(n, S, S, C)` as view `view` shows them; 0 is the pictures themselves."""
        pictures = self.pixels.take(rows)
        if view == 0:
            return pictures
        hashes = self.pixels.hashes
        drawn = [
            draw_view(picture, self.augment, seed=self.seed, view=view, key=hashes[row])
            for picture, row in zip(pictures, rows, strict=True)
        ]
        if not self.randaugment:
            return np.stack(drawn)
        return np.stack(
            [
                apply_randaugment(picture, self.randaugment, seed=self.seed, view=view, key=hashes[row])
                for picture, row in zip(drawn, rows, strict=True)
            ]
        )

    def _open(self, view: int, graph_sha256: str, shape: tuple[int, ...]) -> ArrayStore:
        parts = [_FEATURES_VERSION, graph_sha256, self.pixels.key, str(view)]
        if self.is_half:
            parts += [self.output, "half"]
        elif self.output != _EMBEDDING:
            parts += [self.output]
        if view:
            parts += [str(self.seed), self.augment.model_dump_json(exclude={"views"})]
            parts += [f"randaugment {self.randaugment}"] if self.randaugment else []
        place = self.folder / "features" / compute_digest(parts)[:24]
        with hold_lock(self._lock(place)):
            return open_array_store(
                place,
                (len(self.pixels.pixels), *shape),
                np.float16 if self.is_half else np.float32,
                "The activation cache" if self.is_half else "The feature cache",
            )

    def _lock(self, place: Path) -> Path:
        return self.folder / "locks" / f"{place.name}.lock"
