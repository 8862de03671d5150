"""Folds for choosing inside training and validation. A group (a patient with its exact copies) is never divided."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from snellen.core.errors import require_no_problems
from snellen.records.cohort import Split

_DEVELOPMENT = ("train", "val")


def draw_folds(rows: Sequence[Split], n_folds: int, seed: int) -> dict[str, int]:
    """Sample → fold from 0, of the training and validation rows; rows of other parts get none.

    Groups are stratified by their rarest class and dealt to the fold that has fewest pictures of it, the same for
    the same seed whatever the order of the rows. Raises DataError naming each class that some fold lacks.
    """
    members: dict[str, list[Split]] = defaultdict(list)
    for row in rows:
        if row.split in _DEVELOPMENT:
            members[row.group].append(row)
    frequency = Counter(row.label for own in members.values() for row in own)
    strata: dict[str, list[str]] = defaultdict(list)
    for group in sorted(members):
        rarest = min({row.label for row in members[group]}, key=lambda label: (frequency[label], label))
        strata[rarest].append(group)
    fold_of: dict[str, int] = {}
    totals = [0] * n_folds
    for number, label in enumerate(sorted(strata)):
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, n_folds, number])))
        filled = [0] * n_folds
        for index in random.permutation(len(strata[label])):
            own = members[strata[label][index]]
            fold = min(range(n_folds), key=lambda k: (filled[k], totals[k], k))
            filled[fold] += len(own)
            totals[fold] += len(own)
            fold_of.update(dict.fromkeys((row.sample for row in own), fold))
    _require_every_class(members, fold_of, n_folds)
    return fold_of


def _require_every_class(members: dict[str, list[Split]], fold_of: dict[str, int], n_folds: int) -> None:
    held: dict[str, set[int]] = defaultdict(set)
    patients: dict[str, set[str]] = defaultdict(set)
    for own in members.values():
        for row in own:
            held[row.label].add(fold_of[row.sample])
            patients[row.label].add(row.patient)
    problems = [
        f"class {label}: {len(patients[label])} patient(s) in training and validation reach {len(folds)} of {n_folds}"
        for label, folds in sorted(held.items())
        if len(folds) < n_folds
    ]
    require_no_problems(
        problems,
        f"{n_folds} folds by patient cannot each hold every class:",
        "Ask for fewer folds, such as --set tune.folds=2, merge classes, or collect more patients of them.",
    )
