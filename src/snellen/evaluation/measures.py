"""The parts of an evaluation: operating points, decision curve, calibration, subgroups, prevalence shift.

This room knows a bundle's manifest and scores. It must not know predictors, files or figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from snellen.inference.prevalence import compute_assumed, read_rule, reweight
from snellen.metrics.calibration import apply_temperature, compute_ece, compute_reliability_bins
from snellen.metrics.decision import decide, make_rule
from snellen.metrics.decision_curve import compute_decision_curve
from snellen.metrics.differences import pair_models
from snellen.metrics.intervals import compute_estimates, compute_per_class_estimates
from snellen.metrics.operating_point import PREVALENCES, compute_operating_point
from snellen.metrics.perfect_calibration import expect_errors
from snellen.metrics.recalibration import compute_calibration_lines, compute_calibration_slope
from snellen.metrics.scores import compute_scores
from snellen.metrics.subgroups import Scored as PartScored
from snellen.metrics.subgroups import compute_subgroups
from snellen.records.bundle import Manifest
from snellen.records.evaluation import (
    CalibrationCheck,
    CalibrationSummary,
    DecisionCurve,
    Estimate,
    Evaluation,
    GradeCut,
    Intervals,
    OperatingPoint,
    PrevalenceShift,
    Subgroup,
)

if TYPE_CHECKING:
    from snellen.evaluation.evaluate import Question, Scored

_OF_BASELINES = ("auc", "balanced_accuracy", "accuracy", "kappa_quadratic", "f1", "brier", "log_loss")


def measure_points(manifest: Manifest, scored: Scored, question: Question) -> tuple[OperatingPoint, ...]:
    if manifest.positive is None:
        return ()
    at = manifest.classes.index(manifest.positive)
    is_positive = (scored.labels == at).astype(np.int64)
    prevalences = tuple(sorted({*PREVALENCES, question.prevalence} - {0.0}))
    return tuple(
        compute_operating_point(
            point.name, point.rule, point.chosen_on, point.threshold, is_positive, scored.probabilities[:, at],
            scored.patients, question.intervals, prevalences,
        ).model_copy(
            update={
                "is_default": point.is_default, "n_chosen_positive": point.n_positive,
                "n_chosen_negative": point.n_negative,
            }
        )
        for point in manifest.thresholds
    )  # fmt: skip


def draw_decision_curve(manifest: Manifest, scored: Scored, question: Question) -> DecisionCurve | None:
    if manifest.positive is None:
        return None
    at = manifest.classes.index(manifest.positive)
    is_positive = (scored.labels == at).astype(np.int64)
    return compute_decision_curve(is_positive, scored.probabilities[:, at], scored.patients, question.intervals)


def measure_cuts(
    manifest: Manifest, scored: Scored, settings: Intervals, people: Sequence[str]
) -> tuple[GradeCut, ...]:
    """Of three or more ordered classes: each grade and all above it against those below. `people` are patients `(N,)`,
    where those of `scored` may be groups of patients.
    """
    if not manifest.ordered or len(manifest.classes) < 3:
        return ()
    called, cuts = decide(scored.probabilities, read_rule(manifest)), []
    for at, grade in enumerate(manifest.classes[1:], 1):
        is_from = (scored.labels >= at).astype(np.int64)
        if is_from.min() == is_from.max():
            continue
        share = scored.probabilities[:, at:].sum(1)
        by_call, by_share = (
            compute_per_class_estimates(
                is_from, np.stack([1 - found, found], 1), scored.patients, classes=("below", "from"), settings=settings
            )["from"]
            for found in ((called >= at).astype(np.float64), np.clip(share, 0, 1))
        )
        cuts.append(
            GradeCut(
                grade=grade,
                n=by_call.n,
                n_patients=len({who for who, is_in in zip(people, is_from, strict=True) if is_in}),
                sensitivity=by_call.recall,
                specificity=by_call.specificity,
                ppv=by_call.precision,
                npv=by_call.npv,
                auc=by_share.auc,
            )
        )
    return tuple(cuts)


def compare_baselines(
    manifest: Manifest, scored: Scored, baselines: Mapping[str, NDArray[np.float64]], settings: Intervals
) -> dict[str, dict[str, Estimate]]:
    """The model's metrics minus those of each of `baselines`, probabilities `(N, C)`, paired."""
    found = {}
    for name, other in baselines.items():
        pairs = pair_models(
            scored.labels,
            (np.asarray(other, np.float64), scored.probabilities),
            scored.patients,
            settings=settings,
            is_ordered=manifest.ordered,
            positive=None if manifest.positive is None else manifest.classes.index(manifest.positive),
            rules=(read_rule(manifest), read_rule(manifest)),
        )
        found[name] = {key: pairs[key].difference for key in _OF_BASELINES if key in pairs}
    return found


