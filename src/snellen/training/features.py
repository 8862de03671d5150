"""Features of the frozen backbone, computed once a picture and view, and kept as memory-mapped float32.

The forward pass runs in ONNX Runtime on the exported backbone. What is cached is keyed by that
graph, the pixel cache and the augmentation, so that epochs, candidates, seeds and folds share it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import BundleError
from snellen.core.progress import follow
from snellen.core.storage import compute_digest, compute_sha256, explain_os_error, hold_lock, require_space
from snellen.imaging.augment import draw_view
from snellen.imaging.cache import PixelCache
from snellen.inference.session import BATCH, GraphSession
from snellen.records.plan import AugmentPlan

_FLUSH_EVERY = 64


@dataclass(frozen=True)
class FeatureStore:
    """Where features of one backbone on one pixel cache lie. `seed` fixes the augmented views."""

    graph: Path
    pixels: PixelCache
    augment: AugmentPlan
    folder: Path
    seed: int
    threads: int

    def compute(self, rows: NDArray[np.intp], views: int) -> NDArray[np.float32]:
        """Features of `rows` of the pixel cache: `(1 + views, len(rows), D)`; view 0 is the picture itself."""
        session = GraphSession(self.graph, threads=self.threads)
        graph_sha256 = compute_sha256(self.graph)
        wanted = np.unique(rows)
        width = session.run(self.pixels.pixels[:1], ("embedding",))["embedding"].shape[1]
        arrays = []
        todo: list[tuple[int, NDArray[np.intp]]] = []
        opened = [self._open(view, graph_sha256, width) for view in range(views + 1)]
        for view, (_, done, _) in enumerate(opened):
            todo.append((view, wanted[~done[wanted]]))
        total = sum(len(missing) for _, missing in todo)
        bar = follow(self._fill_all(session, opened, todo), "Computing features", total, "views")
        for _ in bar:
            pass
        for features, _, _ in opened:
            arrays.append(np.asarray(features[rows]))
        return np.stack(arrays)

    def _fill_all(
        self, session: GraphSession, opened: list[_Opened], todo: list[tuple[int, NDArray[np.intp]]]
    ) -> Iterator[int]:
        for view, missing in todo:
            features, done, place = opened[view]
            with hold_lock(self.folder / "locks" / f"{place.name}.lock"):
                yield from self._fill(session, view, missing, features, done)

    def _fill(
        self,
        session: GraphSession,
        view: int,
        missing: NDArray[np.intp],
        features: NDArray[np.float32],
        done: NDArray[np.bool_],
    ) -> Iterator[int]:
        batches = [missing[start : start + BATCH] for start in range(0, len(missing), BATCH)]
        with ThreadPoolExecutor(1) as pool:
            # the next batch is read and augmented while this one runs; never more than two lie in memory
            ahead = pool.submit(self._draw, batches[0], view) if batches else None
            for number, batch in enumerate(batches):
                if ahead is None:
                    break
                drawn = ahead.result()
                ahead = pool.submit(self._draw, batches[number + 1], view) if number + 1 < len(batches) else None
                found = session.run(drawn, ("embedding",))["embedding"]
                if not np.isfinite(found).all():
                    raise BundleError("The backbone gives values that are not finite.", "Check model.weights.")
                features[batch] = found
                if number % _FLUSH_EVERY == _FLUSH_EVERY - 1 or number + 1 == len(batches):
                    # features first, then the mark: a killed process repeats at most this piece
                    features.flush()  # type: ignore[attr-defined]  # a memmap
                    start = number - number % _FLUSH_EVERY
                    done[np.concatenate(batches[start : number + 1])] = True
                    done.flush()  # type: ignore[attr-defined]  # a memmap
                yield from range(len(batch))

    def _draw(self, rows: NDArray[np.intp], view: int) -> NDArray[np.uint8]:
        pictures = np.asarray(self.pixels.pixels[rows])
        if view == 0:
            return pictures
        hashes = self.pixels.hashes
        drawn = [
            draw_view(picture, self.augment, seed=self.seed, view=view, key=hashes[row])
            for picture, row in zip(pictures, rows, strict=True)
        ]
        return np.stack(drawn)

    def _open(self, view: int, graph_sha256: str, width: int) -> _Opened:
        parts = [graph_sha256, self.pixels.key, str(view)]
        if view:
            parts += [str(self.seed), self.augment.model_dump_json(exclude={"views"})]
        place = self.folder / "features" / compute_digest(parts)[:24]
        shape = (len(self.pixels.pixels), width)
        try:
            place.mkdir(parents=True, exist_ok=True)
            if not (place / "done.npy").exists():
                require_space(place, 4 * shape[0] * shape[1], "The feature cache")
                np.lib.format.open_memmap(place / "features.npy", mode="w+", dtype=np.float32, shape=shape).flush()
                np.lib.format.open_memmap(place / "done.npy", mode="w+", dtype=np.bool_, shape=shape[:1]).flush()
            features = np.lib.format.open_memmap(place / "features.npy", mode="r+")
            done = np.lib.format.open_memmap(place / "done.npy", mode="r+")
        except OSError as error:
            raise explain_os_error(error, place) from error
        return features, done, place


_Opened = tuple[NDArray[np.float32], NDArray[np.bool_], Path]
