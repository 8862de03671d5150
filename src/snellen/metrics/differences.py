"""By how much one model's scores exceed another's on the same pictures, with intervals.

This room knows labels, probabilities and which patient a picture belongs to. It must not know models, splits or files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snellen.metrics.intervals import PatientBootstrap, Patients, choose_estimate
from snellen.metrics.scores import Scores, compute_scores, require_labels_and_probabilities
from snellen.records.evaluation import Estimate, Intervals
from snellen.records.recipe import DecisionRule


def compute_differences(
    labels: NDArray[np.integer],
    probabilities: tuple[NDArray[np.floating], NDArray[np.floating]],
    patients: Patients,
    *,
    settings: Intervals,
    is_ordered: bool = False,
    positive: int | None = None,
    rule: DecisionRule = "most_probable",
) -> dict[str, Estimate]:
    """Every score of the second `probabilities` `(N, C)` minus that of the first; arguments as in `compute_estimates`.

    Paired: patients are resampled once, and both models are scored on the same resample (percentile intervals of the
    differences). Where all resamples agree, as of equal models, there is no interval.
    """
    pairs = [require_labels_and_probabilities(labels, each) for each in probabilities]
    truth = pairs[0][0]

    def subtract(weights: NDArray[np.float64] | None) -> Scores:
        first, second = (
            compute_scores(truth, each, weights=weights, is_ordered=is_ordered, positive=positive, rule=rule)
            for _, each in pairs
        )
        return {name: second[name] - first[name] for name in first}

    resamples = PatientBootstrap(truth, patients, settings).run(subtract)
    return {
        name: choose_estimate(float(value[0]), resamples[name], settings.level)
        for name, value in subtract(None).items()
    }
