"""The label's column is found by content; what could be two things is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from snellen.core.errors import DataError
from snellen.ingest.label_columns import LabelColumns, find_labels, read_labels
from snellen.ingest.rows import Rows


def make(*columns: str, rows: list[str]) -> Rows:
    """A table whose rows are given as words; a dot is an empty cell."""
    split = [["" if cell == "." else cell for cell in row.split()] for row in rows]
    return Rows(Path("t.csv"), columns, tuple(dict(zip(columns, row, strict=True)) for row in split))


ONE_HOT = make("image", "MEL", "NV", "BCC", rows=["a 1.0 0.0 0.0", "b 0 1 0", "c 0.0 0.0 1.0", "d 0 1 0"])
MULTI = make("image", "N", "D", "G", rows=["a 1 0 0", "b 0 1 1", "c 0 0 1", "d 1 0 1"])


def find(table: Rows, asked: str | None = None) -> LabelColumns:
    return find_labels(table, {"image"}, asked)


def test_one_hot_columns_are_found_by_content() -> None:
    assert find(ONE_HOT).names == ("MEL", "NV", "BCC")


def test_one_hot_columns_give_their_names_as_labels() -> None:
    assert read_labels(ONE_HOT, find(ONE_HOT))[0] == ["MEL", "NV", "BCC", "NV"]


def test_one_hot_columns_can_be_told() -> None:
    table = make("image", "eye", "A", "B", rows=["a l 1 0", "b r 0 1", "c l 0 1", "d r 0 1"])
    labels = find(table, "A+B")
    assert (read_labels(table, labels)[0], labels.title) == (["A", "B", "B", "B"], "one-hot columns A, B")


def test_row_without_a_one_has_no_label() -> None:
    table = make("image", "A", "B", rows=["a 1 0", "b 0 1", "c 0 0", "d 0 .", "e 1 0"])
    assert read_labels(table, find(table))[0] == ["A", "B", "", "", "A"]


def test_several_ones_are_refused_as_multi_label_with_the_first_rows() -> None:
    with pytest.raises(DataError, match=r"2 of 4 rows .*multi-label.*b: D, G; d: N, G") as caught:
        find(MULTI)
    assert "out of scope" in caught.value.hint


def test_a_covariate_beside_clean_classes_is_named_and_the_classes_can_be_told() -> None:
    rows = ["a 1 0 0 1", "b 0 1 0 0", "c 0 0 1 1", "d 1 0 0 0", "e 0 1 0 1", "f 0 0 1 0"]
    table = make("image", "normal", "amd", "dme", "male", rows=rows)
    with pytest.raises(DataError, match="3 of 6 rows") as caught:
        find(table)
    assert caught.value.hint.endswith(
        "--columns label=normal. If male is no class, name the others, of which each row has exactly one: "
        "--columns label=normal+amd+dme"
    )
    assert read_labels(table, find(table, "normal+amd+dme"))[0] == ["normal", "amd", "dme"] * 2


def test_no_column_is_named_where_leaving_out_one_does_not_make_the_rest_classes() -> None:
    with pytest.raises(DataError) as caught:
        find(MULTI)
    assert "If some of these columns are no classes, name those that are: --columns label=A+B" in caught.value.hint


def test_one_of_several_conditions_can_be_told() -> None:
    assert read_labels(MULTI, find(MULTI, "G"))[0] == ["0", "1", "1", "1"]


def test_told_columns_with_other_values_are_refused() -> None:
    table = make("image", "A", "B", rows=["a 1 0", "b -1 1"])
    with pytest.raises(DataError, match="hold more than 0 and 1: -1"):
        read_labels(table, find(table, "A+B"))


def test_label_column_beside_one_hot_columns_is_asked_for() -> None:
    table = make("image", "site", "A", "B", rows=["a x 1 0", "b y 0 1", "c x 0 1", "d y 0 1"])
    with pytest.raises(DataError, match=r"site \(2 values: x, y\); A\+B"):
        find(table)


def test_candidates_are_named_with_their_values() -> None:
    table = make("image", "a", "b", rows=[f"{n} {n % 2}x {n % 3}y" for n in range(12)])
    with pytest.raises(DataError, match=r"a \(2 values: 0x, 1x\); b \(3 values: 0y, 1y, 2y\)"):
        find(table)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("0 1 2", "0 1 2"),
        ("0.0 1.0 2.0", "0 1 2"),
        ("0 1.0 2.0", "0 1 2"),
        ("00 01 02", "00 01 02"),
        ("00 1.0 2.0", "00 1.0 2.0"),
        ("0.5 1.0 2.0", "0.5 1.0 2.0"),
        ("-1.0 0.0 1.0", "-1 0 1"),
        ("mild 1.0 2.0", "mild 1.0 2.0"),
    ],
)
def test_numbers_stay_text_but_whole_decimals_become_integers(written: str, expected: str) -> None:
    table = make("image", "grade", rows=[f"{index} {value}" for index, value in enumerate(written.split())])
    labels, issues = read_labels(table, LabelColumns(("grade",)))
    assert labels == expected.split()
    assert [issue.code for issue in issues] == (["labels_as_integers"] if written != expected else [])


@pytest.mark.parametrize("value", [".", "nan", "NaN", "NA", "N/A", "#N/A", "null"])
def test_what_programs_write_for_nothing_is_no_label(value: str) -> None:
    table = make("image", "grade", rows=["a x", "b y", f"c {value}"])
    assert read_labels(table, find(table))[0] == ["x", "y", ""]


def test_none_is_a_class() -> None:
    table = make("image", "grade", rows=["a none", "b mild", "c none"])
    assert read_labels(table, find(table))[0] == ["none", "mild", "none"]
