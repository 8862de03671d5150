"""What every command tells where its streams are full, or a path has no home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")


def run_in_shell(words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = f'"{sys.executable}" -m snellen {words}'
    return subprocess.run(
        ["/bin/sh", "-c", command], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_full_output_is_not_blamed_on_the_cache(unbuffered: str, tmp_path: Path) -> None:
    done = run_in_shell("recipes auto >/dev/full", tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, "output cannot be written" in done.stderr) == (2, True)
    assert "cache" not in done.stderr


@pytest.mark.parametrize("words", ["audit nope 2>/dev/full", "audit nope >/dev/full 2>&1", "recipes nope 2>/dev/full"])
def test_full_error_stream_keeps_the_exit_code_of_bad_data(words: str, tmp_path: Path) -> None:
    assert run_in_shell(words, tmp_path).returncode == 2


def test_home_of_an_unknown_user_is_not_blamed_on_the_cache_alone(tmp_path: Path) -> None:
    done = run_in_shell("audit '~nosuchuser/x'", tmp_path)
    assert done.returncode == 2
    assert "~N" in done.stderr or "~nosuchuser" in done.stderr
