"""Which model is taken on few patients."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss as sklearn_log_loss

from snellen.metrics.calibration import fit_temperature
from snellen.training.judging import choose_model, compare_logits, judge_logits


def test_fall_of_the_loss_has_the_standard_error_of_resampled_patients() -> None:
    random = np.random.default_rng(3)
    patients = np.repeat(np.arange(120), 3)
    labels = random.integers(0, 3, 360)
    of_patient = random.normal(0, 1, (120, 3))[patients]  # what pictures of a patient have in common
    before = np.eye(3)[labels] + of_patient
    after = 2 * np.eye(3)[labels] + 0.5 * of_patient + random.normal(0, 0.3, (360, 3))
    fallen, error = compare_logits(before, after, labels, [str(each) for each in patients])
    assert fallen > 0.1
    alone = compare_logits(before, after, labels, [str(at) for at in range(360)])[1]
    assert error > alone
    losses = [log_loss(each, labels) for each in (before, after)]
    resampled = [
        np.mean((losses[0] - losses[1])[(random.integers(0, 120, 120)[:, None] * 3 + np.arange(3)).ravel()])
        for _ in range(4000)
    ]
    assert fallen == pytest.approx(np.mean(losses[0] - losses[1]))
    assert error == pytest.approx(np.std(resampled), rel=0.1)


def log_loss(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    values = logits / fit_temperature(logits, labels).temperature
    return np.log(np.exp(values).sum(1)) - values[np.arange(len(labels)), labels]


def see(labels: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Logits that know of the labels as much as `strength` says."""
    return strength * np.eye(3)[labels] + np.random.default_rng(seed).normal(0, 1, (len(labels), 3))


LABELS = np.random.default_rng(1).integers(0, 3, 400)
ALONE = [str(at) for at in range(400)]


def test_models_that_few_patients_cannot_tell_apart_leave_the_first() -> None:
    logits = {"before": see(LABELS, 1.0, 1), "mean": see(LABELS, 1.0, 2), "after": see(LABELS, 1.02, 3)}
    assert choose_model(logits, "mean", LABELS, ALONE) == "mean"


@pytest.mark.parametrize("better", ["before", "after"])
def test_a_model_that_is_clearly_better_is_taken(better: str) -> None:
    logits = {
        name: see(LABELS, 3.0 if name == better else 1.0, at) for at, name in enumerate(("before", "mean", "after"))
    }
    assert choose_model(logits, "mean", LABELS, ALONE) == better


def test_of_two_better_models_the_best_is_taken() -> None:
    logits = {"before": see(LABELS, 3.0, 1), "mean": see(LABELS, 1.0, 2), "after": see(LABELS, 5.0, 3)}
    assert choose_model(logits, "mean", LABELS, ALONE) == "after"


def test_pictures_of_one_patient_are_one_witness() -> None:
    # six pictures of four patients: what seems certain over pictures is not over patients
    labels = np.array([0, 0, 0, 1, 1, 2])
    logits = {"mean": see(labels, 1.0, 5), "after": see(labels, 3.0, 6)}
    errors = [
        compare_logits(logits["mean"], logits["after"], labels, names)[1] for names in (list("aaabbc"), list("abcdef"))
    ]
    assert errors[0] != pytest.approx(errors[1])


def test_loss_is_that_after_the_best_temperature() -> None:
    logits = see(LABELS, 2.0, 4)
    loss, auc = judge_logits(logits * 7, LABELS)
    assert loss == pytest.approx(judge_logits(logits, LABELS)[0], abs=1e-4)
    scaled = logits / fit_temperature(logits, LABELS).temperature
    raised = np.exp(scaled)
    assert loss == pytest.approx(sklearn_log_loss(LABELS, raised / raised.sum(1, keepdims=True)), abs=1e-4)
    assert auc is not None
    assert auc > 0.5
