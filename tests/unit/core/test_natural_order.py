"""Names are counted as a person would count them."""

from __future__ import annotations

import random

import pytest

from snellen.core.natural_order import is_number, read_numbers, sort_naturally


@pytest.mark.parametrize(
    "names",
    [
        ("-2", "-1", "0", "0.25", "0.5", "1", "1.25", "1.5", "10"), ("−1", "0", "1"), ("0,25", "0,5", "1,5"),
        ("grade_9", "grade_10", "grade_11"), ("grade-1", "grade-2", "grade-10"), ("grade_-2", "grade_-1", "grade_0"),
        ("grade 0.5", "grade 1", "grade 1.5", "grade 10"), ("5-17", "18-30", "31-50"), ("1.9.3", "1.10.2"),
        ("0 - none", "1 - mild", "10 - worse"), ("2", "10", "a", "B", "c"), ("1", "9" * 5000), ("2", "٣"),
    ],
)  # fmt: skip
def test_sort_naturally_counts_numbers(names: tuple[str, ...]) -> None:
    mixed = list(names)
    random.Random(0).shuffle(mixed)
    assert sort_naturally(mixed) == names


def test_sort_naturally_keeps_names_that_differ_in_writing_only() -> None:
    assert sort_naturally(["1.0", "01", "1"]) == ("01", "1", "1.0")


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (("1", "-1", "0.5"), (1, -1, 0.5)), (("grade_2", "Grade 10"), (2, 10)), (("0 - none", "1 - mild"), (0, 1)),
        (("grade-1", "grade-2"), (1, 2)), (("T1", "N1"), None), (("1a", "1b"), None), (("none", "1"), None), ((), None),
    ],
)  # fmt: skip
def test_read_numbers_only_where_names_differ_by_them(
    names: tuple[str, ...], numbers: tuple[float, ...] | None
) -> None:
    assert read_numbers(names) == numbers


@pytest.mark.parametrize(("name", "found"), [("-1.5", True), ("0,5", True), ("1a", False), ("grade_1", False)])
def test_is_number_asks_for_the_whole_name(name: str, found: bool) -> None:
    assert is_number(name) is found
