"""The steps of `snellen tune`: data, folds, features and heads joined to a study. The test split is never touched."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
import tempfile
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snellen import __version__
from snellen.core.csv_text import format_csv
from snellen.core.errors import StorageError, UsageError
from snellen.core.interrupts import stop_if_interrupted
from snellen.core.progress import say
from snellen.core.runtime import count_threads, has_package, read_versions
from snellen.core.storage import compute_digest, write_atomic
from snellen.evaluation.tune_page import TunePage, describe_value, render_tuning, shorten_keys
from snellen.evaluation.wording import format_duration, name_metric
from snellen.metrics.calibration import apply_temperature
from snellen.metrics.decision import make_rule
from snellen.metrics.scores import compute_scores
from snellen.modeling.weights import PACKAGES, load_weights
from snellen.outputs import TUNING, make_output
from snellen.planning.class_order import suggest_order
from snellen.planning.folds import draw_folds
from snellen.planning.planner import Machine, choose_plan
from snellen.planning.recipe_files import LoadedRecipe, with_values
from snellen.planning.tune_space import Space
from snellen.records.cohort import Sample
from snellen.records.plan import Plan
from snellen.records.run import TrainRequest
from snellen.records.tuning import TrialRecord, TuneRecord, TuneRequest
from snellen.run_features import build_frozen, encode_labels, export_backbone
from snellen.run_finetuning import learn_fold
from snellen.run_preparation import Prepared, prepare
from snellen.run_resampling import find_pictures, with_further_views
from snellen.runs import load_record
from snellen.training.feature_table import FeatureTable
from snellen.training.features import FeatureStore
from snellen.training.head import HeadData, fit_head
from snellen.training.imbalance import MAKERS, compute_prior
from snellen.training.pictures import Pictures
from snellen.training.tuning import (
    Place,
    Question,
    TuneStudy,
    choose_direction,
    compute_spread,
    require_some_success,
)

_HELD = 2
_DEVELOPMENT = ("train", "val")
_NOT_ON_MAPS = (
    "`snellen tune` searches heads on pooled features, and this recipe learns on the feature map from the start."
)
_NOT_ON_MAPS_HINT = 'Begin model.head with {type = "global_avg_pool"} and training.stages with unfreeze = "none".'


@dataclass(frozen=True)
class Asked:
    """What a call of `tune` wants: the request, its recipe and space, where to write and where the study lies."""

    request: TuneRequest
    loaded: LoadedRecipe
    space: Space
    folder: Path
    place: Place
    command: str


@dataclass(frozen=True)
class Development:
    """Training and validation pictures with the fold of each, `(N,)`. A picture of another part cannot enter."""

    samples: tuple[Sample, ...]
    folds: NDArray[np.intp]

    @property
    def n_folds(self) -> int:
        return int(self.folds.max()) + 1

    @property
    def n_patients(self) -> int:
        return len({sample.patient for sample in self.samples})


def collect_development(prepared: Prepared, n_folds: int, seed: int) -> Development:
    """The pictures that may be learned from, in patient-grouped folds. Raises DataError where a fold lacks a class."""
    part = {row.sample: row.split for row in prepared.splits}
    samples = tuple(sample for sample in prepared.cohort.samples if part[sample.name] in _DEVELOPMENT)
    fold_of = draw_folds(prepared.splits, n_folds, seed)
    return Development(samples, np.array([fold_of[sample.name] for sample in samples], np.intp))


@dataclass
class Workbench:
    """Everything a trial needs; features of the last few pixels and backbones are held in memory."""

    prepared: Prepared
    development: Development
    machine: Machine
    _stores: OrderedDict[str, tuple[FeatureStore, NDArray[np.intp]]] = field(default_factory=OrderedDict)
    _tables: OrderedDict[str, FeatureTable] = field(default_factory=OrderedDict)

    def score_folds(self, loaded: LoadedRecipe) -> Iterator[float]:
        """The recipe's metric on each fold in turn, learned on the others. Raises UsageError where it cannot learn."""
        plan = choose_plan(loaded, self.prepared.cohort, self.prepared.fingerprint, self.machine)
        labels = encode_labels(self.development.samples, plan)
        if not plan.training.begins_on_features:
            yield from self._score_stages(plan, labels, loaded.recipe.tune.metric)
            return
        table, pictures = self._collect_resampled(plan, labels)
        for fold in range(self.development.n_folds):
            stop_if_interrupted()
            learned = np.flatnonzero(self.development.folds != fold)
            held = np.flatnonzero(self.development.folds == fold)
            data = HeadData(
                train=table.select(learned),
                train_labels=labels[learned],
                val=table.take(0, held),
                val_labels=labels[held],
                pictures=None if pictures is None else pictures.select(learned),
            )
            yield _score(data, plan, loaded.recipe.tune.metric)

    def _score_stages(self, plan: Plan, labels: NDArray[np.int64], metric: str) -> Iterator[float]:
        """The same where nothing is learned on pooled features: all stages on the feature map, fold by fold."""
        prepared = replace(self.prepared, plan=plan)
        for fold in range(self.development.n_folds):
            stop_if_interrupted()
            with tempfile.TemporaryDirectory(dir=self.prepared.cache) as folder:
                logits, held = learn_fold(
                    prepared, self.development.samples, labels, self.development.folds == fold, Path(folder)
                )
            yield _compute_metric(logits, labels[held], plan, metric)

    def _collect_resampled(self, plan: Plan, labels: NDArray[np.int64]) -> tuple[FeatureTable, Pictures | None]:
        """The same with what resampling needs besides: further views, or the pictures of which new ones are made."""
        table = self.collect(plan)
        if plan.imbalance.method not in (*MAKERS, "augment"):
            return table, None
        store, rows = self._open_store(_name_features(plan), plan)
        own = store.compute(rows, plan.augment.views)
        further = with_further_views(own, labels, plan, store, self.development.folds)
        return further.hold_small() if further.spare else table, find_pictures(own, plan, store)

    def collect(self, plan: Plan) -> FeatureTable:
        """Features of all development pictures and the plan's views."""
        views = plan.augment.views
        key = _name_features(plan)
        held = self._tables.get(key)
        if held is None or held.shape[0] < views + 1:
            store, rows = self._open_store(key, plan)
            table = store.compute(rows, views)
            held = FeatureTable.hold(table.load()) if table.is_small else table
            _remember(self._tables, key, held)
        return FeatureTable(held.sources[: views + 1], held.rows)

    def _open_store(self, key: str, plan: Plan) -> tuple[FeatureStore, NDArray[np.intp]]:
        if key not in self._stores:
            frozen = build_frozen(plan)
            load_weights(frozen.backbone, plan.model.backbone, plan.model.weights)
            graph = export_backbone(frozen, plan, self.prepared.cache)
            pixels = Prepared(
                self.prepared.cohort, self.prepared.splits, self.prepared.fingerprint, plan, self.prepared.cache
            ).build_pixels(self.development.samples)
            store = FeatureStore(
                graph, pixels, plan.augment, self.prepared.cache, plan.training.seed, plan.training.threads
            )
            _remember(self._stores, key, (store, pixels.select(self.development.samples)))
        return self._stores[key]


