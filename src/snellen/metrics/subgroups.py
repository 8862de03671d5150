"""Scores of parts of a cohort, and how far each part differs from the rest.

This room knows labels, probabilities, patients and which part a sample belongs to. It must not know what the parts are,
models, splits or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from snellen.metrics.decision import Rule
from snellen.metrics.intervals import PatientBootstrap, choose_estimate, compute_estimates
from snellen.metrics.scores import Scores, compute_scores
from snellen.records.evaluation import Estimate, Intervals, Subgroup

SHOWN = ("auc", "balanced_accuracy", "accuracy", "kappa_quadratic", "brier")
_OF_ALL_CLASSES = ("auc", "balanced_accuracy", "kappa_quadratic")
FEW_PATIENTS = 20
FEW_OF_A_CLASS = 10


@dataclass(frozen=True)
class Scored:
    """`labels` `(N,)`, `probabilities` `(N, C)` and `patients` `(N,)`, with what scoring them needs.

    `threshold` on the probability of `positive` is that of the default operating point.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    patients: Sequence[str]
    classes: tuple[str, ...]
    settings: Intervals
    is_ordered: bool = False
    positive: int | None = None
    rule: Rule = "most_probable"
    threshold: float | None = None


def compute_subgroups(scored: Scored, columns: Mapping[str, Sequence[str]]) -> tuple[Subgroup, ...]:
    """Each value of each column `(N,)` with its scores, and these minus those of all other samples.

    The differences are of one resampling of patients. `differs` names those that remain at a level corrected for all
    that are looked at (Bonferroni), of small parts none; of a column with two values both differences are one.
    """
    bootstrap = PatientBootstrap(scored.labels, scored.patients, scored.settings)
    names = {column: sorted(set(values), key=_rank) for column, values in columns.items()}
    n_parts = sum(1 if len(own) == 2 else len(own) for own in names.values())
    n_compared = n_parts * len(_list_scores(scored))
    return tuple(
        _describe(scored, column, name, np.asarray(columns[column]) == name, bootstrap, n_compared)
        for column, own in names.items()
        for name in own
    )


def _rank(name: str) -> tuple[bool, bool, float, str]:
    """Numbers and bands of numbers from below, then names, last what is not known."""
    first = name.removeprefix("below ").partition(" ")[0]
    try:
        number = float(first)
    except ValueError:
        return name == "", True, 0.0, name
    return False, False, number - 1e-9 * name.startswith("below "), name


def _list_scores(scored: Scored) -> list[str]:
    names = [name for name in SHOWN if name != "kappa_quadratic" or scored.is_ordered]
    return [*names, "sensitivity", "specificity"] if scored.threshold is not None else names


def _describe(
    scored: Scored,
    column: str,
    name: str,
    is_in: NDArray[np.bool_],
    bootstrap: PatientBootstrap,
    n_compared: int,
) -> Subgroup:
    counts = {each: int((scored.labels[is_in] == at).sum()) for at, each in enumerate(scored.classes)}
    patients = np.asarray(scored.patients).astype(str)
    by_class = [len(set(patients[is_in & (scored.labels == at)])) for at in range(len(scored.classes))]
    n_patients = len(set(patients[is_in]))
    differences, differs = {}, []
    is_small = n_patients < FEW_PATIENTS or min(by_class) < FEW_OF_A_CLASS
    if not is_in.all():
        resamples = bootstrap.run(lambda weights: _subtract(scored, is_in, weights))
        observed = _subtract(scored, is_in, np.ones((1, len(is_in))))
        for score, value in observed.items():
            differences[score] = choose_estimate(
                float(value[0]), resamples[score], scored.settings.level, n_behind=min(by_class) or None
            )
            # a class of one or two patients hardly varies under resampling: what looks sure of it is not
            if not is_small and _is_told(float(value[0]), resamples[score], scored.settings.level, n_compared):
                differs.append(score)
    return Subgroup(
        column=column,
        value=name,
        n=int(is_in.sum()),
        n_patients=n_patients,
        n_by_class=counts,
        is_small=is_small,
        metrics=_estimate(scored, is_in),
        differences=differences,
        differs=tuple(differs),
        n_compared=n_compared,
    )


def _estimate(scored: Scored, is_in: NDArray[np.bool_]) -> dict[str, Estimate]:
    """Scores of the part alone, its own patients resampled. Means over classes need all classes."""
    labels = scored.labels[is_in]
    patients = np.asarray(scored.patients).astype(str)[is_in]
    found = compute_estimates(
        labels,
        scored.probabilities[is_in],
        patients,
        settings=scored.settings,
        is_ordered=scored.is_ordered,
        positive=scored.positive,
        rule=scored.rule,
    )
    is_whole = len(np.unique(labels)) == len(scored.classes)
    kept = {
        name: each if is_whole or name not in _OF_ALL_CLASSES else Estimate(value=None, method="none")
        for name, each in found.items()
        if name in SHOWN
    }
    if scored.threshold is None or scored.positive is None:
        return kept
    bootstrap = PatientBootstrap(labels, patients, scored.settings)
    is_sick, is_called = labels == scored.positive, scored.probabilities[is_in, scored.positive] >= scored.threshold
    level = scored.settings.level
    return kept | {
        "sensitivity": bootstrap.estimate_share(is_called, is_sick, level),
        "specificity": bootstrap.estimate_share(~is_called, ~is_sick, level),
    }


def _subtract(scored: Scored, is_in: NDArray[np.bool_], weights: NDArray[np.float64]) -> Scores:
    """Scores (B,) of the part minus those of the rest under `weights` (B, N)."""
    inside, outside = (_score(scored, np.flatnonzero(part), weights[:, part]) for part in (is_in, ~is_in))
    return {name: inside[name] - outside[name] for name in inside}


def _score(scored: Scored, part: NDArray[np.intp], weights: NDArray[np.float64]) -> Scores:
    labels = scored.labels[part]
    found = compute_scores(
        labels,
        scored.probabilities[part],
        weights=weights,
        is_ordered=scored.is_ordered,
        positive=scored.positive,
        rule=scored.rule,
    )
    is_whole = len(np.unique(labels)) == len(scored.classes)
    own = {
        name: found[name] if is_whole or name not in _OF_ALL_CLASSES else np.full(len(weights), np.nan)
        for name in SHOWN
        if name in found
    }
    return own | _score_decisions(scored, part, weights)


def _score_decisions(scored: Scored, part: NDArray[np.intp], weights: NDArray[np.float64]) -> Scores:
    """Sensitivity and specificity (B,) at the default threshold; nothing where there is none."""
    if scored.threshold is None or scored.positive is None:
        return {}
    is_sick = scored.labels[part] == scored.positive
    is_called = scored.probabilities[part, scored.positive] >= scored.threshold
    found = {}
    for name, given, right in (("sensitivity", is_sick, is_called), ("specificity", ~is_sick, ~is_called)):
        total = weights[:, given].sum(axis=1)
        hits = weights[:, given & right].sum(axis=1)
        found[name] = np.divide(hits, total, out=np.full(len(weights), np.nan), where=total > 0)
    return found


def _is_told(value: float, resamples: NDArray[np.float64], level: float, n_compared: int) -> bool:
    """Whether a difference remains at the corrected level, by a normal approximation: no percentile lies so far out."""
    defined = resamples[~np.isnan(resamples)]
    if np.isnan(value) or 2 * len(defined) < len(resamples) or np.ptp(defined) == 0:
        return False
    tail = (1 - level) / (2 * n_compared)
    return abs(value) > NormalDist().inv_cdf(1 - tail) * float(defined.std(ddof=1))
