"""Net benefit is that of dcurves and of the formula by hand."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import THRESHOLDS, make_risks

from snellen.metrics.decision_curve import compute_decision_curve
from snellen.records.evaluation import Intervals

SETTINGS = Intervals(n_resamples=200, unit="patient", seed=0)


def draw(n: int = 300) -> tuple[np.ndarray, np.ndarray, list[str]]:
    random = np.random.default_rng(0)
    risk = random.beta(1, 3, n)
    return (random.random(n) < risk).astype(int), risk, [f"P{row // 2}" for row in range(n)]


def test_net_benefit_is_that_of_the_formula() -> None:
    labels, risk, patients = draw()
    found = compute_decision_curve(labels, risk, patients, SETTINGS)
    for at, own, everyone in zip(found.thresholds, found.model, found.treat_all, strict=True):
        called = risk >= at
        hits, alarms = (called & (labels == 1)).sum(), (called & (labels == 0)).sum()
        assert own == pytest.approx(hits / 300 - alarms / 300 * at / (1 - at))
        share = labels.mean()
        assert everyone == pytest.approx(share - (1 - share) * at / (1 - at))


def test_net_benefit_is_that_of_dcurves() -> None:
    """Its numbers, by bench/oracles.py."""
    labels, risk = make_risks()
    found = compute_decision_curve(labels, risk, [str(row) for row in range(len(labels))], SETTINGS, THRESHOLDS)
    assert found.model == pytest.approx((0.3611111111, 0.3125, 0.2423076923, 0.19))
    assert found.treat_all == pytest.approx((0.3555555556, 0.275, 0.1076923077, -0.16))


def test_interval_holds_the_value_and_moves_with_patients() -> None:
    labels, risk, patients = draw()
    found = compute_decision_curve(labels, risk, patients, SETTINGS)
    row = found.thresholds.index(0.3)
    low, high = found.low[row], found.high[row]
    assert low is not None
    assert high is not None
    assert low < found.model[row] < high