def _name_features(plan: Plan) -> str:
    """What features depend on, but for the number of views."""
    return compute_digest(
        [
            plan.preprocess.model_dump_json(),
            plan.augment.model_dump_json(exclude={"views"}),
            plan.model.model_dump_json(exclude={"head"}),
        ]
    )


def _remember(held: OrderedDict[str, Any], key: str, value: Any) -> None:
    held[key] = value
    held.move_to_end(key)
    while len(held) > _HELD:
        held.popitem(last=False)


def _score(data: HeadData, plan: Plan, metric: str) -> float:
    """The monitor's view of a head on the fold that was held out; a bundle's scores come from its graph."""
    import torch

    fitted = fit_head(data, plan)
    with torch.no_grad():
        logits = fitted.head(torch.from_numpy(data.val)).double().numpy()
    return _compute_metric(logits, data.val_labels, plan, metric)


def _compute_metric(logits: NDArray[np.float64], labels: NDArray[np.int64], plan: Plan, metric: str) -> float:
    probabilities = apply_temperature(logits, 1.0)
    positive = None if plan.data.positive is None else plan.data.classes.index(plan.data.positive)
    scores = compute_scores(
        labels,
        probabilities,
        is_ordered=plan.data.ordered,
        positive=positive,
        rule=make_rule(plan.evaluation.decision, compute_prior(labels, plan.model.n_classes).tolist()),
    )
    value = float(scores[metric][0])
    if not math.isfinite(value):
        raise UsageError(f"{metric} is undefined on a fold.", "")
    return value


