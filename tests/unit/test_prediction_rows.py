"""Where `predict` writes its rows, what it refuses before it scores anything, and that bad entries keep their place."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import pytest

from models import deliver_plain_bundle
from pictures import write_picture
from snellen.core.errors import SnellenError, UsageError
from snellen.inference.predictor import Predictor
from snellen.prediction import Target, predict_paths

needs_pipes = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    deliver_plain_bundle(folder)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> str:
    return str(write_picture(tmp_path / "a.png"))


@pytest.fixture
def no_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("pictures were scored")

    monkeypatch.setattr(Predictor, "score_pixels", fail)


def predict_into(file: Path, bundle: Path, *patterns: str, overwrite: bool = False) -> tuple[int, int]:
    return predict_paths(bundle, patterns, Target(file, overwrite, False))


@needs_pipes
def test_out_that_is_a_pipe_is_refused_without_waiting(bundle: Path, picture: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.csv")
    with pytest.raises(UsageError, match="it is a pipe"):
        predict_into(tmp_path / "rows.csv", bundle, picture, overwrite=True)


@pytest.mark.usefixtures("no_scoring")
@pytest.mark.parametrize("place", ["file/rows.csv", f"{'x' * 300}.csv"], ids=["below a file", "too long a name"])
def test_out_that_cannot_be_written_is_refused_before_scoring(
    bundle: Path, picture: str, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SnellenError, match=r"Not a directory|name too long|File exists"):
        predict_into(tmp_path / place, bundle, picture)


@pytest.mark.usefixtures("no_scoring")
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has /proc, where nobody may write")
def test_out_where_nobody_may_write_is_refused_before_scoring(bundle: Path, picture: str) -> None:
    with pytest.raises(SnellenError, match=r"/proc/nope/rows\.csv"):
        predict_into(Path("/proc/nope/rows.csv"), bundle, picture)


def test_refused_bundle_leaves_no_folder(picture: str, tmp_path: Path) -> None:
    with pytest.raises(SnellenError, match="no bundle"):
        predict_into(tmp_path / "new" / "rows.csv", tmp_path, picture)
    assert not (tmp_path / "new").exists()


def test_new_folders_are_made_and_nothing_else_is_left(bundle: Path, picture: str, tmp_path: Path) -> None:
    predict_into(tmp_path / "new" / "rows.csv", bundle, picture)
    assert [item.name for item in (tmp_path / "new").iterdir()] == ["rows.csv"]


@needs_pipes
def test_bad_entries_keep_their_place_among_the_rows(bundle: Path, picture: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    named = [str(tmp_path / "empty"), picture, str(tmp_path / "pipe.png"), "~no such user/x.png", picture]
    assert predict_into(tmp_path / "rows.csv", bundle, *named) == (3, 5)
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["path"] for row in rows] == named
    assert [row["error"] for row in rows] == [
        "the folder holds no picture", "", "the path cannot be read: it is a pipe, no file",
        "the file does not exist", "",
    ]  # fmt: skip


def test_what_is_told_of_the_rows_is_what_they_hold(
    bundle: Path, picture: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "snellen")
    (tmp_path / "b.png").write_text("no picture")
    predict_into(tmp_path / "rows.csv", bundle, picture, str(tmp_path / "b.png"))
    with (tmp_path / "rows.csv").open(newline="") as stream:
        n_abstained = sum(row["abstain"] == "true" for row in csv.DictReader(stream))
    assert f"2 rows written to {tmp_path / 'rows.csv'}, {n_abstained} with abstain (1 could not be read)" in caplog.text
