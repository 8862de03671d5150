"""Slope and intercept are those of a logistic regression elsewhere, and hold where probabilities are right."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from snellen.metrics.perfect_calibration import expect_errors
from snellen.metrics.recalibration import compute_calibration_lines, compute_calibration_slope
from snellen.metrics.scores import compute_scores


def draw(n: int, n_classes: int, slope: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels drawn from what they become at another slope."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (n, n_classes))
    raised = np.exp(slope * logits)
    right = raised / raised.sum(1, keepdims=True)
    labels = (random.random((n, 1)) > right.cumsum(1)).sum(1)
    stated = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return labels, stated


def name(n: int) -> list[str]:
    return [str(row) for row in range(n)]


def test_slope_of_two_classes_is_that_of_logistic_regression() -> None:
    labels, stated = draw(500, 2, slope=0.6)
    logit = np.log(stated[:, 1] / stated[:, 0])[:, None]
    expected = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit, labels)
    found = compute_calibration_slope(labels, stated, name(500))
    assert found.value == pytest.approx(float(expected.coef_[0, 0]), abs=1e-4)
    lines = compute_calibration_lines(labels, stated, name(500), classes=("no", "yes"))
    assert lines["yes"].slope.value == pytest.approx(found.value, abs=1e-6)


def test_wald_error_is_that_of_the_information_where_the_model_is_right() -> None:
    labels, stated = draw(4000, 2)
    logit = np.log(stated[:, 1] / stated[:, 0])
    found = compute_calibration_slope(labels, stated, name(4000))
    design = np.column_stack([logit, np.ones(4000)])
    information = (design * (stated[:, 1] * stated[:, 0])[:, None]).T @ design
    error = np.sqrt(np.linalg.inv(information)[0, 0])
    assert found.low is not None
    assert found.high is not None
    # sandwich and information agree to sampling where the model holds
    assert (found.high - found.low) / 2 / 1.96 == pytest.approx(error, rel=0.08)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_planted_slope_is_found(n_classes: int) -> None:
    labels, stated = draw(6000, n_classes, slope=0.5)
    found = compute_calibration_slope(labels, stated, name(6000))
    assert found.value == pytest.approx(0.5, abs=0.05)
    assert found.high is not None
    assert found.high < 1


def test_right_probabilities_have_slope_one_and_intercept_zero() -> None:
    labels, stated = draw(6000, 3, seed=2)
    slope = compute_calibration_slope(labels, stated, name(6000))
    assert slope.low is not None
    assert slope.high is not None
    assert slope.low < 1 < slope.high
    for line in compute_calibration_lines(labels, stated, name(6000), classes=("a", "b", "c")).values():
        assert line.intercept.value == pytest.approx(0, abs=0.12)
        assert line.share == pytest.approx(line.mean_probability, abs=0.02)


def test_intercept_says_that_a_class_is_more_frequent_than_stated() -> None:
    labels, stated = draw(3000, 2, seed=4)
    shifted = stated[:, 1] * 0.5 / (stated[:, 1] * 0.5 + stated[:, 0])
    found = compute_calibration_lines(
        labels, np.column_stack([1 - shifted, shifted]), name(3000), classes=("no", "yes")
    )
    assert found["yes"].intercept.value == pytest.approx(np.log(2), abs=0.12)


def test_copies_of_a_patient_do_not_narrow_the_interval() -> None:
    labels, stated = draw(300, 2)
    one = compute_calibration_slope(labels, stated, name(300))
    twice = compute_calibration_slope(np.repeat(labels, 4), np.repeat(stated, 4, axis=0), np.repeat(name(300), 4))
    assert (one.low, one.high) == pytest.approx((twice.low, twice.high), rel=1e-6)


def test_separated_classes_have_no_slope() -> None:
    labels = np.arange(40) % 2
    stated = np.where(labels[:, None] == np.arange(2), 0.9, 0.1)
    assert compute_calibration_slope(labels, stated, name(40)).value is None


def test_a_class_that_is_absent_has_no_line() -> None:
    labels, stated = draw(200, 3)
    kept = labels != 2
    lines = compute_calibration_lines(labels[kept], stated[kept], name(int(kept.sum())), classes=("a", "b", "c"))
    assert lines["c"].slope.value is None
    assert lines["c"].n == 0


def test_expected_error_is_that_of_labels_drawn_from_the_probabilities() -> None:
    _, stated = draw(200, 3)
    found = expect_errors(stated, seed=1)
    random = np.random.default_rng(9)
    drawn = []
    for _ in range(500):
        labels = (random.random((200, 1)) > stated.cumsum(1)).sum(1)
        scores = compute_scores(labels, stated)
        drawn.append((scores["ece"][0], scores["ece_adaptive"][0]))
    for key, values in zip(("ece", "ece_adaptive"), np.array(drawn).T, strict=True):
        assert found[key].mean == pytest.approx(values.mean(), rel=0.05)
        assert found[key].limit == pytest.approx(np.quantile(values, 0.95), rel=0.06)
