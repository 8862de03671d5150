"""Sets of classes that hold the true one at a stated rate: split conformal prediction, class by class.

A class belongs to a picture's set where 1 − its probability does not exceed the class's quantile (Sadinle, Lei and
Wasserman 2019, with the finite-sample quantile of Vovk 2012 for each class). Whatever the model is worth, a new picture
of class c from the same population then has c in its set with at least the stated probability. This room knows labels,
probabilities and patients. It must not know which split it sees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import DataError

Floats = NDArray[np.float64]
Patients = Sequence[str] | NDArray[np.str_]
_ROUNDING = 1e-6  # of float32 probabilities, so that a picture at its own quantile stays in


@dataclass(frozen=True)
class ConformalFit:
    """`quantiles` `(C,)` of 1 − probability of the true class, 1 where nothing can be left out; `n_patients` `(C,)`.

    `pooled` are the classes whose patients are too few for a quantile of their own and that share one over all classes.
    """

    quantiles: Floats
    n_patients: NDArray[np.int64]
    pooled: tuple[int, ...]


def fit_conformal(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], patients: Patients, *, coverage: float, seed: int
) -> ConformalFit:
    """Quantiles from calibration labels `(N,)`, probabilities `(N, C)` and patients `(N,)`.

    One picture a patient enters a quantile, drawn under `seed`: pictures of one patient are not exchangeable with those
    of others. A class with fewer than `count_needed(coverage)` patients takes the quantile of all patients together,
    which promises coverage over all classes but not for it alone.
    """
    scores = 1 - np.asarray(probabilities, np.float64)[np.arange(len(labels)), labels]
    found = np.asarray(patients).astype(str)
    if len(found) != len(labels):
        raise DataError(f"{len(found)} patients do not fit {len(labels)} labels")
    n_classes = probabilities.shape[1]
    random = np.random.default_rng(seed)
    own = [_draw_one_each(found, np.flatnonzero(labels == c), random) for c in range(n_classes)]
    together = compute_quantile(scores[_draw_one_each(found, np.arange(len(labels)), random)], coverage)
    needed = count_needed(coverage)
    pooled = tuple(c for c, rows in enumerate(own) if len(rows) < needed)
    quantiles = [together if c in pooled else compute_quantile(scores[rows], coverage) for c, rows in enumerate(own)]
    return ConformalFit(np.array(quantiles), np.array([len(rows) for rows in own]), pooled)


def count_needed(coverage: float) -> int:
    """The fewest patients of a class whose quantile can leave anything out: ⌈1/α⌉ − 1, α being 1 − coverage."""
    return math.ceil(round(1 / (1 - coverage), 9)) - 1


def compute_quantile(scores: Floats, coverage: float) -> float:
    """The ⌈(n + 1)·coverage⌉-th smallest of n scores; 1 where there are too few for it."""
    n = len(scores)
    rank = math.ceil(round((n + 1) * coverage, 9))
    return 1.0 if rank > n else float(np.sort(scores)[rank - 1])


def predict_sets(
    probabilities: NDArray[np.floating], quantiles: Sequence[float], *, is_ordered: bool
) -> NDArray[np.bool_]:
    """`(N, C)` probabilities → whether each class is in each picture's set. A set may be empty.

    Of ordered classes those between two in the set belong to it too: a set of grades has no holes.
    """
    inside = 1 - np.asarray(probabilities, np.float64) <= np.asarray(quantiles, np.float64) + _ROUNDING
    if not is_ordered:
        return np.asarray(inside)
    from_below = np.maximum.accumulate(inside, axis=1)
    from_above = np.maximum.accumulate(inside[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(from_below & from_above)


def _draw_one_each(patients: NDArray[np.str_], rows: NDArray[np.intp], random: np.random.Generator) -> NDArray[np.intp]:
    """Of `rows` one for each patient among them."""
    shuffled = random.permutation(rows)
    _, first = np.unique(patients[shuffled], return_index=True)
    return np.asarray(shuffled[first], np.intp)
