"""An archive is unpacked once, whole or not at all; damaged entries are left out and told."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from snellen.core.errors import DataError, StorageError
from snellen.core.unpacking import UNPACKED, unpack_zip

FILES = {"well/1.png": b"one", "well/Ödem 2.png": b"two" * 1000, "sick/3.png": b"three"}


def write_zip(path: Path, files: dict[str, bytes] | None = None, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in (files or FILES).items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 2, 3, 4, 6)), content, method)
    return path


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def damage(path: Path, content: bytes) -> Path:
    """Flip the stored bytes of one entry, so that its checksum no longer fits."""
    data = path.read_bytes()
    assert data.count(content) == 1
    path.write_bytes(data.replace(content, bytes(255 - value for value in content)))
    return path


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"]
)  # fmt: skip
def test_unpack_zip_gives_every_file(tmp_path: Path, method: int) -> None:
    unpacked = unpack_zip(write_zip(tmp_path / "eyes.zip", method=method), tmp_path / "cache")
    assert read_files(unpacked.folder) == FILES
    assert unpacked.damaged == ()


def test_unpack_zip_stops_at_the_declared_size(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "eyes.zip", {"well/1.png": bytes(3_000_000)})
    size, small = struct.pack("<I", 3_000_000), struct.pack("<I", 5000)
    data = path.read_bytes()
    assert data.count(size) == 2  # of the entry and of the directory
    path.write_bytes(data.replace(size, small))
    unpacked = unpack_zip(path, tmp_path / "cache")
    assert [name for name, _ in unpacked.damaged] == ["well/1.png"]
    assert read_files(unpacked.folder) == {}


def test_unpack_zip_names_the_folder_after_the_archive(tmp_path: Path) -> None:
    assert unpack_zip(write_zip(tmp_path / "eyes.zip"), tmp_path / "cache").folder.name == "eyes"


def test_unpack_zip_does_not_unpack_again(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "eyes.zip")
    before = (unpack_zip(path, tmp_path / "cache").folder / "well" / "1.png").stat()
    after = (unpack_zip(path, tmp_path / "cache").folder / "well" / "1.png").stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


def test_unpack_zip_finds_a_moved_archive_again(tmp_path: Path) -> None:
    first = unpack_zip(write_zip(tmp_path / "eyes.zip"), tmp_path / "cache").folder
    (tmp_path / "eyes.zip").rename(tmp_path / "other.zip")
    assert unpack_zip(tmp_path / "other.zip", tmp_path / "cache").folder == first


def test_unpack_zip_unpacks_a_changed_archive_anew(tmp_path: Path) -> None:
    unpack_zip(write_zip(tmp_path / "eyes.zip"), tmp_path / "cache")
    changed = {**FILES, "well/1.png": b"ONE"}
    assert read_files(unpack_zip(write_zip(tmp_path / "eyes.zip", changed), tmp_path / "cache").folder) == changed


@pytest.mark.parametrize("loss", ["removed", "cut"])
def test_unpack_zip_mends_what_was_lost_in_the_cache(tmp_path: Path, loss: str) -> None:
    path = write_zip(tmp_path / "eyes.zip")
    victim = unpack_zip(path, tmp_path / "cache").folder / "well" / "1.png"
    victim.unlink() if loss == "removed" else victim.write_bytes(b"")
    assert read_files(unpack_zip(path, tmp_path / "cache").folder) == FILES


def test_unpack_zip_keeps_the_dates_of_the_archive(tmp_path: Path) -> None:
    # facts of pictures are known by size and date: after `cache clear` they are found again
    path = write_zip(tmp_path / "eyes.zip")
    first, second = (
        (unpack_zip(path, tmp_path / cache).folder / "well" / "1.png").stat().st_mtime_ns for cache in ("a", "b")
    )
    assert first == second


def test_unpack_zip_leaves_a_damaged_entry_out_and_tells_it(tmp_path: Path) -> None:
    path = damage(write_zip(tmp_path / "eyes.zip", method=zipfile.ZIP_STORED), b"three")
    unpacked = unpack_zip(path, tmp_path / "cache")
    assert [name for name, _ in unpacked.damaged] == ["sick/3.png"]
    assert set(read_files(unpacked.folder)) == set(FILES) - {"sick/3.png"}


def test_unpack_zip_remembers_damaged_entries(tmp_path: Path) -> None:
    path = damage(write_zip(tmp_path / "eyes.zip", method=zipfile.ZIP_STORED), b"three")
    assert unpack_zip(path, tmp_path / "cache") == unpack_zip(path, tmp_path / "cache")


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"PK\x03\x04\x14\0"])
def test_unpack_zip_refuses_what_is_no_zip(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "eyes.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"eyes\.zip is no readable zip archive"):
        unpack_zip(tmp_path / "eyes.zip", tmp_path / "cache")


def test_unpack_zip_refuses_a_broken_download(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "eyes.zip")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="no readable zip archive"):
        unpack_zip(path, tmp_path / "cache")


def test_unpack_zip_of_unsafe_archive_writes_nothing(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "eyes.zip", {"well/1.png": b"x", "../evil.png": b"x"})
    with pytest.raises(DataError):
        unpack_zip(path, tmp_path / "cache")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["eyes.zip"]


def test_unpack_zip_tells_a_full_disk_before_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(StorageError, match=r"Unpacking eyes\.zip needs"):
        unpack_zip(write_zip(tmp_path / "eyes.zip"), tmp_path / "cache")
    assert not (tmp_path / "cache" / UNPACKED).exists()


def test_killed_unpacking_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "eyes.zip", {f"well/{number}.png": os.urandom(1000) for number in range(50)})
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from snellen.core import unpacking\n"
        "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        "unpacking.write_json = die\n"  # the last step before the rename
        "unpacking.unpack_zip(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path), str(tmp_path / "cache")], check=False)
    assert done.returncode != 0
    assert [item.name for item in (tmp_path / "cache" / UNPACKED).iterdir() if not item.name.startswith(".")] == []
    assert len(read_files(unpack_zip(path, tmp_path / "cache").folder)) == 50
    assert len(list((tmp_path / "cache" / UNPACKED).iterdir())) == 1
