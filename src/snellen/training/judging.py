"""Which of several models is taken, on pictures that none of them has learned from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from snellen.metrics.calibration import apply_temperature, fit_temperature
from snellen.metrics.ranking import compute_auc


def judge_logits(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float | None]:
    """Log loss after the best temperature, and AUC: what epochs are compared by. `logits` `(N, C)` at the true prior.

    A fine-tuned network is surer of itself than a linear head; calibration mends that later, so it must not decide.
    """
    probabilities = _calibrate(logits, labels)
    auc = compute_auc(labels, probabilities)
    return float(_compute_losses(probabilities, labels).mean()), None if math.isnan(auc) else auc


def compare_logits(
    before: NDArray[np.float64], after: NDArray[np.float64], labels: NDArray[np.int64], patients: Sequence[str]
) -> tuple[float, float]:
    """By how much the log loss falls from one model's logits `(N, C)` to another's, and the standard error of that.

    Both after their best temperature, on the same pictures; the pictures of a patient count together (cluster-robust
    variance; Liang and Zeger 1986).
    """
    fallen = _compute_losses(_calibrate(before, labels), labels) - _compute_losses(_calibrate(after, labels), labels)
    _, group = np.unique(np.asarray(patients), return_inverse=True)
    sums = np.bincount(group, weights=fallen - fallen.mean())
    return float(fallen.mean()), float(np.sqrt((sums**2).sum()) / len(fallen))


def _calibrate(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    return apply_temperature(logits, fit_temperature(logits, labels).temperature)


def _compute_losses(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(-np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, None)))


def choose_model(
    logits: Mapping[str, NDArray[np.float64]], first: str, labels: NDArray[np.int64], patients: Sequence[str]
) -> str:
    """The name of the model whose log loss is smallest, where it is below that of `first` by more than the standard
    error of the difference; else `first`.

    The rule of one standard error (Breiman et al. 1984): few patients cannot tell good models apart, and the best of
    several looks better than it is.
    """
    best, most = first, 0.0
    for name, found in logits.items():
        if name == first:
            continue
        fallen, error = compare_logits(logits[first], found, labels, patients)
        if fallen > max(error, most):
            best, most = name, fallen
    return best
