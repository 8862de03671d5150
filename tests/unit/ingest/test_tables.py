"""Tables as people write them: delimiters, encodings, bare names, ids, gaps and contradictions."""

from __future__ import annotations

from pathlib import Path

import pytest

from pictures import write_picture, write_pictures, write_table
from snellen.core.errors import DataError, SnellenError, UsageError
from snellen.ingest.tables import Table, names_most_pictures, read_table

ROWS = "image,label\na.png,sick\nb.png,well\nc.png,sick\nd.png,well\n"
LABELS = {"a.png": "sick", "b.png": "well", "c.png": "sick", "d.png": "well"}


def to_labels(table: Table) -> dict[str, str]:
    return {sample.location: sample.label for sample in table.samples}


def read(folder: Path, text: str, columns: dict[str, str] | None = None) -> Table:
    return read_table(write_table(folder, text), columns or {})


def to_issues(table: Table) -> dict[str, tuple[str, ...]]:
    return {issue.code: issue.samples for issue in table.issues}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_read_table_finds_the_delimiter(tmp_path: Path, delimiter: str) -> None:
    assert to_labels(read(tmp_path, ROWS.replace(",", delimiter))) == LABELS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_read_table_finds_the_encoding(tmp_path: Path, encoding: str) -> None:
    path = write_table(tmp_path, ROWS.replace("well", "unauffällig"), encoding=encoding)
    assert to_labels(read_table(path, {}))["b.png"] == "unauffällig"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"])
def test_read_table_takes_any_line_end(tmp_path: Path, end: str) -> None:
    assert to_labels(read(tmp_path, ROWS.replace("\n", end))) == LABELS


def test_read_table_trims_spaces(tmp_path: Path) -> None:
    assert to_labels(read(tmp_path, ROWS.replace(",", " , "))) == LABELS


def test_read_table_keeps_commas_and_quotes_inside_quotes(tmp_path: Path) -> None:
    text = ROWS.replace("well", '"normal, ""benign"""').replace("a.png", '"a,1.png"')
    table = read_table(write_table(tmp_path, text, ("a,1.png", "b.png", "c.png", "d.png")), {})
    assert to_labels(table) == {
        "a,1.png": "sick",
        "b.png": 'normal, "benign"',
        "c.png": "sick",
        "d.png": 'normal, "benign"',
    }


def test_read_table_tells_how_it_read_the_columns(tmp_path: Path) -> None:
    assert read(tmp_path, ROWS).layout == "table labels.csv (image=image, label=label; pictures in the same folder)"


def test_read_table_tells_where_classes_come_from(tmp_path: Path) -> None:
    assert read(tmp_path, ROWS.replace("label", "dr_grade")).class_origin == "column dr_grade"


@pytest.mark.parametrize(
    "value",
    ["a.png", "a", "images/a.png", "./images/a.png", "images\\a.png", "images/a"],
)
def test_read_table_finds_picture_in_sub_folder(tmp_path: Path, value: str) -> None:
    write_pictures(tmp_path / "images", LABELS)
    table = read_table(write_table(tmp_path, ROWS.replace("a.png", value), ()), {})
    assert to_labels(table)["images/a.png"] == "sick"


@pytest.mark.parametrize("name", ["007.png", "1.2.840.113.png", "IDRiD_01.v2.png", "Ä b.png"])
def test_read_table_finds_picture_by_id_without_extension(tmp_path: Path, name: str) -> None:
    text = ROWS.replace("a.png", Path(name).stem).replace("image,", "id,")
    table = read_table(write_table(tmp_path, text, (name, "b.png", "c.png", "d.png")), {})
    assert to_labels(table)[name] == "sick"


def test_read_table_takes_the_folder_that_holds_most_rows(tmp_path: Path) -> None:
    write_pictures(tmp_path / "full", LABELS)
    write_pictures(tmp_path / "aaa_thumbnails", ("a.png", "b.png"))
    assert set(to_labels(read_table(write_table(tmp_path, ROWS, ()), {}))) == {f"full/{name}" for name in LABELS}


@pytest.fixture
def ambiguous(tmp_path: Path) -> Table:
    """Two folders that hold equally many rows, and both an a.png."""
    write_pictures(tmp_path / "one", ("a.png", "b.png", "c.png"))
    write_pictures(tmp_path / "two", ("a.png", "d.png", "e.png"))
    return read_table(write_table(tmp_path, ROWS + "e.png,sick\n", ()), {})


def test_read_table_sets_aside_what_it_cannot_tell_apart(ambiguous: Table) -> None:
    assert to_issues(ambiguous) == {"ambiguous_picture": ("a.png",)}


