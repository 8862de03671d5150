"""Whether there is enough of each class: what splits, folds and intervals need, counted in patients."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from snellen.metrics.sample_size import compute_half_width, find_growth
from snellen.records.audit import ClassNeed, Needs
from snellen.records.cohort import Cohort, Split

ASSUMED_AUC = 0.85
_MOST_FOLDS = 20
_FEWEST_FOLDS = 3


def compute_needs(cohort: Cohort, splits: Sequence[Split], auc: float | None = None) -> Needs:
    """Widths for `auc`, where a model has one, else for an assumed one."""
    groups: dict[str, set[str]] = defaultdict(set)
    test: dict[str, set[str]] = defaultdict(set)
    pool: dict[str, set[str]] = defaultdict(set)
    for row in splits:
        groups[row.label].add(row.group)
        if row.split == "test":
            test[row.label].add(row.group)
        if row.split in ("train", "val", "calibration"):
            pool[row.label].add(row.group)
    used = min(max(ASSUMED_AUC if auc is None else auc, 0.5), 1.0)
    n_all, n_test = len({row.group for row in splits}), len({row.group for row in splits if row.split == "test"})
    fewest = min((len(pool[name]) for name in cohort.classes), default=0)
    return Needs(
        auc=used,
        is_assumed=auc is None,
        max_folds=min(fewest, _MOST_FOLDS) if fewest >= _FEWEST_FOLDS else 0,
        classes=tuple(_need(name, used, (groups[name], n_all), (test[name], n_test)) for name in cohort.classes),
    )


def _need(name: str, auc: float, whole: tuple[set[str], int], tested: tuple[set[str], int]) -> ClassNeed:
    n, n_test = len(whole[0]), len(tested[0])
    n_test_rest, n_rest = tested[1] - n_test, whole[1] - n
    width = compute_half_width(auc, n_test, n_test_rest)
    growth = find_growth(auc, n_test, n_test_rest)
    return ClassNeed(
        name=name,
        n_patients=n,
        n_test=n_test,
        half_width=_round(width),
        half_width_folds=_round(compute_half_width(auc, n, n_rest)),
        patients_to_halve=None if math.isnan(growth) else math.ceil(growth * n),
    )


def _round(width: float) -> float | None:
    return round(min(width, 0.5), 4) if math.isfinite(width) else None
