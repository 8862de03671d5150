"""Scores with intervals: patients are resampled, because pictures of one patient are not independent.

This room knows labels, probabilities and which patient a picture belongs to. It must not know models,
splits or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import DataError
from snellen.metrics.decision import decide
from snellen.metrics.scores import (
    compute_per_class,
    compute_scores,
    require_labels_and_probabilities,
    rows_per_chunk,
)
from snellen.records.evaluation import Estimate, Intervals, PerClass
from snellen.records.recipe import DecisionRule

Patients = Sequence[str] | NDArray[np.str_]
Scores = dict[str, NDArray[np.float64]]


def compute_estimates(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    patients: Patients,
    *,
    settings: Intervals,
    is_ordered: bool = False,
    positive: int | None = None,
    rule: DecisionRule = "most_probable",
) -> dict[str, Estimate]:
    """Every score of `compute_scores` with its interval; arguments as there, and `patients` (N,).

    Percentile intervals of a patient bootstrap (see `PatientBootstrap`). Accuracy, balanced accuracy,
    recall and precision get Wilson's interval where no resample can differ (a value of 0 or 1): its n is
    the number of patients behind the score, not of pictures. For macro means it is the effective
    number C² / Σ 1/n_c of the n_c patients of each class: the n whose proportion has the variance of
    the mean of C proportions. The same seed gives the same numbers.
    """
    labels, probs = require_labels_and_probabilities(labels, probabilities)
    bootstrap = PatientBootstrap(labels, patients, settings)

    def score(weights: NDArray[np.float64] | None) -> Scores:
        return compute_scores(labels, probs, weights=weights, is_ordered=is_ordered, positive=positive, rule=rule)

    resamples = bootstrap.run(score)
    n_units = _count_behind_scores(labels, decide(probs, rule), bootstrap)
    return {
        name: choose_estimate(float(value[0]), resamples[name], settings.level, n_units.get(name))
        for name, value in score(None).items()
    }


def compute_per_class_estimates(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    patients: Patients,
    *,
    classes: Sequence[str],
    settings: Intervals,
    rule: DecisionRule = "most_probable",
) -> dict[str, PerClass]:
    """Each class against the rest, decided by `rule`: class name → scores with intervals.

    `labels` (N,), `probabilities` (N, C), `patients` (N,), `classes` the C names. Intervals as in
    `compute_estimates`. A score without cases has the value None.
    """
    labels, probs = require_labels_and_probabilities(labels, probabilities)
    if len(classes) != probs.shape[1]:
        raise DataError(f"{len(classes)} class names do not fit {probs.shape[1]} probabilities")
    predictions = decide(probs, rule)
    bootstrap = PatientBootstrap(labels, patients, settings)
    resamples = bootstrap.run(lambda weights: compute_per_class(labels, probs, weights=weights, rule=rule))
    values = compute_per_class(labels, probs, rule=rule)
    result = {}
    for c, name in enumerate(classes):
        n_units = {
            "recall": bootstrap.count(labels == c),
            "specificity": bootstrap.count(labels != c),
            "precision": bootstrap.count(predictions == c),
            "npv": bootstrap.count(predictions != c),
        }
        estimates = {
            score: choose_estimate(
                float(values[score][0, c]), resamples[score][:, c], settings.level, n_units.get(score)
            )
            for score in values
        }
        result[name] = PerClass(
            n=int((labels == c).sum()), n_patients=bootstrap.count_patients(labels == c), **estimates
        )
    return result


def compute_wilson_interval(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (Wilson 1927) of the proportion `successes` / `n`, both ends in [0, 1].

    `n` may be an effective number and need not be whole. Without cases the interval is (0, 1).
    """
    if n <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * float(np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)))
    # The formula meets 0 and 1 exactly; the clamp takes away what rounding adds.
    return min(max(0.0, centre - half), share), max(min(1.0, centre + half), share)


def draw_patient_weights(
    labels: NDArray[np.integer], patients: Patients, *, n_resamples: int, seed: int
) -> NDArray[np.float64]:
    """How often each sample counts in each resample (B, N): as often as its patient was drawn.

    `labels` (N,) and `patients` (N,). Patients are drawn with replacement within strata, so that each
    resample keeps every stratum's number of patients. A patient's stratum is the rarest of its labels,
    counted in patients of the cohort.
    """
    settings = Intervals(n_resamples=n_resamples, unit="patient", seed=seed)
    bootstrap = PatientBootstrap(np.asarray(labels), patients, settings)
    return bootstrap.draws[:, bootstrap.unit_of_sample].astype(np.float64)


