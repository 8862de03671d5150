"""What a split says of a bundle. Scores come from the Predictor and from nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen.core.csv_text import format_csv
from snellen.core.errors import DataError
from snellen.core.progress import follow
from snellen.core.storage import write_atomic
from snellen.evaluation.abstention import summarise_abstentions, summarise_conformal, summarise_selective
from snellen.imaging.cache import PixelCache
from snellen.inference.predictor import Predictor
from snellen.inference.shift import Tally
from snellen.metrics.calibration import apply_temperature, compute_ece, compute_reliability_bins
from snellen.metrics.decision import decide
from snellen.metrics.intervals import compute_estimates, compute_per_class_estimates
from snellen.metrics.operating_point import choose_threshold, compute_operating_point
from snellen.metrics.scores import compute_confusion, compute_scores
from snellen.records.bundle import FIXED, Threshold
from snellen.records.cohort import PatientRule, Sample
from snellen.records.evaluation import CalibrationSummary, Estimate, Evaluation, Intervals, OperatingPoint, Score
from snellen.records.plan import Plan
from snellen.records.recipe import DecisionRule

_STEP = 64
_MAJORITY = "majority_class"
_OVER_CLASSES = ("auc", "balanced_accuracy", "f1", "precision", "recall", "mcc")


@dataclass(frozen=True)
class Scored:
    """Scores of samples by one bundle, row by row; `labels` are class indices `(N,)`, `decision` the bundle's rule.

    `reasons` says of each why the gate would give no answer, `measured` holds what it measured.
    """

    samples: tuple[Sample, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    logits: NDArray[np.float64]
    embedding: NDArray[np.float32]
    n_abstained: int
    classes: tuple[str, ...]
    decision: DecisionRule = "most_probable"
    reasons: tuple[str, ...] = ()
    measured: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def patients(self) -> list[str]:
        return [sample.patient for sample in self.samples]

    def to_scores(self) -> list[Score]:
        """Rows for `scores-*.csv` and the report."""
        called = decide(self.probabilities, self.decision)
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
    """What an evaluation is about: which split of which data, and how its intervals are made."""

    split: str
    data: str
    patients: PatientRule
    intervals: Intervals
    test_opened: int = 0
    n_failed: int = 0
    snellen_version: str = ""
    notes: tuple[str, ...] = ()


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
        decision=predictor.manifest.decision,
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
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], plan: Plan
) -> tuple[Threshold, ...]:
    """Operating points of a binary task, from validation labels `(N,)` and probabilities `(N, 2)` only."""
    if plan.data.positive is None:
        return ()
    at = plan.data.classes.index(plan.data.positive)
    is_positive = (labels == at).astype(np.int64)
    scores = probabilities[:, at].astype(np.float64)
    screening = f"sensitivity>={plan.evaluation.sensitivity:.2f}"
    rules = (("balanced", "youden", True), ("screening", screening, False), ("most-likely", "argmax", False))
    chosen_on = "oof" if plan.evaluation.folds else "val"
    return tuple(
        Threshold(
            name=name,
            rule=rule,
            threshold=float(choose_threshold(is_positive, scores, rule)),
            chosen_on=FIXED if rule == "argmax" else chosen_on,
            is_default=is_default,
        )
        for name, rule, is_default in rules
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
    labels, probabilities, patients = scored.labels, scored.probabilities, scored.patients

    is_whole = len(np.unique(labels)) == len(manifest.classes)

    def estimate(found: NDArray[np.float64], rule: DecisionRule) -> dict[str, Estimate]:
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

    found_baselines = _score_baselines(predictor, scored) if baselines is None else baselines
    called = decide(probabilities, manifest.decision)
    confusion = compute_confusion(labels, called, len(manifest.classes))
    shift = predictor.find_shift(scored.measured)
    return Evaluation(
        task=manifest.task,
        classes=manifest.classes,
        positive=manifest.positive,
        decision=manifest.decision,
        split=question.split,
        data=question.data,
        n=len(labels),
        n_patients=len(set(patients)),
        n_failed=question.n_failed,
        patient_rule=question.patients.rule,
        metrics=estimate(probabilities, manifest.decision),
        baselines={
            name: estimate(found, "most_probable" if name == _MAJORITY else manifest.decision)
            for name, found in found_baselines.items()
        },
        per_class=compute_per_class_estimates(
            labels,
            probabilities,
            patients,
            classes=manifest.classes,
            settings=question.intervals,
            rule=manifest.decision,
        ),
        confusion=tuple(tuple(int(value) for value in row) for row in confusion),
        operating_points=_measure_points(predictor, scored, question),
        calibration=_summarise_calibration(predictor, scored),
        intervals=question.intervals,
        conformal=summarise_conformal(manifest, labels, probabilities, patients, question.intervals),
        selective=summarise_selective(labels, called, probabilities, patients, question.intervals),
        abstentions=summarise_abstentions(labels, called, scored.reasons, manifest.classes) if scored.reasons else None,
        shift=shift,
        test_opened=question.test_opened,
        bundle_sha256=predictor.sha256,
        snellen_version=question.snellen_version,
        notes=(*question.notes, *_notes(scored, question), *([shift.message] if shift and shift.message else [])),
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


def _measure_points(predictor: Predictor, scored: Scored, question: Question) -> tuple[OperatingPoint, ...]:
    manifest = predictor.manifest
    if manifest.positive is None:
        return ()
    at = manifest.classes.index(manifest.positive)
    is_positive = (scored.labels == at).astype(np.int64)
    return tuple(
        compute_operating_point(
            point.name, point.rule, point.chosen_on, point.threshold, is_positive, scored.probabilities[:, at],
            scored.patients, question.intervals,
        ).model_copy(update={"is_default": point.is_default})
        for point in manifest.thresholds
    )  # fmt: skip


def _summarise_calibration(predictor: Predictor, scored: Scored) -> CalibrationSummary:
    calibration = predictor.manifest.calibration
    before = apply_temperature(scored.logits, 1.0)
    losses = [float(compute_scores(scored.labels, values)["log_loss"][0]) for values in (before, scored.probabilities)]
    return CalibrationSummary(
        method=calibration.method,
        temperature=calibration.temperature,
        fitted_on=calibration.fitted_on,
        n_fitted=calibration.n,
        ece_before=compute_ece(scored.labels, before),
        ece_after=compute_ece(scored.labels, scored.probabilities),
        log_loss_before=losses[0],
        log_loss_after=losses[1],
        reason=calibration.reason,
        is_compared=calibration.is_compared,
        bins=compute_reliability_bins(scored.labels, scored.probabilities),
        bins_before=() if calibration.method == "none" else compute_reliability_bins(scored.labels, before),
    )


def _notes(scored: Scored, question: Question) -> list[str]:
    notes = []
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
            f"The gate would abstain on {scored.n_abstained} of {len(scored.labels)} pictures as unlike those "
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
