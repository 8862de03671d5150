"""`snellen predict`: rows as CSV or JSON. No torch."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from snellen.core.csv_text import format_csv
from snellen.core.errors import UsageError
from snellen.core.progress import follow, say
from snellen.core.regular_files import NotRegularError, open_regular
from snellen.core.storage import explain_os_error, write_atomic
from snellen.inference.load import load_bundle
from snellen.inference.predictor import Predictor, describe_unreadable
from snellen.inference.prevalence import choose_reweighting, read_prevalence
from snellen.inference.shift import Tally
from snellen.picture_search import Named, find_pictures
from snellen.prediction_maps import require_apart, require_maps_folder, write_maps
from snellen.records.bundle import Prediction

JOINT = " | "  # between the classes of a set
_BEGIN_BYTES = 200


@dataclass(frozen=True)
class Target:
    """Where rows go: a file by its extension, else the screen as CSV or JSON. Evidence maps go into `maps`."""

    file: Path | None
    overwrite: bool
    as_json: bool
    maps: Path | None = None


def predict_paths(
    bundle: Path, patterns: Sequence[str], target: Target, prevalence: str | None = None
) -> tuple[int, int]:
    """Write a row a picture, re-weighted to `prevalence`; return how many could not be read, and of how many."""
    _require_target(target)
    found = find_pictures(patterns)
    predictor = load_bundle(bundle)
    wanted = None if prevalence is None else read_prevalence(prevalence, predictor.manifest)
    if target.file is not None:
        _require_writable(target.file)
    say(f"Bundle: sha256 {predictor.sha256}")
    tally = Tally()
    predictions = list(follow(_answer(predictor, found, tally), "Predicting", len(found)))
    shift = predictor.find_shift(tally.collect())
    if shift is not None and shift.message:
        say(f"Warning: {shift.message}")
    if prevalence is not None:
        reweighting = choose_reweighting(wanted, predictions, predictor.manifest)
        predictions = [reweighting.apply(prediction) for prediction in predictions]
        say(reweighting.describe())
    if target.maps is not None:
        write_maps(predictor, predictions, target.maps)
    is_json = target.as_json or (target.file is not None and target.file.suffix == ".json")
    text = to_json(predictions, predictor.classes) if is_json else to_csv(predictions, predictor.classes)
    if target.file is None:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.write(text)
    else:
        write_atomic(target.file, text)
        say(f"{len(predictions)} rows written to {target.file}, {count_abstained(predictions)}")
    return sum(bool(prediction.error) for prediction in predictions), len(predictions)


def count_abstained(predictions: Sequence[Prediction]) -> str:
    """`3 with abstain (1 could not be read)`: as many as have it in the rows."""
    n_abstained = sum(prediction.abstain for prediction in predictions)
    n_unreadable = sum(bool(prediction.error) for prediction in predictions)
    return f"{n_abstained} with abstain" + (f" ({n_unreadable} could not be read)" if n_unreadable else "")


def _answer(predictor: Predictor, found: Sequence[Named], tally: Tally) -> Iterator[Prediction]:
    """A row for each, in order; what was named in vain never reaches the predictor."""
    answers = predictor.iterate((item.location for item in found if not item.error), tally)
    for item in found:
        yield describe_unreadable(item.location, item.error) if item.error else next(answers)


def to_csv(predictions: Sequence[Prediction], classes: Sequence[str]) -> str:
    """Columns path, prediction, probability_<class>…, decision, abstain, reason, error, set."""
    head = [
        "path",
        "prediction",
        *(f"probability_{name}" for name in classes),
        "decision",
        "abstain",
        "reason",
        "error",
        "set",
    ]
    rows: list[list[str]] = [head]
    for row in predictions:
        numbers = [f"{row.probabilities[name]:.6f}" if row.probabilities else "" for name in classes]
        abstain = str(row.abstain).lower()
        told = [row.decision or "", abstain, row.reason, row.error, JOINT.join(row.set or ())]
        rows.append([row.path, row.prediction or "", *numbers, *told])
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
            "set": None if row.set is None else list(row.set),
        }


def _require_target(target: Target) -> None:
    if target.maps is not None:
        require_apart(target.maps, target.file)
        require_maps_folder(target.maps, overwrite=target.overwrite)
    if target.file is None:
        return
    if target.file.suffix not in (".csv", ".json"):
        raise UsageError(f"--out {target.file}: the name must end in .csv or .json.", "Example: --out predictions.csv")
    try:
        is_there = target.file.exists()
    except OSError as error:
        raise explain_os_error(error, target.file) from error
    if is_there and not target.overwrite:
        raise UsageError(f"{target.file} exists already.", "Choose another --out, or add --overwrite.")
    if is_there and not _is_ours(target.file):
        raise UsageError(f"{target.file} was not written by predict and stays as it is.", "Choose another --out.")


def _is_ours(file: Path) -> bool:
    try:
        with open_regular(file) as stream:
            begin = stream.read(_BEGIN_BYTES).decode("utf-8", "replace")
    except NotRegularError as error:
        raise UsageError(f"--out {file}: {error.strerror}.", "Choose another --out.") from error
    except OSError as error:
        raise explain_os_error(error, file) from error
    return not begin or begin.startswith("path,prediction,") or begin.split()[:3] == ["[", "{", '"path":']


def _require_writable(file: Path) -> None:
    """Raise StorageError where the rows could not be written: said before all pictures are scored, not after."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}."):
            pass
    except OSError as error:
        raise explain_os_error(error, file) from error
