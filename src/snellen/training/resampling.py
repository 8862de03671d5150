"""Classes of a training part brought to one size by imbalanced-learn: which rows stay, and which are made anew.

This room knows rows of numbers and labels: whether they are features or pixels it need not know. It sees the training
part only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.floating]


@dataclass(frozen=True)
class Resampled:
    """What a method makes of rows: `picked` `(P,)` positions of those that stay (one that is repeated stands there
    several times), then new rows `made` `(M, D)` with `made_labels` `(M,)`.
    """

    picked: NDArray[np.intp]
    made: Rows
    made_labels: NDArray[np.int64]


def resample(rows: Rows, labels: NDArray[np.int64], method: str, neighbors: int, seed: int) -> Resampled:
    """Apply `smote`, `smote_tomek`, `random_over` or `random_under` to rows `(N, D)`, `labels` `(N,)`.

    Of one class alone nothing is made or left out.
    """
    n_classes = np.count_nonzero(np.bincount(labels))
    if n_classes < 2:
        return _keep(np.arange(len(labels)), rows)
    if method in ("random_over", "random_under"):
        return _keep(_pick(labels, method, seed), rows)
    made, made_labels = _interpolate_classes(rows, labels, neighbors, seed)
    if method == "smote":
        return Resampled(np.arange(len(labels)), made, made_labels)
    if method == "smote_tomek":
        return _cut_links(rows, labels, made, made_labels)
    raise ValueError(f"{method} resamples nothing")


def _keep(picked: NDArray[np.intp], rows: Rows) -> Resampled:
    return Resampled(picked, rows[:0], np.zeros(0, np.int64))


def _pick(labels: NDArray[np.int64], method: str, seed: int) -> NDArray[np.intp]:
    """Positions by chance, until all classes are as large as the largest, or as small as the smallest."""
    from imblearn.over_sampling import RandomOverSampler
    from imblearn.under_sampling import RandomUnderSampler

    kind = RandomOverSampler if method == "random_over" else RandomUnderSampler
    sampler = kind(random_state=seed % 2**32)
    sampler.fit_resample(np.zeros((len(labels), 1)), labels)
    return np.asarray(sampler.sample_indices_, np.intp)


def _interpolate_classes(
    rows: Rows, labels: NDArray[np.int64], neighbors: int, seed: int
) -> tuple[Rows, NDArray[np.int64]]:
    """New rows until each class is as large as the largest, by SMOTE (Chawla et al. 2002)."""
    counts = np.bincount(labels)
    small = [label for label in np.flatnonzero(counts) if counts[label] < counts.max()]
    made = [rows[:0]]
    for label in small:
        made.append(_interpolate(rows[labels == label], int(counts.max() - counts[label]), neighbors, seed))
    made_labels = [np.full(counts.max() - counts[label], label, np.int64) for label in small]
    return np.concatenate(made), np.concatenate([np.zeros(0, np.int64), *made_labels])


def _interpolate(rows: Rows, n: int, neighbors: int, seed: int) -> Rows:
    """`n` new rows, each between a row of `rows` `(m, D)`, which are of one class, and one of its nearest.

    Fewer rows have fewer neighbours; a lone row is repeated.
    """
    from imblearn.over_sampling import SMOTE

    if len(rows) == 1:
        return np.repeat(rows, n, axis=0)
    # SMOTE looks at no row of another class, but asks for one
    both = np.vstack([rows, np.zeros((1, rows.shape[1]), rows.dtype)])
    marks = np.append(np.ones(len(rows), int), 0)
    sampler = SMOTE(
        sampling_strategy={1: len(rows) + n}, k_neighbors=min(neighbors, len(rows) - 1), random_state=seed % 2**32
    )
    grown, _ = sampler.fit_resample(both, marks)
    return np.asarray(grown[len(both) :])


def _cut_links(rows: Rows, labels: NDArray[np.int64], made: Rows, made_labels: NDArray[np.int64]) -> Resampled:
    """Without pairs of rows of different classes that are each other's nearest (Tomek 1976; Batista et al. 2004).

    A class that would lose all its rows keeps them.
    """
    from imblearn.under_sampling import TomekLinks

    both_labels = np.concatenate([labels, made_labels])
    sampler = TomekLinks(sampling_strategy="all")
    sampler.fit_resample(np.concatenate([rows, made]), both_labels)
    is_kept = np.zeros(len(both_labels), bool)
    is_kept[sampler.sample_indices_] = True
    for label in np.unique(both_labels):
        own = both_labels == label
        is_kept[own] |= not is_kept[own].any()
    n = len(labels)
    return Resampled(np.flatnonzero(is_kept[:n]), made[is_kept[n:]], made_labels[is_kept[n:]])
