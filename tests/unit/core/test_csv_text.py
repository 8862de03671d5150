"""Rows as CSV come back as they were."""

from __future__ import annotations

import csv
import io

import pytest

from snellen.core.csv_text import format_csv


@pytest.mark.parametrize(
    "cell", ["a,b", 'say "x"', "two\nlines", "old\rmac", "dos\r\n", "", " blank ", "=1+1", "\u202e"]
)
def test_format_csv_gives_every_cell_back(cell: str) -> None:
    rows = [["name", "other"], [cell, "x"], ["y", cell]]
    assert list(csv.reader(io.StringIO(format_csv(rows), newline=""))) == rows


def test_format_csv_ends_lines_with_a_newline_only() -> None:
    assert format_csv([["a", 1], ["b", None]]) == "a,1\nb,\n"
