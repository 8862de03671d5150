"""Asks processes apart (`dicom_worker`) to decode compressed DICOM frames: where one dies, the picture is damaged.

As many processes are kept as frames are decoded at once; they end with this one.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from snellen.core.errors import PictureError
from snellen.imaging.dicom_worker import LENGTHS
from snellen.imaging.picture import Levels

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_STORED = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
_LIMIT_S = 120
_idle: queue.LifoQueue[subprocess.Popen[bytes]] = queue.LifoQueue()


def decode_apart(data: Dataset, frame: bytes) -> Levels:
    """The values of a compressed `frame`, stored as `data` says. Raises PictureError."""
    tags: dict[str, Any] = {name: int(data[name].value) for name in _STORED if name in data}
    tags["TransferSyntaxUID"] = str(data.file_meta.TransferSyntaxUID)
    tags["PhotometricInterpretation"] = str(data.PhotometricInterpretation)
    if "PlanarConfiguration" in data:
        tags["PlanarConfiguration"] = int(data.PlanarConfiguration)
    worker = _take()
    try:
        head, values = _ask(worker, json.dumps(tags).encode(), frame)
    except (OSError, EOFError):
        _end(worker)
        raise PictureError(
            "the compressed picture is damaged: its decoder broke down", "Copy or export it again."
        ) from None
    except BaseException:
        _end(worker)  # stopped between question and answer: the next one would get this answer
        raise
    _idle.put(worker)
    if "error" in head:
        raise PictureError(f"the compressed picture is damaged ({head['error']})", "Copy or export it again.")
    return np.frombuffer(values, head["dtype"]).reshape(head["shape"])


def _take() -> subprocess.Popen[bytes]:
    with contextlib.suppress(queue.Empty):
        return _idle.get_nowait()
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "snellen.imaging.dicom_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # libraries complain there of streams whose error row says all
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def _ask(worker: subprocess.Popen[bytes], tags: bytes, frame: bytes) -> tuple[dict[str, Any], bytes]:
    if worker.stdin is None or worker.stdout is None:
        raise EOFError
    watch = threading.Timer(_LIMIT_S, worker.kill)
    watch.daemon = True
    watch.start()
    try:
        worker.stdin.write(LENGTHS.pack(len(tags), len(frame)) + tags)
        worker.stdin.write(frame)
        worker.stdin.flush()
        n_head, n_values = LENGTHS.unpack(_read(worker.stdout, LENGTHS.size))
        return json.loads(_read(worker.stdout, n_head)), _read(worker.stdout, n_values)
    finally:
        watch.cancel()


def _read(stream: IO[bytes], n_bytes: int) -> bytes:
    found = stream.read(n_bytes)
    if len(found) < n_bytes:
        raise EOFError
    return found


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    worker.wait()
    for stream in (worker.stdin, worker.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


@atexit.register
def end_workers() -> None:
    """End all that are idle."""
    with contextlib.suppress(queue.Empty):
        while True:
            _end(_idle.get_nowait())
