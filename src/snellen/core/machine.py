"""What the system tells of the machine beyond its processors: limits of containers, file systems, the disk's speed."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path

from snellen.core.storage import explain_os_error, measure_free_space

NETWORK_FILE_SYSTEMS = frozenset({
    "nfs", "nfs3", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs",
    "glusterfs", "davfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone",
    "fuse.davfs2",
})  # fmt: skip
_CHUNK = 4 << 20
_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


def read_processor_limit(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Processors that the control group allows, None without a limit or where there are no control groups.

    The group's own folder and all above it count; a container usually sees its own as the root.
    """
    found = []
    for folder in _list_groups(root, own):
        with contextlib.suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            if quota != "max":
                found.append(int(quota) / int(period))
        with contextlib.suppress(OSError, ValueError):  # the first version of control groups
            quota_us = int((folder / "cpu.cfs_quota_us").read_text())
            if quota_us > 0:
                found.append(quota_us / int((folder / "cpu.cfs_period_us").read_text()))
    return min(found, default=None)


def read_memory_limit(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """Bytes that the control group still allows, None without a limit."""
    found = []
    for folder in _list_groups(root, own):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            with contextlib.suppress(OSError, ValueError):
                left = int((folder / limit).read_text()) - int((folder / used).read_text())
                found.append(max(0, left))
    return min(found, default=None)


def _list_groups(root: Path, own: Path) -> list[Path]:
    folders = [root, root / "cpu", root / "memory"]
    with contextlib.suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            base = root / controllers if controllers else root
            parts = [part for part in path.split("/") if part and part != ".."]
            folders += [base.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    return folders


def read_busy_processors() -> float | None:
    """Processes that ran or waited in the last minute, on average."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


def read_openmp_threads() -> int | None:
    """What the environment asks OpenMP for, if anything."""
    value = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(value) if value.isdecimal() else None


def find_file_system(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """The type of the file system that holds `folder`, such as ext4 or nfs4; None where the system does not tell."""
    target = folder.resolve()
    best, kind = -1, None
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        words = line.split(" ")
        place = words[1]
        for code, letter in _ESCAPES:
            place = place.replace(code, letter)
        # of two mounts at one place the later one is seen
        if target.is_relative_to(place) and len(place) >= best:
            best, kind = len(place), words[2]
    return kind


def measure_write_speed(folder: Path, *, most_bytes: int = 128 << 20, limit_s: float = 2.0) -> tuple[float, int]:
    """Bytes a second that reach the disk of `folder`, and how many were written. The test file is removed again.

    At most a hundredth of the free space is written. Raises StorageError.
    """
    most = min(most_bytes, measure_free_space(folder) // 100)
    block = os.urandom(_CHUNK)  # a disk that compresses must not look fast
    written = 0
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as stream:  # without a name: no kill leaves it behind
            begin = time.perf_counter()
            while written < max(most, _CHUNK) and time.perf_counter() - begin < limit_s:
                written += stream.write(block)
            os.fsync(stream.fileno())
            return written / (time.perf_counter() - begin), written
    except OSError as error:
        raise explain_os_error(error, folder) from error
