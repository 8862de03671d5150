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
from snellen.metrics.decision import Rule, decide
from snellen.metrics.paired_auc import compute_correlated_aucs
from snellen.metrics.proportions import compute_wilson_interval, estimate_proportion, estimate_wilson
from snellen.metrics.scores import (
    compute_per_class,
    compute_scores,
    require_labels_and_probabilities,
    rows_per_chunk,
)
from snellen.metrics.student import find_t_quantile
from snellen.records.evaluation import Estimate, Intervals, PerClass

Patients = Sequence[str] | NDArray[np.str_]
Scores = dict[str, NDArray[np.float64]]
BIASED = ("ece", "ece_adaptive")
SHARES = ("recall", "specificity", "precision", "npv")
_MOST_BIAS = 0.4  # of the resamples, from their middle: beyond it a score is biased for another reason


def compute_estimates(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    patients: Patients,
    *,
    settings: Intervals,
    is_ordered: bool = False,
    positive: int | None = None,
    rule: Rule = "most_probable",
) -> dict[str, Estimate]:
    """Every score of `compute_scores` with its interval; arguments as there, and `patients` (N,).

    Corrected percentile intervals of a patient bootstrap (see `PatientBootstrap`, `choose_estimate`). The calibration
    errors have none: a resampled error is larger than the error itself, so that its percentiles say nothing. The AUC of
    two classes has that of DeLong or Obuchowski (see `compute_correlated_aucs`) on the scale of log odds, or Newcombe's
    where it is 0 or 1; average precision has that of the resamples' spread on the same scale.
    Accuracy, balanced accuracy, recall and precision get Wilson's interval where no resample can differ (a value of 0
    or 1): its n is the number of patients behind the score, not of pictures. For macro means it is the effective number
    C² / Σ 1/n_c of the n_c patients of each class: the n whose proportion has the variance of the mean of C
    proportions. The same seed gives the same numbers.
    """
    labels, probs = require_labels_and_probabilities(labels, probabilities)
    bootstrap = PatientBootstrap(labels, patients, settings)

    def score(weights: NDArray[np.float64] | None) -> Scores:
        return compute_scores(labels, probs, weights=weights, is_ordered=is_ordered, positive=positive, rule=rule)

    resamples = bootstrap.run(score)
    n_units = _count_behind_scores(labels, decide(probs, rule), bootstrap)
    values = {name: float(value[0]) for name, value in score(None).items()}
    found = {
        name: Estimate(value=value, method="none")
        if name in BIASED
        else choose_estimate(value, resamples[name], settings.level, n_units.get(name), bootstrap.n_behind)
        for name, value in values.items()
    }
    found["average_precision"] = _estimate_on_log_odds(
        found["average_precision"], resamples["average_precision"], settings.level, bootstrap.n_behind
    )
    if probs.shape[1] == 2:
        column = 1 if positive is None else positive
        found["auc"] = _estimate_auc(found["auc"], labels == column, probs[:, column], bootstrap, settings.level)
    return found


