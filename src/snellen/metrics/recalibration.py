"""Calibration slope and intercept: which straight line in log odds would make the probabilities right.

This room knows probabilities, labels and patients. It must not know models, splits or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from snellen.metrics.scores import require_labels_and_probabilities
from snellen.records.evaluation import CalibrationLine, Estimate

Floats = NDArray[np.float64]
SMALLEST = 1e-7  # what single precision can tell from 0
_STEPS = 100
_LARGEST = 50.0
_NONE = Estimate(value=None, method="none")


@dataclass(frozen=True)
class Line:
    """`softmax(slope · log p + biases)` that fits best, `biases` of all classes but the first; with its covariance."""

    parameters: Floats
    covariance: Floats


def compute_calibration_slope(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], patients: Sequence[str], level: float = 0.95
) -> Estimate:
    """The slope a of softmax(a · log p + b) with the greatest likelihood, b free; 1 where p is right.

    `labels` (N,), `probabilities` (N, C), `patients` (N,). For two classes this is Cox's calibration slope (Cox 1958;
    Steyerberg 2019, section 15.3); below 1 the probabilities are too extreme. The interval is Wald's with a variance
    that takes a patient's pictures as one (sandwich). None where labels do not bound it: too few errors.
    """
    truth, probs = require_labels_and_probabilities(labels, probabilities)
    present = np.unique(truth)
    if len(present) < 2:
        return _NONE
    logs = np.log(np.clip(probs[:, present], SMALLEST, 1.0))
    found = _fit(logs, np.searchsorted(present, truth), patients, has_slope=True)
    return _NONE if found is None else _to_estimate(found, 0, level)


def compute_calibration_lines(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    patients: Sequence[str],
    *,
    classes: Sequence[str],
    level: float = 0.95,
) -> dict[str, CalibrationLine]:
    """Of each class against the rest: slope, and intercept at slope 1 (calibration in the large), with intervals.

    Right probabilities have slope 1 and intercept 0. An intercept above 0: the class is more frequent than stated.
    """
    truth, probs = require_labels_and_probabilities(labels, probabilities)
    found = {}
    for column, name in enumerate(classes):
        own = np.clip(probs[:, column], SMALLEST, 1 - SMALLEST)
        is_class = (truth == column).astype(np.int64)
        logs = np.column_stack([np.zeros(len(own)), np.log(own / (1 - own))])
        has_both = 0 < is_class.sum() < len(is_class)
        slope = _fit(logs, is_class, patients, has_slope=True) if has_both else None
        large = _fit(logs, is_class, patients, has_slope=False) if has_both else None
        found[name] = CalibrationLine(
            n=int(is_class.sum()),
            mean_probability=float(probs[:, column].mean()),
            share=float(is_class.mean()),
            slope=_NONE if slope is None else _to_estimate(slope, 0, level),
            intercept=_NONE if large is None else _to_estimate(large, 0, level),
        )
    return found


def _to_estimate(line: Line, at: int, level: float) -> Estimate:
    value, variance = float(line.parameters[at]), float(line.covariance[at, at])
    if not 0 < variance < np.inf:
        return Estimate(value=value, method="none")
    half = NormalDist().inv_cdf(0.5 + level / 2) * float(np.sqrt(variance))
    return Estimate(value=value, low=value - half, high=value + half, method="sandwich")


def _fit(logs: Floats, labels: NDArray[np.integer], patients: Sequence[str], *, has_slope: bool) -> Line | None:
    """Newton's method for the slope (if it is free, else 1) and the biases of all classes but the first."""
    n, n_classes = logs.shape
    hot = np.eye(n_classes)[labels]
    first = int(has_slope)
    point = np.zeros(first + n_classes - 1)
    point[:first] = 1.0

    def spread(at: Floats) -> tuple[Floats, Floats, Floats]:
        """Loss, what each sample adds to the gradient (N, P), and the Hessian (P, P)."""
        raw = logs * (at[0] if has_slope else 1.0)
        raw[:, 1:] += at[first:]
        raw -= raw.max(axis=1, keepdims=True)
        probabilities = np.exp(raw)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        loss = -np.log(np.maximum((probabilities * hot).sum(axis=1), np.finfo(np.float64).tiny)).sum()
        rest = probabilities - hot
        gradients, hessian = np.empty((n, len(at))), np.empty((len(at), len(at)))
        gradients[:, first:] = rest[:, 1:]
        hessian[first:, first:] = (
            np.diag(probabilities[:, 1:].sum(axis=0)) - probabilities[:, 1:].T @ probabilities[:, 1:]
        )
        if has_slope:
            expected = (probabilities * logs).sum(axis=1)
            gradients[:, 0] = (rest * logs).sum(axis=1)
            hessian[0, 0] = ((probabilities * logs**2).sum(axis=1) - expected**2).sum()
            mixed = (probabilities * (logs - expected[:, None])).sum(axis=0)[1:]
            hessian[0, 1:] = hessian[1:, 0] = mixed
        return loss, gradients, hessian

    loss, gradients, hessian = spread(point)
    for _ in range(_STEPS):
        try:
            step = -np.linalg.solve(hessian, gradients.sum(axis=0))
        except np.linalg.LinAlgError:
            return None
        size = 1.0
        while size > 1e-9:
            better = spread(point + size * step)
            if better[0] <= loss + 1e-12:
                break
            size /= 2
        point = point + size * step
        loss, gradients, hessian = better
        if np.abs(size * step).max() < 1e-9:
            break
        if np.abs(point).max() > _LARGEST:  # the labels are told apart without error: no finite slope is best
            return None
    cluster = np.unique(np.asarray(patients).astype(str), return_inverse=True)[1]
    sums = np.stack([np.bincount(cluster, weights=column) for column in gradients.T], axis=1)
    n_clusters = len(sums)
    if n_clusters < 2:
        return None
    try:
        bread = np.linalg.inv(hessian)
    except np.linalg.LinAlgError:
        return None
    covariance = bread @ (sums.T @ sums) @ bread * n_clusters / (n_clusters - 1)
    return Line(point, covariance)