def run_tuning(asked: Asked, begin_anew: bool) -> TuneRecord:
    """The whole of `snellen tune`. The folder is touched only once the data were read and the folds stand."""
    request, tune = asked.request, asked.loaded.recipe.tune
    prepared = prepare(_to_train_request(request), asked.loaded)
    if tune.metric == "kappa_quadratic" and not prepared.plan.data.ordered:
        raise UsageError(
            "tune.metric = kappa_quadratic needs ordered classes.",
            f"If they are grades, lowest first: --set {shlex.quote(suggest_order(prepared.cohort.classes))}",
        )
    development = collect_development(prepared, tune.folds, request.seed)
    question_sha256 = _compute_question(asked, prepared, development)
    if begin_anew:
        make_output(asked.folder, TUNING)
    else:
        asked.folder.mkdir(parents=True, exist_ok=True)
    question = Question(f"snellen-{question_sha256[:24]}", tune.metric, request.seed, tune.prune)
    with contextlib.closing(TuneStudy(asked.place, question, asked.space)) as study:
        if not asked.place.is_shared and study.list_others():
            raise UsageError(
                f"{asked.folder} holds a study of other pictures or labels: the data have changed since.",
                "Choose another --out, or begin anew with --overwrite.",
            )
        session = Session(asked, prepared, development, study, question_sha256)
        session.go_on()
        return session.save("finished")


def _to_train_request(request: TuneRequest) -> TrainRequest:
    """The splits, and so the test split, are those of `train` with the same data, recipe and seed."""
    return TrainRequest(
        source=request.source, recipe=request.recipe, settings=request.settings, seed=request.seed, opens_test=False
    )


def compute_recipe_sha256(loaded: LoadedRecipe) -> str:
    """What names a recipe with its settings."""
    return compute_digest([json.dumps(loaded.recipe.to_dict(), sort_keys=True)])


def _compute_question(asked: Asked, prepared: Prepared, development: Development) -> str:
    """What names the study: equal on every machine that has the same pictures, splits, recipe and seed."""
    pictures = [
        f"{sample.name}\0{sample.label}\0{sample.pixels_sha256}\0{fold}"
        for sample, fold in zip(development.samples, development.folds, strict=True)
    ]
    space = {key: dimension.to_dict() for key, dimension in asked.space.dimensions.items()}
    recipe = asked.loaded.recipe.model_copy(update={"name": "", "description": ""})
    return compute_digest(
        [
            json.dumps(recipe.to_dict(), sort_keys=True),
            json.dumps(space),
            str(asked.request.seed),
            *prepared.cohort.classes,
            *sorted(pictures),
        ]
    )


