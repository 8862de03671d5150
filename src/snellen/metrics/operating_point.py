"""Thresholds on the positive class's probability: choosing one by a rule, measuring one with intervals.

This room knows labels of 0 and 1, scores and patients. It must not know which split it sees: the
caller chooses on validation and measures elsewhere. A sample is positive when score >= threshold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import DataError, UsageError
from snellen.metrics.intervals import PatientBootstrap, Patients, estimate_shares
from snellen.metrics.proportions import Ratio, complement, find_ratio
from snellen.metrics.ranking import count_at_thresholds
from snellen.records.evaluation import AtPrevalence, Estimate, Intervals, OperatingPoint

PREVALENCES = (0.01, 0.05, 0.1, 0.2, 0.5)
_TARGET = re.compile(r"(sensitivity|specificity)\s*>=\s*(\d*\.?\d+)")
_COST = re.compile(r"cost\s*=\s*(\d*\.?\d+)")


def choose_threshold(labels_binary: NDArray[np.integer], scores: NDArray[np.floating], rule: str) -> float:
    """The threshold for `scores` (N,) on `labels_binary` (N,) in {0, 1} that `rule` asks for.

    - "argmax": 0.5, the more probable of two classes; looks at no data.
    - "youden": largest sensitivity + specificity - 1 (Youden 1950).
    - "sensitivity>=0.90": of the thresholds that reach the target, the highest specificity.
    - "specificity>=0.90": of the thresholds that reach the target, the highest sensitivity.
    - "cost=5": the smallest cost, where a missed positive costs as much as five false alarms. It holds for the share of
      positives among these samples.

    Candidates are the scores themselves; of equally good ones the smallest, which is the most sensitive.
    Where no score reaches a specificity, the threshold lies just above the highest score: nothing is
    positive. Raises UsageError for an unknown rule, DataError where one side has no sample.
    """
    target, cost = _parse_rule(rule)
    if rule == "argmax":
        return 0.5
    labels, values = _require_binary(labels_binary, scores)
    n_positive = int((labels == 1).sum())
    n_negative = len(labels) - n_positive
    if not n_positive or not n_negative:
        raise DataError(
            f"rule '{rule}' needs both sides, but there are {n_positive} positives, {n_negative} negatives",
            "Use rule 'argmax', or choose the threshold on a split that holds both classes.",
        )
    fp, tp, thresholds = count_at_thresholds(labels, values)
    if cost is not None:
        saved = cost * tp - fp
        if saved.max() < 0:  # to call nothing positive is cheapest
            return float(np.nextafter(thresholds[0], np.inf))
        return float(thresholds[np.flatnonzero(saved == saved.max())[-1]])
    if target is None:
        # Whole numbers, so that equal values are equal: sensitivity - (1 - specificity), times both sides.
        merit = tp * n_negative - fp * n_positive
    else:
        quantity, share = target
        is_sensitivity = quantity == "sensitivity"
        reached = tp / n_positive if is_sensitivity else (n_negative - fp) / n_negative
        merit = np.where(reached >= share, -fp if is_sensitivity else tp, -len(labels) - 1)
        if (reached < share).all():
            return float(np.nextafter(thresholds[0], np.inf))
    # Thresholds fall: the last of the best is the smallest.
    return float(thresholds[np.flatnonzero(merit == merit.max())[-1]])


def compute_operating_point(
    name: str,
    rule: str,
    chosen_on: str,
    threshold: float,
    labels_binary: NDArray[np.integer],
    scores: NDArray[np.floating],
    patients: Patients,
    settings: Intervals,
    prevalences: tuple[float, ...] = PREVALENCES,
) -> OperatingPoint:
    """Sensitivity, specificity, predictive values and likelihood ratios at `threshold`, with intervals.

    `labels_binary` (N,) in {0, 1}, `scores` (N,), `patients` (N,). Intervals of the four shares as in
    `estimate_shares`, of likelihood ratios as in `find_ratio`; what follows from a ratio has its ends. Predictive
    values hold at this split's prevalence, those of `at_prevalence` where the positive class has that share and
    pictures of each class look as here. A likelihood ratio without finite value is None.
    """
    labels, values = _require_binary(labels_binary, scores)
    is_sick, is_called = labels == 1, values >= threshold
    bootstrap = PatientBootstrap(labels, patients, settings)
    shares = estimate_shares(is_sick, is_called, bootstrap, settings.level)
    sensitivity, specificity = shares["recall"], shares["specificity"]
    positive = find_ratio(sensitivity, complement(specificity))
    negative = find_ratio(complement(sensitivity), specificity)
    n_positive = int(is_sick.sum())
    return OperatingPoint(
        name=name,
        rule=rule,
        chosen_on=chosen_on,
        threshold=threshold,
        n_positive=n_positive,
        n_negative=len(labels) - n_positive,
        sensitivity=sensitivity,
        specificity=specificity,
        ppv=shares["precision"],
        npv=shares["npv"],
        lr_positive=_to_estimate(positive),
        lr_negative=_to_estimate(negative),
        at_prevalence=tuple(_derive(positive, negative, share) for share in prevalences),
    )


def _derive(positive: Ratio | None, negative: Ratio | None, prevalence: float) -> AtPrevalence:
    """Predictive values from both likelihood ratios."""
    return AtPrevalence(
        prevalence=prevalence,
        ppv=_to_estimate(_map_ends(positive, lambda ratio: _compute_ppv(ratio, prevalence))),
        npv=_to_estimate(_map_ends(negative, lambda ratio: 1 - _compute_ppv(ratio, prevalence))),
    )


def _compute_ppv(ratio: float, prevalence: float) -> float:
    """The probability of the class after a decision of this likelihood ratio (Bayes); 1 for an infinite one."""
    odds = ratio * prevalence / (1 - prevalence)
    return 1.0 if math.isinf(odds) else odds / (1 + odds)


def _map_ends(ratio: Ratio | None, change: Callable[[float], float]) -> Ratio | None:
    """Value and ends of a ratio through a function that only rises or only falls."""
    if ratio is None:
        return None
    ends = sorted((change(ratio.low), change(ratio.high)))
    return Ratio(change(ratio.value), *ends)


def _to_estimate(ratio: Ratio | None) -> Estimate:
    """A ratio without finite value has none; an end that is not finite is left out with the other."""
    if ratio is None or math.isinf(ratio.value):
        return Estimate(value=None, method="none")
    if math.isinf(ratio.high):
        return Estimate(value=ratio.value, method="none")
    return Estimate(value=ratio.value, low=ratio.low, high=ratio.high, method="mover")


def _parse_rule(rule: str) -> tuple[tuple[str, float] | None, float | None]:
    """The quantity and target of a rule such as "sensitivity>=0.90", the cost of one such as "cost=5"; None else."""
    if rule in ("argmax", "youden"):
        return None, None
    cost, match = _COST.fullmatch(rule.strip()), _TARGET.fullmatch(rule.strip())
    if cost is not None and float(cost[1]) > 0:
        return None, float(cost[1])
    if match is None or not 0 < float(match[2]) <= 1:
        raise UsageError(
            f"unknown operating-point rule '{rule}'",
            "Use 'argmax', 'youden', 'sensitivity>=0.90' or 'specificity>=0.90' (above 0, at most 1), or 'cost=5'.",
        )
    return (match[1], float(match[2])), None


def _require_binary(
    labels: NDArray[np.integer], scores: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """`labels` (N,) as int64 and `scores` (N,) as float64; DataError where they do not fit."""
    labels, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != values.shape or not len(labels):
        raise DataError(f"labels of shape {labels.shape} do not fit scores of shape {values.shape}")
    if not np.isin(labels, (0, 1)).all():
        raise DataError("labels must be 0 (negative) or 1 (positive)", "Pass `labels == positive`.")
    if not np.isfinite(values).all():
        raise DataError("a score is not a number")
    return labels.astype(np.int64), values
