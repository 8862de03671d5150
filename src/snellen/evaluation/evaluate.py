"""What a split says of a bundle. Scores come from the Predictor and from nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen.core.csv_text import format_csv
from snellen.core.errors import DataError
from snellen.core.progress import follow
from snellen.core.storage import write_atomic
from snellen.evaluation.abstention import summarise_abstentions, summarise_conformal, summarise_selective
from snellen.evaluation.measures import (
    compare_baselines,
    draw_decision_curve,
    measure_cuts,
    measure_points,
    measure_subgroups,
    recount_patients,
    summarise_calibration,
)
from snellen.evaluation.subgroups import read_columns
from snellen.evaluation.units import Units, describe_units, group_labelled, join_patients, note_groups
from snellen.evaluation.wording import name_split
from snellen.imaging.cache import PixelCache
from snellen.inference.predictor import Predictor
from snellen.inference.prevalence import read_rule
from snellen.inference.shift import Tally
from snellen.metrics.calibration import apply_temperature
from snellen.metrics.decision import Balanced, Rule, decide
from snellen.metrics.intervals import compute_estimates, compute_per_class_estimates
from snellen.metrics.operating_point import choose_threshold
from snellen.metrics.scores import compute_confusion
from snellen.records.bundle import FIXED, Manifest, Threshold
from snellen.records.cohort import PatientRule, Sample
from snellen.records.evaluation import Abstentions, Estimate, Evaluation, Intervals, Score
from snellen.records.plan import Plan
from snellen.records.recipe import EvaluationUnit

_STEP = 64
_MAJORITY = "majority_class"
_OVER_CLASSES = ("auc", "average_precision", "balanced_accuracy", "f1", "precision", "recall", "mcc")


@dataclass(frozen=True)
class Scored:
    """Scores of samples by one bundle, row by row; `labels` are class indices `(N,)`, `rule` that of the bundle.

    `reasons` says of each why the gate would give no answer, `measured` holds what it measured.
    """

    samples: tuple[Sample, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    logits: NDArray[np.float64]
    embedding: NDArray[np.float32]
    n_abstained: int
    classes: tuple[str, ...]
    rule: Rule = "most_probable"
    reasons: tuple[str, ...] = ()
    measured: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def patients(self) -> list[str]:
        return [sample.patient for sample in self.samples]

    def to_scores(self) -> list[Score]:
        """Rows for `scores-*.csv` and the report."""
        called = decide(self.probabilities, self.rule)
        return [
            Score(
                sample=sample.name,
                patient=sample.patient,
                label=sample.label,
                probabilities=tuple(float(value) for value in row),
                logits=tuple(float(value) for value in logit),
                prediction=self.classes[at],
            )
            for sample, row, logit, at in zip(self.samples, self.probabilities, self.logits, called, strict=True)
        ]


@dataclass(frozen=True)
class Question:
    """What an evaluation is about: which split of which data, what is measured, and how its intervals are made.

    `workspace` is how often the test split was opened by all runs that lie together, and by how many.
    `subgroups` are columns to make parts by, `prevalence` a share of the positive class that the user named (0: none).
    `groups` has the group of each patient who shares a picture with others: they count as one in every interval.
    `unknown_patients` counts pictures by class whose patient nobody told.
    """

    split: str
    data: str
    patients: PatientRule
    intervals: Intervals
    test_opened: int = 0
    workspace: tuple[int, int] = (0, 0)
    n_failed: int = 0
    snellen_version: str = ""
    notes: tuple[str, ...] = ()
    unit: EvaluationUnit = "picture"
    subgroups: tuple[str, ...] = ()
    prevalence: float = 0.0
    groups: Mapping[str, str] = field(default_factory=dict)
    unknown_patients: Mapping[str, int] = field(default_factory=dict)


def score_samples(
    predictor: Predictor,
    samples: Sequence[Sample],
    pixels: PixelCache,
    members: NDArray[np.intp] | None = None,
) -> Scored:
    """Run the bundle on preprocessed pixels. Raises DataError for labels that the bundle does not know.

    With `members` `(N,)` each sample is scored by that member of a fold ensemble alone.
    """
    classes = predictor.classes
    require_known_classes(classes, samples)
    if not samples:
        raise DataError("There is no picture to score.", "Check the split: it holds no readable picture.")
    rows = pixels.select(samples)
    parts = []
    steps = [slice(start, start + _STEP) for start in range(0, len(rows), _STEP)]
    tally, reasons = Tally(), list[str]()
    for step in follow(steps, "Scoring", len(steps), "steps"):
        taken = pixels.take(rows[step])
        parts.append(predictor.score_pixels(taken, None if members is None else members[step]))
        judged = predictor.judge(taken, parts[-1].embedding)
        reasons += judged.reasons
        tally.add(judged.measured)
    embedding = np.concatenate([part.embedding for part in parts])
    return Scored(
        samples=tuple(samples),
        labels=np.array([classes.index(sample.label) for sample in samples], np.int64),
        probabilities=np.concatenate([part.probabilities for part in parts]).astype(np.float64),
        logits=np.concatenate([part.logits for part in parts]).astype(np.float64),
        embedding=embedding,
        n_abstained=sum(map(bool, reasons)),
        classes=classes,
        rule=read_rule(predictor.manifest),
        reasons=tuple(reasons),
        measured=tally.collect(),
    )


def require_known_classes(classes: Sequence[str], samples: Sequence[Sample]) -> None:
    """Raise DataError for labels that the bundle does not know: before an opening of the test split is counted."""
    unknown = sorted({sample.label for sample in samples} - set(classes))
    if unknown:
        raise DataError(
            f"The data have classes that the bundle does not know: {', '.join(unknown)}.",
            f"Its classes are {', '.join(classes)}: rename or leave out the others.",
        )


def choose_thresholds(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], plan: Plan, chosen_on: str
) -> tuple[Threshold, ...]:
    """Operating points of a binary task, from labels `(N,)` and probabilities `(N, 2)` of `chosen_on`: val, calibration
    or oof.
    """
    if plan.data.positive is None:
        return ()
    at = plan.data.classes.index(plan.data.positive)
    is_positive = (labels == at).astype(np.int64)
    scores = probabilities[:, at].astype(np.float64)
    rules = [
        ("balanced", "youden"),
        ("screening", f"sensitivity>={plan.evaluation.sensitivity:.2f}"),
        ("confirming", f"specificity>={plan.evaluation.specificity:.2f}"),
        ("most-likely", "argmax"),
    ]
    if plan.evaluation.miss_cost:
        rules.append(("costs", f"cost={plan.evaluation.miss_cost:g}"))
    n_positive = int(is_positive.sum())
    return tuple(
        Threshold(
            name=name,
            rule=rule,
            threshold=float(choose_threshold(is_positive, scores, rule)),
            chosen_on=FIXED if rule == "argmax" else chosen_on,
            is_default=name == plan.evaluation.operating_point,
            n_positive=None if rule == "argmax" else n_positive,
            n_negative=None if rule == "argmax" else len(labels) - n_positive,
        )
        for name, rule in rules
    )


def doubt_thresholds(labels: NDArray[np.int64], probabilities: NDArray[np.float32], plan: Plan, chosen_on: str) -> str:
    """Why chosen thresholds may lie anywhere: what is given as in `choose_thresholds` parts both classes wholly.
    Empty where it does not.
    """
    if plan.data.positive is None:
        return ""
    at = plan.data.classes.index(plan.data.positive)
    positive, negative = probabilities[labels == at, at], probabilities[labels != at, at]
    if not len(positive) or not len(negative) or positive.min() <= negative.max():
        return ""
    return (
        f"{name_split(chosen_on)} parts both classes wholly: any threshold from {negative.max():.3f} to "
        f"{positive.min():.3f} is as good there. The lowest score of a positive was taken; expect misses just below it."
    )


def evaluate(
    predictor: Predictor,
    scored: Scored,
    question: Question,
    baselines: Mapping[str, NDArray[np.float64]] | None = None,
) -> Evaluation:
    """All numbers of `evaluation.json`. `baselines` hold probabilities `(N, C)`; None takes those of the bundle.

    Model and linear probe are decided by the bundle's rule. The majority class stays the most frequent one: by its
    expected grade it would be called a grade that hardly occurs, and be beaten too easily.
    """
    manifest = predictor.manifest
    positive = None if manifest.positive is None else manifest.classes.index(manifest.positive)
    found_baselines = _score_baselines(predictor, scored) if baselines is None else baselines
    pictures = scored
    units = None if question.unit == "picture" else group_labelled(manifest, scored.samples, question.unit)
    if units is not None:
        scored = _average(scored, units)
        found_baselines = {name: units.average(np.asarray(each, float)) for name, each in found_baselines.items()}
    columns, notes_of_groups = read_columns(pictures.samples, question.subgroups, units)
    people, told = scored.patients, question.intervals
    n_patients = len(set(people))
    scored = replace(scored, samples=join_patients(scored.samples, question.groups))
    labels, probabilities, patients = scored.labels, scored.probabilities, scored.patients
    if len(set(patients)) < n_patients:  # also where pictures are drawn: those that are copies are drawn together
        question = replace(question, intervals=told.model_copy(update={"unit": "patient"}))
    is_whole = len(np.unique(labels)) == len(manifest.classes)

    def estimate(found: NDArray[np.float64], rule: Rule) -> dict[str, Estimate]:
        estimates = compute_estimates(
            labels,
            found,
            patients,
            settings=question.intervals,
            is_ordered=manifest.ordered,
            positive=positive,
            rule=rule,
        )
        # a mean over the classes that happen to occur is another number under the same name
        undefined = () if is_whole else (name for name in _OVER_CLASSES if name in estimates)
        return {**estimates, **dict.fromkeys(undefined, Estimate(value=None, method="none"))}

    rule = read_rule(manifest)
    called = decide(probabilities, rule)
    confusion = compute_confusion(labels, called, len(manifest.classes))
    probes = {name: found for name, found in found_baselines.items() if name != _MAJORITY and is_whole}
    shift = predictor.find_shift(pictures.measured)
    evaluation = Evaluation(
        task=manifest.task,
        classes=manifest.classes,
        positive=manifest.positive,
        decision=manifest.decision,
        decision_shares=dict(zip(manifest.classes, rule.shares, strict=True)) if isinstance(rule, Balanced) else {},
        split=question.split,
        data=question.data,
        n=len(labels),
        n_patients=n_patients,
        n_failed=question.n_failed,
        unit=question.unit,
        n_pictures=None if question.unit == "picture" else len(pictures.labels),
        patient_rule=question.patients.rule,
        unknown_patients=dict(question.unknown_patients),
        metrics=estimate(probabilities, rule),
        baselines={
            name: estimate(found, "most_probable" if name == _MAJORITY else rule)
            for name, found in found_baselines.items()
        },
        baseline_differences=compare_baselines(manifest, scored, probes, question.intervals),
        per_class=compute_per_class_estimates(
            labels,
            probabilities,
            patients,
            classes=manifest.classes,
            settings=question.intervals,
            rule=rule,
        ),
        grade_cuts=measure_cuts(manifest, scored, question.intervals, people),
        confusion=tuple(tuple(int(value) for value in row) for row in confusion),
        operating_points=measure_points(manifest, scored, question),
        decision_curve=draw_decision_curve(manifest, scored, question),
        calibration=summarise_calibration(manifest, scored, question.intervals),
        subgroups=measure_subgroups(manifest, scored, question, columns),
        intervals=told,
        conformal=summarise_conformal(manifest, labels, probabilities, patients, question.intervals),
        selective=summarise_selective(labels, called, probabilities, patients, question.intervals),
        abstentions=_summarise_refused(manifest, pictures),
        shift=shift,
        test_opened=question.test_opened,
        workspace_opened=question.workspace[0],
        workspace_runs=question.workspace[1],
        bundle_sha256=predictor.sha256,
        snellen_version=question.snellen_version,
        notes=(
            *question.notes,
            *notes_of_groups,
            *_notes(pictures, question, manifest),
            *note_groups(n_patients, len(set(patients)), told),
            *([shift.message] if shift and shift.message else []),
        ),
    )
    return recount_patients(evaluation, labels, people)


def _summarise_refused(manifest: Manifest, pictures: Scored) -> Abstentions | None:
    """Of pictures, whatever is measured: the gate answers picture by picture."""
    if not pictures.reasons:
        return None
    called = decide(pictures.probabilities, read_rule(manifest))
    return summarise_abstentions(pictures.labels, called, pictures.reasons, manifest.classes)


def join_units(manifest: Manifest, scored: Scored, unit: EvaluationUnit) -> Scored:
    """`scored` with a row an eye or a patient, as `evaluate` measures it. Raises DataError where that cannot be."""
    return scored if unit == "picture" else _average(scored, group_labelled(manifest, scored.samples, unit))


def _average(scored: Scored, units: Units) -> Scored:
    before = units.average(apply_temperature(scored.logits, 1.0))
    samples = tuple(
        scored.samples[at].model_copy(update={"name": name, "label": scored.classes[label]})
        for at, name, label in zip(units.first, units.names, units.labels, strict=True)
    )
    return replace(
        scored,
        samples=samples,
        labels=units.labels,
        probabilities=units.average(scored.probabilities),
        # so that softmax gives back the mean of the probabilities before calibration
        logits=np.log(np.maximum(before, np.finfo(np.float64).tiny)),
        embedding=scored.embedding[units.first],
        reasons=(),
        measured={},
    )


def _score_baselines(predictor: Predictor, scored: Scored) -> dict[str, NDArray[np.float64]]:
    """Majority class: the training shares for every picture. Linear probe: logistic regression on the embedding of the
    frozen network, which a fine-tuned bundle cannot give.
    """
    with np.load(predictor.folder / "baselines.npz", allow_pickle=False) as stored:
        found = dict(stored)
    prior = found["prior"][None].astype(np.float64)
    majority = {_MAJORITY: np.repeat(prior, len(scored.labels), axis=0)}
    if "weight" not in found:
        return majority
    weight, bias = found["weight"], found["bias"]
    blocks = [scored.embedding[start : start + _STEP] for start in range(0, len(scored.embedding), _STEP)]
    logits = np.concatenate([block.astype(np.float64) @ weight + bias for block in blocks])
    return {**majority, "linear_probe": apply_temperature(logits, 1.0)}


def _notes(scored: Scored, question: Question, manifest: Manifest) -> list[str]:
    notes = []
    if question.unit != "picture":
        is_binary = manifest.positive is not None
        n = len(scored.labels)
        notes.append(describe_units(question.unit, n, is_ordered=manifest.ordered, is_binary=is_binary))
        if is_binary:
            notes.append(
                f"Thresholds were chosen on single pictures and are used here on the mean of each {question.unit}: "
                "they may lie elsewhere for it."
            )
    if question.patients.origin == "none":
        notes.append(
            "Picture-level: no patients are known, each picture counts as its own patient. If patients have several "
            "pictures, the numbers are too good and the intervals too narrow."
        )
    absent = [name for index, name in enumerate(scored.classes) if not (scored.labels == index).any()]
    if absent:
        notes.append(
            f"No picture of class {', '.join(absent)}: what is a mean over all classes is undefined; the table of the "
            "classes has those that occur."
        )
    if scored.n_abstained:
        notes.append(
            f"The gate would abstain on {scored.n_abstained:,} of {len(scored.labels):,} pictures as unlike those "
            "trained on or not fit to be judged; the numbers here count them all the same."
        )
    return notes


def format_scores(scores: Sequence[Score], classes: Sequence[str]) -> str:
    """CSV: sample, patient, label, probability per class, logit per class, prediction."""
    names = [*(f"probability_{name}" for name in classes), *(f"logit_{name}" for name in classes)]
    rows = [["sample", "patient", "label", *names, "prediction"]]
    for row in scores:
        numbers = [f"{value:.7g}" for value in (*row.probabilities, *row.logits)]
        rows.append([row.sample, row.patient, row.label, *numbers, row.prediction])
    return format_csv(rows)


def save_scores(path: Path, scores: Sequence[Score], classes: Sequence[str]) -> None:
    """Write `format_scores` atomically."""
    write_atomic(path, format_scores(scores, classes))
