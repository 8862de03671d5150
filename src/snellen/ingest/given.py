"""Pictures, labels and patients that a Python program hands over, as a list file that every step reads as DATA.

Arrays lie beside the list as PNG files named by their content: the same picture given again, such as in another fold,
is written and read once.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from snellen.core.errors import DataError
from snellen.core.progress import follow
from snellen.core.runtime import count_threads
from snellen.core.storage import compute_digest, explain_os_error, require_space, write_atomic
from snellen.ingest.patients import RawSample
from snellen.ingest.samples import Source
from snellen.records.base import Record

LIST_SUFFIX = ".samples.json"
_SCHEMA = 1
_FOLDER = "given"
Given = str | NDArray[np.uint8]


class _Row(Record):
    name: str
    location: str
    label: str
    patient: str | None = None


class _List(Record):
    snellen_samples: int
    samples: tuple[_Row, ...]


@dataclass(frozen=True)
class GivenData:
    """Pictures as paths (or `file::frame[3]`) and uint8 arrays `(H, W)` or `(H, W, 3)`; a label and a patient each.

    `patients` is None where nobody told them.
    """

    pictures: Sequence[Given]
    labels: Sequence[str]
    patients: Sequence[str] | None = None


def write_given(data: GivenData, cache: Path) -> Path:
    """Keep the arrays in `cache` and write the list beside them; equal data give the same file. Returns the list.

    Raises StorageError where the disk is full.
    """
    folder = cache / _FOLDER
    arrays = [index for index, picture in enumerate(data.pictures) if isinstance(picture, np.ndarray)]
    require_space(cache, sum(np.asarray(data.pictures[index]).nbytes for index in arrays), "Keeping the given arrays")
    locations = ["" if isinstance(picture, np.ndarray) else _to_absolute(picture) for picture in data.pictures]
    with ThreadPoolExecutor(count_threads()) as pool:
        kept = pool.map(lambda index: _keep(np.asarray(data.pictures[index]), folder), arrays)
        for index, location in zip(arrays, follow(kept, "Keeping arrays", len(arrays)), strict=True):
            locations[index] = location
    patients: Sequence[str | None] = data.patients or [None] * len(locations)
    rows = tuple(
        _Row(name=name, location=location, label=label, patient=patient)
        for name, location, label, patient in zip(_name(data.pictures), locations, data.labels, patients, strict=True)
    )
    text = _List(snellen_samples=_SCHEMA, samples=rows).to_json()
    path = folder / f"{compute_digest([text])[:24]}{LIST_SUFFIX}"
    if not path.is_file():
        write_atomic(path, text)
    return path


def read_given(path: Path) -> Source:
    """The samples of a list. Raises DataError where the file is absent, damaged or of another version."""
    try:
        found = _List.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(
            f"{path} is no list of samples that Snellen wrote: {str(error).splitlines()[0]}",
            "Lists are made by snellen.ImageClassifier; to train on a list of your own, give a CSV.",
        ) from error
    if found.snellen_samples != _SCHEMA:
        raise DataError(
            f"{path} has version {found.snellen_samples}; this Snellen reads {_SCHEMA}.", "Fit the classifier again."
        )
    samples = [RawSample(row.name, row.location, row.label, None, row.patient) for row in found.samples]
    title = f"{len(samples)} pictures given in Python"
    return Source(path.parent, title, samples, "labels given in Python", patient_title="groups given in Python")


def _to_absolute(picture: Given) -> str:
    return os.path.abspath(Path(str(picture)).expanduser())  # noqa: PTH100  # resolve() would follow links


def _name(pictures: Sequence[Given]) -> list[str]:
    """Arrays by their position, files by their path; a file that is given twice is two samples."""
    seen: Counter[str] = Counter()
    names = []
    for index, picture in enumerate(pictures):
        name = f"{index:06d}" if isinstance(picture, np.ndarray) else Path(picture).as_posix()
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return names


def _keep(pixels: NDArray[np.uint8], folder: Path) -> str:
    """Write the pixels losslessly under the name of their content. Returns the location below `folder`."""
    from PIL import Image

    pixels = np.ascontiguousarray(pixels)
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:40]
    location = f"pictures/{digest[:2]}/{digest}.png"
    path = folder / location
    if path.is_file() and path.stat().st_size:
        return location
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    _write_quickly(path, stream.getvalue())
    return location


def _write_quickly(path: Path, content: bytes) -> None:
    """Atomic among processes; without waiting for the disk, which thousands of small files would do for minutes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            Path(temporary).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise explain_os_error(error, path) from error
