"""The part of the audit's page on counts: how sure a number of each class can be, and how many patients would halve it.

This room knows records and column heads.
"""

from __future__ import annotations

from collections.abc import Sequence

from snellen.core.letters import reveal
from snellen.evaluation.tables import Table
from snellen.evaluation.wording import format_count, format_number
from snellen.records.audit import ClassNeed, Needs
from snellen.records.cohort import Split

_WIDE = 0.1
MAX_CLASSES = 100


def build_needs(needs: Needs) -> Table:
    """A row a class: patients, the interval to expect with one test split and with folds, patients for half of it."""
    rows = tuple(
        (
            reveal(each.name),
            f"{each.n_patients:,}",
            f"{each.n_test:,}",
            _show(each.half_width),
            _show(each.half_width_folds),
            "–" if each.patients_to_halve is None else f"{each.patients_to_halve:,}",
        )
        for each in needs.classes[:MAX_CLASSES]
    )
    head = (
        "Class", "Patients", "of them in test", "AUC on test, ±", "AUC with --folds, ±",
        "Patients at which the former halves",
    )  # fmt: skip
    kinds = ("text", "num", "num", "num", "num", "num")
    return Table("How sure the AUC of each class against the rest can be", head, rows, kinds)


def explain_needs(needs: Needs) -> str:
    """What the table says, in words for a reader without statistics."""
    known = [each for each in needs.classes if each.half_width is not None]
    if not known:
        return "The test part has too few patients of some class: there would be no interval."
    widest = max(known, key=lambda each: each.half_width or 0)
    sure = f"an AUC of {format_number(needs.auc, 2)} would be {_tell_range(needs.auc, widest)}"
    worst = f"The least sure class is “{reveal(widest.name)}”: {sure}."
    if (widest.half_width or 0) <= _WIDE:
        return f"{worst} That is narrow enough for most questions."
    if needs.max_folds:
        folds, half = min(5, needs.max_folds), _show(widest.half_width_folds)
        return f"{worst} That is wide. With snellen train --folds {folds} every patient is tested once: ±{half}."
    return f"{worst} That is wide, and there are too few patients for folds: collect more."


def explain_joined(splits: Sequence[Split]) -> str:
    """Why this table counts fewer patients than the one before; empty where it does not."""
    n_patients, n_groups = len({row.patient for row in splits}), len({row.group for row in splits})
    if n_groups == n_patients:
        return ""
    return (
        "Here patients who share a picture, or copies of one, count as one: "
        f"{format_count(n_patients, 'patient')} above "
        f"are {n_groups:,} in this table."
    )


def _tell_range(auc: float, need: ClassNeed) -> str:
    half = need.half_width or 0.0
    return f"known to lie between {format_number(max(0.0, auc - half), 2)} and {format_number(min(1.0, auc + half), 2)}"


def _show(width: float | None) -> str:
    return "–" if width is None else format_number(width, 2)
