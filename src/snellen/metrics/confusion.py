"""Decisions counted by label and by prediction, and the scores that follow from those counts alone.

This room knows class indices and sample weights. It must not know probabilities, patients or intervals.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snellen.metrics.ranking import divide


def compute_confusion(
    labels: NDArray[np.integer], predictions: NDArray[np.integer], n_classes: int
) -> NDArray[np.int64]:
    """Counts (C, C): row = label, column = prediction, for `labels` (N,) and `predictions` (N,)."""
    cells = np.asarray(labels, dtype=np.int64) * n_classes + np.asarray(predictions, dtype=np.int64)
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes).astype(np.int64)


def compute_weighted_confusion(
    labels: NDArray[np.int64], predictions: NDArray[np.intp], n_classes: int, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted confusion (B, C, C): axis 1 = label, axis 2 = prediction."""
    # Only cells that occur are summed: a one-hot matrix (N, C * C) would not fit for many classes.
    cells, inverse = np.unique(labels * n_classes + predictions, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    starts = np.searchsorted(inverse[order], np.arange(len(cells)))
    confusion = np.zeros((len(weights), n_classes**2))
    confusion[:, cells] = np.add.reduceat(weights[:, order], starts, axis=1)
    return confusion.reshape(-1, n_classes, n_classes)


def compute_decision_scores(confusion: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Scores of the decisions alone, from the confusion (B, C, C)."""
    hits, support, predicted = compute_margins(confusion)
    total = support.sum(axis=1)
    by_class = {
        "f1": divide(2 * hits, support + predicted, 0.0),
        "precision": divide(hits, predicted, 0.0),
        "recall": divide(hits, support, 0.0),
    }
    has_labels = support > 0
    occurs = has_labels | (predicted > 0)
    scores = {
        "accuracy": divide(hits.sum(axis=1), total, np.nan),
        "balanced_accuracy": mean_over(by_class["recall"], has_labels),
    }
    scores |= {name: mean_over(values, occurs) for name, values in by_class.items()}
    for name, values in by_class.items():
        scores[f"{name}_weighted"] = divide((values * support).sum(axis=1), total, np.nan)
    covariance = hits.sum(axis=1) * total - (support * predicted).sum(axis=1)
    spread = (total**2 - (support**2).sum(axis=1)) * (total**2 - (predicted**2).sum(axis=1))
    scores["mcc"] = divide(covariance, np.sqrt(np.maximum(spread, 0.0)), 0.0)
    return scores


def compute_ordinal_scores(confusion: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Scores of ordered classes from the confusion (B, C, C): both kappas, and the share that is off by two or more.

    With two classes nothing can be off by two, and both kappas are one: only the quadratic is given.
    """
    found = {"kappa_quadratic": compute_kappa(confusion, 2)}
    if confusion.shape[1] > 2:
        index = np.arange(confusion.shape[1])
        is_far = np.abs(index[:, None] - index[None, :]) >= 2
        total = confusion.sum(axis=(1, 2))
        found["kappa_linear"] = compute_kappa(confusion, 1)
        found["off_by_two"] = divide((confusion * is_far).sum(axis=(1, 2)), total, np.nan)
    return found


def compute_kappa(confusion: NDArray[np.float64], power: int) -> NDArray[np.float64]:
    """Cohen's kappa with distances to that power (B,) (Cohen 1968); NaN where all are one class."""
    _, support, predicted = compute_margins(confusion)
    index = np.arange(confusion.shape[1])
    distance = (np.abs(index[:, None] - index[None, :]) ** power).astype(np.float64)
    observed = (confusion * distance).sum(axis=(1, 2)) * support.sum(axis=1)
    expected = np.einsum("bi,ij,bj->b", support, distance, predicted)
    return 1.0 - divide(observed, expected, np.nan)


def compute_margins(
    confusion: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Hits, labels and predictions of each class, each (B, C)."""
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    return hits, confusion.sum(axis=2), confusion.sum(axis=1)


def mean_over(values: NDArray[np.float64], is_counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean of `values` (B, C) over the counted classes; NaN where no class counts."""
    kept = np.where(is_counted, values, 0.0)
    return divide(kept.sum(axis=1), is_counted.sum(axis=1).astype(np.float64), np.nan)
