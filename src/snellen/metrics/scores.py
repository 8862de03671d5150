"""The scores of a classifier, for many resamples at once by sample weights.

This room knows class indices, probabilities and weights. It must not know what a resample is drawn
from, patients, file names or which split it sees.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import DataError
from snellen.metrics.confusion import (
    compute_confusion,
    compute_decision_scores,
    compute_margins,
    compute_ordinal_scores,
    compute_weighted_confusion,
    mean_over,
)
from snellen.metrics.decision import Rule, decide
from snellen.metrics.ranking import (
    compute_precision_recall,
    compute_roc,
    compute_weighted_ap,
    compute_weighted_auc,
    divide,
)

__all__ = [
    "ECE_BINS",
    "compute_confusion",
    "compute_per_class",
    "compute_precision_recall",
    "compute_roc",
    "compute_scores",
    "require_labels_and_probabilities",
    "rows_per_chunk",
]

ECE_BINS = 15
CHUNK_BYTES = 8 * 2**20  # a handful of such arrays are alive at once

Scores = dict[str, NDArray[np.float64]]
Work = Callable[[NDArray[np.float64]], Scores]
Ranking = Callable[[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
_RANKINGS: tuple[Ranking, ...] = (compute_weighted_auc, compute_weighted_ap)


def compute_scores(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    *,
    weights: NDArray[np.float64] | None = None,
    is_ordered: bool = False,
    positive: int | None = None,
    rule: Rule = "most_probable",
) -> Scores:
    """All scores of `labels` (N,) and `probabilities` (N, C), each (B,), one value a row of `weights` (B, N).

    Without weights every sample counts 1 and B is 1. `rule` decides what a sample is called (see `decide`).

    - accuracy, balanced_accuracy (mean recall of the classes that have labels), mcc (Gorodkin 2004;
      0 where labels or decisions are constant).
    - f1, precision, recall: macro over classes that occur in labels or decisions, 0 for 0/0, as
      scikit-learn's `zero_division=0`; `*_weighted` weigh the classes by their labels.
    - auc: for two classes that of `positive` (1 if None), else the mean one-vs-rest AUC of the
      classes with samples on both sides. NaN where there is none. average_precision in the same way.
    - log_loss: natural logarithm, probabilities clipped at the float64 epsilon as in scikit-learn.
    - brier: mean sum of squares over the classes (Brier 1950), in [0, 2]. For two classes that sum is
      halved, which is the usual binary Brier score in [0, 1] and scikit-learn's `brier_score_loss`.
    - brier_skill: 1 - brier over that of the shares of the labels given for every sample; at most 1, 0 no better.
    - ece: expected calibration error of the top label in 15 bins of equal width (Guo et al. 2017, eq. 3). The
      top label is the most probable one, whatever the rule.
    - ece_adaptive: the same in 15 bins of equally many samples (Nixon et al. 2019), whose edges all resamples share.
    - kappa_quadratic, only if `is_ordered`: Cohen 1968 with squared distances between class indices; with more than two
      classes also kappa_linear, and off_by_two, the share of samples called a class two or more away.

    Raises DataError for shapes, labels or probabilities that do not fit.
    """
    labels, probs = require_labels_and_probabilities(labels, probabilities)
    predictions = decide(probs, rule)
    samples = _per_sample(labels, probs)
    column = 1 if positive is None else positive
    auc_classes = [column] if probs.shape[1] == 2 else list(range(probs.shape[1]))

    def score(chunk: NDArray[np.float64]) -> Scores:
        confusion = compute_weighted_confusion(labels, predictions, probs.shape[1], chunk)
        scores = compute_decision_scores(confusion)
        scores["auc"] = _mean_over_classes(compute_weighted_auc, (labels, probs), chunk, auc_classes)
        scores["average_precision"] = _mean_over_classes(compute_weighted_ap, (labels, probs), chunk, auc_classes)
        scores |= _probability_scores(samples, chunk)
        scores["brier_skill"] = _compare_with_prior(scores["brier"], confusion)
        return scores | compute_ordinal_scores(confusion) if is_ordered else scores

    return _in_chunks(score, weights, probs)


def compute_per_class(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    *,
    weights: NDArray[np.float64] | None = None,
    rule: Rule = "most_probable",
) -> Scores:
    """`precision`, `recall`, `specificity`, `npv`, `f1`, `auc` and `average_precision` of each class against the rest,
    each (B, C).

    Arguments as in `compute_scores`. NaN where the denominator is 0: precision of a class that is never
    predicted, recall of a class without labels. (Macro means count those as 0.)
    """
    labels, probs = require_labels_and_probabilities(labels, probabilities)
    predictions = decide(probs, rule)

    def score(chunk: NDArray[np.float64]) -> Scores:
        confusion = compute_weighted_confusion(labels, predictions, probs.shape[1], chunk)
        hits, support, predicted = compute_margins(confusion)
        total = np.broadcast_to(support.sum(axis=1, keepdims=True), support.shape)
        columns = range(probs.shape[1])
        ranked = [[rank(labels == c, probs[:, c], chunk) for c in columns] for rank in _RANKINGS]
        return {
            "precision": divide(hits, predicted, np.nan),
            "recall": divide(hits, support, np.nan),
            "specificity": divide(total - support - predicted + hits, total - support, np.nan),
            "npv": divide(total - support - predicted + hits, total - predicted, np.nan),
            "f1": divide(2 * hits, support + predicted, np.nan),
            "auc": np.stack(ranked[0], axis=1),
            "average_precision": np.stack(ranked[1], axis=1),
        }

    return _in_chunks(score, weights, probs)


def require_labels_and_probabilities(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """`labels` (N,) as int64 and `probabilities` or logits (N, C) as float64, or DataError."""
    labels = np.asarray(labels)
    values = np.asarray(probabilities, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2 or labels.shape != values.shape[:1]:
        raise DataError(
            f"labels of shape {labels.shape} do not fit probabilities of shape {values.shape}",
            "Pass labels (N,) and probabilities (N, C) with at least two classes.",
        )
    if not len(labels):
        raise DataError("there is no sample to score", "Check the split: it holds no readable picture.")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise DataError(f"row {row} has a probability that is not a number: {values[row].tolist()}")
    if labels.min() < 0 or labels.max() >= values.shape[1]:
        raise DataError(
            f"labels range from {labels.min()} to {labels.max()}, but there are {values.shape[1]} classes",
            "Labels are class indices from 0.",
        )
    return labels.astype(np.int64), values


def rows_per_chunk(n_columns: int) -> int:
    """How many rows of float64 fit into a chunk; at least 1."""
    return max(1, CHUNK_BYTES // (8 * max(1, n_columns)))


def _in_chunks(work: Work, weights: NDArray[np.float64] | None, probs: NDArray[np.float64]) -> Scores:
    """`work` over blocks of rows of `weights`, so that memory stays bounded for many resamples."""
    n, n_classes = probs.shape
    weights = np.ones((1, n)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.ndim != 2 or weights.shape[1] != n or not len(weights):
        raise DataError(f"weights of shape {weights.shape} do not fit {n} samples", "Pass weights (B, N).")
    step = rows_per_chunk(max(n, n_classes**2))
    parts = [work(weights[first : first + step]) for first in range(0, len(weights), step)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _mean_over_classes(
    rank: Ranking,
    scored: tuple[NDArray[np.int64], NDArray[np.float64]],
    weights: NDArray[np.float64],
    classes: list[int],
) -> NDArray[np.float64]:
    """Mean of `rank` (B,) over `classes` against the rest, over those that have samples on both sides."""
    labels, probs = scored
    has_both = [c for c in classes if 0 < (labels == c).sum() < len(labels)]
    if not has_both:
        return np.full(len(weights), np.nan)
    found = np.stack([rank(labels == c, probs[:, c], weights) for c in has_both], axis=1)
    return mean_over(found, ~np.isnan(found))


def _per_sample(labels: NDArray[np.int64], probs: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each sample adds (N, 2 + 2 bins): squared error, log loss, hit minus confidence by bin, twice."""
    rows = np.arange(len(labels))
    squared = ((probs - np.eye(probs.shape[1])[labels]) ** 2).sum(axis=1)
    if probs.shape[1] == 2:
        squared /= 2
    epsilon = np.finfo(np.float64).eps
    loss = -np.log(np.clip(probs[rows, labels], epsilon, 1 - epsilon))
    top = probs.argmax(axis=1)
    confidence = probs[rows, top]
    gaps = np.zeros((len(labels), 2 * ECE_BINS))
    for first, bins in ((0, bin_confidences(confidence, ECE_BINS)), (ECE_BINS, bin_evenly(confidence, ECE_BINS))):
        gaps[rows, first + bins] = (top == labels) - confidence
    return np.column_stack([squared, loss, gaps])


