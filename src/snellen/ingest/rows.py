"""The text of a table → header and rows: encodings, delimiters, quotes, ragged rows. Knows no column's meaning."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from snellen.core.errors import DataError
from snellen.core.letters import show_count
from snellen.ingest.samples import make_issue
from snellen.ingest.tree import SHEET_SUFFIXES
from snellen.records.cohort import Issue

_DELIMITERS = ",;\t|"
_BOMS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_PROBED = 4096
_SHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .ods are zip archives, .xls is an OLE file


@dataclass(frozen=True)
class Rows:
    """A table as text: cells are stripped, blank lines left out, ragged rows set aside by their line."""

    path: Path
    header: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    issues: tuple[Issue, ...] = ()
    lines: tuple[int, ...] = ()

    @property
    def numbers(self) -> tuple[int, ...]:
        """The line of every row in the file; without, as if no line were left out."""
        return self.lines or tuple(range(2, len(self.rows) + 2))

    def values(self, column: str) -> list[str]:
        return [row[column] for row in self.rows]


def read_rows(path: Path, min_columns: int = 2) -> Rows:
    """Read a delimited text file with a header. Raises DataError naming what is wrong and on which line."""
    text, encoding = _decode(path)
    issues = []
    if encoding == "cp1252":
        message = f"{path.name} is no UTF-8 and was read as Windows-1252."
        issues.append(make_issue("table_encoding", "info", message, "Check names with accents; export it as UTF-8."))
    delimiter, text = _find_delimiter(text)
    lines = _read_lines(path, text, delimiter)
    _, header = next(lines, (0, []))
    while header and not header[-1]:
        header.pop()
    rows, ragged, numbers = [], [], []
    for line, cells in lines:
        extra = cells[len(header) :]
        if len(cells) < len(header) or any(extra):
            ragged.append(f"{path.name}, line {line}: {cells[0]}")
        else:
            rows.append(dict(zip(header, cells, strict=False)))
            numbers.append(line)
    if ragged:
        message = (
            f"{show_count(len(ragged), 'row has', 'rows have')} more or fewer cells than the header's "
            f"{len(header)}, such as {ragged[0]}"
        )
        issues.append(make_issue("ragged_row", "warning", f"{message}: set aside.", "Correct the rows.", ragged))
    _require_table(path, header, len(rows), min_columns)
    return Rows(path, tuple(header), tuple(rows), tuple(issues), tuple(numbers))


def _decode(path: Path) -> tuple[str, str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "Check its permissions.") from error
    if data.startswith(_SHEETS) or path.suffix.lower() in SHEET_SUFFIXES:
        raise DataError(f"{path} is a workbook, not a text table.", "Open it and export the sheet as CSV.")
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), "") or _guess_utf16(data) or "utf-8-sig"
    try:
        return data.decode(encoding), encoding
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            raise DataError(f"{path} is damaged: {error}", "Export it again as CSV in UTF-8.") from error
    return data.decode("cp1252", errors="replace"), "cp1252"


def _guess_utf16(data: bytes) -> str:
    """UTF-16 without a mark has a zero in every second byte of Latin text."""
    probe = data[:_PROBED]
    half = max(len(probe) // 2, 1)
    if len(data) % 2 == 0 and probe[1::2].count(0) > 0.4 * half and probe[::2].count(0) < 0.1 * half:
        return "utf-16-le"
    if len(data) % 2 == 0 and probe[::2].count(0) > 0.4 * half and probe[1::2].count(0) < 0.1 * half:
        return "utf-16-be"
    return ""


def _find_delimiter(text: str) -> tuple[str, str]:
    """The delimiter, and the text without Excel's line `sep=;`, which tells it."""
    text = text.lstrip("\r\n")
    if told := re.match(r"sep=(.)\r?\n", text):
        return told.group(1), text[told.end() :]
    first = re.sub(r'"[^"]*"', "", re.split(r"[\r\n]", text, maxsplit=1)[0])
    return max(_DELIMITERS, key=first.count), text


def _read_lines(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, stripped cells) of every line that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield reader.line_num, stripped
    except csv.Error as error:
        raise DataError(
            f"{path} is no well-formed table: {error} (before line {reader.line_num}).", "Check quotes and delimiters."
        ) from error


def _require_table(path: Path, header: list[str], n_rows: int, min_columns: int) -> None:
    if not n_rows or len(header) < min_columns:
        raise DataError(
            f"{path} has {n_rows} rows and {len(header)} columns.",
            "A table needs a header, an image and a label column.",
        )
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        raise DataError(f"{path} has several columns called {twice[0]!r}.", "Rename all but one.")
