"""`snellen predict`: which files are meant, and rows as CSV or JSON. No torch."""

from __future__ import annotations

import contextlib
import glob
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from snellen.core.csv_text import format_csv
from snellen.core.errors import UsageError
from snellen.core.progress import follow, say
from snellen.core.storage import write_atomic
from snellen.imaging.readers import list_pictures, looks_like_picture
from snellen.inference.load import load_bundle
from snellen.inference.prevalence import choose_reweighting, read_prevalence
from snellen.records.bundle import Prediction


@dataclass(frozen=True)
class Target:
    """Where rows go: a file by its extension, else the screen as CSV or JSON."""

    file: Path | None
    overwrite: bool
    as_json: bool


def predict_paths(
    bundle: Path, patterns: Sequence[str], target: Target, prevalence: str | None = None
) -> tuple[int, int]:
    """Write a row a picture, re-weighted to `prevalence`; return how many could not be read, and of how many."""
    _require_target(target)
    files = find_pictures(patterns)
    predictor = load_bundle(bundle)
    wanted = None if prevalence is None else read_prevalence(prevalence, predictor.manifest)
    say(f"Bundle: sha256 {predictor.sha256}")
    predictions = list(follow(predictor.iterate(files), "Predicting", len(files)))
    if prevalence is not None:
        reweighting = choose_reweighting(wanted, predictions, predictor.manifest)
        predictions = [reweighting.apply(prediction) for prediction in predictions]
        say(reweighting.describe())
    is_json = target.as_json or (target.file is not None and target.file.suffix == ".json")
    text = to_json(predictions, predictor.classes) if is_json else to_csv(predictions, predictor.classes)
    if target.file is None:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.write(text)
    else:
        write_atomic(target.file, text)
        n_abstained = sum(prediction.abstain and not prediction.error for prediction in predictions)
        say(f"{len(predictions)} rows written to {target.file}, {n_abstained} with abstain")
    return sum(bool(prediction.error) for prediction in predictions), len(predictions)


def find_pictures(patterns: Sequence[str]) -> list[str]:
    """Files as named (also absent ones: they get a row), folders' pictures, and what patterns match.

    A DICOM with several frames becomes one entry a frame, such as `scan.dcm::frame[3]`.
    """
    found: list[str] = []
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if path.is_dir():
            inside = sorted(item for item in path.rglob("*") if item.is_file() and looks_like_picture(item))
            if not inside:
                raise UsageError(
                    f"The folder {pattern} holds no picture.", "Read are JPEG, PNG, TIFF, BMP, WebP, GIF and DICOM."
                )
            found += [str(item) for item in inside]
        elif Path(str(path).rpartition("::")[0]).is_file():
            found.append(str(path))  # one of several pictures in a file: its brackets are no pattern
        elif not path.exists() and glob.has_magic(pattern):
            matched = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207  # Path.glob takes no absolute patterns
            if not matched:
                raise UsageError(
                    f"The pattern {pattern} matches nothing.", "Check it; quotes keep the shell away from it."
                )
            found += [item for item in matched if Path(item).is_file()]
        else:
            found.append(str(path))
    return [location for file in dict.fromkeys(found) for location in list_pictures(file)]


def to_csv(predictions: Sequence[Prediction], classes: Sequence[str]) -> str:
    """Columns path, prediction, probability_<class>…, decision, abstain, reason, error."""
    head = [
        "path",
        "prediction",
        *(f"probability_{name}" for name in classes),
        "decision",
        "abstain",
        "reason",
        "error",
    ]
    rows: list[list[str]] = [head]
    for row in predictions:
        numbers = [f"{row.probabilities[name]:.6f}" if row.probabilities else "" for name in classes]
        abstain = str(row.abstain).lower()
        rows.append([row.path, row.prediction or "", *numbers, row.decision or "", abstain, row.reason, row.error])
    return format_csv(rows)


def to_json(predictions: Sequence[Prediction], classes: Sequence[str]) -> str:
    """The names of the CSV in every row, a list of objects; null where a cell of the CSV is empty and holds no text."""
    return json.dumps(list(_flatten(predictions, classes)), indent=2, ensure_ascii=False) + "\n"


def _flatten(predictions: Sequence[Prediction], classes: Sequence[str]) -> Iterator[dict[str, object]]:
    for row in predictions:
        numbers = {f"probability_{name}": row.probabilities.get(name) for name in classes}
        yield {
            "path": row.path,
            "prediction": row.prediction,
            **numbers,
            "decision": row.decision,
            "abstain": row.abstain,
            "reason": row.reason,
            "error": row.error,
        }


def _require_target(target: Target) -> None:
    if target.file is None:
        return
    if target.file.suffix not in (".csv", ".json"):
        raise UsageError(f"--out {target.file}: the name must end in .csv or .json.", "Example: --out predictions.csv")
    if target.file.exists() and not target.overwrite:
        raise UsageError(f"{target.file} exists already.", "Choose another --out, or add --overwrite.")
    if target.file.exists() and not _is_ours(target.file):
        raise UsageError(f"{target.file} was not written by predict and stays as it is.", "Choose another --out.")


def _is_ours(file: Path) -> bool:
    begin = file.read_bytes()[:200].decode("utf-8", "replace")
    return not begin or begin.startswith("path,prediction,") or begin.split()[:3] == ["[", "{", '"path":']
