"""From arrays of labels, patients and splits to raw samples. For .npz and HDF5 alike; sees no pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import DataError
from snellen.core.letters import show_count
from snellen.ingest.keys import Part
from snellen.ingest.label_columns import require_one_each
from snellen.ingest.patients import RawSample
from snellen.ingest.samples import SPLIT_NAMES, make_issue
from snellen.records.cohort import Issue

_MAX_NAME = 1000
ReadArray = Callable[[str], NDArray[Any]]


def list_samples(
    path: Path, parts: Sequence[Part], read: ReadArray, class_names: Sequence[str] = ()
) -> tuple[list[RawSample], list[Issue]]:
    """A sample a picture. `class_names` name whole-number labels. Raises DataError for labels that do not fit."""
    samples: list[RawSample] = []
    ungraded: list[str] = []
    for part in parts:
        labels = read_label_array(path, part, read(part.label), class_names)
        patients = _read_texts(path, part.patient, part.n, read)
        splits = _read_splits(path, part, read)
        names = _read_texts(path, part.name, part.n, read)
        if (longest := max((len(name) for name in names if name), default=0)) > _MAX_NAME:
            raise DataError(
                f"{path}: {part.name} holds a name of {longest:,} letters.",
                f"Names have up to {_MAX_NAME:,}: shorten it.",
            )
        if len({name for name in names if name}) < part.n:
            names = [f"{index:06d}" for index in range(part.n)]
        require_one_each(f"{path}: {part.label}", labels, [f"row {index}" for index in range(part.n)])
        for index in range(part.n):
            name = f"{part.split}/{names[index]}" if part.split else str(names[index])
            if not labels[index]:
                ungraded.append(name)
                continue
            location = f"{path.name}::{part.image}[{index}]"
            samples.append(RawSample(name, location, labels[index], splits[index], patients[index]))
    if not ungraded:
        return samples, []
    message = (
        f"{show_count(len(ungraded), 'picture carries', 'pictures carry')} no label (ungraded), such as "
        f"{ungraded[0]}: set aside."
    )
    return samples, [make_issue("empty_label", "info", message, "Nothing to do, unless they should be graded.",
                                ungraded)]  # fmt: skip


def read_label_array(path: Path, part: Part, values: NDArray[Any], class_names: Sequence[str] = ()) -> list[str]:
    """Labels as text, empty where there is none: whole numbers, texts, or one column a class with a single one."""
    if values.ndim == 2 and values.shape[1] > 1:
        return _read_one_hot(path, part, values, class_names)
    flat = values.reshape(-1)
    if flat.dtype.kind == "f":
        known = flat[np.isfinite(flat)]
        if not np.array_equal(known, np.round(known)):
            raise DataError(
                f"{path}: {part.label} holds decimals such as {known[known != np.round(known)][0]:g}.",
                "Labels are whole numbers or texts.",
            )
        return ["" if not np.isfinite(value) else _name(int(value), class_names) for value in flat]
    if flat.dtype.kind in "iub":
        return [_name(int(value), class_names) for value in flat]
    return [text.strip() for text in _to_texts(path, part.label, flat)]


def _read_one_hot(path: Path, part: Part, values: NDArray[Any], class_names: Sequence[str]) -> list[str]:
    if values.dtype.kind not in "iubf" or not np.isin(values, (0, 1)).all():
        raise DataError(
            f"{path}: {part.label} has {values.shape[1]} columns that hold more than 0 and 1.",
            "One column a class needs 0 or 1 in each.",
        )
    several = np.flatnonzero(values.sum(axis=1) > 1)
    if len(several):
        raise DataError(
            f"{path}: {part.label} has {values.shape[1]} columns: several labels a picture (multi-label) in "
            f"{len(several):,} of {len(values):,} rows, such as {', '.join(map(str, several[:3]))}.",
            "Multi-label is out of scope: Snellen is for one label a picture.",
        )
    return [_name(int(row.argmax()), class_names) if row.any() else "" for row in values]


def _name(value: int, class_names: Sequence[str]) -> str:
    return class_names[value] if 0 <= value < len(class_names) else str(value)


def _read_texts(path: Path, key: str | None, n: int, read: ReadArray) -> list[str | None]:
    if key is None:
        return [None] * n
    flat = read(key).reshape(-1)
    texts = [str(value) for value in flat] if flat.dtype.kind in "iub" else _to_texts(path, key, flat)
    return [text.strip() or None for text in texts]


def _read_splits(path: Path, part: Part, read: ReadArray) -> list[str | None]:
    if part.split or part.splits is None:
        return [part.split] * part.n
    found = _read_texts(path, part.splits, part.n, read)
    strange = sorted({text for text in found if text and text.lower() not in SPLIT_NAMES})
    if strange:
        raise DataError(
            f"{path}: {part.splits} has values that name no split: {', '.join(strange[:5])}.",
            f"Splits are called {', '.join(SPLIT_NAMES)}.",
        )
    return found


def _to_texts(path: Path, key: str, values: NDArray[Any]) -> list[str]:
    """UTF-8 bytes or texts; anything else would be a guess."""
    try:
        texts = [value.decode("utf-8") if isinstance(value, bytes) else value for value in values.tolist()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {key} holds texts that are no UTF-8.", "Write it again with UTF-8 texts.") from error
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"{path}: {key} is {values.dtype}.", "Snellen reads whole numbers and texts there.")
    return texts
