"""HDF5 files with images and labels: keys are found by shape and name, or told. Reads labels, not pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import DataError, PictureError
from snellen.imaging.arrays import open_dataset, require_unit_range
from snellen.ingest.array_samples import list_samples
from snellen.ingest.keys import ArrayInfo, find_parts
from snellen.ingest.samples import Source, make_issue, show_names

if TYPE_CHECKING:
    import h5py

_MAX_DEPTH = 8
_MAX_NODES = 10_000
_PROBED = 16
_BROKEN = (OSError, ValueError, KeyError, TypeError, RuntimeError)


def read_hdf5(path: Path, columns: dict[str, str]) -> Source:
    """List the pictures of a file that others wrote. Raises DataError or UsageError naming keys."""
    with _open(path) as file:
        links: list[str] = []
        arrays = list(_walk(path, file, "", links, set()))
    parts = find_parts(path, arrays, columns)
    for part in parts:
        _require_images(path, part.image)
    samples, issues = list_samples(path, parts, lambda key: _read(path, key))
    if links:
        message = f"Links inside {path.name} were not followed: {show_names(links)}."
        issues.append(make_issue("hdf5_links_not_used", "info", message, "Copy what they lead to, if it is needed."))
    layout = f"HDF5 with {', '.join(part.image for part in parts)}"
    title = "array " + ", ".join(part.patient for part in parts if part.patient)
    return Source(path.parent, layout, samples, "labels in the file", issues=issues, patient_title=title)


def _open(path: Path) -> h5py.File:
    import h5py

    try:
        return h5py.File(path, "r", locking="best-effort")
    except _BROKEN as error:
        raise DataError(f"{path} is no readable HDF5 file: {error}", "Download or export it again.") from error


def _walk(path: Path, group: Any, name: str, links: list[str], seen: set[Any]) -> Iterator[ArrayInfo]:
    """Arrays below `group`. Raises DataError for links out of the file."""
    import h5py

    if name.count("/") >= _MAX_DEPTH or len(seen) > _MAX_NODES:
        raise DataError(f"{path} has too many groups within groups.", "Is it a file of images and labels?")
    try:
        for key in group:
            full = f"{name}/{key}" if name else key
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise DataError(
                    f"{path}: {full} leads to another file ({link.filename}).", "Copy what it leads to into one file."
                )
            if not isinstance(link, h5py.HardLink):
                links.append(full)
                continue
            node = group[key]
            if node.id in seen:  # a hard link back up
                continue
            seen.add(node.id)
            if isinstance(node, h5py.Group):
                yield from _walk(path, node, full, links, seen)
            elif isinstance(node, h5py.Dataset) and node.shape:
                kind = "U" if h5py.check_string_dtype(node.dtype) else node.dtype.kind
                yield ArrayInfo(full, tuple(node.shape), kind, str(node.dtype))
    except _BROKEN as error:
        raise DataError(f"{path} is damaged: {error}", "Download or export it again.") from error


def _require_images(path: Path, key: str) -> None:
    """Raise DataError where the array lies elsewhere, or where decimals of some pictures go beyond 0 to 1."""
    try:
        images = open_dataset(path, key)
        if images.dtype.kind == "f":
            for index in np.unique(np.linspace(0, len(images) - 1, _PROBED).astype(int)):
                require_unit_range(path, key, np.asarray(images[int(index)]))
    except PictureError as error:
        raise DataError(error.message, error.hint) from error
    except _BROKEN as error:
        raise DataError(f"{path}: {key} cannot be read: {error}", "Download or export it again.") from error


def _read(path: Path, key: str) -> NDArray[Any]:
    try:
        return np.asarray(open_dataset(path, key)[()])
    except PictureError as error:
        raise DataError(error.message, error.hint) from error
    except _BROKEN as error:
        raise DataError(f"{path}: {key} cannot be read: {error}", "Download or export it again.") from error
