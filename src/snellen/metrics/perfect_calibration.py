"""How large calibration errors would be by chance alone, if every stated probability were right.

This room knows probabilities. It must not know labels, models, splits or files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snellen.metrics.scores import ECE_BINS, bin_confidences, bin_evenly, rows_per_chunk
from snellen.records.evaluation import ExpectedError

N_DRAWN = 1000
LIMIT = 0.95


def expect_errors(
    probabilities: NDArray[np.floating], *, seed: int, n_drawn: int = N_DRAWN
) -> dict[str, ExpectedError]:
    """`ece` and `ece_adaptive` under perfect calibration: mean and 95th percentile over labels drawn from
    `probabilities` (N, C), of as many samples and the same confidences as here.

    An observed error above the 95th percentile is more than chance (Vaicenavicius et al. 2019, section 5). Labels are
    drawn independently: where a patient has several pictures, chance does more than this says.
    """
    probs = np.asarray(probabilities, np.float64)
    confidence = probs.max(axis=1)
    random = np.random.default_rng(seed)
    bins = {"ece": bin_confidences(confidence, ECE_BINS), "ece_adaptive": bin_evenly(confidence, ECE_BINS)}
    members = {name: np.eye(ECE_BINS)[own] for name, own in bins.items()}
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in bins}
    step = rows_per_chunk(len(confidence))
    for first in range(0, n_drawn, step):
        size = min(step, n_drawn - first)
        gaps = (random.random((size, len(confidence))) < confidence) - confidence
        for name, own in members.items():
            found[name].append(np.abs(gaps @ own).sum(axis=1) / len(confidence))
    return {
        name: ExpectedError(mean=float(values.mean()), limit=float(np.quantile(values, LIMIT)))
        for name, values in ((name, np.concatenate(parts)) for name, parts in found.items())
    }
