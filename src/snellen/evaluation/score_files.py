"""`scores-*.csv` read back. Knows columns and classes; must not know what wrote them or what they are used for."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from snellen.core.errors import StorageError
from snellen.records.evaluation import Score


def read_scores(path: Path, classes: Sequence[str]) -> list[Score]:
    """The rows that `save_scores` wrote, for these classes. Raises StorageError where the file is absent or altered."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            found = [_read_row(row, classes) for row in csv.DictReader(stream)]
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist.", "Copy the whole folder again, or repeat the step.") from error
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise StorageError(f"{path} cannot be read: {error}", "The file is damaged: repeat the step.") from error
    if not found:
        raise StorageError(f"{path} holds no scores.", "The file is damaged: repeat the step.")
    return found


def _read_row(row: dict[str, str], classes: Sequence[str]) -> Score:
    return Score(
        sample=row["sample"],
        patient=row["patient"],
        label=row["label"],
        probabilities=tuple(float(row[f"probability_{name}"]) for name in classes),
        logits=tuple(float(row[f"logit_{name}"]) for name in classes),
        prediction=row["prediction"],
    )
