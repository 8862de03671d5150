"""What could be two things is asked or told: folders in folders, folders beside a table, several labels in a cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pictures import write_pictures, write_table
from snellen.core.errors import DataError, UsageError
from snellen.ingest.cohort import read_cohort
from snellen.ingest.sources import Source, read_source
from snellen.ingest.tables import read_table
from snellen.records.run import DataRequest

CLASSES = [f"{label}/{number}.png" for label in ("amd", "normal") for number in range(3)]
SEX = "image,patient,sex\n" + "".join(f"{name},p{k % 2},{'mf'[k % 2]}\n" for k, name in enumerate(CLASSES))


def list_codes(source: Source) -> list[str]:
    return [issue.code for issue in source.issues]


def read_rows(folder: Path, cells: Sequence[str], head: str = "image,label") -> None:
    names = [f"{number}.png" for number in range(len(cells))]
    text = "\n".join([head, *(f"{name},{cell}" for name, cell in zip(names, cells, strict=True))])
    read_table(write_table(folder, text, names), {})


@pytest.mark.parametrize("inner", [("normal", "dr"), ("0", "1", "2"), ("grade_1", "grade_2"), ("train", "test")])
def test_the_same_folders_in_every_class_are_severe(tmp_path: Path, inner: Sequence[str]) -> None:
    names = [f"site{site}/{name}/{k}.png" for site in "AB" for name in inner for k in range(2)]
    [issue] = read_source(str(write_pictures(tmp_path, names)), {}).issues
    assert (issue.code, issue.severity) == ("folders_hold_same_folders", "severe")
    assert inner[0] in issue.message


@pytest.mark.parametrize(
    "inner", [("left", "right"), ("OD", "OS"), ("patient 1", "patient 2"), ("1034", "1035"), ("x",)]
)
def test_sides_and_patients_in_every_class_are_no_classes(tmp_path: Path, inner: Sequence[str]) -> None:
    names = [f"{label}/{name}/{k}.png" for label in ("amd", "normal") for name in inner for k in range(2)]
    assert list_codes(read_source(str(write_pictures(tmp_path, names)), {})) == []


@pytest.mark.parametrize("prefix", ["", "train/", "x/"])
@pytest.mark.parametrize("inner", [("amd", "normal"), ("AMD", "Normal", "more"), ("amd", "normal", "dme")])
def test_a_class_that_holds_the_classes_again_is_severe(tmp_path: Path, prefix: str, inner: Sequence[str]) -> None:
    classes = [name.lower() for name in inner if name != "more"]
    names = [f"{prefix}{name}/{k}.png" for name in classes for k in range(2)]
    names += [f"{prefix}export/{name}/{k}.png" for name in inner for k in range(2)]
    names += [f"test/{name}/{k}.png" for name in classes for k in range(2) if prefix == "train/"]
    issues = read_source(str(write_pictures(tmp_path, names)), {}).issues
    [issue] = [issue for issue in issues if issue.code == "folders_hold_same_folders"]
    said = "The folder export was read as a class, but holds folders named like the classes"
    assert (issue.severity, issue.message) == ("severe", f"{said} ({', '.join(sorted(classes))}).")
    assert issue.advice.startswith("Take it out of the data, or move its pictures")


@pytest.mark.parametrize("inner", [("1", "5", "6", "7", "8"), ("1",), ("0",)])
def test_folders_of_patients_that_are_called_like_some_grades_are_no_classes(
    tmp_path: Path, inner: Sequence[str]
) -> None:
    names = [f"{grade}/x.png" for grade in "123"] + [f"0/{name}/{k}.png" for name in inner for k in range(2)]
    assert list_codes(read_source(str(write_pictures(tmp_path, names)), {})) == []


def test_the_same_folders_within_split_folders_are_severe(tmp_path: Path) -> None:
    names = [f"{part}/{site}/{name}/1.png" for part in ("train", "val", "test") for site in "ab" for name in ("x", "y")]
    assert list_codes(read_source(str(write_pictures(tmp_path, names)), {})) == ["folders_hold_same_folders"]


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_columns_without_a_table_are_refused(tmp_path: Path, prefix: str) -> None:
    write_pictures(
        tmp_path, [f"{part}{name}" for part in {prefix, prefix.replace("train", "test")} for name in CLASSES]
    )
    with pytest.raises(UsageError, match=r"is for tables and array files; .* was read as"):
        read_source(str(tmp_path), {"label": "grade"})


def test_an_unknown_role_is_refused_in_class_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="foo=…: there is no such role"):
        read_source(str(write_pictures(tmp_path, CLASSES)), {"foo": "x"})


@pytest.mark.parametrize("columns", [{"patient": "patient"}, {}])
def test_folders_beside_a_table_are_asked_about(tmp_path: Path, columns: dict[str, str]) -> None:
    write_table(tmp_path, SEX, CLASSES)
    with pytest.raises(DataError, match=r"names of the folders \(amd, normal\) or a column of labels.csv, such as sex"):
        read_source(str(tmp_path), columns)


def test_folders_beside_a_table_with_a_told_label_are_no_question(tmp_path: Path) -> None:
    write_table(tmp_path, SEX, CLASSES)
    source = read_source(str(tmp_path), {"patient": "patient", "label": "sex"})
    assert {sample.label for sample in source.samples} == {"m", "f"}


@pytest.mark.parametrize("columns", [{}, {"label": "label"}])
def test_folders_that_a_table_contradicts_are_told(tmp_path: Path, columns: dict[str, str]) -> None:
    write_table(tmp_path, SEX.replace("sex", "label"), CLASSES)
    source = read_source(str(tmp_path), columns)
    (issue,) = [issue for issue in source.issues if issue.code == "folders_not_used"]
    assert "(amd, normal) are named otherwise for 6 of 6 pictures" in issue.message


def test_folders_that_a_table_repeats_are_not_told(tmp_path: Path) -> None:
    rows = "".join(f"{name},{name.split('/')[0]}\n" for name in CLASSES)
    source = read_source(str(write_table(tmp_path, f"image,label\n{rows}", CLASSES).parent), {})
    assert "folders_not_used" not in list_codes(source)


def test_patients_of_a_table_beside_folders_leave_its_label(tmp_path: Path) -> None:
    write_table(tmp_path, SEX.replace("patient", "who").replace("sex", "label"), CLASSES)
    request = DataRequest(data=str(tmp_path), patients="who")
    assert read_cohort(request, threads=1, cache=tmp_path / ".cache").classes == ("f", "m")


@pytest.mark.parametrize("mark", [";", "|", "+", "/", ", ", " & "])
def test_several_labels_in_a_cell_are_refused(tmp_path: Path, mark: str) -> None:
    cells = ["amd", "dme", "normal", f'"amd{mark}dme"', "amd", "normal", "dme", "amd"]
    with pytest.raises(DataError, match=r"1 of 8 rows \(multi-label\), such as 3.png: amd") as caught:
        read_rows(tmp_path, cells)
    assert "out of scope" in caught.value.hint


def test_a_label_with_a_mark_is_one_label(tmp_path: Path) -> None:
    read_rows(tmp_path, ["n/a grade", "mild/moderate", "mild", "mild/moderate", "n/a grade", "mild"])


def test_several_labels_in_a_text_of_an_array_are_refused(tmp_path: Path) -> None:
    labels = np.array(["amd", "dme", "amd;dme", "dme"])
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 8, 8), np.uint8), labels=labels)
    with pytest.raises(DataError, match="multi-label"):
        read_source(str(tmp_path / "a.npz"), {})


def test_a_lone_column_of_many_numbers_is_asked_about(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"age \(12 values.*looks like a measure"):
        read_rows(tmp_path, [str(40 + k % 12) for k in range(30)], "image,age")


@pytest.mark.parametrize("inner", ["", "test/"])
def test_one_class_folder_is_read_where_nothing_is_trained(tmp_path: Path, inner: str) -> None:
    write_pictures(tmp_path / "in", [f"{inner}amd/1.png", f"{inner}amd/2.png"])
    request = DataRequest(data=str(tmp_path / "in"))
    assert read_cohort(request, threads=1, cache=tmp_path / ".cache", is_training=False).classes == ("amd",)
    with pytest.raises(DataError, match=r"1 class folder\(s\)"):
        read_cohort(request, threads=1, cache=tmp_path / ".cache")


def test_a_named_label_of_one_value_is_read(tmp_path: Path) -> None:
    read_rows(tmp_path, ["amd"] * 4)
