"""Classes of different size in a run: what resampling needs beforehand, and what it did, in words and as a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from snellen.core.progress import say
from snellen.records.plan import Plan
from snellen.records.run import Resampling
from snellen.training.feature_table import FeatureTable
from snellen.training.features import FeatureStore
from snellen.training.imbalance import MAKERS
from snellen.training.more_views import MOST_VIEWS, count_views, list_further_views
from snellen.training.pictures import Pictures


def find_pictures(table: FeatureTable, plan: Plan, store: FeatureStore) -> Pictures | None:
    """The pictures of a table that `store` computed, where the plan makes new ones of their pixels."""
    makes = plan.imbalance.on == "pixels" and plan.imbalance.method in MAKERS
    return Pictures(store, table.rows) if makes else None


def with_further_views(
    table: FeatureTable,
    labels: NDArray[np.int64],
    plan: Plan,
    store: FeatureStore,
    folds: NDArray[np.intp] | None = None,
) -> FeatureTable:
    """The table that `store` computed, with the further views in which `augment` shows smaller classes; as it is for
    other methods. With `folds` `(N,)` for trainings without one or two of them.
    """
    if plan.imbalance.method != "augment" or not plan.training.begins_on_features:
        return table
    n_slots, seed = table.shape[0], plan.training.seed
    wanted = list_further_views(labels, _list_parts(len(labels), folds), n_slots, seed)
    if not wanted:
        return table
    n_needed, n_made = count_views(labels, n_slots), n_slots + len(wanted)
    counts = sum(len(positions) for positions in wanted.values())
    say(f"Imbalance: smaller classes are shown in up to {n_made} views; {counts} more views are computed")
    if n_needed > n_made >= MOST_VIEWS:
        say(
            f"Warning: the smallest class would need {n_needed} views to be shown as often as the largest; "
            f"{MOST_VIEWS} are made and shown again."
        )
    rows = {number: table.rows[positions] for number, positions in wanted.items()}
    return replace(table, spare=store.fill_views(rows, "Computing more views"))


def _list_parts(n: int, folds: NDArray[np.intp] | None) -> list[NDArray[np.intp]]:
    """Positions that a training may see: all, or all but one or two folds."""
    if folds is None:
        return [np.arange(n)]
    names = np.unique(folds).tolist()
    left_out = [*combinations(names, 1), *combinations(names, 2)]
    parts = [np.flatnonzero(~np.isin(folds, chosen)) for chosen in left_out]
    return [part for part in parts if len(part)]


def record_resampling(counts: NDArray[np.int64] | None, plan: Plan, fold: int | None = None) -> tuple[Resampling, ...]:
    """What became of the counts `(2, C)` before and after; nothing where nothing was resampled."""
    if counts is None:
        return ()
    before, after = (dict(zip(plan.data.classes, row.tolist(), strict=True)) for row in counts)
    imbalance = plan.imbalance
    on = "views" if imbalance.method == "augment" else imbalance.on
    return (Resampling(method=imbalance.method, on=on, fold=fold, before=before, after=after),)


def describe_resampling(resampled: Sequence[Resampling]) -> str:
    """A line a head: pictures of each class before and after."""
    lines = []
    for each in resampled:
        where = "" if each.fold is None else f", fold {each.fold}"
        told = ", ".join(f"{name} {count} → {each.after[name]}" for name, count in each.before.items())
        lines.append(f"Resampled ({each.method} on {each.on}{where}): {told}")
    return "\n".join(lines)
