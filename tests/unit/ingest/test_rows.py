"""The text of tables as people and programs write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from snellen.core.errors import DataError
from snellen.ingest.rows import Rows, read_rows

TEXT = "image,label\na.png,Ödem\nb.png,gesund\n"
ROWS = [{"image": "a.png", "label": "Ödem"}, {"image": "b.png", "label": "gesund"}]


def read(folder: Path, content: str | bytes) -> Rows:
    path = folder / "labels.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_rows(path)


def list_codes(rows: Rows) -> list[str]:
    return [issue.code for issue in rows.issues]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_encoding_is_recognised(tmp_path: Path, encoding: str) -> None:
    assert list(read(tmp_path, TEXT.encode(encoding)).rows) == ROWS


def test_windows_encoding_is_told(tmp_path: Path) -> None:
    assert list_codes(read(tmp_path, TEXT.encode("cp1252"))) == ["table_encoding"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_recognised(tmp_path: Path, delimiter: str) -> None:
    assert list(read(tmp_path, TEXT.replace(",", delimiter)).rows) == ROWS


def test_delimiter_within_quotes_of_the_header_does_not_count(tmp_path: Path) -> None:
    rows = read(tmp_path, '"image, of the left, or right";label\na.png;x\n')
    assert rows.header == ("image, of the left, or right", "label")


def test_line_of_excel_that_tells_the_delimiter_is_understood(tmp_path: Path) -> None:
    assert list(read(tmp_path, "sep=;\n" + TEXT.replace(",", ";")).rows) == ROWS


@pytest.mark.parametrize(
    "above",
    ["# exported 22.11.2026\n\n", "\n  \n", "# by A, B\n# C, D\n#\n\n", "\t# a;b\r\n", '# "x", y, z\n', "sep=,\n"],
)
def test_blank_lines_and_comments_above_the_header_are_left_out(tmp_path: Path, above: str) -> None:
    rows = read(tmp_path, above + TEXT)
    n = above.count("\n")
    assert (list(rows.rows), rows.numbers) == (ROWS, (n + 2, n + 3))


@pytest.mark.parametrize("above", ["", "# exported\n"])
@pytest.mark.parametrize("first", ["#", "# image", "#image file"])
def test_a_header_that_begins_with_a_hash_stays_the_header(tmp_path: Path, above: str, first: str) -> None:
    rows = read(tmp_path, f"{above}{first},label\na.png,Ödem\n")
    assert (rows.header, len(rows.rows)) == ((first, "label"), 1)


def test_a_title_above_the_header_is_named_as_what_was_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2, “Grades of the clinic”, was read as the header, and 3 rows have"):
        read(tmp_path, f"# x\nGrades of the clinic\n{TEXT}")


@pytest.mark.parametrize("row", ["c.png", "c.png,x,left", "c.png,x,,y"])
def test_ragged_row_is_set_aside_by_its_line(tmp_path: Path, row: str) -> None:
    rows = read(tmp_path, f"{TEXT}{row}\n")
    assert list(rows.rows) == ROWS
    assert rows.issues[0].samples == ("labels.csv, line 4: c.png",)


def test_empty_cells_at_the_end_are_no_fault(tmp_path: Path) -> None:
    # spreadsheets export columns that somebody once touched
    rows = read(tmp_path, "image,label,,\na.png,Ödem,,\nb.png,gesund,\n")
    assert (list(rows.rows), rows.issues) == (ROWS, ())


@pytest.mark.parametrize("blank", ["\n\n", ",\n", " , \n"])
def test_blank_line_is_no_row(tmp_path: Path, blank: str) -> None:
    assert list(read(tmp_path, TEXT + blank).rows) == ROWS


def test_broken_quote_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.csv is no well-formed table.*line"):
        read(tmp_path, 'image,label\na.png,"x"y\nb.png,z\n')


@pytest.mark.parametrize("content", [b"PK\x03\x04\x14\0\x06\0", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"])
def test_workbook_named_csv_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="workbook") as caught:
        read(tmp_path, content)
    assert "export the sheet as CSV" in caught.value.hint


def test_cut_utf16_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="damaged"):
        read(tmp_path, TEXT.encode("utf-16")[:-1])
