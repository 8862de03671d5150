"""`snellen predict --maps DIR`: a PNG a picture, and which belongs to which. No torch."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from snellen.core.csv_text import format_csv
from snellen.core.errors import PictureError, StorageError, UsageError
from snellen.core.progress import follow, say
from snellen.core.storage import explain_os_error, write_atomic
from snellen.inference.evidence_picture import encode_panels
from snellen.inference.predictor import Predictor
from snellen.outputs import Output, require_output
from snellen.records.bundle import Prediction

MAPS = Output("maps.csv", ("maps.csv",), "--maps")
_HEAD = ["path", "file", "class", "method"]
_OURS = re.compile(r"\d{4,}-[\w.-]*\.png")
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
_NAME_LETTERS = 60


def require_maps_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise UsageError where maps may not be written: said before all pictures are scored, not after."""
    require_output(folder, MAPS, overwrite=overwrite)


def write_maps(predictor: Predictor, predictions: Sequence[Prediction], folder: Path) -> None:
    """A map for the predicted class of each picture that could be read, and `maps.csv` that says which is which."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    _clear(folder)
    rows = [_HEAD]
    readable = [prediction for prediction in predictions if prediction.prediction is not None]
    for number, prediction in enumerate(follow(readable, "Drawing maps", len(readable)), 1):
        try:
            found = predictor.explain(prediction.path, prediction.prediction)
        except PictureError:  # it was there a moment ago
            continue
        # of the row, which may be re-weighted to another population
        found = replace(found, probability=prediction.probabilities[found.class_name])
        name = f"{number:04d}-{_name_file(prediction.path)}.png"
        write_atomic(folder / name, encode_panels(found, prediction.reason))
        rows.append([prediction.path, name, found.class_name, found.method])
    write_atomic(folder / MAPS.mark, format_csv(rows))
    say(f"{len(rows) - 1} evidence maps written to {folder}")


def _name_file(path: str) -> str:
    """Letters that every file system takes; the number before them keeps names apart."""
    return (
        _UNFIT.sub("-", Path(path).stem if "::" not in path else Path(path).name)[-_NAME_LETTERS:].strip("-")
        or "picture"
    )


def _clear(folder: Path) -> None:
    """Remove the maps of an earlier call: those that its `maps.csv` names, and nothing else."""
    index = folder / MAPS.mark
    if not index.is_file():
        return
    try:
        with index.open(encoding="utf-8", newline="") as stream:
            names = [row.get("file") or "" for row in csv.DictReader(stream)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StorageError(f"{index} cannot be read: {error}", "Choose another --maps.") from error
    for name in filter(_OURS.fullmatch, names):
        (folder / name).unlink(missing_ok=True)


def require_apart(maps: Path, file: Path | None) -> None:
    """Raise UsageError where rows and maps would take the same name."""
    if file is not None and file.resolve() == maps.resolve():
        raise UsageError(f"--maps {maps} and --out name the same place.", "Choose another --maps.")
