"""The pixel cache: every picture preprocessed once, kept as one memory-mapped uint8 array.

Keyed by the pictures' content and the preprocessing plan, so that moved or renamed data find
their cache again and edited data do not. A killed build goes on where it stopped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.core.array_store import open_array_store, release_pages
from snellen.core.errors import DataError, PictureError
from snellen.core.progress import follow
from snellen.core.storage import compute_digest, hold_lock
from snellen.imaging.packed_pixels import mark_packed, read_packed_pixels
from snellen.imaging.preprocess import preprocess_location
from snellen.records.cohort import Packed, Sample
from snellen.records.plan import PreprocessPlan

CACHE_VERSION = "pixels-4"
_CHUNK = 256
_HANDED = 8
Writer = Callable[[int, NDArray[np.uint8]], None]
Reader = Callable[[str], NDArray[np.uint8]]


@dataclass(frozen=True)
class PixelCache:
    """`pixels` is `(N, size, size, channels)` uint8, a row a distinct picture; `hashes` are their content's."""

    pixels: NDArray[np.uint8]
    hashes: tuple[str, ...]
    key: str
    folder: Path

    def select(self, samples: Sequence[Sample]) -> NDArray[np.intp]:
        """Rows of `samples`, in their order."""
        row_of = {value: row for row, value in enumerate(self.hashes)}
        return np.array([row_of[sample.pixels_sha256] for sample in samples], np.intp)

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """The pictures at `rows`, copied: `(n, size, size, channels)`."""
        taken = np.array(self.pixels[rows])
        release_pages(self.pixels)
        return taken


def build_pixel_cache(
    samples: Sequence[Sample],
    root: Path,
    plan: PreprocessPlan,
    folder: Path,
    *,
    threads: int,
    packed: Packed | None = None,
) -> PixelCache:
    """Preprocess what is not yet in the cache, on `threads` processors; return the memory-mapped whole.

    Pictures of a `packed` file are taken as they are. Raises StorageError before writing where the disk is too
    small, DataError where `packed` is not of this plan or the plan has no window for pictures of more than 8 bits,
    PictureError where a picture changed since it was read.
    """
    _require_window(samples, plan)
    distinct = {sample.pixels_sha256: sample for sample in samples}
    hashes = sorted(distinct)
    marks: tuple[str, ...] = ()
    read: Reader = functools.partial(_preprocess, root, plan)
    if packed is not None and samples:
        _require_same_pixels(packed, plan)
        # in a cache of their own: what a file says of its pictures' hashes must not stand for other data
        marks = mark_packed(root, samples[0].location)
        read = functools.partial(read_packed_pixels, root)
    key = compute_digest([CACHE_VERSION, plan.model_dump_json(), *marks, *hashes])
    place = folder / "pixels" / key[:24]
    shape = (len(hashes), plan.size, plan.size, plan.channels)
    with hold_lock(folder / "locks" / f"{key[:24]}.lock"):
        store = open_array_store(place, shape, np.uint8, "The pixel cache")
        missing = [row for row in range(len(hashes)) if not store.done[row]]
        if missing:
            work = [(row, distinct[hashes[row]]) for row in missing]
            with store.open_writer() as write:
                for chunk in _fill(work, root, read, write, threads, is_packed=packed is not None):
                    store.done[chunk] = True
            store.settle()
    return PixelCache(store.values, tuple(hashes), key, place)


def _require_window(samples: Sequence[Sample], plan: PreprocessPlan) -> None:
    deep = [sample for sample in samples if sample.bits > 8]
    if deep and plan.window is None:
        raise DataError(
            f"{len(deep)} pictures have more than 8 bits a channel, such as {deep[0].name} ({deep[0].bits}), "
            "and the model was made for 8 bits.",
            "Export them with 8 bits as the training pictures were, or train with preprocess.window = [low, high].",
        )


def _preprocess(root: Path, plan: PreprocessPlan, location: str) -> NDArray[np.uint8]:
    return preprocess_location(root, location, plan)


def _require_same_pixels(packed: Packed, plan: PreprocessPlan) -> None:
    """Normalisation may differ: it lies in the model's graph, behind the pixels."""
    made, wanted = packed.preprocess.model_dump(), plan.model_dump()
    wrong = [
        f"{key} {made[key]}, not {wanted[key]}" for key in wanted if key != "normalize" and made[key] != wanted[key]
    ]
    if wrong:
        raise DataError(
            f"{packed.file} was packed with another preprocessing than the model's: {', '.join(wrong)}.",
            "Give the original data, or repeat `snellen pack` with the model's recipe and settings.",
        )


def _fill(
    work: list[tuple[int, Sample]], root: Path, read: Reader, write: Writer, threads: int, *, is_packed: bool
) -> Iterator[list[int]]:
    """Preprocess and write `work`, and tell the rows of each finished chunk."""

    def one(item: tuple[int, Sample]) -> int:
        row, sample = item
        try:
            _require_unchanged(root, sample)
            write(row, read(sample.location))
        except PictureError as error:
            # nobody has read a picture of a packed file before: its own hint says what is to be done
            hint = error.hint if is_packed else "It changed since it was read: start again."
            raise PictureError(f"{sample.name}: {error.message}", hint) from error
        return row

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            finished: list[int] = []
            for row in follow(_map_in_pieces(pool, one, work), "Preprocessing", len(work)):
                finished.append(row)
                if len(finished) == _CHUNK:
                    yield finished
                    finished = []
            if finished:
                yield finished
    finally:
        cv2.setNumThreads(before)


def _require_unchanged(root: Path, sample: Sample) -> None:
    if "::" in sample.location or not sample.n_bytes:
        return
    try:
        n_bytes = (root / sample.location).stat().st_size
    except OSError:
        return  # the reader says why
    if n_bytes != sample.n_bytes:
        raise PictureError(f"it had {sample.n_bytes} bytes and has {n_bytes}", "")


def _map_in_pieces(
    pool: ThreadPoolExecutor, one: Callable[[tuple[int, Sample]], int], work: list[tuple[int, Sample]]
) -> Iterator[int]:
    def several(items: list[tuple[int, Sample]]) -> list[int]:
        # handing over single pictures costs as much as cropping them
        return [one(item) for item in items]

    # submitted in pieces, so that Ctrl-C does not wait for a whole cohort
    for start in range(0, len(work), _CHUNK):
        handed = [work[at : at + _HANDED] for at in range(start, min(start + _CHUNK, len(work)), _HANDED)]
        for rows in pool.map(several, handed):
            yield from rows
