"""A run's folder: its names, its records, how it is opened again. Computes nothing."""

from __future__ import annotations

import contextlib
import csv
import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from snellen.core.arguments import to_path
from snellen.core.csv_text import format_csv
from snellen.core.errors import SnellenError, StorageError, UsageError
from snellen.core.progress import Plain
from snellen.core.storage import read_json, write_atomic
from snellen.epoch_log import EPOCHS, read_epochs
from snellen.inference.load import MANIFEST_FILE, load_bundle
from snellen.inference.predictor import Predictor
from snellen.records.base import Record
from snellen.records.cohort import Audit, Cohort, Split
from snellen.records.evaluation import Evaluation
from snellen.records.plan import Fingerprint, Plan
from snellen.records.run import EpochRecord, RunRecord
from snellen.records.seeds import SEEDS_FILE

R = TypeVar("R", bound=Record)
T = TypeVar("T")
_COHORT_COLUMNS = (
    "name", "location", "label", "patient", "split", "width_px", "height_px", "channels", "format", "n_bytes",
    "pixels_sha256", "bits", "laterality", "series",
)  # fmt: skip
_SPLIT_COLUMNS = ("sample", "patient", "group", "label", "split", "reason", "fold")


@dataclass(frozen=True)
class Run:
    """A run on disk. Every property reads its file anew."""

    folder: Path

    @property
    def record(self) -> RunRecord:
        return load_record(self.folder / "run.json", RunRecord)

    @property
    def plan(self) -> Plan:
        return load_record(self.folder / "plan.json", Plan)

    @property
    def fingerprint(self) -> Fingerprint:
        return load_record(self.folder / "fingerprint.json", Fingerprint)

    @property
    def audit(self) -> Audit:
        return load_record(self.folder / "audit.json", Audit)

    @property
    def evaluation(self) -> Evaluation:
        """On the test split; on what was held out where the run was made with --no-test."""
        path = self.folder / "evaluation.json"
        return load_record(path, Evaluation) if path.exists() else self.validation

    @property
    def validation(self) -> Evaluation:
        """On the validation split, or out of fold."""
        path = self.folder / "evaluation-oof.json"
        return load_record(path if path.exists() else self.folder / "evaluation-val.json", Evaluation)

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    @property
    def distilled(self) -> Path:
        """The bundle of the one network in place of a fold ensemble, where it was asked for."""
        return self.folder / "distilled"

    @property
    def distilled_evaluation(self) -> Evaluation | None:
        """Its numbers on the test split, if that was opened."""
        path = self.folder / "evaluation-distilled.json"
        return load_record(path, Evaluation) if path.exists() else None

    @property
    def epochs(self) -> list[EpochRecord]:
        return read_epochs(self.folder / EPOCHS)

    @property
    def splits(self) -> list[Split]:
        return self._read_rows("splits.csv", Split.model_validate)

    @property
    def pixel_hashes(self) -> dict[str, str]:
        """Sample → hash of its pixels, as the run found them."""
        return dict(self._read_rows("cohort.csv", lambda row: (row["name"], row["pixels_sha256"])))

    def _read_rows(self, name: str, make: Callable[[dict[str, str]], T]) -> list[T]:
        path = self.folder / name
        try:
            with path.open(newline="", encoding="utf-8") as stream:
                return [make(row) for row in csv.DictReader(stream)]
        except FileNotFoundError as error:
            raise _tell_incomplete(path) from error
        except (OSError, ValueError, KeyError, csv.Error) as error:
            raise StorageError(f"{path} cannot be read: {error}", "The file is damaged: repeat the step.") from error

    def load(self) -> Predictor:
        """The run's model, as it is served."""
        return load_bundle(self.bundle)

    def save(self, name: str, record: Record) -> None:
        write_atomic(self.folder / name, record.to_json())


