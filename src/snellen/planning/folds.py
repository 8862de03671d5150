"""Folds of the pictures that may be learned from. A group never lies in two folds, and the test split in none."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from snellen.core.errors import require_no_problems
from snellen.core.letters import show_count
from snellen.records.cohort import Split

_POOL = ("train", "val", "calibration")
_DEVELOPMENT = ("train", "val")
_SALT = 7  # another stream of chance than that of the splits


def assign_folds(splits: Sequence[Split], n_folds: int, seed: int) -> tuple[Split, ...]:
    """Train, val and calibration become one pool, split `train`, its groups dealt to folds 0 … K-1, class by class.

    The same for the same seed, whatever the order of the rows. Raises DataError that lists every class with too few
    groups: a member needs each class beside the fold it does not see and the fold that chooses.
    """
    pool = [row for row in splits if row.split in _POOL]
    _require_enough(pool, n_folds)
    fold_of = _deal(pool, n_folds, seed)
    return tuple(
        row.model_copy(update={"split": "train", "fold": fold_of[row.sample]}) if row.sample in fold_of else row
        for row in splits
    )


def draw_folds(rows: Sequence[Split], n_folds: int, seed: int) -> dict[str, int]:
    """Sample → fold from 0, of the training and validation rows, for choosing among them; other rows get none.

    Raises DataError naming each class that some fold lacks.
    """
    pool = [row for row in rows if row.split in _DEVELOPMENT]
    fold_of = _deal(pool, n_folds, seed)
    held: dict[str, set[int]] = defaultdict(set)
    patients: dict[str, set[str]] = defaultdict(set)
    for row in pool:
        held[row.label].add(fold_of[row.sample])
        patients[row.label].add(row.patient)
    require_no_problems(
        [
            f"class {label}: {show_count(len(patients[label]), 'patient')} in training and validation reach "
            f"{len(folds)} of {n_folds}"
            for label, folds in sorted(held.items())
            if len(folds) < n_folds
        ],
        f"{n_folds} folds by patient cannot each hold every class:",
        "Ask for fewer folds, such as --set tune.folds=2, merge classes, or collect more patients of them.",
    )
    return fold_of


def _deal(pool: Sequence[Split], n_folds: int, seed: int) -> dict[str, int]:
    """Sample → fold; groups go to the fold that has fewest pictures of their rarest class."""
    groups: dict[str, list[Split]] = defaultdict(list)
    for row in pool:
        groups[row.group].append(row)
    strata = _stratify(pool, groups)
    fold_of: dict[str, int] = {}
    filled = [0] * n_folds
    for number, label in enumerate(sorted(strata)):
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, _SALT, number])))
        stratum = [strata[label][index] for index in random.permutation(len(strata[label]))]
        # large groups first: what comes late evens out; of equal size in drawn order
        held = [0] * n_folds
        for group in sorted(stratum, key=lambda name: -len(groups[name])):
            fold = min(range(n_folds), key=lambda k: (held[k], filled[k], k))
            fold_of.update(dict.fromkeys((row.sample for row in groups[group]), fold))
            held[fold] += len(groups[group])
            filled[fold] += len(groups[group])
    return fold_of


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
        f"class {label}: {show_count(len(found[label]), 'patient')}, at least 3 are needed"
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
