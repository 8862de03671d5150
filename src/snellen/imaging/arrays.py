"""Pictures inside array files: one picture of an `.npz` or HDF5 array by its index, as pixels.

Nothing pickled is loaded, and no link or mapping out of an HDF5 file is followed. h5py is imported when needed.
"""

from __future__ import annotations

import functools
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snellen.core.archives import describe_method
from snellen.core.errors import DataError, PictureError
from snellen.core.runtime import read_free_memory_bytes

if TYPE_CHECKING:
    import h5py

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
ARRAY_SUFFIXES = (".npz", *HDF5_SUFFIXES)
_DAMAGED = (
    OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError,
    RuntimeError, MemoryError,
)  # fmt: skip
_MAX_BYTES = 1 << 30
_MAX_RATIO = 1000
_CHUNK_CACHE_BYTES = 64 << 20  # a chunk of many pictures is unpacked once, not once a picture


def read_array_picture(path: Path, name: str, index: int) -> NDArray[Any]:
    """Picture `index` of the array `name`: `(H, W)` or `(H, W, 3)`, uint8 or uint16; decimals 0–1 become uint8.

    Raises PictureError.
    """
    array = open_dataset(path, name) if path.suffix.lower() in HDF5_SUFFIXES else open_array(path, name)
    if index >= len(array):
        raise PictureError(f"{path.name} holds no {name}[{index}]", "It changed since it was read: start again.")
    try:
        return to_pixels(np.asarray(array[index]))
    except PictureError:
        raise
    except _DAMAGED as error:
        raise PictureError(
            f"{path.name}: {name}[{index}] cannot be read: {error}", "Download or export the file again."
        ) from error


def to_pixels(values: NDArray[Any]) -> NDArray[Any]:
    """One picture of any accepted shape → `(H, W)` or `(H, W, 3)`. Raises PictureError for what is no picture."""
    if values.ndim == 3 and values.shape[2] not in (1, 3) and values.shape[0] in (1, 3):
        values = np.moveaxis(values, 0, 2)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3) or not values.size:
        raise PictureError(f"an array of shape {values.shape} is no picture", "Snellen reads (H, W) and (H, W, 3).")
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise PictureError("the decimals are not all from 0 to 1", "Scale them to 0–1, or store uint8.")
        values = np.round(values * 255).astype(np.uint8)
    if values.dtype not in (np.uint8, np.uint16):
        raise PictureError(f"pixels of type {values.dtype} are not read", "Store uint8, uint16 or decimals 0–1.")
    return np.ascontiguousarray(values)


def require_unit_range(path: Path, name: str, values: NDArray[Any]) -> None:
    """Raise DataError where decimals go beyond 0 to 1: what is black and white then is not told."""
    if np.isnan(values).any():
        raise DataError(
            f"{path}: {name} holds values that are no number (NaN).", "Store uint8, or decimals from 0 to 1."
        )
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"{path}: {name} holds decimals from {low:g} to {high:g}.",
            "Snellen reads decimals from 0 (black) to 1 (white): scale them, or store uint8.",
        )


def open_array(path: Path, name: str) -> NDArray[Any]:
    """One array of an `.npz` file. Objects inside (pickles) are refused. Raises PictureError."""
    try:
        found = path.stat()
        return _load_array(path, name, found.st_size, found.st_mtime_ns)
    except _DAMAGED as error:
        raise PictureError(f"{path}: {name} cannot be read: {error}", "Download or export the file again.") from error


@functools.lru_cache(maxsize=4)
def _load_array(path: Path, name: str, _size: int, _changed_ns: int) -> NDArray[Any]:
    # size and date are part of the key, so that a file that was written anew is read anew
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        require_room([entry for entry in archive.zip.infolist() if entry.filename in (name, f"{name}.npy")])
        for entry in archive.zip.infolist():
            if reason := describe_method(entry):
                raise ValueError(f"{entry.filename} {reason}")
        array: NDArray[Any] = archive[name]
        return array


def require_room(entries: Sequence[zipfile.ZipInfo]) -> None:
    """Raise ValueError where arrays of an `.npz` are larger, unpacked, than half of the free memory and 1 GB."""
    n_bytes = sum(entry.file_size for entry in entries)  # zipfile unpacks no more than is declared
    limit = max(_MAX_BYTES, read_free_memory_bytes() // 2)
    if n_bytes > limit:
        raise ValueError(
            f"its arrays take {n_bytes / 1e9:,.1f} GB unpacked, more than the {limit / 1e9:,.1f} GB that may be "
            "taken: use HDF5 or files"
        )


def open_dataset(path: Path, name: str) -> h5py.Dataset:
    """One dataset of an HDF5 file, whose handle stays open in this process. Raises PictureError."""
    try:
        found = path.stat()
        return _open_checked(path, name, found.st_size, found.st_mtime_ns, os.getpid())
    except PictureError:
        raise
    except _DAMAGED as error:
        raise PictureError(f"{path}: {name} cannot be read: {error}", "Download or export the file again.") from error


@functools.lru_cache(maxsize=32)
def _open_checked(path: Path, name: str, size: int, changed_ns: int, pid: int) -> h5py.Dataset:
    import h5py

    file = _open_file(path, size, changed_ns, pid)
    node: Any = file
    for part in name.split("/"):
        if not isinstance(node.get(part, getlink=True), h5py.HardLink):
            raise PictureError(f"{path}: {name} is a link", "Links inside HDF5 files are not followed.")
        node = node[part]
    require_own_data(path, node)
    return node


def require_own_data(path: Path, dataset: Any) -> None:
    """Raise PictureError where a dataset lies in other files, or where one picture would fill the memory."""
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        raise PictureError(f"{path}: {dataset.name} is no array", "It changed since it was read: start again.")
    if dataset.is_virtual or dataset.external:
        raise PictureError(f"{path}: {dataset.name} lies in other files", "Copy it into one file.")
    shapes = (dataset.shape[1:], dataset.chunks or ())  # a chunk is unpacked whole, however small the picture
    n_bytes = max(float(np.prod(shape, dtype=np.float64)) for shape in shapes) * dataset.dtype.itemsize
    if n_bytes > _MAX_BYTES:
        raise PictureError(
            f"{path}: {dataset.name} needs {n_bytes / 1e9:,.1f} GB for one picture", "Store it in smaller chunks."
        )
    claimed = dataset.size * dataset.dtype.itemsize
    if claimed and (dataset.id.get_storage_size() == 0 or claimed > _MAX_RATIO * path.stat().st_size):
        raise PictureError(
            f"{path}: {dataset.name} claims {claimed / 1e6:,.1f} MB that were never written", "Export the file again."
        )


@functools.lru_cache(maxsize=4)
def _open_file(path: Path, _size: int, _changed_ns: int, _pid: int) -> h5py.File:
    # a handle must not cross a fork: the process is part of the key
    import h5py

    return h5py.File(path, "r", locking="best-effort", rdcc_nbytes=_CHUNK_CACHE_BYTES)
