"""What pictures and their files are like, as a table of numbers: headers and looks of every sample, read once and kept.

This room knows samples, files and the cache. It must not know labels or what is normal.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import PictureError
from snellen.core.progress import follow
from snellen.core.regular_files import is_file
from snellen.core.storage import compute_digest, write_atomic
from snellen.imaging.headers import Header, read_header
from snellen.imaging.looks import LOOKS, measure_looks
from snellen.imaging.readers import read_location
from snellen.records.cohort import Sample

LOOKS_VERSION = "looks-3"
HEADER = tuple(field.name for field in fields(Header))
# letters of patients' names are still told apart, and a JPEG of 12 megapixels is read at an eighth of its size
_SIDE_PX = 360
_PIECE = 256


@dataclass(frozen=True)
class Looks:
    """A row a sample: `values` `(N, len(names))`, NaN in the rows of what could not be read again."""

    names: tuple[str, ...]
    values: NDArray[np.float32]

    def column(self, name: str) -> NDArray[np.float32]:
        """`(N,)` numbers of one name."""
        return np.asarray(self.values[:, self.names.index(name)], np.float32)

    def columns(self, names: Sequence[str]) -> NDArray[np.float32]:
        """`(N, len(names))`."""
        return np.asarray(self.values[:, [self.names.index(name) for name in names]], np.float32)


def read_looks(root: Path, samples: Sequence[Sample], threads: int, cache: Path) -> Looks:
    """Looks of every sample; those of unchanged pictures come from the last time."""
    names = (*HEADER, *LOOKS)
    store = cache / "looks" / f"{compute_digest([LOOKS_VERSION, str(root)])[:24]}.npz"
    known = _load(store, len(names))
    keys = [_name_content(sample) for sample in samples]
    missing = list({key: at for at, key in enumerate(keys) if key not in known}.values())
    with ThreadPoolExecutor(threads) as pool:
        for at, row in follow(_read_in_pieces(pool, root, samples, missing), "Looking at pictures", len(missing)):
            known[keys[at]] = row
    if missing:
        _save(store, known)
    return Looks(names, np.stack([known[key] for key in keys]) if keys else np.zeros((0, len(names)), np.float32))


def _name_content(sample: Sample) -> bytes:
    """What makes two files look the same here: place, size and pixels."""
    return bytes.fromhex(compute_digest([sample.location, str(sample.n_bytes), sample.pixels_sha256])[:32])


def _read_in_pieces(
    pool: ThreadPoolExecutor, root: Path, samples: Sequence[Sample], missing: Sequence[int]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for start in range(0, len(missing), _PIECE):
        piece = missing[start : start + _PIECE]
        yield from zip(piece, pool.map(lambda at: _read_one(root, samples[at]), piece), strict=True)


def _read_one(root: Path, sample: Sample) -> NDArray[np.float32]:
    path = root / sample.location
    header = read_header(path) if "::" not in sample.location or is_file(path) else Header()
    try:
        looks = measure_looks(read_location(root, sample.location, min_side_px=_SIDE_PX).pixels)
    except PictureError:  # it vanished since it was read for its facts
        looks = np.full(len(LOOKS), np.nan, np.float32)
    return np.concatenate([np.array(astuple(header), np.float32), looks])


def _load(store: Path, width: int) -> dict[bytes, NDArray[np.float32]]:
    try:
        with np.load(store, allow_pickle=False) as found:
            keys, values = found["keys"], found["values"]
    except (OSError, ValueError, KeyError, EOFError):  # none yet, or damaged: it is made again
        return {}
    if values.ndim != 2 or values.shape[1] != width or keys.shape != (len(values), 16):
        return {}
    return {key.tobytes(): row for key, row in zip(keys, values, strict=True)}


def _save(store: Path, known: dict[bytes, NDArray[np.float32]]) -> None:
    stream = io.BytesIO()
    keys = np.frombuffer(b"".join(known), np.uint8).reshape(-1, 16)
    np.savez(stream, keys=keys, values=np.stack(list(known.values())))
    write_atomic(store, stream.getvalue())