def recount_patients(evaluation: Evaluation, labels: NDArray[np.int64], people: Sequence[str]) -> Evaluation:
    """The patients behind each class as they are called, where intervals took some of them as one."""
    counts = {
        name: len({who for who, label in zip(people, labels, strict=True) if label == at})
        for at, name in enumerate(evaluation.classes)
    }
    sets = evaluation.conformal
    if sets is not None:
        by_class = {name: each.model_copy(update={"n_patients": counts[name]}) for name, each in sets.per_class.items()}
        whole = sets.whole.model_copy(update={"n_patients": len(set(people))})
        sets = sets.model_copy(update={"whole": whole, "per_class": by_class})
    per_class = {
        name: each.model_copy(update={"n_patients": counts[name]}) for name, each in evaluation.per_class.items()
    }
    return evaluation.model_copy(update={"per_class": per_class, "conformal": sets})


def summarise_calibration(manifest: Manifest, scored: Scored, settings: Intervals) -> CalibrationSummary:
    calibration = manifest.calibration
    before = apply_temperature(scored.logits, 1.0)
    losses = [float(compute_scores(scored.labels, values)["log_loss"][0]) for values in (before, scored.probabilities)]
    is_bare = calibration.method == "none"
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
        bins_before=() if is_bare else compute_reliability_bins(scored.labels, before),
        check=check_calibration(scored, scored.probabilities, settings),
        check_before=None if is_bare else check_calibration(scored, before, settings),
    )


def check_calibration(scored: Scored, probabilities: NDArray[np.float64], settings: Intervals) -> CalibrationCheck:
    """Errors beside what chance gives, slope and intercepts of `probabilities` `(N, C)` on the labels of `scored`."""
    found = compute_scores(scored.labels, probabilities)
    # where no patients are known each picture is one
    patients = scored.patients if settings.unit == "patient" else [str(row) for row in range(len(scored.labels))]
    return CalibrationCheck(
        ece=float(found["ece"][0]),
        ece_adaptive=float(found["ece_adaptive"][0]),
        brier=float(found["brier"][0]),
        log_loss=float(found["log_loss"][0]),
        expected=expect_errors(probabilities, seed=settings.seed),
        slope=compute_calibration_slope(scored.labels, probabilities, patients, settings.level),
        lines=compute_calibration_lines(
            scored.labels, probabilities, patients, classes=scored.classes, level=settings.level
        ),
    )


def measure_subgroups(
    manifest: Manifest, scored: Scored, question: Question, columns: Mapping[str, Sequence[str]]
) -> tuple[Subgroup, ...]:
    """The parts by each of `columns`, which have a value for each row of `scored`."""
    default = next((point.threshold for point in manifest.thresholds if point.is_default), None)
    part = PartScored(
        labels=scored.labels,
        probabilities=scored.probabilities,
        patients=scored.patients,
        classes=manifest.classes,
        settings=question.intervals,
        is_ordered=manifest.ordered,
        positive=None if manifest.positive is None else manifest.classes.index(manifest.positive),
        rule=read_rule(manifest),
        threshold=None if manifest.positive is None else default,
    )
    return compute_subgroups(part, columns)


def compute_shift(
    manifest: Manifest,
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    settings: Intervals,
    patients: Sequence[str],
) -> PrevalenceShift | None:
    """How far the shares of the classes differ from those that the probabilities assume, and what re-weighting to the
    shares here makes of the metrics; None where a class is absent here. Thresholds are not moved.
    """
    counts = np.bincount(labels, minlength=len(manifest.classes)).astype(np.float64)
    if not counts.all():
        return None
    assumed, here = compute_assumed(manifest), counts / counts.sum()
    reweighted = compute_estimates(
        labels,
        reweight(probabilities, assumed, here),
        patients,
        settings=settings,
        is_ordered=manifest.ordered,
        positive=None if manifest.positive is None else manifest.classes.index(manifest.positive),
        rule=make_rule(manifest.decision, here.tolist()),
    )
    return PrevalenceShift(
        assumed=dict(zip(manifest.classes, assumed.tolist(), strict=True)),
        here=dict(zip(manifest.classes, here.tolist(), strict=True)),
        reweighted=reweighted,
    )  # fmt: skip