def test_read_table_goes_on_without_what_it_cannot_tell_apart(ambiguous: Table) -> None:
    assert set(to_labels(ambiguous)) == {"one/b.png", "one/c.png", "two/d.png", "two/e.png"}


def test_read_table_takes_id_of_two_files_for_ambiguous(tmp_path: Path) -> None:
    text = ROWS.replace("a.png", "a")
    table = read_table(write_table(tmp_path, text, ("a.png", "a.jpg", "b.png", "c.png", "d.png")), {})
    assert to_issues(table) == {"ambiguous_picture": ("a",)}


@pytest.mark.parametrize("hidden", [".thumbnails/a.png", "images/.ipynb_checkpoints/a.png", "images/._a.png"])
def test_read_table_overlooks_hidden_files(tmp_path: Path, hidden: str) -> None:
    write_pictures(tmp_path / "images", LABELS)
    for name in LABELS:
        write_picture(tmp_path / hidden.replace("a.png", name), 9)
    assert set(to_labels(read_table(write_table(tmp_path, ROWS, ()), {}))) == {f"images/{name}" for name in LABELS}


@pytest.mark.parametrize(
    ("row", "code", "samples"),
    [
        ("e.png,sick", "missing_picture", ("e.png",)),
        ("../../etc/a.png,sick", "missing_picture", ("../../etc/a.png",)),
        ("/etc/passwd,sick", "missing_picture", ("/etc/passwd",)),
        (",sick", "missing_picture", ("row 6",)),
        ("a.png,sick", "repeated_row", ("a.png",)),
        ("a.png,well", "conflicting_rows", ("a.png",)),
        ("a.png,", "empty_label", ("a.png",)),
        ("a.png,NaN", "empty_label", ("a.png",)),
        ("a.png", "ragged_row", ("labels.csv, line 6: a.png",)),
        ("a.png,sick,left", "ragged_row", ("labels.csv, line 6: a.png",)),
    ],
)
def test_read_table_sets_bad_row_aside(tmp_path: Path, row: str, code: str, samples: tuple[str, ...]) -> None:
    assert to_issues(read(tmp_path, f"{ROWS}{row}\n")) == {code: samples}


@pytest.mark.parametrize("row", ["e.png,sick", "a.png,sick", "a.png,well", "a.png"])
def test_read_table_goes_on_without_bad_row(tmp_path: Path, row: str) -> None:
    assert to_labels(read(tmp_path, f"{ROWS}{row}\n")) == LABELS


def test_read_table_calls_conflicting_rows_severe(tmp_path: Path) -> None:
    assert read(tmp_path, ROWS + "a.png,well\n").issues[0].severity == "severe"


def test_read_table_counts_rows_without_label(tmp_path: Path) -> None:
    table = read(tmp_path, ROWS.replace("a.png,sick", "a.png,").replace("b.png,well", "b.png, "))
    assert table.issues[0].message.startswith("2 rows carry no label")


TWO = "image,eye,finding\na.png,od,sick\nb.png,od,well\nc.png,os,sick\nd.png,os,well\n"


def test_read_table_asks_where_two_columns_may_be_the_label(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"eye \(2 values: od, os\); finding \(2 values: sick, well\)") as caught:
        read(tmp_path, TWO)
    assert "--columns label=" in caught.value.hint


def test_read_table_takes_the_column_that_is_called_label(tmp_path: Path) -> None:
    assert to_labels(read(tmp_path, TWO.replace("finding", "Diagnosis"))) == LABELS


def test_read_table_takes_the_label_column_that_was_told(tmp_path: Path) -> None:
    assert to_labels(read(tmp_path, TWO, {"label": "eye"}))["c.png"] == "os"


def test_read_table_asks_where_two_columns_bear_the_same_name(tmp_path: Path) -> None:
    rows = "image,label,label\na.png,sick,x\nb.png,well,x\nc.png,sick,y\nd.png,well,y\n"
    with pytest.raises(DataError, match="label"):
        read(tmp_path, rows)


def test_read_table_without_label_column_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="label column cannot be told; candidates: none"):
        read(tmp_path, "image,age\na.png,41\nb.png,42\nc.png,43\nd.png,44\n")


def test_read_table_takes_no_measurement_for_a_label(tmp_path: Path) -> None:
    rows = "image,um,size\na.png,100.5,small\nb.png,420.1,large\nc.png,99.2,small\nd.png,510.0,large\n"
    assert read(tmp_path, rows).class_origin == "column size"


FULL = (
    "image,label,patient_id,split\na.png,sick,007,train\nb.png,well,007,train\nc.png,sick,8,Test\nd.png,well,8,test\n"
)


