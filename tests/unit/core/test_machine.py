"""Limits and mounts as the system writes them; the disk test leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from snellen.core import machine
from snellen.core.machine import find_file_system, measure_write_speed, read_memory_limit, read_processor_limit


def test_processor_limit_is_the_tightest_of_all_groups_above(tmp_path: Path) -> None:
    inner = tmp_path / "slice" / "job"
    inner.mkdir(parents=True)
    (tmp_path / "slice" / "cpu.max").write_text("150000 100000\n")
    (inner / "cpu.max").write_text("max 100000\n")
    own = tmp_path / "own"
    own.write_text("0::/slice/job\n")
    assert read_processor_limit(tmp_path, own) == 1.5


def test_processor_limit_of_the_first_control_groups(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert read_processor_limit(tmp_path, tmp_path / "none") == 0.5


def test_no_limit_is_none(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("10\n")
    assert read_processor_limit(tmp_path, tmp_path / "none") is None
    assert read_memory_limit(tmp_path, tmp_path / "none") is None


def test_memory_limit_is_what_is_left(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert read_memory_limit(tmp_path, tmp_path / "none") == 600


def test_file_system_is_that_of_the_innermost_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    place = str(tmp_path / "my data").replace(" ", "\\040")
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {place} nfs4 rw 0 0\n")
    assert find_file_system(tmp_path / "my data" / "cache", mounts) == "nfs4"
    assert find_file_system(tmp_path / "my data 2", mounts) == "ext4"
    assert find_file_system(tmp_path, tmp_path / "none") is None


def test_write_speed_is_measured_and_nothing_is_left(tmp_path: Path) -> None:
    speed, written = measure_write_speed(tmp_path, most_bytes=8 << 20)
    assert speed > 0
    assert 4 << 20 <= written <= 8 << 20
    assert list(tmp_path.iterdir()) == []


def test_write_speed_leaves_nothing_when_it_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(machine.os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        measure_write_speed(tmp_path, most_bytes=4 << 20)
    assert list(tmp_path.iterdir()) == []
