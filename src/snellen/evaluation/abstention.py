"""What a split says of the bundle's ways not to answer: conformal sets, errors by confidence, the gate.

This room knows scores, a manifest and what the gate said. It must not know pictures or files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from snellen.metrics.conformal import predict_sets
from snellen.metrics.intervals import PatientBootstrap
from snellen.metrics.selective import compute_selective_risk
from snellen.records.bundle import Manifest
from snellen.records.evaluation import (
    Abstentions,
    ConformalSummary,
    Intervals,
    SelectiveRisk,
    SetCoverage,
)

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]


def summarise_conformal(
    manifest: Manifest, labels: Labels, probabilities: Floats, patients: Sequence[str], settings: Intervals
) -> ConformalSummary | None:
    """Coverage and size of the sets, over all pictures and by class; None of a bundle without sets."""
    conformal = manifest.conformal
    if conformal is None:
        return None
    quantiles = [conformal.quantiles[name] for name in manifest.classes]
    inside = predict_sets(probabilities, quantiles, is_ordered=manifest.ordered)
    is_held = inside[np.arange(len(labels)), labels]
    sizes = inside.sum(1)
    is_single = sizes == 1
    bootstrap = PatientBootstrap(labels, patients, settings)

    def cover(is_counted: NDArray[np.bool_]) -> SetCoverage:
        return SetCoverage(
            n=int(is_counted.sum()),
            n_patients=bootstrap.count_patients(is_counted),
            coverage=bootstrap.estimate_share(is_held, is_counted, settings.level),
            mean_size=round(float(sizes[is_counted].mean()), 4),
        )

    return ConformalSummary(
        wanted=conformal.coverage,
        fitted_on=conformal.fitted_on,
        n_fitted=conformal.n_patients,
        pooled=conformal.pooled,
        whole=cover(np.ones(len(labels), bool)),
        per_class={name: cover(labels == c) for c, name in enumerate(manifest.classes) if (labels == c).any()},
        n_empty=int((sizes == 0).sum()),
        n_single=int(is_single.sum()),
        n_several=int((sizes > 1).sum()),
        single_accuracy=bootstrap.estimate_share(is_held, is_single, settings.level),
    )


def summarise_selective(
    labels: Labels, called: NDArray[np.intp], probabilities: Floats, patients: Sequence[str], settings: Intervals
) -> SelectiveRisk:
    """Errors where only the surest pictures are answered; confidence is the probability of the class that is called."""
    confidence = probabilities[np.arange(len(labels)), called]
    return compute_selective_risk(labels, called, confidence, patients, settings)


def summarise_abstentions(
    labels: Labels, called: NDArray[np.intp], reasons: Sequence[str], classes: Sequence[str]
) -> Abstentions:
    """How many pictures get no answer from the gate, why, and how often the others' calls are wrong."""
    is_refused = np.array([bool(reason) for reason in reasons])
    wrong = labels != called
    return Abstentions(
        n=int(is_refused.sum()),
        reasons=dict(sorted(Counter(filter(None, reasons)).items(), key=lambda item: (-item[1], item[0]))),
        per_class={name: int((is_refused & (labels == c)).sum()) for c, name in enumerate(classes)},
        error_answered=_mean(wrong[~is_refused]),
        error_abstained=_mean(wrong[is_refused]),
    )


def _mean(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None