def open_run(path: str | Path) -> Run:
    """Raises UsageError where `path` is no run."""
    folder = to_path(path, "RUN")
    if not folder.exists():
        raise UsageError(f"The run {folder} does not exist.", "Give the folder that `snellen train` made.")
    if (folder / MANIFEST_FILE).is_file():
        raise UsageError(
            f"{folder} is a bundle, not a run.",
            f"Give the run that made it, or the bundle together with DATA: snellen evaluate {folder} DATA",
        )
    if (folder / SEEDS_FILE).is_file():
        raise UsageError(f"{folder} holds the runs of several seeds.", f"Give one of them, such as {folder}/seed-0.")
    if not (folder / "run.json").is_file():
        raise UsageError(f"{folder} is no run: it holds no run.json.", "Give the folder that `snellen train` made.")
    return Run(folder)


def load_record(path: Path, kind: type[R]) -> R:
    """Read and validate one of Snellen's JSON files. Raises StorageError where it is absent or damaged."""
    if (path.parent / "run.json").is_file() and not path.exists():
        raise _tell_incomplete(path)
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StorageError(
            f"{path}: {place}: {first['msg']}", "It was written by another version, or altered."
        ) from error


def _tell_incomplete(path: Path) -> StorageError:
    return StorageError(
        f"{path.parent} is no complete run: it holds no {path.name}.",
        f"Copy the whole folder again; where it was stopped: snellen train --resume {shlex.quote(str(path.parent))}",
    )


def choose_run_folder(out: str | Path | None, name: str, recipe: str) -> Path:
    """`--out`, else `runs/DATE-NAME-RECIPE`, with a number where that exists."""
    if out is not None:
        return Path(out).expanduser()
    base = Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{name}-{recipe}"
    folder, number = base, 2
    while folder.exists():
        folder = base.with_name(f"{base.name}-{number}")
        number += 1
    return folder


def save_cohort(folder: Path, cohort: Cohort) -> None:
    """`cohort.csv`, a row a sample, with a column for each of the attributes that were asked for, and `audit.json`."""
    extra = list(dict.fromkeys(name for sample in cohort.samples for name in sample.attributes))
    rows = [
        [*_list_cells(sample, _COHORT_COLUMNS), *(sample.attributes.get(name, "") for name in extra)]
        for sample in cohort.samples
    ]
    write_atomic(
        folder / "cohort.csv", format_csv([[*_COHORT_COLUMNS, *(f"attribute_{name}" for name in extra)], *rows])
    )
    write_atomic(folder / "audit.json", cohort.audit.to_json())


def save_splits(folder: Path, splits: Sequence[Split]) -> None:
    """`splits.csv`, a row a sample."""
    write_atomic(folder / "splits.csv", _to_csv(splits, _SPLIT_COLUMNS))


class _Kept(logging.Handler):
    """Keeps records until there is a file for them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextlib.contextmanager
def log_to(path: Path) -> Iterator[Callable[[], None]]:
    """Everything that Snellen says goes to `path` too, once the yielded function is called, also what came before."""
    logger = logging.getLogger("snellen")
    kept = _Kept()
    handlers: list[logging.Handler] = [kept]
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(kept)

    def begin() -> None:
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
        handler.setFormatter(Plain("%(asctime)s %(message)s"))
        for record in kept.records:
            handler.emit(record)
        logger.removeHandler(kept)
        logger.addHandler(handler)
        handlers.append(handler)

    try:
        yield begin
    except (SnellenError, OSError) as error:
        if len(handlers) > 1:  # the folder is the run's: what stopped it stands there too, if the disk takes it
            with contextlib.suppress(OSError), path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(f"{datetime.now().strftime('%Y-%m-%d %H:%M:%S')} Error: {error}\n")
        raise
    finally:
        logger.setLevel(before)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def _to_csv(rows: Sequence[Record], columns: Sequence[str]) -> str:
    return format_csv([columns, *(_list_cells(row, columns) for row in rows)])


def _list_cells(row: Record, columns: Sequence[str]) -> list[object]:
    return ["" if (value := getattr(row, column)) is None else value for column in columns]
