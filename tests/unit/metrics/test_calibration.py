"""Temperature, calibration error and reliability bins on planted and hand-worked cases."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import make_classes

from snellen.core.errors import UsageError
from snellen.metrics.calibration import (
    apply_temperature,
    compute_ece,
    compute_reliability_bins,
    fit_temperature,
)


def _plant(temperature: float, *, n: int = 4000, n_classes: int = 3, seed: int = 0):
    """Logits and labels drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2 * temperature, (n, n_classes))
    drawn = rng.random((n, 1)) > apply_temperature(logits, temperature).cumsum(axis=1)
    return logits, np.minimum(drawn.sum(axis=1), n_classes - 1)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 8.0])
def test_fit_recovers_a_planted_temperature(temperature):
    logits, labels = _plant(temperature)
    fit = fit_temperature(logits, labels)
    assert fit.is_fitted
    assert fit.n == 4000
    # 4000 samples give the log temperature a standard error near 0.02.
    assert fit.temperature == pytest.approx(temperature, rel=0.08)


def test_fit_finds_the_smallest_loss_of_a_fine_grid():
    logits, labels = _plant(1.7, n=200)

    def loss(temperature: float) -> float:
        return -np.log(apply_temperature(logits, temperature)[np.arange(200), labels]).mean()

    grid = np.linspace(0.5, 5, 500)
    assert loss(fit_temperature(logits, labels).temperature) <= min(map(loss, grid))


def test_fit_keeps_one_with_too_few_samples():
    logits, labels = _plant(3.0, n=19)
    fit = fit_temperature(logits, labels)
    assert (fit.temperature, fit.is_fitted) == (1.0, False)
    assert "19" in fit.reason


def test_fit_keeps_one_where_a_class_is_absent():
    logits, labels = _plant(3.0, n=100)
    fit = fit_temperature(logits[labels != 1], labels[labels != 1])
    assert (fit.temperature, fit.is_fitted) == (1.0, False)
    assert "class index 1" in fit.reason


def test_fit_keeps_one_where_every_decision_is_right():
    labels = np.arange(40) % 2
    fit = fit_temperature(np.eye(2)[labels] * 3, labels)
    assert (fit.temperature, fit.is_fitted) == (1.0, False)
    assert "too few errors" in fit.reason


def test_fit_stops_at_the_upper_bound_where_logits_mislead():
    labels = np.arange(40) % 2
    fit = fit_temperature(np.eye(2)[1 - labels] * 3, labels)
    assert (fit.temperature, fit.is_fitted) == (20.0, True)
    assert "little" in fit.reason


def test_applied_temperature_stands_large_logits():
    found = apply_temperature(np.array([[1e4, 0.0], [-1e4, -1e4]]), 0.5)
    assert found.tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_applied_temperature_of_a_hand_worked_case():
    # softmax(ln 9 / 2, 0) = (3, 1) / 4
    assert apply_temperature(np.array([[np.log(9), 0.0]]), 2.0)[0] == pytest.approx([0.75, 0.25])


def test_temperature_must_be_above_zero():
    with pytest.raises(UsageError, match="not above 0"):
        apply_temperature(np.zeros((1, 2)), 0.0)


def test_ece_of_a_hand_worked_case():
    # Bin (.8, .9]: hits 1 of 2, confidence .85 and .9 → |1 - 1.75|; bin (.5, .6]: one hit at .6 → .4.
    probs = np.array([[0.85, 0.15], [0.9, 0.1], [0.4, 0.6]])
    assert compute_ece(np.array([0, 1, 1]), probs, n_bins=10) == pytest.approx((0.75 + 0.4) / 3)


def test_ece_of_right_and_certain_decisions_is_zero():
    assert compute_ece(np.array([0, 1, 2]), np.eye(3)) == 0


def test_reliability_bins_tell_what_is_in_each_bin_that_is_not_empty():
    probs = np.array([[0.85, 0.15], [0.9, 0.1], [0.4, 0.6]])
    low, high = compute_reliability_bins(np.array([0, 1, 1]), probs)
    assert (low.low, low.high, low.n, low.accuracy) == (0.5, pytest.approx(0.6), 1, 1.0)
    assert (high.low, high.high, high.n, high.accuracy) == (0.8, pytest.approx(0.9), 2, 0.5)
    assert high.confidence == pytest.approx(0.875)
    # Wilson for 1 of 2 with z = 1.959964: .5 ± .4055
    assert (high.accuracy_low, high.accuracy_high) == (
        pytest.approx(0.0945, abs=1e-4),
        pytest.approx(0.9055, abs=1e-4),
    )


def test_reliability_bins_count_every_sample_and_add_up_to_the_ece():
    logits, labels = _plant(2.0, n=300)
    probs = apply_temperature(logits, 1.0)
    bins = compute_reliability_bins(labels, probs)
    assert sum(b.n for b in bins) == 300
    total = sum(b.n * abs(b.accuracy - b.confidence) for b in bins) / 300
    assert total == pytest.approx(compute_ece(labels, probs, n_bins=10))


def test_calibration_error_is_that_of_netcal() -> None:
    """Its number, by bench/oracles.py."""
    assert compute_ece(*make_classes()) == pytest.approx(0.2610424934, abs=1e-9)
