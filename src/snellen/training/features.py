"""Features of the frozen backbone, computed once a picture and view, and kept as memory-mapped float32.

The forward pass runs in ONNX Runtime on the exported backbone. What is cached is keyed by that
graph, the pixel cache and the augmentation, so that epochs, candidates, seeds and folds share it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

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

_FEATURES_VERSION = "features-1"


@dataclass(frozen=True)
class FeatureStore:
    """Where features of one backbone on one pixel cache lie. `seed` fixes the augmented views."""

    graph: Path
    pixels: PixelCache
    augment: AugmentPlan
    folder: Path
    seed: int
    threads: int

    @cached_property
    def _session(self) -> GraphSession:
        return GraphSession(self.graph, threads=self.threads)

    @cached_property
    def _graph_sha256(self) -> str:
        return compute_sha256(self.graph)

    def compute(self, rows: NDArray[np.intp], views: int) -> FeatureTable:
        """Features of `rows` of the pixel cache, of the pictures themselves and of `views` augmented views."""
        session, graph_sha256 = self._session, self._graph_sha256
        wanted = np.unique(rows)
        width = session.run(self.pixels.pixels[:1], ("embedding",))["embedding"].shape[1]
        opened = [self._open(view, graph_sha256, width) for view in range(views + 1)]
        total = sum(int((~store.done[wanted]).sum()) for store in opened)
        for _ in follow(self._fill_all(session, opened, wanted), "Computing features", total, "views"):
            pass
        return FeatureTable(tuple(store.values for store in opened), rows)

    def _fill_all(self, session: GraphSession, opened: list[ArrayStore], wanted: NDArray[np.intp]) -> Iterator[int]:
        for view, store in enumerate(opened):
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
            ahead = pool.submit(self._draw, batches[0], view)
            for batch, following in zip(batches, [*batches[1:], None], strict=True):
                drawn = ahead.result()
                if following is not None:
                    ahead = pool.submit(self._draw, following, view)
                found = session.run(drawn, ("embedding",))["embedding"]
                if not np.isfinite(found).all():
                    raise BundleError("The backbone gives values that are not finite.", "Check model.weights.")
                for row, features in zip(batch, found, strict=True):
                    write(int(row), features)
                store.done[batch] = True
                yield from range(len(batch))

    def _draw(self, rows: NDArray[np.intp], view: int) -> NDArray[np.uint8]:
        pictures = self.pixels.take(rows)
        if view == 0:
            return pictures
        hashes = self.pixels.hashes
        drawn = [
            draw_view(picture, self.augment, seed=self.seed, view=view, key=hashes[row])
            for picture, row in zip(pictures, rows, strict=True)
        ]
        return np.stack(drawn)

    def _open(self, view: int, graph_sha256: str, width: int) -> ArrayStore:
        parts = [_FEATURES_VERSION, graph_sha256, self.pixels.key, str(view)]
        if view:
            parts += [str(self.seed), self.augment.model_dump_json(exclude={"views"})]
        place = self.folder / "features" / compute_digest(parts)[:24]
        shape = (len(self.pixels.pixels), width)
        with hold_lock(self._lock(place)):
            return open_array_store(place, shape, np.float32, "The feature cache")

    def _lock(self, place: Path) -> Path:
        return self.folder / "locks" / f"{place.name}.lock"
