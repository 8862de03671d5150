"""Before anything is learned: the cohort is read, split and measured, and the plan stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import DataError, UsageError
from snellen.core.letters import show_count, show_name
from snellen.core.progress import say
from snellen.core.runtime import count_threads, has_package
from snellen.core.storage import open_cache
from snellen.imaging.cache import PixelCache, build_pixel_cache
from snellen.ingest.cohort import read_cohort
from snellen.modeling.architectures import FrozenBackbone
from snellen.modeling.devices import choose_device
from snellen.modeling.weights import PACKAGES, foresee_weights, require_fit
from snellen.outputs import PLAN
from snellen.planning.class_order import show_order
from snellen.planning.fingerprint import compute_fingerprint
from snellen.planning.planner import Machine, choose_plan
from snellen.planning.recipe_files import LoadedRecipe
from snellen.planning.splits import choose_splits
from snellen.records.cohort import PARTS, SPLITS, Cohort, Sample, Split
from snellen.records.plan import UNDECIDED, Fingerprint, Plan
from snellen.records.recipe import DataWish
from snellen.records.run import DataRequest, TrainRequest
from snellen.run_audit import examine, save_audit, say_worst
from snellen.runs import Run, save_splits

RECIPE = "recipe.toml"
_ANEW = "begin anew: the same command with --overwrite, or another --out."


@dataclass(frozen=True)
class Prepared:
    """All that is known before anything is learned."""

    cohort: Cohort
    splits: tuple[Split, ...]
    fingerprint: Fingerprint
    plan: Plan
    cache: Path

    def members(self, part: str) -> list[Sample]:
        """Samples of a split, in the cohort's order."""
        wanted = {row.sample for row in self.splits if row.split == part}
        return [sample for sample in self.cohort.samples if sample.name in wanted]

    def name_units(self, samples: Sequence[Sample]) -> tuple[str, ...]:
        """Whom each sample counts as: its patient, or the group of patients who share a picture or copies of one."""
        group_of = {row.sample: row.group for row in self.splits}
        return tuple(group_of.get(sample.name, sample.patient) for sample in samples)

    def held_out(self) -> tuple[list[Sample], NDArray[np.intp]]:
        """Samples of all folds in the cohort's order, and the fold of each."""
        fold_of = {row.sample: row.fold for row in self.splits if row.fold is not None}
        samples = [sample for sample in self.cohort.samples if sample.name in fold_of]
        return samples, np.array([fold_of[sample.name] for sample in samples], np.intp)

    @property
    def has_test(self) -> bool:
        """With folds the data may be split without a test part."""
        return any(row.split == "test" for row in self.splits)

    def build_pixels(self, samples: Sequence[Sample]) -> PixelCache:
        """Pixels of `samples` as the plan wants them."""
        return build_pixel_cache(
            samples,
            Path(self.cohort.root),
            self.plan.preprocess,
            self.cache,
            threads=self.plan.training.threads,
            packed=self.cohort.packed,
        )


def read_data(request: DataRequest, wish: DataWish, by: Sequence[str] = ()) -> tuple[Cohort, Path]:
    """The cohort at DATA, its labels merged and its copies looked for as wished, with the columns `by`, and the cache
    folder in use.
    """
    cache = open_cache(request.cache)
    cohort = read_cohort(request, threads=count_threads(), cache=cache, merge=wish.merge, by=by, copies=wish.copies)
    set_aside = f", {cohort.audit.n_set_aside} set aside" if cohort.audit.n_set_aside else ""
    say(
        f"Data: {cohort.layout}; {len(cohort.samples)} pictures{set_aside}, {len(cohort.classes)} classes: "
        + ", ".join(f"{name} {count}" for name, count in cohort.audit.classes.items())
    )
    say(
        f"Patients: {cohort.patients.n}; {cohort.patients.rule}"
        + "".join(f"\n    e.g. {example}" for example in cohort.patients.examples)
    )
    return cohort, cache


