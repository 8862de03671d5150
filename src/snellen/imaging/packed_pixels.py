"""Pictures of a file that `snellen pack` wrote: preprocessed already, taken as they are.

Knows one array of one HDF5 file and how to read a row of it; nothing of labels, splits or plans.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import PictureError

IMAGES = "images"


def read_packed_pixels(root: Path, location: str) -> NDArray[np.uint8]:
    """The uint8 `(size, size, channels)` at `file.h5::images[12]`. Raises PictureError where the file is damaged."""
    file, _, entry = location.partition("::")
    index = entry.removeprefix(f"{IMAGES}[").removesuffix("]")
    try:
        found = (root / file).stat()
        images = _open_images(root / file, found.st_size, found.st_mtime_ns)
        return np.asarray(images[int(index)], np.uint8)
    except (OSError, KeyError, ValueError, IndexError, RuntimeError) as error:
        raise PictureError(
            f"{entry} of {file} is damaged: {error}", "Copy the file again from where it was packed, or pack it again."
        ) from error


def mark_packed(root: Path, location: str) -> tuple[str, ...]:
    """What tells one state of the file from another: its path, size and date."""
    path = (root / location.partition("::")[0]).resolve()
    found = path.stat()
    return "packed", str(path), str(found.st_size), str(found.st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _open_images(path: Path, _size: int, _changed_ns: int) -> Any:
    # size and date are part of the key, so that a file that was packed anew is opened anew
    import h5py

    # kept open: opening takes longer than reading a picture
    return h5py.File(path, "r")[IMAGES]