def bin_confidences(confidence: NDArray[np.float64], n_bins: int) -> NDArray[np.intp]:
    """The bin (N,) of each confidence in [0, 1]: bins of equal width, open below and closed above."""
    inner_edges = np.linspace(0, 1, n_bins + 1)[1:-1]
    return np.searchsorted(inner_edges, confidence, side="left")


def bin_evenly(values: NDArray[np.float64], n_bins: int) -> NDArray[np.intp]:
    """The bin (N,) of each value: bins of equally many, as far as equal values, which stay together, allow it."""
    ranks = np.searchsorted(np.sort(values), values, side="left")
    return np.asarray(ranks * n_bins // len(values), np.intp)


def _compare_with_prior(brier: NDArray[np.float64], confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Brier skill (B,): what the shares of the labels would lose is Σ share (1 - share), of two classes half of it."""
    support = confusion.sum(axis=2)
    shares = divide(support, np.broadcast_to(support.sum(axis=1, keepdims=True), support.shape), np.nan)
    lost = (shares * (1 - shares)).sum(axis=1)
    return 1 - divide(brier, lost / 2 if confusion.shape[1] == 2 else lost, np.nan)


def _probability_scores(samples: NDArray[np.float64], weights: NDArray[np.float64]) -> Scores:
    """Scores of the probabilities from what each sample adds, see `_per_sample`."""
    total = weights.sum(axis=1)
    sums = weights @ samples
    return {
        "brier": divide(sums[:, 0], total, np.nan),
        "log_loss": divide(sums[:, 1], total, np.nan),
        "ece": divide(np.abs(sums[:, 2 : 2 + ECE_BINS]).sum(axis=1), total, np.nan),
        "ece_adaptive": divide(np.abs(sums[:, 2 + ECE_BINS :]).sum(axis=1), total, np.nan),
    }
