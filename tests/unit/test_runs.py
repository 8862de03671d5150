"""A run's folder that lacks a file, or holds a damaged one, is told as such."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from snellen.core.errors import StorageError
from snellen.runs import Run, log_to

READERS: dict[str, Callable[[Run], object]] = {
    "plan.json": lambda run: run.plan,
    "cohort.csv": lambda run: run.pixel_hashes,
    "splits.csv": lambda run: run.splits,
    "evaluation-val.json": lambda run: run.evaluation,
}


@pytest.mark.parametrize("name", READERS)
def test_run_that_lacks_a_file_is_called_incomplete(name: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(StorageError, match=f"is no complete run: it holds no {name}") as caught:
        READERS[name](Run(tmp_path))
    assert f"--resume {tmp_path}" in caught.value.hint


@pytest.mark.parametrize("content", [b"x,y\n1,2\n", b"\xff\xfe\x00", b"name,sample\n" + b"a" * 200_000 + b",b\n"])
@pytest.mark.parametrize("name", ["cohort.csv", "splits.csv"])
def test_damaged_table_of_a_run_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StorageError, match=f"{name} cannot be read"):
        READERS[name](Run(tmp_path))


def test_log_of_a_run_ends_with_the_error_that_stopped_it(tmp_path: Path) -> None:
    def stop() -> None:
        with log_to(tmp_path / "run.log") as begin:
            begin()
            raise StorageError("The disk is full.", "Free some space.")

    with pytest.raises(StorageError):
        stop()
    assert "Error: The disk is full." in (tmp_path / "run.log").read_text()
