"""Rows as CSV that every reader gives back as they were. Knows nothing of what columns mean."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence


def format_csv(rows: Iterable[Sequence[object]]) -> str:
    """Rows with commas and `\\n`; cells are quoted where they must be."""
    lines = []
    for row in rows:
        stream = io.StringIO()
        # the writer quotes what its line end holds: told `\n`, it leaves a carriage return in a file name bare,
        # and readers take it for the end of the row (before Python 3.13)
        csv.writer(stream, lineterminator="\r\n").writerow(row)
        lines.append(stream.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)
