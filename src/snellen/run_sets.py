"""The conformal sets of a bundle: quantiles from what was held out, scored by the exported graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from snellen.core.progress import say
from snellen.metrics.conformal import count_needed, fit_conformal
from snellen.records.bundle import Conformal
from snellen.records.plan import Plan
from snellen.run_learning import Learned


def fit_sets(learned: Learned, probabilities: NDArray[np.float32], units: Sequence[str], plan: Plan) -> Conformal:
    """Quantiles at the plan's coverage from the graph's `probabilities` `(M, C)` of the held-out pictures.

    `units` `(M,)` is whom each picture counts as: of a patient, or of patients who share copies, one is drawn.

    What is few is told: classes without patients enough for a quantile of their own.
    """
    coverage, classes = plan.evaluation.coverage, plan.data.classes
    fitted = fit_conformal(learned.labels, probabilities, units, coverage=coverage, seed=plan.training.seed)
    pooled = tuple(classes[c] for c in fitted.pooled)
    note = _tell_pooled(pooled, count_needed(coverage), coverage) if pooled else ""
    if note:
        say(f"Warning: {note}")
    return Conformal(
        coverage=coverage,
        quantiles=dict(zip(classes, fitted.quantiles.tolist(), strict=True)),
        n_patients=dict(zip(classes, fitted.n_patients.tolist(), strict=True)),
        pooled=pooled,
        fitted_on=learned.held_name,
        note=note,
    )


def _tell_pooled(pooled: tuple[str, ...], needed: int, coverage: float) -> str:
    return (
        f"conformal sets at {coverage:.0%}: fewer than {needed} held-out patients of {', '.join(pooled)}; "
        "these classes share one quantile, and the coverage holds over all classes, not for them alone"
    )
