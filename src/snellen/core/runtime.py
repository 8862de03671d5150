"""The machine: threads, seeds, versions, memory. Imports no heavy library by itself."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.metadata
import os
import platform
import sys


def count_threads() -> int:
    """Processors this process may use (containers and affinity masks count)."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def read_versions() -> dict[str, str]:
    """Versions of Python and of what decides results, for the record; absent packages are left out."""
    found = {"python": platform.python_version()}
    for package in ("snellen", "numpy", "opencv-python-headless", "pillow", "onnxruntime", "torch", "timm",
                    "scikit-learn", "onnx"):  # fmt: skip
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def read_platform() -> str:
    """Operating system, processor architecture and thread count in one line."""
    return f"{platform.system()} {platform.release()} {platform.machine()}, {count_threads()} processors"


def read_peak_memory_mb() -> float | None:
    """The largest resident memory of this process so far, in units of 10^6 bytes, where the system tells."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # Linux counts in KiB


def release_memory() -> None:
    """Give what was freed back to the system; glibc keeps it for the process, and the next step needs its own."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def read_free_memory_bytes() -> int:
    """Memory that can be taken without swapping, 2 GB where the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as stream:  # noqa: PTH123  # no path of anybody
            lines = dict(line.split(":", 1) for line in stream)
        return int(lines["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return 2 << 30


def has_package(module: str) -> bool:
    """Whether `module` can be imported, without importing it."""
    import importlib.util

    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is missing
        return False
