"""What a model's errors are where it answers only the pictures it is surest of (El-Yaniv and Wiener 2010).

This room knows labels, predictions, a confidence and patients.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from snellen.metrics.intervals import PatientBootstrap, Patients, choose_estimate
from snellen.records.evaluation import Intervals, SelectivePoint, SelectiveRisk

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
Floats = NDArray[np.float64]


def compute_selective_risk(
    labels: NDArray[np.integer],
    predictions: NDArray[np.integer],
    confidence: NDArray[np.floating],
    patients: Patients,
    settings: Intervals,
    shares: Sequence[float] = SHARES,
) -> SelectiveRisk:
    """The share of errors among the surest pictures, for each of `shares` of the pictures `(N,)` that is answered.

    Pictures of equal confidence count in equal parts, so that their order says nothing. `area` is the mean of that
    share over all numbers of answered pictures, `area_best` the least that any order could reach with as many errors.
    """
    wrong = (np.asarray(labels) != np.asarray(predictions)).astype(np.float64)
    certainty = np.asarray(confidence, np.float64)
    order = np.argsort(-certainty, kind="stable")
    wrong, certainty = wrong[order], certainty[order]
    n = len(wrong)
    counts = [max(1, round(float(share) * n)) for share in shares]
    values = np.array(counts) / n  # of whole pictures: an error among six is a sixth
    bootstrap = PatientBootstrap(np.asarray(labels), patients, settings)
    drawn = bootstrap.run(lambda weights: {"risk": _compute_risks(wrong, certainty, weights[:, order], values)})["risk"]
    found = _compute_risks(wrong, certainty, np.ones((1, len(wrong))), values)[0]
    points = tuple(
        SelectivePoint(
            share=float(share),
            n=counts[at],
            threshold=float(certainty[counts[at] - 1]),
            error=choose_estimate(
                float(value), drawn[:, at], settings.level, bootstrap.count(np.ones(n, bool)) * share
            ),
        )
        for at, (share, value) in enumerate(zip(shares, found, strict=True))
    )
    return SelectiveRisk(
        points=points, area=_mean_risk(_share_ties(wrong, certainty)), area_best=_mean_risk(np.sort(wrong))
    )


def _compute_risks(wrong: Floats, certainty: Floats, weights: Floats, shares: Floats) -> Floats:
    """Errors among the surest of `weights` `(B, N)`, sorted by certainty: `(B, shares)`. NaN where nothing is drawn."""
    answered = np.cumsum(weights, axis=1)
    errors = np.cumsum(weights * wrong, axis=1)
    # the last place of each run of equal confidence: between two such places errors rise in proportion
    ends = np.append(np.flatnonzero(np.diff(certainty)), len(certainty) - 1)
    rows = []
    for row in range(len(weights)):
        x = np.append(0.0, answered[row, ends])
        y = np.append(0.0, errors[row, ends])
        wanted = shares * x[-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            rows.append(np.interp(wanted, x, y) / wanted)
    return np.array(rows)


def _share_ties(wrong: Floats, certainty: Floats) -> Floats:
    """Errors with those of equal confidence spread evenly over their places."""
    _, inverse, counts = np.unique(-certainty, return_inverse=True, return_counts=True)
    return np.asarray((np.bincount(inverse, wrong) / counts)[inverse], np.float64)


def _mean_risk(wrong: Floats) -> float:
    return float((np.cumsum(wrong) / np.arange(1, len(wrong) + 1)).mean())
