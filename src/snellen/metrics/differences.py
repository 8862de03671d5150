"""By how much one model's scores exceed another's on the same pictures, with intervals.

This room knows labels, probabilities and which patient a picture belongs to. It must not know models, splits or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import DataError
from snellen.metrics.decision import Rule
from snellen.metrics.intervals import BIASED, PatientBootstrap, Patients, estimate_difference
from snellen.metrics.paired_auc import compute_correlated_aucs
from snellen.metrics.scores import Scores, compute_scores, require_labels_and_probabilities
from snellen.metrics.student import find_t_quantile
from snellen.records.evaluation import Estimate, Intervals

POWER = 0.8
MOST_PATIENTS = 1_000_000
_ROUNDS = 50


@dataclass(frozen=True)
class Paired:
    """A score of two models, `second - first` with its interval, and the standard error of that difference.

    `n_behind` is the number of patients behind it: of two classes those of the smaller, of several the harmonic mean.
    """

    first: float | None
    second: float | None
    difference: Estimate
    standard_error: float | None
    n_behind: float


def compute_differences(
    labels: NDArray[np.integer],
    probabilities: tuple[NDArray[np.floating], NDArray[np.floating]],
    patients: Patients,
    *,
    settings: Intervals,
    is_ordered: bool = False,
    positive: int | None = None,
    rule: Rule = "most_probable",
) -> dict[str, Estimate]:
    """Every score of the second `probabilities` `(N, C)` minus that of the first; arguments as in `compute_estimates`.

    Paired: patients are resampled once, and both models are scored on the same resample (intervals from the spread of
    the differences, see `estimate_difference`). Where all resamples agree, as of equal models, there is no interval,
    nor of the calibration errors.
    """
    found = pair_scores(
        labels,
        probabilities,
        patients,
        settings=settings,
        is_ordered=is_ordered,
        positive=positive,
        rules=(rule, rule),
    )
    return {name: each.difference for name, each in found.items()}


def pair_scores(
    labels: NDArray[np.integer],
    probabilities: tuple[NDArray[np.floating], NDArray[np.floating]],
    patients: Patients,
    *,
    settings: Intervals,
    is_ordered: bool = False,
    positive: int | None = None,
    rules: tuple[Rule, Rule],
) -> dict[str, Paired]:
    """Every score of both models and its difference, as `compute_differences`; each model by its own decision rule."""
    pairs = [require_labels_and_probabilities(labels, each) for each in probabilities]
    truth = pairs[0][0]

    def score(weights: NDArray[np.float64] | None) -> tuple[Scores, Scores]:
        first, second = (
            compute_scores(truth, each, weights=weights, is_ordered=is_ordered, positive=positive, rule=rule)
            for (_, each), rule in zip(pairs, rules, strict=True)
        )
        return first, second

    def subtract(weights: NDArray[np.float64] | None) -> Scores:
        first, second = score(weights)
        return {name: second[name] - first[name] for name in first}

    bootstrap = PatientBootstrap(truth, patients, settings)
    resamples = bootstrap.run(subtract)
    first, second = score(None)
    return {
        name: Paired(
            _to_number(first[name][0]),
            _to_number(second[name][0]),
            *_estimate_spread(
                name, float(second[name][0] - first[name][0]), resamples[name], bootstrap, settings.level
            ),
            bootstrap.n_behind,
        )
        for name in first
    }


def pair_models(
    labels: NDArray[np.integer],
    probabilities: tuple[NDArray[np.floating], NDArray[np.floating]],
    patients: Sequence[str],
    *,
    settings: Intervals,
    is_ordered: bool = False,
    positive: int | None = None,
    rules: tuple[Rule, Rule],
) -> dict[str, Paired]:
    """As `pair_scores`; the AUC of two classes by DeLong or, where patients have several pictures, Obuchowski."""
    found = pair_scores(
        labels,
        probabilities,
        patients,
        settings=settings,
        is_ordered=is_ordered,
        positive=positive,
        rules=rules,
    )
    if np.asarray(probabilities[0]).shape[1] == 2:
        column = 1 if positive is None else positive
        clusters = patients if settings.unit == "patient" else [str(row) for row in range(len(patients))]
        scores = [np.asarray(each)[:, column] for each in probabilities]
        found["auc"] = _pair_aucs(found["auc"], np.asarray(labels) == column, scores, clusters, settings.level)
    return found


def _pair_aucs(
    resampled: Paired,
    is_positive: NDArray[np.bool_],
    scores: Sequence[NDArray[np.floating]],
    clusters: Sequence[str],
    level: float,
) -> Paired:
    """The same difference with the interval of a formula; `resampled` where too few patients allow none."""
    try:
        found = compute_correlated_aucs(is_positive, scores, clusters)
    except DataError:
        return resampled
    difference, error = found.subtract()
    if error == 0:
        return replace(resampled, difference=Estimate(value=difference, method="none"), standard_error=0.0)
    patients_of = [
        {each for each, is_one in zip(clusters, is_positive, strict=True) if is_one == side} for side in (0, 1)
    ]
    n_behind = min(map(len, patients_of))
    half = find_t_quantile(0.5 + level / 2, max(3, n_behind) - 1) * error
    low, high = max(-1.0, difference - half), min(1.0, difference + half)  # no two AUCs are farther apart
    interval = Estimate(value=difference, low=low, high=high, method=found.method)
    return replace(resampled, difference=interval, standard_error=error, n_behind=n_behind)


def find_detectable(standard_error: float, n_behind: float, level: float = 0.95) -> float:
    """The smallest true difference that a test set with this standard error tells from 0 with a power of 80 %.

    By Student's quantiles for `n_behind` patients, as the interval of the difference.
    """
    degrees = max(n_behind, 3.0) - 1
    return (find_t_quantile(0.5 + level / 2, degrees) + find_t_quantile(POWER, degrees)) * standard_error


def count_patients_needed(
    difference: float, standard_error: float, n_patients: int, n_behind: float, level: float = 0.95
) -> int | None:
    """Patients at which a true difference of this size would be told from 0 with a power of 80 %.

    The standard error falls with the root of the number of patients, whose mixture is taken to stay the same. None
    where the difference is 0 or more than a million patients would be needed.
    """
    if difference == 0 or standard_error == 0:
        return None
    factor = 1.0  # by which the patients grow: sought where both sides of its equation agree
    for _ in range(_ROUNDS):
        factor = (find_detectable(standard_error, n_behind * factor, level) / difference) ** 2
    needed = n_patients * factor
    return ceil(needed) if needed <= MOST_PATIENTS else None


def _estimate_spread(
    name: str, difference: float, resamples: NDArray[np.float64], bootstrap: PatientBootstrap, level: float
) -> tuple[Estimate, float | None]:
    """Interval and standard error; neither of the calibration errors, which resampling raises."""
    if name in BIASED:
        return Estimate(value=_to_number(difference), method="none"), None
    return estimate_difference(difference, resamples, level, bootstrap.n_behind), _measure_spread(resamples)


def _to_number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _measure_spread(resamples: NDArray[np.float64]) -> float | None:
    """Standard deviation of what is defined; None where less than half is."""
    defined = resamples[~np.isnan(resamples)]
    return float(defined.std(ddof=1)) if 2 * len(defined) >= len(resamples) and len(defined) > 1 else None