@dataclass
class Session:
    """One call of `tune`: tries until there are enough trials or the time is over, and writes what is known."""

    asked: Asked
    prepared: Prepared
    development: Development
    study: TuneStudy
    question_sha256: str
    begun: float = field(default_factory=time.monotonic)
    first_begun: float = 0.0
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def go_on(self) -> None:
        """All trials of this call. On Ctrl-C what is done is written before the exception goes on."""
        self._save_record("running")
        n_killed = self.study.fail_killed()
        n_done = self.study.count()
        if n_done or n_killed:
            say(f"Going on: {n_done} trials are done" + (f", {n_killed} had been stopped" if n_killed else ""))
        bench = Workbench(self.prepared, self.development, read_machine(self.asked.request.seed))
        say(
            f"Tuning {name_metric(self.study.question.metric)} on {self.development.n_folds} folds of "
            f"{len(self.development.samples)} training and validation pictures, "
            f"{self.development.n_patients} patients; the test split stays shut"
        )
        try:
            if self.study.as_it_is is None:
                self._try_as_it_is(bench)
            n_before, self.first_begun = self.study.count(), time.monotonic()
            while self.study.count_begun() < self.asked.request.trials and not self._is_late():
                self._try_next(bench, n_before)
                require_some_success(self.study.list_trials())
        except KeyboardInterrupt:
            self.save("stopped")
            raise

    def _try_as_it_is(self, bench: Workbench) -> None:
        begin = time.monotonic()
        values = tuple(bench.score_folds(self.asked.loaded))
        record = TrialRecord(
            number=-1,
            state="complete",
            value=float(np.mean(values)),
            spread=compute_spread(values),
            fold_values=values,
            seconds=round(time.monotonic() - begin, 3),
        )
        self.study.keep_as_it_is(record)
        say(f"The recipe as it is: {record.value:.4f} (± {record.spread:.4f} over folds), {record.seconds:.1f} s")

    def _try_next(self, bench: Workbench, n_before: int) -> None:
        begin = time.monotonic()
        trial, values = self.study.ask()
        found: list[float] = []
        try:
            for value in bench.score_folds(with_values(self.asked.loaded, values)):
                found.append(value)
                if self.study.report(trial, found) and len(found) < self.development.n_folds:
                    break
            is_whole = len(found) == self.development.n_folds
            self.study.end(trial, "complete" if is_whole else "pruned", float(np.mean(found)), time.monotonic() - begin)
            told = f"{found and np.mean(found):.4f}" + ("" if is_whole else f", pruned after fold {len(found)}")
        except UsageError as error:  # these values do not fit each other, or learning diverged: the next may
            self.study.end(trial, "failed", None, time.monotonic() - begin, error.message)
            told = f"failed: {error.message}"
        except BaseException:
            self.study.stop(trial)
            raise
        self._tell(trial.number, told, values, n_before)

    def _tell(self, number: int, told: str, values: dict[str, Any], n_before: int) -> None:
        n_done, n_wanted = self.study.count(), self.asked.request.trials
        best = self.study.choose_best()
        now = time.monotonic()
        left = (now - self.first_begun) / max(1, n_done - n_before) * max(0, n_wanted - n_done)
        if self.asked.request.timeout_s is not None:
            left = max(0.0, min(left, self.asked.request.timeout_s - (now - self.begun)))
        names = shorten_keys(list(self.asked.space.dimensions))
        so_far = "none yet" if best is None else f"{best.value:.4f}"
        say(
            f"Trial {n_done}/{n_wanted} (no. {number}): {told} | best {so_far}"
            + (f" (no. {best.number})" if best and best.number != number else "")
            + f" | {format_duration(left)} left | "
            + ", ".join(f"{names[key]} {describe_value(value)}" for key, value in values.items())
        )

    def _is_late(self) -> bool:
        limit = self.asked.request.timeout_s
        if limit is None or time.monotonic() - self.begun < limit:
            return False
        say(f"{format_duration(limit)} are over: no further trial is begun")
        return True

    def _save_record(self, state: str) -> TuneRecord:
        record = self._build_record(state)
        write_atomic(self.asked.folder / "tune.json", record.to_json())
        return record

    def _build_record(self, state: str) -> TuneRecord:
        asked, study = self.asked, self.study
        trials = study.list_trials()
        importances = study.compute_importances()
        counts = Counter("stopped" if trial.is_stopped else trial.state for trial in trials)
        return TuneRecord.model_validate(
            {
                "state": state,
                "request": asked.request,
                "command": asked.command,
                "train_command": describe_training(asked.request, asked.folder),
                "page": str(asked.folder / "tune.html"),
                "study": study.question.name,
                "question_sha256": self.question_sha256,
                "recipe_sha256": compute_recipe_sha256(asked.loaded),
                "recipe_name": asked.loaded.recipe.name,
                "metric": study.question.metric,
                "direction": choose_direction(study.question.metric),
                "n_folds": self.development.n_folds,
                "n_samples": len(self.development.samples),
                "n_patients": self.development.n_patients,
                "n_test_untouched": sum(row.split == "test" for row in self.prepared.splits),
                "space": asked.space.dimensions,
                "recipe_as_it_is": study.as_it_is,
                "best": study.choose_best(),
                "n_trials": dict(sorted(counts.items())),
                "importances": importances,
                "importance_method": "PED-ANOVA, best tenth of the complete trials" if importances else "",
                "versions": read_versions(),
                "started": self.started,
                "seconds": round(time.monotonic() - self.begun, 1),
            }
        )

    def save(self, state: str) -> TuneRecord:
        """trials.csv, best.toml, tune.html and, last, tune.json. Returns the record."""
        folder, trials = self.asked.folder, self.study.list_trials()
        write_atomic(folder / "trials.csv", format_trials(trials, list(self.asked.space.dimensions)))
        record = self._build_record(state)
        if record.best is not None:
            write_atomic(folder / "best.toml", format_best(record, self.asked.loaded))
        page = TunePage(
            record=record,
            trials=trials,
            name=self.prepared.cohort.name,
            classes=self.prepared.cohort.classes,
            is_ordered=self.prepared.cohort.is_ordered,
            snellen_version=__version__,
        )
        write_atomic(folder / "tune.html", render_tuning(page))
        write_atomic(folder / "tune.json", record.to_json())
        return record


def read_machine(seed: int) -> Machine:
    """What a plan may use here."""
    return Machine(count_threads(), seed, any(has_package(package.module) for package in PACKAGES.values()))


