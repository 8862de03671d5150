"""A path that does not fit is told as what it is: absent, a bundle, or a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from snellen import workflow
from snellen.cli import app
from snellen.core.errors import StorageError, UsageError
from snellen.core.storage import open_cache
from snellen.outputs import AUDIT, require_output
from snellen.runs import open_run


def test_split_of_other_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--split val is for a run's own data"):
        workflow.evaluate(tmp_path, tmp_path, split="val")


def test_bundle_without_data_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match="is a bundle, not a run") as caught:
        workflow.evaluate(tmp_path)
    assert f"snellen evaluate {tmp_path} DATA" in caught.value.hint


def test_absent_run_is_told_to_be_absent(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        open_run(tmp_path / "absent")


def test_folder_without_run_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no run"):
        open_run(tmp_path)


@pytest.mark.parametrize("command", ["audit", "plan", "train"])
def test_out_that_cannot_be_made_is_told_before_the_data_are_read(command: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()  # without a picture: reading it would be another error
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    with pytest.raises(UsageError, match=rf"--out {out}: {tmp_path / 'file'} is a file"):
        getattr(workflow, command)(tmp_path / "data", out=out)


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs Linux's /proc, where not even root writes")
def test_out_that_nobody_may_write_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="--out /proc/out cannot be written"):
        workflow.audit(tmp_path, out="/proc/out")


def test_out_that_can_be_made_is_left_unmade(tmp_path: Path) -> None:
    require_output(tmp_path / "a" / "b", AUDIT, overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_cache_that_cannot_be_made_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = tmp_path / "file" / "cache"
    with pytest.raises(StorageError, match=f"--cache {cache} cannot be written"):
        open_cache(str(cache))


@pytest.mark.parametrize("command", ["info", "clear"])
def test_named_cache_must_exist(command: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["cache", command, "--cache", str(tmp_path / "absent")])
    assert done.exit_code == 2
    assert "there is no such folder" in done.output


def test_own_cache_may_be_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNELLEN_CACHE", str(tmp_path / "absent"))
    assert CliRunner().invoke(app, ["cache", "info"]).exit_code == 0