class PatientBootstrap:
    """The resamples of one cohort; `settings.unit` says whether patients or single pictures are drawn.

    `unit_of_sample` (N,) is each sample's unit, `draws` (B, units) how often each unit was drawn.
    """

    def __init__(self, labels: NDArray[np.integer], patients: Patients, settings: Intervals) -> None:
        self._patients = np.asarray(patients).astype(str)
        if self._patients.shape != labels.shape:
            raise DataError(f"{len(self._patients)} patients do not fit {len(labels)} labels")
        if settings.unit == "patient":
            names, unit = np.unique(self._patients, return_inverse=True)
            n_units = len(names)
        else:
            n_units, unit = len(labels), np.arange(len(labels))
        self.unit_of_sample = unit
        strata = _choose_strata(labels, unit, n_units)
        self.draws = _draw_within(strata, settings.n_resamples, settings.seed)

    def run(self, score: Callable[[NDArray[np.float64]], Scores]) -> Scores:
        """`score` of all resamples, name → (B, ...); NaN where every stratum has one unit only.

        Nothing was resampled then, and equal values would pass for certainty.
        """
        step = rows_per_chunk(len(self.unit_of_sample))
        chunks = [self.draws[first : first + step] for first in range(0, len(self.draws), step)]
        parts = [score(chunk[:, self.unit_of_sample].astype(np.float64)) for chunk in chunks]
        resamples = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if (self.draws == 1).all():
            resamples = {name: np.full_like(values, np.nan) for name, values in resamples.items()}
        return resamples

    def count(self, is_counted: NDArray[np.bool_]) -> int:
        """Units (patients, or pictures where those are the unit) with at least one of the samples (N,)."""
        return len(np.unique(self.unit_of_sample[is_counted]))

    def count_patients(self, is_counted: NDArray[np.bool_]) -> int:
        """Patients with at least one of the samples (N,), whatever the unit is."""
        return len(np.unique(self._patients[is_counted]))


def choose_estimate(
    value: float, resamples: NDArray[np.float64], level: float, n_units: float | None = None
) -> Estimate:
    """`value` with the percentile interval of `resamples` (B,), or Wilson's where a proportion is 0 or 1.

    `n_units` is the number of patients behind a proportion, None for scores that are no proportion.
    Resamples without a value (NaN) are left out; there is no interval where they are the majority, nor where
    all or nearly all agree.
    An interval that misses the value is extended to it, so that low <= value <= high.
    """
    if np.isnan(value):
        return Estimate(value=None, method="none")
    defined = resamples[~np.isnan(resamples)]
    is_sparse = 2 * len(defined) < len(resamples) or not len(defined)
    if n_units and value in (0.0, 1.0):
        low, high = compute_wilson_interval(value * n_units, n_units, level)
        return Estimate(value=value, low=min(low, value), high=max(high, value), method="wilson")
    if is_sparse or np.ptp(defined) == 0:
        # resamples that all agree do not show certainty, they show that there is nothing to resample
        return Estimate(value=value, method="none")
    tail = (1 - level) / 2
    low, high = (float(end) for end in np.quantile(defined, [tail, 1 - tail]))
    if low == high:
        return Estimate(value=value, method="none")
    return Estimate(value=value, low=min(low, value), high=max(high, value), method="bootstrap")


def _choose_strata(labels: NDArray[np.integer], unit: NDArray[np.intp], n_units: int) -> NDArray[np.intp]:
    """The stratum (units,) of each unit: the rarest of its labels; the smaller index where two are equal."""
    has_label = np.zeros((n_units, int(labels.max(initial=0)) + 1), dtype=bool)
    has_label[unit, labels] = True
    frequency = has_label.sum(axis=0)
    rarity = np.where(has_label, frequency, n_units + 1)
    strata: NDArray[np.intp] = rarity.argmin(axis=1)
    return strata


def _draw_within(strata: NDArray[np.intp], n_resamples: int, seed: int) -> NDArray[np.int32]:
    """How often each unit is drawn (B, units) when each stratum is drawn with replacement at its size."""
    rng = np.random.default_rng(seed)
    draws = np.zeros((n_resamples, len(strata)), dtype=np.int32)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        for row in range(n_resamples):
            picked = rng.integers(len(members), size=len(members))
            draws[row, members] = np.bincount(picked, minlength=len(members))
    return draws


def _count_behind_scores(
    labels: NDArray[np.int64], predictions: NDArray[np.intp], bootstrap: PatientBootstrap
) -> dict[str, float]:
    """The (effective) number of patients behind each score that is a proportion, see `compute_estimates`."""
    n = float(bootstrap.count(np.ones(len(labels), dtype=bool)))
    by_label = [bootstrap.count(labels == c) for c in np.unique(labels)]
    by_prediction = [bootstrap.count(predictions == c) for c in np.unique(predictions)]
    # a patient of two classes stands behind both, but is not two patients
    macro_recall = min(n, len(by_label) ** 2 / sum(1 / count for count in by_label))
    macro_precision = min(n, len(by_prediction) ** 2 / sum(1 / count for count in by_prediction))
    return {
        "accuracy": n,
        "balanced_accuracy": macro_recall,
        "recall": macro_recall,
        "recall_weighted": n,
        "precision": macro_precision,
        "precision_weighted": n,
        "off_by_two": n,
    }
