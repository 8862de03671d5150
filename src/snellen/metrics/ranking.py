"""Numbers that depend only on the order of scores: AUC, ROC and precision-recall curves.

This room knows one class against the rest and sample weights. It must not know thresholds that
someone chose, patients, intervals or files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import DataError

Curve = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def divide(numerator: NDArray[np.float64], denominator: NDArray[np.float64], undefined: float) -> NDArray[np.float64]:
    """`numerator / denominator` of equal shapes, and `undefined` where the denominator is 0."""
    result = np.full(np.shape(numerator), undefined, dtype=np.float64)
    np.divide(numerator, denominator, out=result, where=np.asarray(denominator) > 0)
    return result


def compute_weighted_auc(
    is_positive: NDArray[np.bool_], scores: NDArray[np.floating], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Area under the ROC curve of `is_positive` (N,) and `scores` (N,) for each row of `weights` (B, N).

    The Mann-Whitney form: the weighted share of positive-negative pairs in which the positive has the
    higher score, equal scores counting one half (Hanley and McNeil 1982). Returns (B,) in [0, 1]; NaN
    where a row leaves one side without weight. It makes copies as large as `weights`: callers chunk.
    """
    order = np.argsort(scores, kind="stable")
    starts = _start_of_ties(scores[order])
    sorted_weights = weights[:, order]
    in_tie = np.add.reduceat(sorted_weights, starts, axis=1)
    sorted_weights *= is_positive[order]
    positive = np.add.reduceat(sorted_weights, starts, axis=1)
    negative = in_tie - positive
    won = np.cumsum(negative, axis=1) - 0.5 * negative
    n_pairs = positive.sum(axis=1) * negative.sum(axis=1)
    area = divide((positive * won).sum(axis=1), n_pairs, np.nan)
    clipped: NDArray[np.float64] = np.clip(area, 0.0, 1.0)
    return clipped


def compute_auc(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    """AUC of `labels` (N,) and `probabilities` (N, C), every sample counting 1: of the second of two classes, else the
    mean one-vs-rest AUC of the classes with samples on both sides; NaN where there is none. As `compute_scores` has it,
    without the other scores: what a loop asks for every epoch.
    """
    n_classes = probabilities.shape[1]
    even = np.ones((1, len(labels)))
    columns = [1] if n_classes == 2 else range(n_classes)
    areas = [float(compute_weighted_auc(labels == c, probabilities[:, c], even)[0]) for c in columns]
    known = [area for area in areas if not np.isnan(area)]
    return float(np.mean(known)) if known else float("nan")


def compute_weighted_ap(
    is_positive: NDArray[np.bool_], scores: NDArray[np.floating], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Average precision of `is_positive` (N,) and `scores` (N,) for each row of `weights` (B, N).

    The sum of precisions at each distinct score, weighted by the recall that it adds; no line is drawn between them, as
    in scikit-learn's `average_precision_score`. Returns (B,) in [0, 1]; NaN where a row has no weight on positives.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    starts = _start_of_ties(scores[order])
    sorted_weights = weights[:, order]
    called = np.cumsum(np.add.reduceat(sorted_weights, starts, axis=1), axis=1)
    found = np.add.reduceat(sorted_weights * is_positive[order], starts, axis=1)
    precision = divide(np.cumsum(found, axis=1), called, 0.0)
    return divide((found * precision).sum(axis=1), found.sum(axis=1), np.nan)


def compute_roc(
    labels_binary: NDArray[np.integer], scores: NDArray[np.floating], *, drop_intermediate: bool = True
) -> Curve:
    """The ROC curve of `labels_binary` (N,) in {0, 1} and `scores` (N,), as scikit-learn's `roc_curve`.

    Returns `fpr`, `tpr` and `thresholds`, all (K,): at `thresholds[k]` a sample is positive when its
    score is at least that. The first threshold is infinite. Points on a straight line between their
    neighbours are left out unless `drop_intermediate` is False. A side without samples gives NaN rates.
    """
    fp, tp, thresholds = count_at_thresholds(labels_binary, scores)
    if drop_intermediate and len(thresholds) > 2:
        is_corner = np.logical_or(np.diff(fp, 2), np.diff(tp, 2))
        kept = np.flatnonzero(np.concatenate(([True], is_corner, [True])))
        fp, tp, thresholds = fp[kept], tp[kept], thresholds[kept]
    fp, tp = np.append(0, fp), np.append(0, tp)
    thresholds = np.append(np.inf, thresholds)
    return _share(fp), _share(tp), thresholds


def compute_precision_recall(labels_binary: NDArray[np.integer], scores: NDArray[np.floating]) -> Curve:
    """Precision and recall by threshold, as scikit-learn's `precision_recall_curve`.

    `labels_binary` (N,) in {0, 1}, `scores` (N,). Returns `precision` (K + 1,), `recall` (K + 1,) and rising
    `thresholds` (K,): positive when the score is at least the threshold. The last pair is (1, 0) and has
    no threshold. Recall is NaN where there is no positive sample.
    """
    fp, tp, thresholds = count_at_thresholds(labels_binary, scores)
    precision = tp / (tp + fp)
    recall = _share(tp)
    return np.append(precision[::-1], 1.0), np.append(recall[::-1], 0.0), thresholds[::-1].copy()


def count_at_thresholds(
    labels: NDArray[np.integer], scores: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """False positives, true positives and threshold, each (K,), at every distinct score, highest first."""
    is_positive = np.asarray(labels) == 1
    scores = np.asarray(scores, dtype=np.float64)
    if is_positive.shape != scores.shape or scores.ndim != 1 or not len(scores):
        raise DataError(f"labels of shape {is_positive.shape} do not fit scores of shape {scores.shape}")
    order = np.argsort(-scores, kind="stable")
    starts = _start_of_ties(scores[order])
    last_of_tie = np.append(starts[1:], len(scores)) - 1
    tp = np.cumsum(is_positive[order], dtype=np.int64)[last_of_tie]
    fp = last_of_tie + 1 - tp
    return fp, tp, scores[order][last_of_tie]


def _share(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cumulative counts as a share of their last value; NaN where that is 0."""
    values = counts.astype(np.float64)
    return divide(values, np.full_like(values, values[-1]), np.nan)


def _start_of_ties(sorted_scores: NDArray[np.floating]) -> NDArray[np.intp]:
    """Where each run of equal scores begins."""
    return np.flatnonzero(np.append(True, np.diff(sorted_scores) != 0))
