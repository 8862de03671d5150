"""A memory-mapped array with a mark a row: what is computed once survives a killed process.

Marks are set after their rows. Pages reach the disk in the background, not row by row, which would take
longer than computing them; so a store that a power cut may have hit is begun anew.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from snellen.core.storage import explain_os_error, require_space

_VALUES, _DONE, _UNSETTLED = "values.npy", "done.npy", "unsettled"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class ArrayStore:
    """`values` has a row an item and is only read, `done` `(N,)` says which rows are computed."""

    values: NDArray[Any]
    done: NDArray[np.bool_]
    place: Path

    @contextlib.contextmanager
    def open_writer(self) -> Iterator[Callable[[int, NDArray[Any]], None]]:
        """A function `(row, value)` that threads may call; it does not mark the row."""
        if not hasattr(os, "pwrite"):
            writable = np.lib.format.open_memmap(self.place / _VALUES, mode="r+")
            yield writable.__setitem__
            return
        values = self.values
        offset, stride = int(values.offset), values.nbytes // len(values)  # type: ignore[attr-defined]  # a memmap
        with (self.place / _VALUES).open("r+b") as stream:
            # writing costs a third of what faulting in the pages of a mapping costs

            def write(row: int, value: NDArray[Any]) -> None:
                found = np.ascontiguousarray(value, values.dtype)
                if found.shape != values.shape[1:]:
                    raise ValueError(f"a row of shape {found.shape} in a store of {values.shape[1:]}")
                os.pwrite(stream.fileno(), found.data, offset + row * stride)

            yield write

    def settle(self) -> None:
        """Let the system write all pages in the background, then forget that they were not on disk."""
        threading.Thread(target=_settle, args=(self.place,), daemon=True).start()


def release_pages(array: NDArray[Any]) -> None:
    """Tell the system that pages of a memory-mapped array which were read are not needed: they count as our memory."""
    mapping = getattr(array, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def open_array_store(place: Path, shape: tuple[int, ...], dtype: DTypeLike, purpose: str) -> ArrayStore:
    """Open the store at `place`, or make it in full length. To be called by one process at a time.

    Raises StorageError where the disk has no room for the whole; `purpose` names it there.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not _is_sound(place, shape):
            require_space(place, int(np.prod(shape)) * np.dtype(dtype).itemsize, purpose)
            _make(place / _VALUES, shape, dtype)
            _make(place / _DONE, shape[:1], np.bool_)
            (place / _UNSETTLED).write_text(_read_boot())
        values = np.lib.format.open_memmap(place / _VALUES, mode="r")
        done = np.lib.format.open_memmap(place / _DONE, mode="r+")
    except OSError as error:
        raise explain_os_error(error, place) from error
    return ArrayStore(values, done, place)


def _is_sound(place: Path, shape: tuple[int, ...]) -> bool:
    """Whether both files are whole, and no restart of the machine came before their pages were on disk."""
    unsettled = place / _UNSETTLED
    if unsettled.exists() and unsettled.read_text() != _read_boot():
        return False
    try:
        shapes = [np.load(place / name, mmap_mode="r").shape for name in (_VALUES, _DONE)]
    except (OSError, ValueError, EOFError):
        return False
    return shapes == [shape, shape[:1]]


def _make(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    path.unlink(missing_ok=True)
    np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape).flush()
    if hasattr(os, "posix_fallocate"):
        # a hole in a mapped file kills the process when the disk is full; reserved room gives an error now
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)


def _settle(place: Path) -> None:
    with contextlib.suppress(OSError):
        for name in (_VALUES, _DONE):
            with (place / name).open("r+b") as stream:
                os.fsync(stream.fileno())
        (place / _UNSETTLED).unlink(missing_ok=True)


def _read_boot() -> str:
    """What names this start of the machine; empty where the system does not tell."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""
