"""Where a run is followed beside its own folder: `--track tensorboard`, `--track mlflow`.

Whatever a tracker does, the training goes on: its first failure is told, and it is left alone from then on.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from snellen.core.errors import UsageError
from snellen.core.progress import say
from snellen.core.quiet import hush_warnings
from snellen.core.runtime import has_package
from snellen.records.run import EpochRecord

Ending = Literal["finished", "failed", "stopped"]
MODULES = {"tensorboard": ("torch", "tensorboard"), "mlflow": ("mlflow", "sqlalchemy")}


@dataclass(frozen=True)
class Begin:
    """What is known when training starts: the run's folder, the plan's values by dotted key, tags."""

    folder: Path
    parameters: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Results:
    """What is known at the end: numbers such as `test/auc`, `test/auc_low`; tags; files."""

    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    files: Sequence[Path]


class Tracker(Protocol):
    """One place that follows one run. Any method may raise anything."""

    def note(self, epoch: EpochRecord, name: str) -> None: ...

    def finish(self, results: Results) -> None: ...

    def close(self, ending: Ending) -> None: ...


@dataclass
class Trackers:
    """Those that still answer, by name."""

    alive: dict[str, Tracker] = field(default_factory=dict)

    def note(self, epoch: EpochRecord, name: str) -> None:
        """Tell an epoch; `name` says of which stage and candidate it is, such as `stage-0/candidate-2`."""
        self._tell(lambda tracker: tracker.note(epoch, name))

    def finish(self, results: Results) -> None:
        """Tell the final numbers and hand over the files."""
        self._tell(lambda tracker: tracker.finish(results))

    def close(self, ending: Ending) -> None:
        """Say how the run ended."""
        self._tell(lambda tracker: tracker.close(ending))

    def add(self, name: str, open_tracker: Callable[[], Tracker]) -> None:
        """Open a tracker; where that fails, warn and do without it."""
        with self._forgiving(name):
            self.alive[name] = open_tracker()

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.alive.items()):
            with self._forgiving(name):
                what(tracker)

    @contextmanager
    def _forgiving(self, name: str) -> Iterator[None]:
        try:
            with hush_warnings():
                yield
        except Exception as error:  # a server, a database, a disk: whatever it is, it must not cost the training
            self.alive.pop(name, None)
            reason = " ".join(str(error).split())[:300]
            say(f"Warning: {name} no longer follows this run, which goes on: {type(error).__name__}: {reason}")


def require_trackers(names: Sequence[str]) -> None:
    """Raise UsageError for a name that is none, or whose package is missing."""
    for name in names:
        if name not in MODULES:
            near = difflib.get_close_matches(name, MODULES, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Trackers are {' and '.join(MODULES)}."
            raise UsageError(f"--track {name}: there is no such tracker.", hint)
        missing = [module for module in MODULES[name] if not has_package(module)]
        if missing:
            raise UsageError(
                f"--track {name} needs the package {missing[0]}, which is not installed.",
                "pip install 'snellen[track]', or leave out --track.",
            )


@contextmanager
def open_trackers(names: Sequence[str], begin: Begin) -> Iterator[Trackers]:
    """The trackers of one run, told of its end whatever happens."""
    trackers = Trackers()
    for name in dict.fromkeys(names):
        trackers.add(name, _OPENERS[name](begin))
    ending: Ending = "failed"
    try:
        yield trackers
        ending = "finished"
    except KeyboardInterrupt:
        ending = "stopped"
        raise
    finally:
        with contextlib.suppress(KeyboardInterrupt):
            trackers.close(ending)


def _open_tensorboard(begin: Begin) -> Callable[[], Tracker]:
    def open_it() -> Tracker:
        from snellen.tracking.tensorboard_events import TensorBoardEvents

        return TensorBoardEvents(begin)

    return open_it


def _open_mlflow(begin: Begin) -> Callable[[], Tracker]:
    def open_it() -> Tracker:
        from snellen.tracking.mlflow_run import MlflowRun

        return MlflowRun(begin)

    return open_it


_OPENERS: dict[str, Callable[[Begin], Callable[[], Tracker]]] = {
    "tensorboard": _open_tensorboard,
    "mlflow": _open_mlflow,
}


def list_numbers(epoch: EpochRecord) -> dict[str, float]:
    """The numbers of an epoch that are known, by name."""
    found = {"train_loss": epoch.train_loss, "val_loss": epoch.val_loss, "val_auc": epoch.val_auc}
    return {name: value for name, value in found.items() if value is not None}
