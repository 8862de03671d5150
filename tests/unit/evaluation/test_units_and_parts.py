"""Eyes and patients are joined by a stated rule or refused; columns make parts or are refused."""

from __future__ import annotations

import numpy as np
import pytest

from pictures import make_sample
from snellen.core.errors import DataError, UsageError
from snellen.evaluation.subgroups import read_column, read_columns
from snellen.evaluation.units import find_eye, group_units
from snellen.records.cohort import Sample


def name(text: str, patient: str = "P1", **changes: object) -> Sample:
    return make_sample(text, "a", patient).model_copy(update=changes)


@pytest.mark.parametrize(
    ("file", "eye"),
    [
        ("a/12_left.png", "L"),
        ("12_OD.jpg", "R"),
        ("x/P3-os-2.png", "L"),
        ("0007_R.png", "R"),
        ("r_12.png", None),
        ("left/12.png", None),
        ("bright_12.png", None),
        ("left_or_right.png", None),
    ],
)
def test_eye_is_told_by_the_file_name(file: str, eye: str | None) -> None:
    assert find_eye(name(file)) == eye


def test_dicom_tag_wins_over_the_name() -> None:
    assert find_eye(name("12_left.png", laterality="R")) == "R"


def test_units_average_probabilities_and_keep_the_order() -> None:
    samples = [name("1_left.png"), name("1_right.png"), name("1_left_2.png"), name("2_left.png", "P2")]
    labels = np.array([0, 1, 0, 1])
    units = group_units(samples, labels, "eye", is_ordered=False, positive=None)
    assert units.names == ("P1, L", "P1, R", "P2, L")
    assert units.labels.tolist() == [0, 1, 1]
    values = np.array([[0.2, 0.8], [0.5, 0.5], [0.4, 0.6], [1.0, 0.0]])
    np.testing.assert_allclose(units.average(values), [[0.3, 0.7], [0.5, 0.5], [1.0, 0.0]])


@pytest.mark.parametrize(("is_ordered", "positive", "expected"), [(True, None, 2), (False, 0, 0)])
def test_several_labels_give_the_highest_grade_or_the_positive(
    is_ordered: bool, positive: int | None, expected: int
) -> None:
    samples, labels = [name("a.png"), name("b.png")], np.array([0, 2])
    units = group_units(samples, labels, "patient", is_ordered=is_ordered, positive=positive)
    assert units.labels.tolist() == [expected]


def test_several_classes_without_order_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="the pictures of P1 are of several classes"):
        group_units([name("a.png"), name("b.png")], np.array([0, 2]), "patient", is_ordered=False, positive=None)


def test_an_unknown_eye_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"nor the name of 12\.png"):
        group_units([name("12.png")], np.array([0]), "eye", is_ordered=False, positive=None)


def attribute(values: list[str]) -> list[Sample]:
    return [name(f"{row}.png", attributes={"age": value}) for row, value in enumerate(values)]


def test_many_numbers_become_three_bands_of_about_equally_many() -> None:
    values = read_column(attribute([str(age) for age in range(30, 90)] + [""]), "age")
    assert sorted(set(values)) == ["", "49.7 to below 69.3", "69.3 and above", "below 49.7"]
    assert [values.count(band) for band in sorted(set(values))] == [1, 20, 20, 20]
    assert values[19] == "below 49.7"
    assert values[20] == "49.7 to below 69.3"


def test_few_numbers_stay_as_they_are() -> None:
    assert read_column(attribute(["1", "2", "3", "1"]), "age") == ["1", "2", "3", "1"]


def test_facts_of_pictures_make_parts() -> None:
    samples = [name("1_left.png", width_px=64, height_px=48), name("1_right.png", width_px=80, height_px=48)]
    assert read_column(samples, "eye") == ["L", "R"]
    assert read_column(samples, "size") == ["64×48", "80×48"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["x"] * 9, "has one value, x"),
        ([""] * 9, "has no value"),
        ([f"name {row}" for row in range(20)], "has 20 values"),
    ],
)
def test_columns_that_make_no_parts_are_refused(values: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_column(attribute(values), "age")


def test_unknown_column_lists_those_that_are_known() -> None:
    with pytest.raises(UsageError) as caught:
        read_column(attribute(["1", "2"]), "site")
    assert "age, eye, format" in caught.value.hint


def test_parts_of_patients_have_one_value_each_or_several() -> None:
    samples = [
        name("1.png", "P1", attributes={"camera": "old", "sex": "F"}),
        name("2.png", "P1", attributes={"camera": "new", "sex": "F"}),
        name("3.png", "P2", attributes={"camera": "new", "sex": ""}),
        name("4.png", "P3", attributes={"camera": "old", "sex": ""}),
    ]
    units = group_units(samples, np.zeros(4, np.int64), "patient", is_ordered=False, positive=None)
    columns, notes = read_columns(samples, ["camera", "sex"], units)
    assert columns == {"camera": ["several", "new", "old"]}
    assert notes == ["No parts by sex: The column sex has one value, F, for the pictures that are measured: there are "
                     "no parts to compare."]  # fmt: skip


def test_column_that_differs_only_within_patients_makes_no_parts() -> None:
    samples = [name(f"{at}.png", f"P{at // 2}", attributes={"eye side": "LR"[at % 2]}) for at in range(4)]
    units = group_units(samples, np.zeros(4, np.int64), "patient", is_ordered=False, positive=None)
    columns, notes = read_columns(samples, ["eye side"], units)
    assert columns == {}
    assert "several each" in notes[0]
