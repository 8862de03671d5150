"""Whatever a table holds: samples that are really there, or a SnellenError."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pictures import write_table
from properties import BOUNDED
from snellen.core.errors import SnellenError
from snellen.ingest.tables import read_table

CELLS = st.sampled_from(
    ["a.png", "b", "c.png", "./d.png", "", "x", "y", "nan", "train", "test", "/etc/passwd"]
) | st.text(max_size=12)
LINES = st.lists(st.lists(CELLS, max_size=5), max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    write_table(folder, "")
    return folder


def require_promise(folder: Path, data: bytes) -> None:
    path = folder / "labels.csv"
    path.write_bytes(data)
    try:
        table = read_table(path, {})
    except SnellenError:
        return
    for sample in table.samples:
        assert (folder / sample.location).is_file()
        assert (folder / sample.location).resolve().parent == folder.resolve()
        assert sample.label
    assert len({sample.name for sample in table.samples}) == len(table.samples)


@BOUNDED
@given(data=st.binary(max_size=200))
def test_read_table_of_arbitrary_bytes_is_a_table_or_a_snellen_error(folder: Path, data: bytes) -> None:
    require_promise(folder, data)


@BOUNDED
@given(text=st.text(max_size=200), encoding=st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]))
def test_read_table_of_arbitrary_text_is_a_table_or_a_snellen_error(folder: Path, text: str, encoding: str) -> None:
    require_promise(folder, text.encode(encoding, "replace"))


@BOUNDED
@given(lines=LINES, delimiter=st.sampled_from(",;\t"))
def test_read_table_of_arbitrary_cells_is_a_table_or_a_snellen_error(
    folder: Path, lines: list[list[str]], delimiter: str
) -> None:
    text = "\n".join(delimiter.join(cells) for cells in [["image", "label", "patient", "split"], *lines])
    require_promise(folder, text.encode("utf-8", "replace"))
