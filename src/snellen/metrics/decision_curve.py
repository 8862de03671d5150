"""Net benefit of deciding by a probability, over all trade-offs between missed and needless treatment.

This room knows labels of 0 and 1, scores and patients. It must not know models, splits or files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snellen.metrics.intervals import PatientBootstrap, Patients, choose_estimate
from snellen.records.evaluation import DecisionCurve, Intervals

THRESHOLDS = tuple(round(step / 50, 2) for step in range(1, 50))


def compute_decision_curve(
    labels_binary: NDArray[np.integer],
    scores: NDArray[np.floating],
    patients: Patients,
    settings: Intervals,
    thresholds: tuple[float, ...] = THRESHOLDS,
) -> DecisionCurve:
    """Net benefit TP / n - FP / n · t / (1 - t) of treating whose score is at least t (Vickers and Elkin 2006).

    `labels_binary` (N,) in {0, 1}, `scores` (N,) probabilities, `patients` (N,), `thresholds` within 0 and 1. Beside it
    that of treating all; treating nobody has 0. It holds at this split's prevalence.
    """
    is_sick = np.asarray(labels_binary) == 1
    at = np.array(thresholds)
    odds = at / (1 - at)
    called = np.asarray(scores, np.float64)[:, None] >= at
    gained = np.where(is_sick[:, None], 1.0, -odds)  # (N, T): what treating this one adds

    def benefit(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        total = weights.sum(axis=1, keepdims=True)
        return {"model": weights @ (called * gained) / total, "all": weights @ gained / total}

    bootstrap = PatientBootstrap(is_sick.astype(np.int64), patients, settings)
    resamples, observed = bootstrap.run(benefit), benefit(np.ones((1, len(is_sick))))
    own = [
        choose_estimate(float(value), resamples["model"][:, column], settings.level, n_behind=bootstrap.n_behind)
        for column, value in enumerate(observed["model"][0])
    ]
    return DecisionCurve(
        thresholds=thresholds,
        model=tuple(float(value) for value in observed["model"][0]),
        low=tuple(each.low for each in own),
        high=tuple(each.high for each in own),
        treat_all=tuple(float(value) for value in observed["all"][0]),
    )
