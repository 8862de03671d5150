"""What is told of the machine."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import numpy as np
import pytest

from snellen.core.runtime import (
    count_threads,
    has_package,
    read_peak_memory_mb,
    read_platform,
    read_versions,
    release_memory,
)


def test_count_threads_is_at_least_one() -> None:
    assert count_threads() >= 1


@pytest.mark.parametrize(("package", "version"), [("python", platform.python_version()), ("numpy", np.__version__)])
def test_read_versions_tells_what_decides_results(package: str, version: str) -> None:
    assert read_versions()[package] == version


def test_read_platform_is_one_line_with_processors() -> None:
    assert read_platform().endswith(f", {count_threads()} processors")
    assert "\n" not in read_platform()


@pytest.mark.skipif(platform.system() == "Windows", reason="Windows does not tell")
def test_read_peak_memory_is_plausible_for_python_with_numpy() -> None:
    peak = read_peak_memory_mb()
    assert peak is not None
    assert 10 < peak < 1e6  # a mistaken unit would be off by a thousand


@pytest.mark.parametrize(("module", "expected"), [("json", True), ("no_such_module", False), ("no_such.child", False)])
def test_has_package_tells_without_failing(module: str, expected: bool) -> None:
    assert has_package(module) is expected


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_memory_goes_back_to_the_system() -> None:
    def read_resident_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

    # small enough not to be mapped, with one block in the way of each shrinking of the heap
    blocks = [b"x" * (50_000 + number % 2) for number in range(4000)]
    kept = blocks[-1]
    before = read_resident_mb()
    del blocks
    release_memory()
    assert read_resident_mb() < before - 100
    assert len(kept) == 50_001
