"""Thresholds and what is measured at them, on cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats.contingency import relative_risk

from snellen.core.errors import DataError, UsageError
from snellen.metrics.operating_point import choose_threshold, compute_operating_point
from snellen.records.evaluation import Intervals

#                  -    -    +    -    +    +    -    +    +    +
SCORES = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
LABELS = np.array([0, 0, 1, 0, 1, 1, 0, 1, 1, 1])
PATIENTS = np.array([f"p{i}" for i in range(10)])
SETTINGS = Intervals(n_resamples=200, unit="patient", seed=5)


def test_youden_takes_the_largest_sum_of_sensitivity_and_specificity():
    # Of 6 positives and 4 negatives: at .4 J = 5/6 - 1/4 = .583; at .2 J = 1 - 2/4; at .7 J = 3/6.
    assert choose_threshold(LABELS, SCORES, "youden") == 0.4


def test_youden_takes_the_smallest_of_equally_good_thresholds():
    # .9 and .5 both have J = 1/2.
    assert choose_threshold(np.array([1, 0, 1, 0]), np.array([0.9, 0.7, 0.5, 0.3]), "youden") == 0.5


def test_youden_stands_tied_scores():
    assert choose_threshold(np.array([1, 1, 0, 0]), np.array([0.6, 0.6, 0.6, 0.1]), "youden") == 0.6


@pytest.mark.parametrize(
    ("rule", "threshold"),
    [
        ("sensitivity>=0.80", 0.4),
        ("sensitivity>=0.9", 0.2),
        ("sensitivity >= 0.5", 0.7),
        ("sensitivity>=1", 0.2),
        ("specificity>=1.0", 0.7),
        ("specificity>=0.75", 0.4),
        ("specificity>=0.5", 0.2),
        ("argmax", 0.5),
    ],
)
def test_target_rules_take_the_best_other_side_that_reaches_the_target(rule, threshold):
    assert choose_threshold(LABELS, SCORES, rule) == threshold


def test_target_sensitivity_takes_the_smallest_threshold_between_the_same_negatives():
    # .8 and .7 reach 0.3 with the same specificity; .7 has the larger sensitivity.
    assert choose_threshold(LABELS, SCORES, "sensitivity>=0.3") == 0.7


def test_specificity_that_no_score_reaches_makes_nothing_positive():
    threshold = choose_threshold(np.array([0, 1]), np.array([0.9, 0.2]), "specificity>=1")
    assert 0.9 < threshold < 0.9001


@pytest.mark.parametrize("rule", ["best", "sensitivity>=90", "sensitivity>=0", "sensitivity>0.9", ""])
def test_unknown_rules_are_refused(rule):
    with pytest.raises(UsageError, match="unknown operating-point rule"):
        choose_threshold(LABELS, SCORES, rule)


def test_rules_that_need_both_sides_say_so():
    with pytest.raises(DataError, match="0 positives, 2 negatives"):
        choose_threshold(np.array([0, 0]), np.array([0.1, 0.2]), "youden")


def test_labels_other_than_zero_and_one_are_refused():
    with pytest.raises(DataError, match=r"0 .negative. or 1"):
        choose_threshold(np.array([1, 2]), np.array([0.1, 0.2]), "youden")


def test_operating_point_counts_a_score_at_the_threshold_as_positive():
    point = compute_operating_point("screen", "youden", "val", 0.4, LABELS, SCORES, PATIENTS, SETTINGS)
    assert point.sensitivity.value == pytest.approx(5 / 6)
    assert point.specificity.value == pytest.approx(3 / 4)
    assert point.ppv.value == pytest.approx(5 / 6)
    assert point.npv.value == pytest.approx(3 / 4)
    assert (point.n_positive, point.n_negative) == (6, 4)
    assert (point.name, point.rule, point.chosen_on, point.threshold) == ("screen", "youden", "val", 0.4)


def test_intervals_hold_their_values():
    point = compute_operating_point("screen", "youden", "val", 0.4, LABELS, SCORES, PATIENTS, SETTINGS)
    for estimate in (point.sensitivity, point.specificity, point.ppv, point.npv):
        assert estimate.method == "wilson"
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_perfect_sensitivity_has_a_wilson_interval_over_the_positive_patients():
    patients = np.array(["a", "a", "b", "b", "c", "c", "d", "d", "e", "e"])
    labels = np.array([1] * 6 + [0] * 4)
    point = compute_operating_point("screen", "argmax", "val", 0.5, labels, labels * 0.9, patients, SETTINGS)
    assert point.sensitivity.method == "wilson"
    # 3 positive patients: low = 3 / (3 + z²)
    assert point.sensitivity.low == pytest.approx(3 / (3 + 1.959964**2), abs=1e-6)
    assert point.specificity.low == pytest.approx(2 / (2 + 1.959964**2), abs=1e-6)
    assert point.sensitivity.high == 1


def test_predictive_value_without_a_positive_decision_has_no_value():
    point = compute_operating_point("x", "argmax", "val", 2.0, LABELS, SCORES, PATIENTS, SETTINGS)
    assert point.ppv.value is None
    assert point.ppv.method == "none"
    assert point.sensitivity.value == 0
    assert point.npv.value == pytest.approx(0.4)


def measure(n_found: int, n_sick: int, n_alarms: int, n_healthy: int):
    labels = np.repeat([1, 0], [n_sick, n_healthy])
    called = np.concatenate([np.arange(n_sick) < n_found, np.arange(n_healthy) < n_alarms])
    patients = np.arange(n_sick + n_healthy).astype(str)
    return compute_operating_point("p", "argmax", "val", 0.5, labels, called.astype(float), patients, SETTINGS)


def test_likelihood_ratio_of_many_has_the_interval_of_katz():
    # the ratio of two proportions on the scale of logarithms (Katz 1978), as SciPy has it
    point = measure(420, 500, 90, 600)
    expected = relative_risk(420, 500, 90, 600)
    interval = expected.confidence_interval(0.95)
    found = point.lr_positive
    assert (found.value, found.method) == (pytest.approx(expected.relative_risk), "mover")
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=0.01)


def test_one_false_alarm_leaves_the_likelihood_ratio_wide():
    # resamples without a false alarm have no finite ratio: left out, they made it look sure
    found = measure(13, 28, 1, 17).lr_positive
    assert found.low < 2
    assert found.high > 40


def test_predictive_value_at_a_prevalence_follows_from_the_ratio():
    point = measure(80, 100, 3, 100)
    ratio = point.lr_positive
    for each in point.at_prevalence:
        odds = each.prevalence / (1 - each.prevalence)
        ends = [end * odds / (1 + end * odds) for end in (ratio.low, ratio.value, ratio.high)]
        assert [each.ppv.low, each.ppv.value, each.ppv.high] == pytest.approx(ends)
        assert each.npv.low <= each.npv.value <= each.npv.high


def test_without_a_false_alarm_the_ratio_is_unknown_and_the_predictive_value_has_a_low_end():
    point = measure(80, 100, 0, 20)
    assert point.lr_positive.value is None
    rare = point.at_prevalence[0]
    assert (rare.ppv.value, rare.ppv.high) == (1.0, 1.0)
    # of 20 healthy ones up to 16 % may be called: at 1 % prevalence most calls would be wrong
    assert rare.ppv.low < 0.06


def test_nobody_found_has_a_ratio_of_nought_with_an_upper_end():
    point = measure(0, 20, 5, 50)
    assert (point.lr_positive.value, point.lr_positive.low) == (0.0, 0.0)
    assert 1 < point.lr_positive.high < 10
