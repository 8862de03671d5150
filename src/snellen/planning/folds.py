"""Folds of the pictures that may be learned from. A group never lies in two folds, and the test split in none."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from snellen.core.errors import require_no_problems
from snellen.records.cohort import Split

_SALT = 7  # another stream of chance than that of the splits


def assign_folds(splits: Sequence[Split], n_folds: int, seed: int) -> tuple[Split, ...]:
    """Train and val become one pool, split `train`, whose groups are dealt to folds 0 … K-1, class by class.

    The same for the same seed, whatever the order of the rows. Raises DataError that lists every class with too few
    groups: a member needs each class beside the fold it does not see and the fold that chooses.
    """
    pool = [row for row in splits if row.split in ("train", "val")]
    groups: dict[str, list[Split]] = defaultdict(list)
    for row in pool:
        groups[row.group].append(row)
    strata = _stratify(pool, groups)
    _require_enough(pool, n_folds)
    fold_of: dict[str, int] = {}
    filled = [0] * n_folds
    for number, label in enumerate(sorted(strata)):
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, _SALT, number])))
        stratum = [strata[label][index] for index in random.permutation(len(strata[label]))]
        # large groups first: what comes late evens out; of equal size in drawn order
        held = [0] * n_folds
        for group in sorted(stratum, key=lambda name: -len(groups[name])):
            fold = min(range(n_folds), key=lambda k: (held[k], filled[k], k))
            fold_of[group] = fold
            held[fold] += len(groups[group])
            filled[fold] += len(groups[group])
    return tuple(
        row.model_copy(update={"split": "train", "fold": fold_of[row.group]}) if row.group in fold_of
        and row.split in ("train", "val") else row
        for row in splits
    )  # fmt: skip


def _stratify(pool: Sequence[Split], groups: dict[str, list[Split]]) -> dict[str, list[str]]:
    """Groups by the rarest label that they hold."""
    frequency = Counter(row.label for row in pool)
    strata: dict[str, list[str]] = defaultdict(list)
    for group in sorted(groups):
        rarest = min({row.label for row in groups[group]}, key=lambda label: (frequency[label], label))
        strata[rarest].append(group)
    return strata


def _require_enough(pool: Sequence[Split], n_folds: int) -> None:
    """Each class needs three groups at least: one for the fold left out, one for that which chooses, one to learn."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in pool:
        found[row.label].add(row.group)
    problems = [
        f"class {label}: {len(found[label])} patient(s), at least 3 are needed"
        for label in sorted(found)
        if len(found[label]) < 3
    ]
    n_groups = len({row.group for row in pool})
    if n_groups < n_folds:
        problems.append(f"{n_groups} patients do not fill {n_folds} folds")
    require_no_problems(
        problems,
        f"{n_folds} folds by patient are not possible:",
        "Ask for fewer folds, collect more patients of these classes, or train without --folds.",
    )
