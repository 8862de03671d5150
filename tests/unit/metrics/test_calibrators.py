"""What is chosen is what helps patients left out; what is fitted is what an independent optimiser finds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from snellen.core.errors import DataError
from snellen.metrics.calibration import fit_temperature
from snellen.metrics.calibrators import Calibrator, assign_folds, fit_bias_and_temperature, fit_calibration


def plant(calibrator: Calibrator, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of overlapping classes and labels drawn from what `calibrator` makes of them."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (n, len(calibrator.bias)))
    drawn = random.random((n, 1)) > calibrator.apply(logits).cumsum(axis=1)
    return logits, drawn.sum(axis=1)


def name_patients(n: int) -> list[str]:
    return [f"P{row // 2}" for row in range(n)]


def compute_loss(point: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean log loss with the normal prior on the bias."""
    probabilities = Calibrator(1 / point[0], point[1:]).apply(logits)
    penalty = (point[1:] ** 2).sum() / (2 * len(labels))
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean() + penalty)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_newton_finds_the_minimum_of_scipy(n_classes: int) -> None:
    logits, labels = plant(Calibrator(1.7, np.linspace(-1, 1, n_classes)), 300)
    expected = minimize(
        compute_loss, np.append(1.0, np.zeros(n_classes)), (logits, labels), method="BFGS", options={"gtol": 1e-8}
    ).x
    found = fit_bias_and_temperature(logits, labels)
    # BFGS stops at a gradient of 1e-8 by differences; the curvature is near 0.1
    assert found.temperature == pytest.approx(1 / expected[0], abs=1e-5)
    np.testing.assert_allclose(found.bias, expected[1:] - expected[1:].mean(), atol=1e-5)


def test_planted_bias_and_temperature_are_recovered() -> None:
    planted = Calibrator(2.0, np.array([0.8, 0.0, -0.8]))
    logits, labels = plant(planted, 6000)
    fit = fit_calibration(logits, labels, name_patients(6000))
    assert fit.method == "bias_and_temperature"
    # 6,000 samples give the bias a standard error near 0.04, the temperature of 0.05
    assert fit.calibrator.temperature == pytest.approx(2.0, abs=0.15)
    np.testing.assert_allclose(fit.calibrator.bias, planted.bias, atol=0.13)


def test_temperature_alone_is_kept_where_no_bias_was_planted() -> None:
    logits, labels = plant(Calibrator(3.0, np.zeros(4)), 200, seed=3)
    fit = fit_calibration(logits, labels, name_patients(200))
    assert fit.method == "temperature"
    assert fit.calibrator.temperature == fit_temperature(logits, labels).temperature
    assert not fit.calibrator.bias.any()


def test_nothing_is_kept_where_logits_are_right() -> None:
    logits, labels = plant(Calibrator(1.0, np.zeros(3)), 120, seed=1)
    fit = fit_calibration(logits, labels, name_patients(120))
    assert (fit.method, fit.calibrator.temperature, fit.is_sound) == ("none", 1.0, True)


def test_reason_tells_the_three_losses() -> None:
    logits, labels = plant(Calibrator(1.0, np.zeros(3)), 120, seed=1)
    reason = fit_calibration(logits, labels, name_patients(120)).reason
    assert "none 0." in reason
    assert "bias and temperature 0." in reason


def test_same_data_in_another_order_give_the_same_choice() -> None:
    logits, labels = plant(Calibrator(1.5, np.array([0.3, -0.3])), 100)
    patients = name_patients(100)
    order = np.random.default_rng(5).permutation(100)
    one = fit_calibration(logits, labels, patients)
    other = fit_calibration(logits[order], labels[order], [patients[row] for row in order])
    assert one.method == other.method
    assert one.calibrator.temperature == pytest.approx(other.calibrator.temperature, rel=1e-5)


def test_few_patients_get_no_bias() -> None:
    logits, labels = plant(Calibrator(1.0, np.array([2.0, -2.0])), 90)
    fit = fit_calibration(logits, labels, [f"P{row % 9}" for row in range(90)])
    assert fit.method == "temperature"
    assert "9 patients" in fit.reason


def test_nothing_is_fitted_without_errors() -> None:
    labels = np.arange(40) % 2
    fit = fit_calibration(np.eye(2)[labels] * 4, labels, name_patients(40))
    assert (fit.method, fit.is_sound, fit.calibrator.temperature) == ("none", False, 1.0)


def test_scale_stays_within_its_limits() -> None:
    labels = np.arange(200) % 2
    # the logits say the opposite of the labels: the best scale above 0 is the smallest
    assert fit_bias_and_temperature(np.eye(2)[1 - labels] * 3.0, labels).temperature == pytest.approx(20)


def test_folds_keep_patients_whole_and_spread_the_rare_class() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    patients = [f"P{row // 2}" for row in range(100)]
    folds = assign_folds(labels, patients)
    assert all(len({fold for fold, name in zip(folds, patients, strict=True) if name == one}) == 1 for one in patients)
    assert [int((labels[folds == fold] == 1).sum()) for fold in range(5)] == [2] * 5


def test_patients_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="3 patients"):
        fit_calibration(np.zeros((4, 2)), np.array([0, 1, 0, 1]), ["a", "b", "c"])