def compute_per_class_estimates(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    patients: Patients,
    *,
    classes: Sequence[str],
    settings: Intervals,
    rule: Rule = "most_probable",
) -> dict[str, PerClass]:
    """Each class against the rest, decided by `rule`: class name → scores with intervals.

    `labels` (N,), `probabilities` (N, C), `patients` (N,), `classes` the C names. Intervals as in
    `compute_estimates`, of shares of one class as in `estimate_shares`. A score without cases has the value None.
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
        is_of, is_called = labels == c, predictions == c
        behind = min(bootstrap.count(is_of), bootstrap.count(~is_of))
        estimates = {
            score: choose_estimate(float(values[score][0, c]), resamples[score][:, c], settings.level, n_behind=behind)
            for score in values
            if score not in SHARES
        } | estimate_shares(is_of, is_called, bootstrap, settings.level)
        estimates["average_precision"] = _estimate_on_log_odds(
            estimates["average_precision"], resamples["average_precision"][:, c], settings.level, behind
        )
        estimates["auc"] = _estimate_auc(estimates["auc"], labels == c, probs[:, c], bootstrap, settings.level)
        result[name] = PerClass(
            n=int((labels == c).sum()), n_patients=bootstrap.count_patients(labels == c), **estimates
        )
    return result


def estimate_shares(
    is_of: NDArray[np.bool_], is_called: NDArray[np.bool_], bootstrap: PatientBootstrap, level: float
) -> dict[str, Estimate]:
    """Recall, specificity, precision and NPV of one class that samples (N,) are of, and are called.

    Intervals by `estimate_proportion`. Where all of one side are called alike, that side of the predictive value's
    fraction is the same whoever is drawn: its cases are then the patients, because the spread would claim more than is
    known.
    """
    recall = bootstrap.estimate_share(is_called, is_of, level)
    specificity = bootstrap.estimate_share(~is_called, ~is_of, level)
    found = {"recall": recall, "specificity": specificity}
    sides = {"precision": (is_of, is_called, specificity), "npv": (~is_of, ~is_called, recall)}
    for name, (is_right, is_counted, other) in sides.items():
        own = bootstrap.estimate_share(is_right, is_counted, level)
        if other.value == 0 and own.value is not None:
            own = estimate_wilson(own.value, bootstrap.count(is_counted), level)
        found[name] = own
    return found


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

    `unit_of_sample` (N,) is each sample's unit, `strata` (units,) each unit's class, `draws` (B, units) how often each
    unit was drawn, `n_behind` the number of units that stands behind the scores of all classes.
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
        self.strata = strata = _choose_strata(labels, unit, n_units)
        self.draws = _draw_within(strata, settings.n_resamples, settings.seed)
        sizes = np.bincount(strata)
        sizes = sizes[sizes > 0]
        # of two classes the smaller, of several the harmonic mean: one tiny class does not make all numbers uncertain
        self.n_behind = float(sizes.min() if len(sizes) < 3 else len(sizes) / (1 / sizes).sum())

    def run(self, score: Callable[[NDArray[np.float64]], Scores]) -> Scores:
        """`score` of all resamples, name → (B, ...); NaN where fewer than two units a class stand behind the scores.

        A class of one unit is the same in every resample, and what does not vary would pass for certainty.
        """
        step = rows_per_chunk(len(self.unit_of_sample))
        chunks = [self.draws[first : first + step] for first in range(0, len(self.draws), step)]
        parts = [score(chunk[:, self.unit_of_sample].astype(np.float64)) for chunk in chunks]
        resamples = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if self.n_behind < 2:
            resamples = {name: np.full_like(values, np.nan) for name, values in resamples.items()}
        return resamples

    def estimate_share(self, is_hit: NDArray[np.bool_], is_counted: NDArray[np.bool_], level: float) -> Estimate:
        """The share of hits among the counted samples (both (N,)), see `estimate_proportion`."""
        return estimate_proportion(is_hit, is_counted, self.unit_of_sample, self.strata, level)

    def count(self, is_counted: NDArray[np.bool_]) -> int:
        """Units (patients, or pictures where those are the unit) with at least one of the samples (N,)."""
        return len(np.unique(self.unit_of_sample[is_counted]))

    def count_patients(self, is_counted: NDArray[np.bool_]) -> int:
        """Patients with at least one of the samples (N,), whatever the unit is."""
        return len(np.unique(self._patients[is_counted]))


def choose_estimate(
    value: float,
    resamples: NDArray[np.float64],
    level: float,
    n_units: float | None = None,
    n_behind: float | None = None,
) -> Estimate:
    """`value` with the percentile interval of `resamples` (B,), or Wilson's where a proportion is 0 or 1.

    With `n_behind`, a number of patients, the percentiles are corrected: for bias by the share of resamples below the
    value (Efron 1981), and for few patients by Student's distribution and the root of n / (n - 1) (Hesterberg 2015,
    expanded percentiles). `n_units` is the number of patients behind a proportion, None for scores
    that are no proportion.
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
    tails = ((1 - level) / 2, (1 + level) / 2)
    if n_behind is not None:
        tails = _correct_tails(value, defined, level, n_behind)
    low, high = (float(end) for end in np.quantile(defined, tails))
    if low == high:
        return Estimate(value=value, method="none")
    return Estimate(value=value, low=min(low, value), high=max(high, value), method="bootstrap")


def estimate_difference(value: float, resamples: NDArray[np.float64], level: float, n_behind: float) -> Estimate:
    """`value`, a difference of two models on the same patients, with the interval of its `resamples`' (B,) spread.

    Their standard deviation times Student's quantile of `n_behind` patients less one: such a difference scatters
    evenly on both sides, and percentiles of few patients are too narrow. No interval where `choose_estimate` has none.
    """
    if choose_estimate(value, resamples, level).low is None:
        return Estimate(value=None if np.isnan(value) else value, method="none")
    half = find_t_quantile(0.5 + level / 2, max(n_behind, 3.0) - 1) * float(np.nanstd(resamples, ddof=1))
    return Estimate(value=value, low=value - half, high=value + half, method="bootstrap")


