"""A small copy of each picture, kept by content: what compares or looks over pictures needs no second decoding.

This room knows pixels and the cache folder. It must not know samples, labels or what a sketch is used for.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import StorageError
from snellen.core.storage import explain_os_error
from snellen.imaging.picture import Levels, is_grey
from snellen.imaging.window import apply_window

SKETCH_SIDE_PX = 256
SKETCH_VERSION = "sketch-1"
_ASKED_AT_ONCE = 500
_WAIT_S = 120.0


def make_sketch(pixels: Levels) -> NDArray[np.uint8]:
    """`(h, w)` for grey, else `(h, w, 3)` RGB; the longer side has 256 pixels at most, none is enlarged.

    Values of more than 8 bits are taken between the picture's own quantiles.
    """
    seen = pixels[..., 0] if pixels.ndim == 3 and is_grey(pixels) else pixels
    height, width = seen.shape[:2]
    scale = min(1.0, SKETCH_SIDE_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if seen.dtype != np.uint8:
        low, high = np.quantile(seen[:: max(1, height // 512)], [0.005, 0.995])
        seen = apply_window(seen, (float(low), max(float(high), float(low) + 1)))
    shades = np.ascontiguousarray(seen, np.uint8)
    return np.asarray(cv2.resize(shades, size, interpolation=cv2.INTER_AREA) if scale < 1 else shades, np.uint8)


def encode_sketch(sketch: NDArray[np.uint8]) -> bytes:
    """Without loss, quickly."""
    _, encoded = cv2.imencode(".png", sketch, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return encoded.tobytes()


class SketchStore:
    """The sketches in a cache folder, by the hash of the pictures' pixels; several processes may use one folder."""

    def __init__(self, cache: Path) -> None:
        self._path = cache / "sketches" / f"{SKETCH_VERSION}.db"

    def find_missing(self, hashes: Iterable[str]) -> set[str]:
        """Which of `hashes` have no sketch yet."""
        wanted = sorted(set(hashes))
        with self._open() as database:
            ask = "SELECT 1 FROM sketches WHERE hash = ?"
            return {name for name in wanted if database.execute(ask, (name,)).fetchone() is None}

    def add(self, encoded: Mapping[str, bytes]) -> None:
        """Keep sketches as `encode_sketch` gives them. Raises StorageError where the disk does not take them."""
        if not encoded:
            return
        with self._open() as database:
            database.executemany("INSERT OR REPLACE INTO sketches VALUES (?, ?)", encoded.items())

    def load(self, hashes: Sequence[str]) -> Iterator[NDArray[np.uint8]]:
        """A sketch for each of `hashes`, in their order. Raises StorageError where one is missing."""
        for start in range(0, len(hashes), _ASKED_AT_ONCE):
            part = hashes[start : start + _ASKED_AT_ONCE]
            with self._open() as database:
                ask = "SELECT png FROM sketches WHERE hash = ?"
                found = [database.execute(ask, (name,)).fetchone() for name in part]
            for row in found:
                encoded = np.frombuffer(row[0] if row else b"\0", np.uint8)
                sketch = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
                if sketch is None:
                    raise StorageError(f"{self._path} lacks a sketch.", "Run `snellen cache clear` and begin anew.")
                yield np.asarray(sketch, np.uint8)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """One transaction. A file that is no database is begun anew: it is a cache."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            database = self._connect()
            try:
                with database:
                    yield database
            finally:
                database.close()
        except OSError as error:
            raise explain_os_error(error, self._path) from error
        except sqlite3.Error as error:
            raise StorageError(
                f"{self._path}: {error}", "Free some space, or put the cache elsewhere with --cache DIR."
            ) from error

    def _connect(self) -> sqlite3.Connection:
        try:
            return self._prepare()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            self._path.unlink()
            return self._prepare()

    def _prepare(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_WAIT_S)
        try:
            database.execute("CREATE TABLE IF NOT EXISTS sketches (hash TEXT PRIMARY KEY, png BLOB NOT NULL)")
        except sqlite3.Error:
            database.close()
            raise
        return database
