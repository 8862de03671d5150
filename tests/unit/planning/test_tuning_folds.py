"""Folds never divide a patient, hold every class, and know nothing of test."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from properties import BOUNDED
from snellen.core.errors import DataError
from snellen.planning.folds import draw_folds
from snellen.records.cohort import Split


def make_rows(patients: list[tuple[str, int, str]]) -> list[Split]:
    """A row a picture of `(label, number of pictures, split)` a patient."""
    return [
        Split(sample=f"{number}-{k}", patient=f"p{number}", group=f"g{number}", label=label, split=split, reason="")  # type: ignore[arg-type]  # the literal is checked when the record is made
        for number, (label, size, split) in enumerate(patients)
        for k in range(size)
    ]


def enough(n_folds: int) -> list[tuple[str, int, str]]:
    return [(label, 2, "train") for label in ("a", "b") for _ in range(n_folds)]


patient = st.tuples(st.sampled_from("ab"), st.integers(1, 5), st.sampled_from(["train", "val", "test", "left_out"]))


@BOUNDED
@given(st.lists(patient, max_size=40), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_folds_never_share_a_patient_and_leave_test_out(
    more: list[tuple[str, int, str]], n_folds: int, seed: int
) -> None:
    rows = make_rows([*enough(n_folds), *more])
    fold_of = draw_folds(rows, n_folds, seed)
    assert set(fold_of) == {row.sample for row in rows if row.split in ("train", "val")}
    folds = defaultdict(set)
    labels = defaultdict(set)
    for row in rows:
        if row.sample in fold_of:
            folds[row.group].add(fold_of[row.sample])
            labels[fold_of[row.sample]].add(row.label)
    assert {len(found) for found in folds.values()} == {1}
    assert all(labels[fold] == {"a", "b"} for fold in range(n_folds))


def test_folds_do_not_depend_on_the_order_of_rows() -> None:
    rows = make_rows(enough(6))
    assert draw_folds(rows, 3, 5) == draw_folds(rows[::-1], 3, 5)
    assert draw_folds(rows, 3, 5) != draw_folds(rows, 3, 6)


def test_folds_are_of_about_one_size() -> None:
    fold_of = draw_folds(make_rows([("a", 3, "train")] * 20 + [("b", 1, "val")] * 31), 3, 0)
    sizes = [list(fold_of.values()).count(fold) for fold in range(3)]
    assert max(sizes) - min(sizes) <= 4


def test_class_that_cannot_fill_the_folds_is_named_with_its_patients() -> None:
    rows = make_rows([*enough(3), ("c", 9, "train"), ("c", 2, "val")])
    with pytest.raises(DataError, match=r"class c: 2 patients? .* 2 of 3") as caught:
        draw_folds(rows, 3, 0)
    assert "tune.folds=2" in caught.value.hint
