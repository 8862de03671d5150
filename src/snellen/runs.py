"""A run's folder: its names, its records, how it is opened again. Computes nothing."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from snellen.core.csv_text import format_csv
from snellen.core.errors import StorageError, UsageError
from snellen.core.progress import Plain
from snellen.core.storage import read_json, write_atomic
from snellen.epoch_log import EPOCHS, read_epochs
from snellen.inference.load import load_bundle
from snellen.inference.predictor import Predictor
from snellen.records.base import Record
from snellen.records.cohort import Audit, Cohort, Split
from snellen.records.evaluation import Evaluation
from snellen.records.plan import Fingerprint, Plan
from snellen.records.run import EpochRecord, RunRecord

R = TypeVar("R", bound=Record)
_COHORT_COLUMNS = (
    "name", "location", "label", "patient", "split", "width_px", "height_px", "channels", "format", "n_bytes",
    "pixels_sha256", "bits", "laterality", "series",
)  # fmt: skip
_SPLIT_COLUMNS = ("sample", "patient", "group", "label", "split", "reason")


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
        """On the test split; on validation where the run was made with --no-test."""
        path = self.folder / "evaluation.json"
        return load_record(path if path.exists() else self.folder / "evaluation-val.json", Evaluation)

    @property
    def validation(self) -> Evaluation:
        return load_record(self.folder / "evaluation-val.json", Evaluation)

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    @property
    def epochs(self) -> list[EpochRecord]:
        return read_epochs(self.folder / EPOCHS)

    @property
    def splits(self) -> list[Split]:
        try:
            with (self.folder / "splits.csv").open(newline="", encoding="utf-8") as stream:
                return [Split.model_validate(row) for row in csv.DictReader(stream)]
        except OSError as error:
            raise StorageError(f"{self.folder / 'splits.csv'} cannot be read.", "Is this a finished run?") from error

    @property
    def pixel_hashes(self) -> dict[str, str]:
        """Sample → hash of its pixels, as the run found them."""
        with (self.folder / "cohort.csv").open(newline="", encoding="utf-8") as stream:
            return {row["name"]: row["pixels_sha256"] for row in csv.DictReader(stream)}

    def load(self) -> Predictor:
        """The run's model, as it is served."""
        return load_bundle(self.bundle)

    def save(self, name: str, record: Record) -> None:
        write_atomic(self.folder / name, record.to_json())


def open_run(path: str | Path) -> Run:
    """Raises UsageError where `path` is no run."""
    folder = Path(path).expanduser()
    if not (folder / "run.json").is_file():
        raise UsageError(f"{folder} is no run: it holds no run.json.", "Give the folder that `snellen train` made.")
    return Run(folder)


def load_record(path: Path, kind: type[R]) -> R:
    """Read and validate one of Snellen's JSON files. Raises StorageError where it is absent or damaged."""
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StorageError(
            f"{path}: {place}: {first['msg']}", "It was written by another version, or altered."
        ) from error


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
    """`cohort.csv`, a row a sample, and `audit.json`."""
    write_atomic(folder / "cohort.csv", _to_csv(cohort.samples, _COHORT_COLUMNS))
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


@contextmanager
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
    finally:
        logger.setLevel(before)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def _to_csv(rows: Sequence[Record], columns: Sequence[str]) -> str:
    cells = (["" if (value := getattr(row, column)) is None else value for column in columns] for row in rows)
    return format_csv([columns, *cells])
