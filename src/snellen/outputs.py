"""Where a command may write: never over inputs, never over what it did not make itself. Deletes only files it owns."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from snellen.core.errors import StorageError, UsageError
from snellen.core.storage import compute_digest, explain_os_error


@dataclass(frozen=True)
class Output:
    """The names a command writes into its folder; `mark` tells that the command wrote there before, `option` names the
    folder on the command line.
    """

    mark: str
    owned: tuple[str, ...]
    option: str = "--out"


AUDIT = Output("audit.json", ("audit.json", "audit.html", "cohort.csv"))
PLAN = Output("plan.json", ("plan.json", "cohort.csv", "audit.json", "audit.html", "splits.csv", "fingerprint.json"))
TUNING = Output("tune.json", ("tune.json", "study.db", "trials.csv", "best.toml", "tune.html"))
SEEDS = Output("seeds.json", ("seeds.json", "seeds.html", "seeds.pdf"))  # its runs are cleared one by one
EVALUATION = Output("evaluation.json", ("evaluation.json", "scores.csv", "report.html", "report.pdf"))
COMPARISON = Output("comparison.json", ("comparison.json", "compare.html"))
RUN = Output(
    "run.json",
    (
        *PLAN.owned,
        *("run.json", "run.log", "recipe.toml", "metrics.jsonl", "report.html", "report.pdf"),
        *("scores-val.csv", "scores-oof.csv", "scores-test.csv", "scores-distilled.csv"),
        *("evaluation-val.json", "evaluation-oof.json", "evaluation.json", "evaluation-distilled.json"),
        *("bundle", "distilled"),
        "tensorboard",
    ),
)


def require_output(
    folder: Path, output: Output, *, overwrite: bool, inputs: Iterable[Path] = (), data: Path | None = None
) -> None:
    """Raise UsageError where `folder` may not be written. Nothing is deleted here.

    It must not be or contain an input, nor lie inside the folder `data`, where the next reading would take its
    files for pictures. A folder that is not empty needs `overwrite`, and the mark of the same command.
    """
    target = folder.resolve()
    for source in [*inputs, *([data] if data else [])]:
        if source.resolve() == target or source.resolve().is_relative_to(target):
            raise UsageError(
                f"{output.option} {folder} is or contains the input {source}.", f"Choose another {output.option}."
            )
    if data is not None and data.is_dir() and target.is_relative_to(data.resolve()):
        raise UsageError(
            f"{folder} lies inside the data {data}: its files would be taken for data the next time.",
            f"Choose a folder for {output.option} elsewhere.",
        )
    above = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not above.is_dir():
        raise UsageError(f"{output.option} {folder}: {above} is a file.", "Choose a folder.")
    _require_writable(folder)
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise UsageError(f"{folder} exists already.", f"Choose another {output.option}, or add --overwrite.")
    if not (folder / output.mark).exists():
        raise UsageError(
            f"{folder} holds no {output.mark}: it was not made by this command and stays as it is.",
            f"Choose another {output.option}.",
        )
    if output.mark != RUN.mark and (folder / RUN.mark).exists():
        raise UsageError(f"{folder} is a run and stays as it is.", f"Choose another {output.option}.")
    if not _is_ours(folder / output.mark):
        raise UsageError(
            f"{folder / output.mark} was not written by Snellen, or is damaged: the folder stays as it is.",
            f"Choose another {output.option}, or remove the folder yourself.",
        )


def _is_ours(mark: Path) -> bool:
    """Whether Snellen wrote it: a record says which version of its schema it follows."""
    if mark.suffix != ".json":
        return True
    try:
        record = json.loads(mark.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and "schema_version" in record


def require_file(path: Path, data: Path, *, overwrite: bool, is_ours: Callable[[Path], bool]) -> None:
    """Raise UsageError where the file `path` may not be written: `overwrite` replaces only what `is_ours`."""
    target = path.resolve()
    if target == data.resolve():
        raise UsageError(f"--out {path} is the input.", "Choose another --out.")
    if data.is_dir() and target.is_relative_to(data.resolve()):
        raise UsageError(f"{path} lies inside the data {data}.", "Choose an --out elsewhere.")
    if path.is_dir():
        raise UsageError(f"--out {path} is a folder.", "Give a file, such as cohort.h5.")
    _require_writable(path)
    if not path.exists():
        return
    if not overwrite:
        raise UsageError(f"{path} exists already.", "Choose another --out, or add --overwrite.")
    if not is_ours(path):
        raise UsageError(f"{path} was not made by this command and stays as it is.", "Choose another --out.")


def _require_writable(target: Path) -> None:
    """Raise StorageError where nothing can be made at `target`: said before the data are read, not after."""
    place = target
    try:
        while not place.is_dir() and place != place.parent:
            place = place.parent
            if place.is_file():
                raise StorageError(f"--out {target} cannot be written: {place} is a file.", "Choose another --out.")
        with tempfile.TemporaryDirectory(dir=place, prefix=".snellen-"):
            pass
    except OSError as error:
        raise StorageError(
            f"--out {target} cannot be written: nothing can be made in {place} ({error.strerror}).",
            "Choose another --out.",
        ) from error


@contextlib.contextmanager
def hold_output(folder: Path, *, wait_s: float = 0) -> Iterator[None]:
    """Let one process of this machine and user write into `folder`; raises UsageError for a second one after `wait_s`.

    The lock lies in the system's temporary folder: the output's own folder is made only once the data were read.
    """
    from filelock import FileLock, Timeout

    owner = os.getuid() if hasattr(os, "getuid") else "user"
    digest = compute_digest([str(folder.resolve())])[:24]
    lock = FileLock(Path(tempfile.gettempdir()) / f"snellen-{owner}-{digest}.lock")
    try:
        lock.acquire(timeout=wait_s)
    except Timeout as error:
        raise UsageError(
            f"Another process is writing into {folder}.", "Wait until it has ended, or choose another --out."
        ) from error
    except OSError as error:
        raise explain_os_error(error, Path(lock.lock_file)) from error
    try:
        yield
    finally:
        lock.release()


def make_output(folder: Path, output: Output, *, keep: Collection[str] = ()) -> None:
    """Make the folder, and remove from it what an earlier call of the same command wrote, but for the files `keep`.

    Other files stay; what a killed call had half written goes.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in output.owned:
            for torn in folder.glob(f".{name}.????????"):
                torn.unlink()
            if name in keep:
                continue
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror}", "Choose another --out.") from error