def _estimate_auc(
    resampled: Estimate,
    is_positive: NDArray[np.bool_],
    scores: NDArray[np.float64],
    bootstrap: PatientBootstrap,
    level: float,
) -> Estimate:
    """The same AUC with the interval of a formula; `resampled` where too few patients allow none."""
    n_positive, n_negative = bootstrap.count(is_positive), bootstrap.count(~is_positive)
    if resampled.value in (0.0, 1.0):
        low, high = compute_extreme_auc_interval(resampled.value, n_positive, n_negative, level)
        return Estimate(value=resampled.value, low=low, high=high, method="newcombe")
    try:
        found = compute_correlated_aucs(is_positive, [scores], [str(unit) for unit in bootstrap.unit_of_sample])
    except DataError:
        return resampled
    auc, variance = float(found.aucs[0]), float(found.covariance[0, 0])
    if not 0 < auc < 1 or variance <= 0:
        return resampled
    low, high = _reach_on_log_odds(auc, float(np.sqrt(variance)), min(n_positive, n_negative), level)
    return Estimate(value=resampled.value, low=low, high=high, method=found.method)


def _estimate_on_log_odds(
    resampled: Estimate, resamples: NDArray[np.float64], level: float, n_behind: float
) -> Estimate:
    """The same score with the spread of its `resamples` (B,), times the root of n / (n - 1), as standard error, on the
    scale of log odds.

    What lies between the value and the resamples' middle is taken for bias. For a score whose percentiles miss the
    truth near 1, where they cannot reach as far up as down.
    """
    value = resampled.value
    if value is None or resampled.low is None or not 0 < value < 1:
        return resampled
    n = max(n_behind, 3.0)
    error = float(np.sqrt(n / (n - 1)) * np.nanstd(resamples, ddof=1))
    low, high = _reach_on_log_odds(value, error, n_behind, level, bias=float(np.nanmedian(resamples)) - value)
    return Estimate(value=value, low=low, high=high, method=resampled.method)


def _reach_on_log_odds(
    value: float, error: float, n_behind: float, level: float, *, bias: float = 0.0
) -> tuple[float, float]:
    """Both ends around `value`, of standard error `error`, by Student's distribution on the scale of log odds."""
    slope = value * (1 - value)
    half = find_t_quantile(0.5 + level / 2, max(n_behind, 3.0) - 1) * error / slope
    middle = float(np.log(value / (1 - value))) - bias / slope
    low, high = (float(1 / (1 + np.exp(-end))) for end in (middle - half, middle + half))
    return min(low, value), max(high, value)


def compute_extreme_auc_interval(
    auc: float, n_positive: int, n_negative: int, level: float = 0.95
) -> tuple[float, float]:
    """Interval of an AUC of 1 (or 0), where the variance of resamples and of formulas vanishes.

    Newcombe 2006 (Statistics in Medicine 25:559), method 5: the AUC θ that lies as many standard errors from 1 as the
    level asks, with the variance of Hanley and McNeil 1982 at θ, both groups' sizes in it replaced by their mean.
    `n_positive` and `n_negative` count patients. Raises DataError where one of them is 0.
    """
    if auc not in (0.0, 1.0):
        raise DataError(f"An AUC of {auc} has an interval of its own.", "Use compute_correlated_aucs.")
    if n_positive < 1 or n_negative < 1:
        raise DataError("An AUC needs pictures with and without the class.", "Use a test set that has both.")
    z, more = NormalDist().inv_cdf(0.5 + level / 2), (n_positive + n_negative) / 2 - 1
    low, high = 0.0, 1.0
    # halving (1 - θ)² = z² variance, both sides divided by 1 - θ: the left one falls, the right one rises
    for _ in range(60):
        theta = (low + high) / 2
        spread = 1 + more * (1 - theta) / (2 - theta) + more * theta / (1 + theta)
        is_too_low = 1 - theta > z**2 * theta * spread / (n_positive * n_negative)
        low, high = (theta, high) if is_too_low else (low, theta)
    return (low, 1.0) if auc == 1.0 else (0.0, 1 - low)


def _correct_tails(value: float, resamples: NDArray[np.float64], level: float, n_behind: float) -> tuple[float, float]:
    """Which quantiles of `resamples` (B,) bound the interval, see `choose_estimate`."""
    normal = NormalDist()
    below = float((resamples < value).mean() + (resamples == value).mean() / 2)
    bias = normal.inv_cdf(min(max(below, 0.5 - _MOST_BIAS), 0.5 + _MOST_BIAS))
    n = max(n_behind, 3.0)
    reach = float(np.sqrt(n / (n - 1))) * find_t_quantile(0.5 + level / 2, n - 1)
    return normal.cdf(2 * bias - reach), normal.cdf(2 * bias + reach)


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