def prepare(request: TrainRequest, loaded: LoadedRecipe) -> Prepared:
    """Read, split, measure, plan. Raises UsageError for a wish that no data could fulfil, before they are read."""
    if loaded.recipe.evaluation.distill and not loaded.recipe.evaluation.folds:
        raise UsageError(
            "evaluation.distill (--distill) makes one network of the members of a fold ensemble, and without folds "
            "there is one network already.",
            "Add --folds 5, or leave it out.",
        )
    cohort, cache = read_data(request.source, loaded.recipe.data, loaded.recipe.evaluation.subgroups)
    n_folds = loaded.recipe.evaluation.folds
    split_seed = request.seed if request.split_seed is None else request.split_seed
    wish = loaded.recipe.data
    splits = choose_splits(
        cohort, wish.fractions, split_seed, n_folds=n_folds, calibration_patients=wish.calibration_patients
    )
    cohort = examine(cohort, splits, cache)
    say_worst(cohort.audit)
    train = {row.sample for row in splits if row.split == "train"}
    fingerprint = (
        compute_fingerprint([sample for sample in cohort.samples if sample.name in train], Path(cohort.root))
        if cohort.packed is None
        else cohort.packed.fingerprint  # of the same training part, measured on the original pictures
    )
    has_offline = any(has_package(package.module) for package in PACKAGES.values())
    machine = Machine(count_threads(), request.seed, has_offline, choose_device().type)
    plan = choose_plan(loaded, cohort, fingerprint, machine)
    cohort = cohort.with_order(plan.data.classes, is_ordered=plan.data.ordered)
    if lacking := foresee_weights(plan.model.backbone, plan.model.weights):
        say(f"Warning: {lacking}")
    if plan.model.weights.endswith(".safetensors"):
        require_fit(FrozenBackbone(plan.model).backbone, plan.model.weights)
    if plan.model.weights == "none" and plan.training.stages[0].unfreeze == "none":
        say(
            "Warning: model.weights = none, and the first stage keeps the backbone frozen: the head learns on features "
            'of a network that has seen nothing. Give weights, or let it learn: training.stages.0.unfreeze = "all"'
        )
    if plan.imbalance.method in ("smote", "smote_tomek") and _lacks_features(plan):
        say(
            f"Warning: imbalance.method = {plan.imbalance.method} makes features, and every stage of this plan learns "
            'from pictures: smaller classes are drawn more often instead. imbalance.on = "pixels" makes small pictures.'
        )
    if plan.training.threads > count_threads():
        say(
            f"Warning: training.threads = {plan.training.threads}, but this process may use {count_threads()}: "
            "more threads than processors wait for each other."
        )
    prepared = Prepared(cohort, splits, fingerprint, plan, cache)
    counts = {part: len(prepared.members(part)) for part in PARTS}
    left_out = Counter(row.reason for row in splits if row.split == "left_out")
    reasons = "; ".join(f"{count}: {reason}" for reason, count in left_out.most_common())
    shown = {f"{n_folds} folds of": counts["train"], "test": counts["test"]} if n_folds else counts
    parts = [f"{part} {count}" for part, count in shown.items() if count or part in SPLITS]
    say(f"Splits: {', '.join(parts)} pictures" + (f"; {left_out.total()} left out ({reasons})" if left_out else ""))
    for decision in plan.decisions:
        if decision.reason.startswith(UNDECIDED):
            say(f"Warning: {decision.key} = {show_name(str(decision.value))}: {decision.reason}")
    if plan.data.ordered:
        say(f"Order of the classes: {show_order(plan.data.classes)}")
    if plan.data.positive:
        say(f"Positive class (the one that is looked for): {show_name(plan.data.positive)}")
    return prepared


def _lacks_features(plan: Plan) -> bool:
    return plan.imbalance.on == "features" and not plan.training.begins_on_features


def require_same_data(run: Run, prepared: Prepared) -> None:
    """Raise DataError where the data are not those with which the run was begun: it would go on as another one."""
    if not (run.folder / PLAN.mark).exists():
        return  # stopped before all of it was written: nothing was learned yet
    before = {row.sample: (row.label, row.patient, row.split, row.fold) for row in run.splits}
    now = {row.sample: (row.label, row.patient, row.split, row.fold) for row in prepared.splits}
    hashes_before, hashes = run.pixel_hashes, {each.name: each.pixels_sha256 for each in prepared.cohort.samples}
    both = before.keys() & now.keys()
    changes = {
        "gone": before.keys() - now.keys(),
        "new": now.keys() - before.keys(),
        "of other pixels": {name for name in both if hashes_before.get(name) != hashes.get(name)},
        "of another label, patient or split": {name for name in both if before[name] != now[name]},
    }
    told = [
        f"{show_count(len(names), 'picture is', 'pictures are')} {what}, such as {show_name(min(names))}"
        for what, names in changes.items()
        if names
    ]
    if told:
        raise DataError(
            f"{run.folder} was begun with other data than {prepared.cohort.root} holds now, or its splits.csv was "
            f"edited: {'; '.join(told)}.",
            f"Put back what was changed and resume, or {_ANEW}",
        )


def require_same_recipe(run: Run, loaded: LoadedRecipe, asked: str) -> None:
    """Raise UsageError where the recipe that was `asked` for is not the one in the run's folder."""
    path = run.folder / RECIPE
    if path.exists() and path.read_text(encoding="utf-8") != loaded.text:
        raise UsageError(
            f"{path} is not what the recipe {asked} gives now: one of them was changed since the run was begun.",
            f"Put back what was changed and resume, or {_ANEW}",
        )


def say_other_plan(run: Run, prepared: Prepared) -> None:
    """Warn where plan.json is not what is planned now: it was edited, or begun on another machine or version."""
    path = run.folder / PLAN.mark
    if path.exists() and path.read_text(encoding="utf-8") != prepared.plan.to_json():
        say(
            f"Warning: {path} is not what the recipe gives on these data, this machine and this version of Snellen: it "
            "is written anew, and what was learned by another plan is learned again"
        )


def save_prepared(run: Run, prepared: Prepared, source: DataRequest) -> None:
    """cohort.csv, audit.json, audit.html, splits.csv, fingerprint.json and, last, plan.json."""
    save_audit(run.folder, prepared.cohort, prepared.splits, source)
    save_splits(run.folder, prepared.splits)
    run.save("fingerprint.json", prepared.fingerprint)
    run.save("plan.json", prepared.plan)
