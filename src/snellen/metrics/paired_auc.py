"""AUCs of several models on the same pictures, with their covariance: by formulas, without resampling.

This room knows one class against the rest, scores and which patient a picture belongs to. It must not know models,
splits or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import DataError

Floats = NDArray[np.float64]
Method = Literal["delong", "obuchowski"]


@dataclass(frozen=True)
class CorrelatedAucs:
    """`aucs` `(K,)` of K models with their `covariance` `(K, K)`, and by which formula that is."""

    aucs: Floats
    covariance: Floats
    method: Method

    def subtract(self, first: int = 0, second: int = 1) -> tuple[float, float]:
        """AUC of `second` minus that of `first`, and its standard error; 0 where the two always agree."""
        variance = self.covariance[first, first] + self.covariance[second, second] - 2 * self.covariance[first, second]
        return float(self.aucs[second] - self.aucs[first]), float(np.sqrt(max(variance, 0.0)))


def compute_correlated_aucs(
    is_positive: NDArray[np.bool_], scores: Sequence[NDArray[np.floating]], patients: Sequence[str]
) -> CorrelatedAucs:
    """AUC of each of K `scores` `(N,)` on `is_positive` `(N,)`, and how they vary together.

    With one picture a patient this is DeLong, DeLong and Clarke-Pearson 1988; where patients have several, positive,
    negative or both, Obuchowski 1997 (equations 3 to 8), which equals it at one picture a patient. Equal scores count
    one half. Raises DataError where fewer than two patients have a positive picture, or a negative one.
    """
    truth = np.asarray(is_positive, bool)
    cluster = np.unique(np.asarray(patients).astype(str), return_inverse=True)[1]
    n_clusters = int(cluster.max(initial=-1)) + 1
    sums_of = {side: np.bincount(cluster[truth == side], minlength=n_clusters) for side in (True, False)}
    if len(truth) != len(cluster) or any(int((counts > 0).sum()) < 2 for counts in sums_of.values()):
        raise DataError(
            "The variance of an AUC needs two patients with a positive picture and two with a negative one.",
            "Use a larger test set.",
        )
    aucs, deviations = [], []
    for values in scores:
        of_positive, of_negative = _place(np.asarray(values, np.float64), truth)
        auc = float(of_positive.mean())
        aucs.append(auc)
        deviations.append(
            [
                np.bincount(cluster[truth == side], weights=places, minlength=n_clusters) - sums_of[side] * auc
                for side, places in ((True, of_positive), (False, of_negative))
            ]
        )
    found: Floats = np.array(deviations)  # (K, 2, clusters): what a patient's pictures add beyond the expected
    n_of = {side: float(counts.sum()) for side, counts in sums_of.items()}
    of_sides = [
        _scale(int((sums_of[side] > 0).sum())) * found[:, row] @ found[:, row].T / n_of[side] ** 2
        for row, side in enumerate((True, False))
    ]
    crossed = _scale(n_clusters) * found[:, 0] @ found[:, 1].T / (n_of[True] * n_of[False])
    is_single = n_clusters == len(truth)
    return CorrelatedAucs(
        np.array(aucs), of_sides[0] + of_sides[1] + crossed + crossed.T, "delong" if is_single else "obuchowski"
    )


def _scale(n: int) -> float:
    return n / (n - 1)


def _place(scores: Floats, truth: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Of each positive the share of negatives below it, of each negative the share of positives above it."""
    below, above = np.sort(scores[~truth]), np.sort(scores[truth])
    beaten = np.searchsorted(below, scores[truth], "left") + np.searchsorted(below, scores[truth], "right")
    lost = np.searchsorted(above, scores[~truth], "left") + np.searchsorted(above, scores[~truth], "right")
    return beaten / (2 * len(below)), 1 - lost / (2 * len(above))