def format_trials(trials: Sequence[TrialRecord], keys: Sequence[str]) -> str:
    """`trials.csv`: a row a trial, a column a key; what a trial did not choose is empty."""

    def cell(value: Any) -> Any:
        if value is None or (isinstance(value, str | int | float) and not isinstance(value, bool)):
            return "" if value is None else value
        return json.dumps(value, ensure_ascii=False)

    head = ["number", "state", "value", "spread", "seconds", "fold_values", "reason", *keys]
    rows = [
        [
            trial.number, trial.state, cell(trial.value), cell(trial.spread), cell(trial.seconds),
            " ".join(f"{value:.6f}" for value in trial.fold_values), trial.reason,
            *(cell(trial.parameters.get(key)) for key in keys),
        ]
        for trial in trials
    ]  # fmt: skip
    return format_csv([head, *rows])


def format_best(record: TuneRecord, loaded: LoadedRecipe) -> str:
    """`best.toml`: the whole recipe with the best trial's values, and above it how much they are to be believed.

    Where no trial beat the recipe as it is, that recipe: then nothing was found.
    """
    best = record.best
    if best is None:
        raise ValueError("there is no complete trial")
    if record.keeps_recipe:
        return _format_kept(record, loaded)
    tuned = with_values(loaded, {**best.parameters, "name": f"{loaded.recipe.name}-tuned"})
    spread = "" if best.spread is None else f" (standard deviation over the folds {best.spread:.4f})"
    as_it_is, n_trials = record.recipe_as_it_is, sum(record.n_trials.values())
    lines = [
        f"Trial no. {best.number}, the best of {n_trials}: {name_metric(record.metric)} {best.value:.4f}{spread}",
        f"on {record.n_folds} folds of {record.n_samples} training and validation pictures, by patient.",
        *([f"The recipe as it was: {as_it_is.value:.4f} on the same folds."] if as_it_is else []),
        "Chosen as the best of many on these very folds, so the value is optimistic, and so are validation numbers",
        "of a run with this recipe. Believe its test numbers, on the split that tuning did not see:",
        record.train_command,
        *(f"  {key} = {json.dumps(value)}" for key, value in best.parameters.items()),
    ]
    return _comment(lines) + tuned.text


def _format_kept(record: TuneRecord, loaded: LoadedRecipe) -> str:
    """The unchanged recipe, with its settings, and above it why."""
    best, as_it_is = record.best, record.recipe_as_it_is
    if best is None or as_it_is is None:
        raise ValueError("there is nothing to compare")
    lines = [
        f"The recipe as it is, {name_metric(record.metric)} {as_it_is.value:.4f} on {record.n_folds} folds of "
        f"{record.n_samples} training and validation pictures, by patient.",
        f"No trial beat it; the best of {sum(record.n_trials.values())}, no. {best.number}, reached {best.value:.4f}.",
        record.train_command,
    ]
    return _comment(lines) + with_values(loaded, {"name": loaded.recipe.name}).text


def _comment(lines: Sequence[str]) -> str:
    # a name may hold a line break: none of it leaves the comment
    return "".join(f"# {line}\n" for text in lines for line in text.splitlines()) + "\n"


def describe_training(request: TuneRequest, folder: Path) -> str:
    """The command that trains `best.toml`, with the same seed: another would put tuned patients into test."""
    words = ["snellen", "train", *request.source.to_words(), "--recipe", str(folder / "best.toml")]
    return shlex.join([*words, "--seed", str(request.seed)])


def require_same_study(asked: Asked) -> None:
    """Raise where the folder holds another study, or has lost it, before any data are read."""
    folder, request = asked.folder, asked.request
    record = load_record(folder / TUNING.mark, TuneRecord)
    sources = [found.source.model_copy(update={"cache": None}) for found in (record.request, request)]
    same = {
        "DATA or how it is read": sources[0] == sources[1],
        "the recipe or its settings": record.recipe_sha256 == compute_recipe_sha256(asked.loaded),
        "--seed": record.request.seed == request.seed,
        "--storage": record.request.storage == request.storage,
    }
    changed = [name for name, is_same in same.items() if not is_same]
    if changed:
        raise UsageError(
            f"{folder} holds a study that differs in {' and '.join(changed)}.",
            "Choose another --out, or begin anew with --overwrite.",
        )
    if not asked.place.is_shared and not (folder / "study.db").is_file():
        raise StorageError(f"{folder} has lost its study.db.", "Begin anew with --overwrite.")
