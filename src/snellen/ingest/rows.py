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
_SHOWN = 60
_LINE = re.compile(r"[^\r\n]*")
_ABOVE = re.compile(r"[^\S\r\n]*(#[^\r\n]*)?(\r\n|\r|\n)")
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
    delimiter, text, above = _find_delimiter(text)
    lines = _read_lines(path, text, delimiter, above)
    at, header = next(lines, (0, []))
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
    if not rows or len(header) < min_columns:
        raise _no_table(path, len(rows), len(ragged), header, f"line {at}, “{delimiter.join(header)[:_SHOWN]}”,")
    _require_names(path, header, at)
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


def _find_delimiter(text: str) -> tuple[str, str, int]:
    """The delimiter, the text from the header on, and how many lines lie above it: Excel's line `sep=;` tells it."""
    text, above = _skip_comments(text)
    if told := re.match(r"sep=(.)\r?\n", text):
        return told.group(1), text[told.end() :], above + 1
    return _guess_delimiter(text), text, above


def _skip_comments(text: str) -> tuple[str, int]:
    """The text without the lines above its header that are blank or begin with #, and how many these are.

    A line that begins with # is the header where the next has as many cells: `# image,label`.
    """
    at = n = 0  # by places in the text: to cut it at each line would take quadratic time
    while line := _ABOVE.match(text, at):
        if line.group(1) and _is_header(line.group(1), _first_line(text, line.end())):
            break
        at, n = line.end(), n + 1
    return text[at:], n


def _is_header(comment: str, below: str) -> bool:
    delimiter = _guess_delimiter(below)
    n_marks = _first_line(below).count(delimiter)
    return not below.lstrip().startswith("#") and 0 < n_marks == _first_line(comment).count(delimiter)


def _guess_delimiter(text: str) -> str:
    return max(_DELIMITERS, key=_first_line(text).count)


def _first_line(text: str, at: int = 0) -> str:
    """Without what stands in quotes."""
    line = _LINE.match(text, at)
    return re.sub(r'"[^"]*"', "", line.group() if line else "")


def _read_lines(path: Path, text: str, delimiter: str, above: int) -> Iterator[tuple[int, list[str]]]:
    """(line number, stripped cells) of every line that is not blank; `above` lines of the file are not in `text`."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield above + reader.line_num, stripped
    except csv.Error as error:
        raise DataError(
            f"{path} is no well-formed table: {error} (before line {above + reader.line_num}).",
            "Check quotes and delimiters.",
        ) from error


def _no_table(path: Path, n_rows: int, n_ragged: int, header: list[str], place: str) -> DataError:
    message = f"{path} has {n_rows} rows and {len(header)} columns"
    if header:
        message += f": {place} was read as the header"
    if n_ragged:
        message += f", and {n_ragged} rows have more or fewer cells"
    return DataError(f"{message}.", "A table needs a header, an image and a label column.")


def _require_names(path: Path, header: list[str], line: int) -> None:
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        raise DataError(
            f"{path} has several columns called {twice[0]!r}.",
            f"Rename all but one; if line {line} is data, write a line above it that names the columns.",
        )
