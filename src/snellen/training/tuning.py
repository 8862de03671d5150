"""The study of `snellen tune`: which values are tried next, kept in a database that outlives the process.

This room knows Optuna, the space and numbers. It must not know pictures, features, heads or pages.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from snellen.core.errors import SnellenError, StorageError, UsageError
from snellen.core.runtime import has_package
from snellen.planning.tune_space import Space
from snellen.records.recipe import Choices, TuneMetric
from snellen.records.tuning import TrialRecord, TrialState

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

N_STARTUP = 10
STALE_S = 3600.0
STOPPED = "stopped before its end"
_FOLDS, _SEEN, _SECONDS, _REASON, _STOPPED, _AS_IT_IS = "folds", "seen", "seconds", "reason", "stopped", "as_it_is"
_POSTGRES = "postgresql"
_SHOWN_OPTIONS = ("host", "port")


@dataclass(frozen=True)
class Place:
    """Where a study lies. `url` may hold a password; `shown` does not, and is what is printed and recorded."""

    url: str
    shown: str
    is_shared: bool


@dataclass(frozen=True)
class Question:
    """What makes two calls the same study: its name holds a hash of data, folds and recipe."""

    name: str
    metric: TuneMetric
    seed: int
    prune: bool

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        return choose_direction(self.metric)


def choose_direction(metric: str) -> Literal["maximize", "minimize"]:
    """A loss is made small, everything else large."""
    return "minimize" if metric == "log_loss" else "maximize"


def read_place(storage: str) -> Place:
    """A database's address, checked. Raises UsageError; no message of it holds the password."""
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(storage)
    except (ArgumentError, ValueError):
        raise UsageError(
            "--storage is no address of a database.", "Example: --storage postgresql://user@host/name"
        ) from None
    kind = url.get_backend_name()
    if kind == "postgres":
        kind, url = _POSTGRES, url.set(drivername=_POSTGRES)
    if kind not in ("sqlite", _POSTGRES):
        raise UsageError(
            f"--storage {kind}://…: there is no such kind of database here.", "Use postgresql:// or sqlite:///FILE."
        )
    if kind == _POSTGRES:
        if url.drivername == _POSTGRES:
            url = url.set(drivername="postgresql+psycopg")
        if url.drivername == "postgresql+psycopg" and not has_package("psycopg"):
            raise UsageError(
                "--storage postgresql://… needs psycopg, which is not installed.", "pip install 'snellen[postgres]'"
            )
    # options behind the question mark may hold a password too: only those that name the place are shown
    query = {key: value for key, value in url.query.items() if key in _SHOWN_OPTIONS}
    shown = URL.create(kind, url.username, None, url.host, url.port, url.database, query).render_as_string()
    return Place(url.render_as_string(hide_password=False), shown, is_shared=True)


def keep_in_file(path: Path) -> Place:
    """A study in a file of its own, for one process at a time."""
    from sqlalchemy.engine import URL

    url = URL.create("sqlite", database=str(path))
    return Place(url.render_as_string(hide_password=False), path.name, is_shared=False)


