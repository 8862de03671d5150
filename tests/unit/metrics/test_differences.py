"""Differences of two models are paired: what both share does not widen the interval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from snellen.metrics.differences import compute_differences, pair_models
from snellen.metrics.intervals import compute_estimates, draw_patient_weights
from snellen.records.evaluation import Intervals

SETTINGS = Intervals(n_resamples=300, unit="patient", seed=0)


def draw(noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Labels, probabilities of a model and of one that differs from it by `noise`, two pictures a patient."""
    random = np.random.default_rng(0)
    labels = np.repeat(random.integers(0, 2, 60), 2)
    first = labels + random.normal(0, 1.0, 120)
    second = first + random.normal(0, noise, 120)
    rows = [np.column_stack([1 - p, p]) for p in (1 / (1 + np.exp(-first)), 1 / (1 + np.exp(-second)))]
    return labels, rows[0], rows[1], [f"p{number // 2}" for number in range(120)]


def test_values_are_the_differences_of_the_scores() -> None:
    labels, one, other, patients = draw(0.5)
    found = compute_differences(labels, (one, other), patients, settings=SETTINGS)
    assert found["auc"].value == pytest.approx(roc_auc_score(labels, other[:, 1]) - roc_auc_score(labels, one[:, 1]))
    accuracies = [accuracy_score(labels, each.argmax(1)) for each in (one, other)]
    assert found["accuracy"].value == pytest.approx(accuracies[1] - accuracies[0])
    assert found["log_loss"].value == pytest.approx(log_loss(labels, other[:, 1]) - log_loss(labels, one[:, 1]))


def test_interval_is_that_of_one_resampling_of_patients_for_both() -> None:
    labels, one, other, patients = draw(0.5)
    found = compute_differences(labels, (one, other), patients, settings=SETTINGS)["auc"]
    weights = draw_patient_weights(labels, patients, n_resamples=300, seed=0)
    by_hand = [
        roc_auc_score(labels, other[:, 1], sample_weight=row) - roc_auc_score(labels, one[:, 1], sample_weight=row)
        for row in weights
    ]
    # 60 patients of two classes: the smaller one stands behind the number
    behind = min(int((labels[::2] == side).sum()) for side in (0, 1))
    half = t.ppf(0.975, behind - 1) * np.std(by_hand, ddof=1)
    assert found.value is not None
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), rel=2e-3)


def test_calibration_errors_have_no_interval_of_their_difference() -> None:
    labels, one, other, patients = draw(0.5)
    found = compute_differences(labels, (one, other), patients, settings=SETTINGS)
    for name in ("ece", "ece_adaptive"):
        assert found[name].value is not None
        assert (found[name].low, found[name].method) == (None, "none")


def test_pairing_narrows_the_interval() -> None:
    labels, one, other, patients = draw(0.05)
    paired = compute_differences(labels, (one, other), patients, settings=SETTINGS)["auc"]
    alone = compute_estimates(labels, other, patients, settings=SETTINGS)["auc"]
    assert paired.high is not None
    assert paired.low is not None
    assert alone.high is not None
    assert alone.low is not None
    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)


def test_equal_models_differ_by_nothing_and_have_no_interval() -> None:
    labels, one, _, patients = draw(0.0)
    found = compute_differences(labels, (one, one), patients, settings=SETTINGS)
    assert {each.value for each in found.values()} == {0.0}
    assert {each.method for each in found.values()} == {"none"}


def test_order_of_the_models_gives_the_sign() -> None:
    labels, one, other, patients = draw(0.5)
    found = [
        compute_differences(labels, pair, patients, settings=SETTINGS, positive=1, is_ordered=True)
        for pair in ((one, other), (other, one))
    ]
    assert found[0].keys() == found[1].keys()
    assert "kappa_quadratic" in found[0]
    assert all(found[0][name].value == pytest.approx(-(found[1][name].value or 0.0)) for name in found[0])


def test_difference_of_two_aucs_is_never_beyond_one() -> None:
    labels = np.array([1, 1, 1, 0, 0])
    sides = [np.array(each) for each in ([0.9, 0.8, 0.7, 0.2, 0.1], [0.9, 0.1, 0.6, 0.3, 0.4])]
    first, second = (np.column_stack([1 - p, p]) for p in sides)
    paired = pair_models(
        labels, (first, second), list("abcde"), settings=SETTINGS, rules=("most_probable", "most_probable")
    )
    found = paired["auc"].difference
    assert found.value == pytest.approx(-1 / 3)
    assert found.method == "delong"
    assert found.low == -1.0
