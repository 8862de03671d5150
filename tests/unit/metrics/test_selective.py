"""Errors among the surest pictures, against hand-worked values."""

from __future__ import annotations

import numpy as np
import pytest

from snellen.metrics.selective import compute_selective_risk
from snellen.records.evaluation import Intervals, SelectiveRisk

SETTINGS = Intervals(n_resamples=200, unit="patient", seed=0)


def compute(wrong: list[int], confidence: list[float], shares: tuple[float, ...]) -> SelectiveRisk:
    labels = np.zeros(len(wrong), int)
    patients = [f"P{row}" for row in range(len(wrong))]
    return compute_selective_risk(labels, np.array(wrong), np.array(confidence), patients, SETTINGS, shares)


def test_errors_among_the_surest_are_as_worked_out_by_hand() -> None:
    found = compute([0, 0, 1, 0, 1], [0.9, 0.8, 0.7, 0.6, 0.5], (0.4, 0.6, 1.0))
    assert [point.error.value for point in found.points] == [0.0, pytest.approx(1 / 3), pytest.approx(2 / 5)]
    assert [point.n for point in found.points] == [2, 3, 5]
    assert [point.threshold for point in found.points] == [0.8, 0.7, 0.5]
    # means of 0, 0, 1/3, 1/4, 2/5 and of the best order 0, 0, 0, 1/4, 2/5
    assert found.area == pytest.approx((1 / 3 + 1 / 4 + 2 / 5) / 5)
    assert found.area_best == pytest.approx((1 / 4 + 2 / 5) / 5)


def test_order_of_equal_confidence_says_nothing() -> None:
    one = compute([1, 0, 0, 0], [0.5] * 4, (0.25, 0.5, 1.0))
    other = compute([0, 0, 0, 1], [0.5] * 4, (0.25, 0.5, 1.0))
    assert [point.error.value for point in one.points] == [0.25] * 3
    assert [point.error.value for point in other.points] == [0.25] * 3
    assert one.area == other.area


def test_perfect_model_has_no_errors_and_an_interval_above_none() -> None:
    found = compute([0] * 20, list(np.linspace(0.5, 1, 20)), (0.5, 1.0))
    assert [point.error.value for point in found.points] == [0.0, 0.0]
    assert found.points[1].error.high is not None
    assert 0 < found.points[1].error.high < 0.3
    assert found.area == 0


def test_surest_half_of_an_honest_model_is_better_than_the_whole() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 2000)
    wrong = (random.uniform(size=2000) > confidence).astype(int)
    found = compute(wrong.tolist(), confidence.tolist(), (0.5, 1.0))
    half, whole = (point.error for point in found.points)
    # of confidences 0.75 to 1 an eighth is wrong, of all a quarter
    assert half.value == pytest.approx(0.125, abs=0.03)
    assert whole.value == pytest.approx(0.25, abs=0.03)
    assert half.high is not None
    assert whole.low is not None
    assert half.high < whole.low


def test_shares_are_of_whole_pictures() -> None:
    # a tenth of 61 pictures is 6: one error among them is a sixth, not an error in 6.1
    found = compute([1] + [0] * 60, list(np.linspace(1, 0.1, 61)), (0.1,))
    assert found.points[0].n == 6
    assert found.points[0].error.value == pytest.approx(1 / 6)