class TuneStudy:
    """A study: asked for values, told what came of them. All of it lies in the database, so nothing is lost."""

    def __init__(self, place: Place, question: Question, space: Space) -> None:
        self.place, self.question, self.space = place, question, space
        with self._reaching():
            self._study = self._open()

    def _open(self) -> Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=N_STARTUP) if self.question.prune else None
        self._storage = optuna.storages.RDBStorage(self.place.url)
        return optuna.create_study(
            study_name=self.question.name,
            storage=self._storage,
            direction=self.question.direction,
            pruner=pruner or optuna.pruners.NopPruner(),
            load_if_exists=True,
        )

    def close(self) -> None:
        """Give the connection back; nothing is asked of the study after."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """Failures of the database in words, without its address's password."""
        from optuna.exceptions import OptunaError
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what Optuna calls experimental is pinned by its lower bound
                yield
        except (SQLAlchemyError, OptunaError, ImportError) as error:
            cause = getattr(error, "orig", None) or error.__cause__ or error
            reason = (str(cause).splitlines() or [type(cause).__name__])[0]
            raise StorageError(
                f"The study in {self.place.shown} cannot be used: {_without_password(reason, self.place)}",
                "Check the address and that the database is reachable, then give the same command again: "
                "finished trials are kept. A damaged study.db can be begun anew with --overwrite.",
            ) from None

    def list_others(self) -> list[str]:
        """Names of other studies in the same database."""
        import optuna

        with self._reaching():
            names: list[str] = optuna.get_all_study_names(storage=self._storage)
        return [name for name in names if name != self.question.name]

    def fail_killed(self) -> int:
        """Mark trials as failed that no living process goes on with; returns how many."""
        import optuna

        n_killed = 0
        with self._reaching():
            for trial in self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
                if not self.place.is_shared or _is_stale(trial):
                    n_killed += self._end_stopped(trial)
        return n_killed

    def _end_stopped(self, trial: FrozenTrial | Trial) -> int:
        import optuna

        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError, RuntimeError, ValueError):
            storage = self._study._storage
            storage.set_trial_user_attr(trial._trial_id, _STOPPED, True)
            storage.set_trial_user_attr(trial._trial_id, _REASON, STOPPED)
            self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            return 1
        return 0

    def count(self) -> int:
        """Trials that came to an end of their own: complete, pruned, or failed for a reason."""
        return sum(trial.state != "running" and not trial.is_stopped for trial in self.list_trials())

    def count_begun(self) -> int:
        """As `count`, with those that other machines work on now."""
        return sum(not trial.is_stopped for trial in self.list_trials())

    def ask(self) -> tuple[Trial, dict[str, Any]]:
        """The next trial and its dotted keys with values.

        What is proposed depends on the seed and the trials before it alone, so that a study which was stopped and
        resumed goes the way of one that was not.
        """
        import optuna

        with self._reaching():
            trial = self._study.ask()
            earlier = self._study.get_trials(deepcopy=False)
            place = sum(other.number < trial.number and not other.user_attrs.get(_STOPPED) for other in earlier)
            seed = int(np.random.SeedSequence([self.question.seed, place]).generate_state(1)[0])
            self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=N_STARTUP)
            values: dict[str, Any] = {}
            for key in self.space.dimensions:
                if self.space.is_active(key, values):
                    values[key] = self._suggest(trial, key)
            self._mark_seen(trial)
        return trial, values

    def _suggest(self, trial: Trial, key: str) -> Any:
        dimension = self.space.dimensions[key]
        if isinstance(dimension, Choices):
            # a choice may be a list of layers, which a database column does not hold
            return json.loads(trial.suggest_categorical(key, [_encode(value) for value in dimension.choices]))
        if isinstance(dimension.low, int) and isinstance(dimension.high, int):
            return trial.suggest_int(key, dimension.low, dimension.high, log=dimension.log)
        return trial.suggest_float(key, float(dimension.low), float(dimension.high), log=dimension.log)

    def report(self, trial: Trial, fold_values: Sequence[float]) -> bool:
        """Note the folds done so far; returns whether the rest is not worth its time."""
        with self._reaching():
            trial.set_user_attr(_FOLDS, list(fold_values))
            self._mark_seen(trial)
            trial.report(float(np.mean(fold_values)), step=len(fold_values))
            return bool(trial.should_prune())

    def _mark_seen(self, trial: Trial) -> None:
        trial.set_user_attr(_SEEN, datetime.now(UTC).timestamp())

    def end(self, trial: Trial, state: TrialState, value: float | None, seconds: float, reason: str = "") -> None:
        """Keep how a trial ended. One that another machine took for dead meanwhile stays as it is."""
        import optuna

        states = {
            "complete": optuna.trial.TrialState.COMPLETE,
            "pruned": optuna.trial.TrialState.PRUNED,
            "failed": optuna.trial.TrialState.FAIL,
        }
        with self._reaching(), contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            trial.set_user_attr(_SECONDS, round(seconds, 3))
            if reason:
                trial.set_user_attr(_REASON, reason)
            values = value if state == "complete" else None
            self._study.tell(trial, values, state=states[state], skip_if_finished=True)

    def stop(self, trial: Trial) -> None:
        """Mark a trial that Ctrl-C ended: it is not counted and leaves no trace in what is proposed next."""
        with self._reaching():
            self._end_stopped(trial)

    @property
    def as_it_is(self) -> TrialRecord | None:
        """The unchanged recipe's values, once they were kept."""
        with self._reaching():
            kept = self._study.user_attrs.get(_AS_IT_IS)
        return None if kept is None else TrialRecord.model_validate_json(json.dumps(kept), strict=True)

    def keep_as_it_is(self, record: TrialRecord) -> None:
        with self._reaching():
            self._study.set_user_attr(_AS_IT_IS, record.to_dict())

    def list_trials(self) -> list[TrialRecord]:
        """All trials in the order of their numbers."""
        with self._reaching():
            return [self._to_record(trial) for trial in self._study.get_trials(deepcopy=False)]

    def _to_record(self, trial: FrozenTrial) -> TrialRecord:
        folds = tuple(float(value) for value in trial.user_attrs.get(_FOLDS, ()))
        states: dict[str, TrialState] = {
            "COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "running",
        }  # fmt: skip
        return TrialRecord(
            number=trial.number,
            state=states[trial.state.name],
            value=float(np.mean(folds)) if folds else None,
            spread=compute_spread(folds),
            fold_values=folds,
            parameters={key: self._decode(key, value) for key, value in trial.params.items()},
            seconds=trial.user_attrs.get(_SECONDS),
            reason=str(trial.user_attrs.get(_REASON, "")),
            is_stopped=bool(trial.user_attrs.get(_STOPPED, False)),
        )

    def _decode(self, key: str, value: Any) -> Any:
        return json.loads(value) if isinstance(self.space.dimensions.get(key), Choices) else value

    def choose_best(self) -> TrialRecord | None:
        """The best complete trial; of equal ones the first."""
        complete = [trial for trial in self.list_trials() if trial.state == "complete" and trial.value is not None]
        sign = 1 if self.question.direction == "minimize" else -1
        return min(complete, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)

    def compute_importances(self) -> dict[str, float]:
        """Share of each key in what sets the best tenth of the complete trials apart (PED-ANOVA: Watanabe et al. 2023).

        Empty where fewer than twenty trials are complete: then it says nothing.
        """
        import optuna

        complete = [trial for trial in self.list_trials() if trial.state == "complete"]
        if len(complete) < 2 * N_STARTUP:
            return {}
        with self._reaching():
            found = optuna.importance.get_param_importances(
                self._study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
        return {key: round(float(value), 6) for key, value in found.items() if np.isfinite(value)}


def compute_spread(values: Sequence[float]) -> float | None:
    """Standard deviation over folds; None for fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def require_some_success(trials: Sequence[TrialRecord]) -> None:
    """Raise where ten trials failed and none came through: the space or the recipe is at fault."""
    own = [trial for trial in trials if not trial.is_stopped]
    failed = [trial for trial in own if trial.state == "failed"]
    if len(failed) >= N_STARTUP and all(trial.state in ("failed", "running") for trial in own):
        raise SnellenError(
            f"{len(failed)} trials failed and none succeeded; the first: {failed[0].reason}",
            "Narrow [tune.space] to values that fit each other.",
        )


def _encode(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _is_stale(trial: FrozenTrial) -> bool:
    seen = trial.user_attrs.get(_SEEN)
    begun = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    return datetime.now(UTC).timestamp() - float(seen if seen is not None else begun) > STALE_S


def _without_password(text: str, place: Place) -> str:
    from sqlalchemy.engine import make_url

    url = make_url(place.url)
    secrets = [str(url.password or ""), *(str(value) for value in url.query.values())]
    for secret in filter(None, secrets):
        text = text.replace(secret, "•••")
    return text