def test_read_table_finds_patients(tmp_path: Path) -> None:
    assert [sample.patient for sample in read(tmp_path, FULL).samples] == ["007", "007", "8", "8"]


def test_read_table_finds_splits(tmp_path: Path) -> None:
    assert [sample.split for sample in read(tmp_path, FULL).samples] == ["train", "train", "test", "test"]


def test_read_table_takes_columns_that_were_told(tmp_path: Path) -> None:
    text = FULL.replace("patient_id", "mrn").replace("split", "part").replace("image", "x").replace("label", "y")
    table = read(tmp_path, text, {"image": "x", "label": "y", "patient": "mrn", "split": "part"})
    first = table.samples[0]
    assert (first.location, first.label, first.patient, first.split) == ("a.png", "sick", "007", "train")


def test_read_table_without_patient_column_leaves_patients_open(tmp_path: Path) -> None:
    assert {sample.patient for sample in read(tmp_path, ROWS).samples} == {None}


def test_read_table_leaves_patient_of_empty_cell_open(tmp_path: Path) -> None:
    # an invented patient would pass as one that the column told, and nobody would be warned
    table = read(tmp_path, FULL.replace("c.png,sick,8", "c.png,sick,"))
    assert {sample.location: sample.patient for sample in table.samples}["c.png"] is None


def test_read_table_leaves_split_of_empty_cell_open(tmp_path: Path) -> None:
    table = read(tmp_path, FULL.replace("8,Test", "8,"))
    assert {sample.location: sample.split for sample in table.samples}["c.png"] is None


def test_read_table_refuses_told_split_column_with_strange_values(tmp_path: Path) -> None:
    text = FULL.replace("split", "part").replace("train", "fold1").replace("test", "fold2")
    with pytest.raises(SnellenError, match="fold1"):
        read(tmp_path, text, {"split": "part"})


def test_read_table_does_not_drop_a_split_column_for_one_typo_in_silence(tmp_path: Path) -> None:
    # otherwise new splits are drawn and the official test pictures are trained on, without a word
    text = FULL.replace("d.png,well,8,test", "d.png,well,8,tets")
    try:
        words = " ".join(issue.message for issue in read(tmp_path, text).issues)
    except SnellenError as error:
        words = str(error)
    assert "tets" in words


def test_read_table_refuses_unknown_role(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="grade=…: there is no such role") as caught:
        read(tmp_path, ROWS, {"grade": "label"})
    assert "image, label, patient, split" in caught.value.hint


@pytest.mark.parametrize("role", ["image", "label", "patient", "split"])
def test_read_table_refuses_unknown_column(tmp_path: Path, role: str) -> None:
    with pytest.raises(UsageError, match="no column 'Label'") as caught:
        read(tmp_path, ROWS, {role: "Label"})
    assert "image, label" in caught.value.hint


def test_read_table_without_picture_column_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column names pictures below") as caught:
        read(tmp_path, ROWS.replace(".png", ".raw"))
    assert str(tmp_path) in caught.value.message


def test_read_table_refuses_told_picture_column_that_names_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="label with 0 of 2 found"):
        read(tmp_path, ROWS, {"image": "label"})


@pytest.mark.parametrize(
    "text",
    ["", "\n", "image,label\n", "image\na.png\nb.png\n", 'image,label\n"a.png,sick\nb.png,well\n', "PK\x03\x04\x14\0"],
    ids=["empty", "newline", "header-only", "one-column", "open-quote", "workbook"],
)
def test_read_table_refuses_what_is_no_table(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"labels\.csv") as caught:
        read(tmp_path, text)
    assert caught.value.hint


def test_read_table_of_folder_raises_data_error(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "labels.csv", {})


@pytest.mark.parametrize(("n_pictures", "expected"), [(4, True), (7, True), (8, False), (400, False)])
def test_names_most_pictures_asks_for_more_than_half(tmp_path: Path, n_pictures: int, expected: bool) -> None:
    assert names_most_pictures(write_table(tmp_path, ROWS), n_pictures) is expected


def test_names_most_pictures_takes_another_table_for_none(tmp_path: Path) -> None:
    assert names_most_pictures(write_table(tmp_path, "site,n\nBerlin,3\nPune,4\n"), 4) is False


@pytest.mark.parametrize("role", ["patient", "split"])
def test_label_cannot_have_another_role_as_well(tmp_path: Path, role: str) -> None:
    with pytest.raises(UsageError, match=f"cannot be both label and {role}"):
        read(tmp_path, ROWS, {"label": "label", role: "label"})
