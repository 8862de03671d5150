"""Intervals: the unit is the patient, strata keep their size, degenerate cases are told."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, t
from sklearn.metrics import average_precision_score

from snellen.core.errors import DataError
from snellen.metrics import scores as scores_module
from snellen.metrics.intervals import (
    choose_estimate,
    compute_estimates,
    compute_extreme_auc_interval,
    compute_per_class_estimates,
    draw_patient_weights,
)
from snellen.metrics.paired_auc import compute_correlated_aucs
from snellen.metrics.proportions import compute_wilson_interval
from snellen.metrics.student import find_t_quantile
from snellen.records.evaluation import Estimate, Intervals

SETTINGS = Intervals(n_resamples=400, unit="patient", seed=11)
Z = 1.959964
close = pytest.approx


@pytest.fixture
def cohort():
    """120 pictures of 60 patients, 3 classes, one class a patient, a mediocre classifier."""
    rng = np.random.default_rng(2)
    labels = np.repeat(rng.choice(3, 60, p=[0.6, 0.3, 0.1]), 2)
    raw = rng.random((120, 3)) + 0.6 * np.eye(3)[labels]
    patients = np.repeat([f"{i:03d}" for i in range(60)], 2)
    return labels, raw / raw.sum(axis=1, keepdims=True), patients


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # At 0 and n the formula is n / (n + z²) and its complement.
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        # p = .5: the half width is z / (2 sqrt(n + z²)).
        (5, 10, 0.5 - Z / 2 / np.sqrt(10 + Z**2), 0.5 + Z / 2 / np.sqrt(10 + Z**2)),
        # Newcombe 1998, table I: 81 of 263 and 15 of 148.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_agrees_with_worked_values(successes, n, low, high):
    assert compute_wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_at_a_higher_level_is_wider():
    low, high = compute_wilson_interval(5, 10, 0.99)
    assert (low, high) < compute_wilson_interval(5, 10)
    assert high > compute_wilson_interval(5, 10)[1]


def test_weights_are_equal_for_all_pictures_of_a_patient(cohort):
    labels, _, patients = cohort
    weights = draw_patient_weights(labels, patients, n_resamples=20, seed=0)
    assert weights.shape == (20, 120)
    assert (weights[:, ::2] == weights[:, 1::2]).all()


def test_every_resample_keeps_the_number_of_patients_of_each_class(cohort):
    labels, _, patients = cohort
    per_patient = draw_patient_weights(labels, patients, n_resamples=50, seed=0)[:, ::2]
    for c in range(3):
        is_member = labels[::2] == c
        assert (per_patient[:, is_member].sum(axis=1) == is_member.sum()).all()


def test_a_patient_with_several_labels_belongs_to_the_rarest():
    # Class 0 has 4 patients, class 1 has 2: "m" (both) and "s".
    labels = np.array([0, 1, 0, 0, 0, 1])
    patients = ["m", "m", "a", "b", "c", "s"]
    weights = draw_patient_weights(labels, patients, n_resamples=50, seed=0)
    assert (weights[:, 1] + weights[:, 5] == 2).all()
    assert (weights[:, 2:5].sum(axis=1) == 3).all()


def test_weights_follow_the_patient_and_not_the_order_of_rows(cohort):
    labels, _, patients = cohort
    order = np.random.default_rng(0).permutation(120)
    plain = draw_patient_weights(labels, patients, n_resamples=5, seed=3)
    shuffled = draw_patient_weights(labels[order], patients[order], n_resamples=5, seed=3)
    assert (plain[:, order] == shuffled).all()


def test_the_same_seed_gives_the_same_numbers(cohort):
    labels, probs, patients = cohort
    first = compute_estimates(labels, probs, patients, settings=SETTINGS)
    again = compute_estimates(labels, probs, patients, settings=SETTINGS)
    other = compute_estimates(labels, probs, patients, settings=Intervals(n_resamples=400, unit="patient", seed=12))
    assert first == again
    assert first != other


def test_chunks_do_not_change_the_intervals(cohort, monkeypatch):
    labels, probs, patients = cohort
    whole = compute_estimates(labels, probs, patients, settings=SETTINGS)
    monkeypatch.setattr(scores_module, "CHUNK_BYTES", 8 * 120 * 7)
    chunked = compute_estimates(labels, probs, patients, settings=SETTINGS)
    assert chunked["auc"].low == pytest.approx(whole["auc"].low)
    assert chunked["ece"].high == pytest.approx(whole["ece"].high)


def test_copies_of_a_patients_pictures_do_not_narrow_the_interval(cohort):
    labels, probs, patients = cohort
    once = compute_estimates(labels, probs, patients, settings=SETTINGS)
    copied = compute_estimates(np.tile(labels, 4), np.tile(probs, (4, 1)), np.tile(patients, 4), settings=SETTINGS)
    for name in ("accuracy", "auc", "f1", "log_loss"):
        assert copied[name].low == pytest.approx(once[name].low)
        assert copied[name].high == pytest.approx(once[name].high)


def test_copies_narrow_the_interval_where_the_unit_is_the_picture(cohort):
    labels, probs, patients = cohort
    by_picture = Intervals(n_resamples=400, unit="picture", seed=11)
    once = compute_estimates(labels, probs, patients, settings=by_picture)["accuracy"]
    copied = compute_estimates(np.tile(labels, 4), np.tile(probs, (4, 1)), np.tile(patients, 4), settings=by_picture)[
        "accuracy"
    ]
    # Four times the units: half the width, give or take the noise of 400 resamples.
    assert (copied.high - copied.low) / (once.high - once.low) == pytest.approx(0.5, abs=0.12)


def test_bootstrap_width_of_accuracy_is_near_the_binomial_one():
    rng = np.random.default_rng(0)
    labels = np.zeros(400, dtype=int)
    probs = np.eye(2)[(rng.random(400) < 0.2).astype(int)]
    found = compute_estimates(labels, probs, [str(i) for i in range(400)], settings=SETTINGS)["accuracy"]
    low, high = compute_wilson_interval(400 * found.value, 400)
    assert found.high - found.low == pytest.approx(high - low, rel=0.15)


def test_intervals_hold_their_values(cohort):
    labels, probs, patients = cohort
    for name, estimate in compute_estimates(labels, probs, patients, settings=SETTINGS, is_ordered=True).items():
        if name.startswith("ece"):  # resamples push a calibration error up: their percentiles say nothing of it
            assert (estimate.low, estimate.method) == (None, "none")
        else:
            assert estimate.low <= estimate.value <= estimate.high


def test_classes_of_one_patient_leave_no_interval():
    """Three of four classes are the same in every resample: an AUC would pass for certain."""
    rng = np.random.default_rng(3)
    patients = [*("A" * 4), *("B" * 2), *("C" * 3), *("D" * 4), *("E" * 4)]
    labels = np.array([0] * 4 + [1] * 2 + [2] * 3 + [3] * 8)
    probs = rng.dirichlet(np.ones(4), len(labels))
    few = compute_estimates(labels, probs, patients, settings=SETTINGS)
    assert {name: (each.low, each.method) for name, each in few.items()} == dict.fromkeys(few, (None, "none"))
    twice = compute_estimates(
        np.tile(labels, 2), np.tile(probs, (2, 1)), [*patients, *(f"{each}2" for each in patients)], settings=SETTINGS
    )
    assert twice["auc"].low is not None


def test_an_estimate_as_text_shows_what_is_known():
    assert str(Estimate(value=0.81234, low=0.74, high=0.8709)) == "0.812 [0.740, 0.871]"
    assert str(Estimate(value=0.25, method="none")) == "0.250"
    assert str(Estimate(value=None, method="none")) == "undefined"


def test_tails_are_corrected_for_bias_and_for_few_patients():
    resamples = np.arange(1, 1001) / 1000
    plain = choose_estimate(0.5005, resamples, 0.95)
    few = choose_estimate(0.5005, resamples, 0.95, n_behind=20)
    # Hesterberg 2015: the normal distribution's probability of -t(0.975, 19) times the root of 20 / 19
    tail = float(norm.cdf(-t.ppf(0.975, 19) * np.sqrt(20 / 19)))
    assert (few.low, few.high) == close(tuple(np.quantile(resamples, [tail, 1 - tail])), abs=1e-6)
    assert few.high - few.low > plain.high - plain.low
    # Efron 1981: a value above two thirds of its resamples moves both ends up
    high = choose_estimate(2 / 3, resamples, 0.95, n_behind=1e9)
    ends = norm.cdf(2 * norm.ppf(2 / 3) + norm.ppf([0.025, 0.975]))
    assert (high.low, high.high) == close(tuple(np.quantile(resamples, ends)), abs=0.002)


@pytest.mark.parametrize("degrees", [3, 5, 19, 200])
def test_quantile_of_student_is_that_of_scipy(degrees):
    assert find_t_quantile(0.975, degrees) == close(float(t.ppf(0.975, degrees)), rel=2e-3)


def test_auc_of_two_classes_has_the_interval_of_a_formula():
    random = np.random.default_rng(0)
    labels = np.arange(120) % 2
    scores = 1 / (1 + np.exp(-(labels + random.normal(size=120))))
    for per_patient, method in ((1, "delong"), (2, "obuchowski")):
        patients = [f"P{row // per_patient}" for row in range(120)]
        found = compute_estimates(labels, np.column_stack([1 - scores, scores]), patients, settings=SETTINGS)["auc"]
        variance = compute_correlated_aucs(labels == 1, [scores], patients).covariance[0, 0]
        n = min(len({p for p, y in zip(patients, labels, strict=True) if y == side}) for side in (0, 1))
        half = t.ppf(0.975, n - 1) * np.sqrt(variance) / (found.value * (1 - found.value))
        ends = [1 / (1 + np.exp(-(np.log(found.value / (1 - found.value)) + sign * half))) for sign in (-1, 1)]
        assert found.method == method
        assert (found.low, found.high) == close(tuple(ends), rel=1e-4)


@pytest.mark.parametrize(("n_positive", "n_negative"), [(20, 20), (20, 80), (3, 200)])
def test_auc_of_one_has_newcombes_interval(n_positive, n_negative):
    low, high = compute_extreme_auc_interval(1.0, n_positive, n_negative)
    # Hanley and McNeil 1982 by their own symbols, at the lower end, each group's size replaced by the mean of both
    q1, q2, mean = low / (2 - low), 2 * low**2 / (1 + low), (n_positive + n_negative) / 2
    variance = (low * (1 - low) + (mean - 1) * (q1 - low**2) + (mean - 1) * (q2 - low**2)) / (n_positive * n_negative)
    assert (1 - low) / np.sqrt(variance) == close(Z, rel=1e-5)
    assert high == 1.0
    assert compute_extreme_auc_interval(0.0, n_positive, n_negative) == close((0.0, 1 - low))


def test_auc_of_one_counts_patients_and_no_pictures():
    labels, patients = np.repeat([0, 1], 40), [f"P{row // 2}" for row in range(80)]
    probabilities = np.eye(2)[labels]
    found = compute_estimates(labels, probabilities, patients, settings=SETTINGS)["auc"]
    of_class = compute_per_class_estimates(labels, probabilities, patients, classes=("a", "b"), settings=SETTINGS)
    assert (found.method, found.low) == ("newcombe", compute_extreme_auc_interval(1.0, 20, 20)[0])
    assert of_class["b"].auc == found


@pytest.mark.parametrize(("auc", "sizes"), [(0.9, (20, 20)), (1.0, (0, 20))])
def test_interval_of_an_extreme_auc_is_refused_without_one(auc, sizes):
    with pytest.raises(DataError):
        compute_extreme_auc_interval(auc, *sizes)


def test_average_precision_has_the_spread_of_resamples_on_the_scale_of_log_odds():
    random = np.random.default_rng(3)
    labels = np.repeat([0, 1], [20, 80])
    scores = 1 / (1 + np.exp(-(2 * labels + random.normal(size=100))))
    patients = [str(row) for row in range(100)]
    probabilities = np.column_stack([1 - scores, scores])
    found = compute_per_class_estimates(labels, probabilities, patients, classes=("0", "1"), settings=SETTINGS)
    weights = draw_patient_weights(labels, patients, n_resamples=SETTINGS.n_resamples, seed=SETTINGS.seed)
    spread = [average_precision_score(labels, scores, sample_weight=row) for row in weights]
    value = found["1"].average_precision.value
    half = t.ppf(0.975, 19) * np.sqrt(20 / 19) * np.std(spread, ddof=1) / (value * (1 - value))
    middle = np.log(value / (1 - value)) + (value - np.median(spread)) / (value * (1 - value))
    ends = 1 / (1 + np.exp(-(middle + np.array([-half, half]))))
    assert (found["1"].average_precision.low, found["1"].average_precision.high) == close(tuple(ends), rel=2e-3)


def test_a_perfect_classifier_has_wilson_intervals_over_patients(cohort):
    labels, _, patients = cohort
    found = compute_estimates(labels, np.eye(3)[labels], patients, settings=SETTINGS)
    assert found["accuracy"].method == "wilson"
    # 60 patients, not 120 pictures: low = 60 / (60 + z²)
    assert (found["accuracy"].low, found["accuracy"].high) == (pytest.approx(60 / (60 + Z**2)), 1.0)
    counts = np.bincount(labels[::2])
    effective = 9 / (1 / counts).sum()
    for name in ("balanced_accuracy", "recall", "precision"):
        assert found[name].low == pytest.approx(effective / (effective + Z**2))
    assert (found["f1"].method, found["f1"].low) == ("none", None)  # all resamples agree: no certainty, no interval


def test_a_classifier_that_is_never_right_has_a_wilson_interval():
    labels = np.array([0, 0, 1, 1])
    found = compute_estimates(labels, np.eye(2)[1 - labels], list("abcd"), settings=SETTINGS)
    assert (found["accuracy"].low, found["accuracy"].high) == (0.0, pytest.approx(Z**2 / (4 + Z**2)))


def test_a_single_patient_has_no_bootstrap_interval():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40)
    probs = np.eye(2)[rng.integers(0, 2, 40)]
    found = compute_estimates(labels, probs, ["only"] * 40, settings=SETTINGS)
    assert (found["auc"].method, found["auc"].low, found["auc"].high) == ("none", None, None)
    assert (found["accuracy"].method, found["accuracy"].low) == ("none", None)


def test_a_constant_baseline_has_no_wilson_interval(cohort):
    labels, _, patients = cohort
    constant = np.tile([0.5, 0.3, 0.2], (len(labels), 1))
    found = compute_estimates(labels, constant, patients, settings=SETTINGS)
    assert (found["balanced_accuracy"].value, found["balanced_accuracy"].low) == (pytest.approx(1 / 3), None)


def test_a_score_that_is_undefined_has_no_value():
    found = compute_estimates(np.zeros(4, dtype=int), np.eye(2)[[0, 0, 0, 1]], list("abcd"), settings=SETTINGS)
    assert (found["auc"].value, found["auc"].low, found["auc"].method) == (None, None, "none")


def test_a_value_outside_its_resamples_extends_the_interval():
    found = choose_estimate(0.3, np.linspace(0.5, 0.7, 101), 0.95)
    assert (found.low, found.value) == (0.3, 0.3)
    assert found.high == pytest.approx(0.695)


def test_resamples_without_a_value_are_left_out_unless_they_are_the_majority():
    some = np.append(np.full(49, np.nan), np.linspace(0, 1, 51))
    assert choose_estimate(0.5, some, 0.9).high == pytest.approx(0.95)
    most = np.append(np.full(52, np.nan), np.linspace(0, 1, 48))
    assert choose_estimate(0.5, most, 0.9).method == "none"


def test_per_class_estimates_name_classes_and_count_patients(cohort):
    labels, probs, patients = cohort
    found = compute_per_class_estimates(labels, probs, patients, classes=["none", "mild", "severe"], settings=SETTINGS)
    assert list(found) == ["none", "mild", "severe"]
    for c, entry in enumerate(found.values()):
        assert entry.n == (labels == c).sum() == 2 * entry.n_patients
        expected = (probs.argmax(axis=1) == c)[labels == c].mean()
        assert entry.recall.value == pytest.approx(expected)
        assert entry.auc.low <= entry.auc.value <= entry.auc.high


def test_per_class_proportions_of_one_have_wilson_intervals_over_their_patients(cohort):
    labels, _, patients = cohort
    found = compute_per_class_estimates(labels, np.eye(3)[labels], patients, classes=["a", "b", "c"], settings=SETTINGS)
    for entry in found.values():
        n = entry.n_patients
        assert entry.recall.low == pytest.approx(n / (n + Z**2))
        assert entry.precision.low == pytest.approx(n / (n + Z**2))
        assert entry.specificity.low == pytest.approx((60 - n) / (60 - n + Z**2))


def test_a_class_without_samples_has_no_recall(cohort):
    labels, probs, patients = cohort
    kept = labels != 2
    found = compute_per_class_estimates(
        labels[kept], probs[kept], patients[kept], classes=["a", "b", "c"], settings=SETTINGS
    )["c"]
    assert (found.n, found.n_patients, found.recall.value, found.auc.value) == (0, 0, None, None)


def test_patients_that_do_not_fit_are_refused(cohort):
    labels, probs, patients = cohort
    with pytest.raises(DataError, match="119 patients do not fit 120 labels"):
        compute_estimates(labels, probs, patients[1:], settings=SETTINGS)


def test_class_names_that_do_not_fit_are_refused(cohort):
    labels, probs, patients = cohort
    with pytest.raises(DataError, match="2 class names"):
        compute_per_class_estimates(labels, probs, patients, classes=["a", "b"], settings=SETTINGS)


def test_predictive_value_of_a_class_that_is_never_found_has_wilson_s_interval():
    # 60 patients, 7 of the class, none called so: the seven misses are the same in every resample
    labels = np.repeat([0, 1], [53, 7])
    probabilities = np.tile([0.9, 0.1], (60, 1))
    probabilities[0] = [0.1, 0.9]  # one false alarm, so that resamples differ a little
    found = compute_per_class_estimates(
        labels,
        probabilities,
        [f"P{row}" for row in range(60)],
        classes=("no", "yes"),
        settings=Intervals(n_resamples=200, unit="patient", seed=0),
    )["yes"]
    low, high = compute_wilson_interval(52, 59)
    assert found.npv.method == "wilson"
    assert (found.npv.low, found.npv.high) == (pytest.approx(low), pytest.approx(high))
