"""Unsafe archives are refused by name before anything is written."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest

from snellen.core.archives import LIMITS, ArchiveLimits, Entry, list_entries, require_safe
from snellen.core.errors import DataError


def write_zip(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def read_entries(path: Path) -> list[Entry]:
    with zipfile.ZipFile(path) as archive:
        return list_entries(archive)


def require(path: Path, limits: ArchiveLimits = LIMITS) -> None:
    require_safe(path, read_entries(path), limits)


def make_link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil.png", "leads out"),
        ("a/../../evil.png", "leads out"),
        ("a\\..\\..\\evil.png", "leads out"),
        ("/etc/passwd", "absolute"),
        ("\\\\server\\share.png", "absolute"),
        ("C:/Windows/a.png", "absolute"),
        ("c:\\a.png", "absolute"),
        ("a//b.png", "leads out"),
    ],
)
def test_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str, words: str) -> None:
    path = write_zip(tmp_path / "x.zip", ("well/1.png", b"x"), (zipfile.ZipInfo(name), b"x"))
    with pytest.raises(DataError, match=words) as caught:
        require(path)
    assert repr(name.replace("\\", "/")) in caught.value.message


def test_symbolic_link_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", (make_link("well/1.png"), b"/etc/passwd"))
    with pytest.raises(DataError, match=r"'well/1\.png' is a symbolic link"):
        require(path)


@pytest.mark.parametrize("other", ["well/A.PNG", "WELL/a.png"])
def test_names_that_differ_only_in_case_are_refused(tmp_path: Path, other: str) -> None:
    with pytest.raises(DataError, match="differ only in case"):
        require(write_zip(tmp_path / "x.zip", ("well/a.png", b"x"), (other, b"y")))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_name_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="occurs twice"):
        require(write_zip(tmp_path / "x.zip", ("a.png", b"x"), ("a.png", b"y")))


def test_file_that_is_also_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a file and the folder"):
        require(write_zip(tmp_path / "x.zip", ("a", b"x"), ("a/b.png", b"y")))


def test_encrypted_entry_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", ("a.png", b"x"))
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # general purpose flag: local header, directory
        data[data.index(mark) + at] |= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"'a\.png' is encrypted"):
        require(path)


@pytest.mark.parametrize(("method", "name"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "LZMA")])
def test_entry_packed_without_a_bound_is_refused(tmp_path: Path, method: int, name: str) -> None:
    path = write_zip(tmp_path / "x.zip", ("a.png", b"x"), method=method)
    with pytest.raises(DataError, match=rf"'a\.png' is packed by {name}.*pack it again with the usual method"):
        require(path)


def test_entries_that_share_bytes_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", ("a.png", b"x" * 99), ("b.png", b"y" * 99), method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 10)  # its header lies inside the first entry
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="share their packed bytes"):
        require(path)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (ArchiveLimits(entries=1), "holds 2 files"),
        (ArchiveLimits(total_bytes=100_000), "GB unpacked"),
        (ArchiveLimits(ratio_from_bytes=1000), "would grow"),
    ],
)
def test_archive_beyond_a_limit_is_refused(tmp_path: Path, limits: ArchiveLimits, words: str) -> None:
    path = write_zip(tmp_path / "x.zip", ("a.png", bytes(200_000)), ("b.png", b"y"))
    with pytest.raises(DataError, match=words) as caught:
        require(path, limits)
    assert caught.value.hint


def test_all_reasons_are_told_at_once(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", ("../a.png", b"x"), (make_link("b.png"), b"x"))
    with pytest.raises(DataError, match=r"(?s)leads out.*symbolic link"):
        require(path)


def test_small_black_picture_is_no_bomb(tmp_path: Path) -> None:
    require(write_zip(tmp_path / "x.zip", ("black.bmp", bytes(3_000_000))))


@pytest.mark.parametrize(
    "junk", ["__MACOSX/well/._1.png", "a/.DS_Store", "a/Thumbs.db", "desktop.ini", "a/@eaDir/1.png/THUMB.jpg"]
)
def test_what_systems_add_is_no_entry(tmp_path: Path, junk: str) -> None:
    entries = read_entries(write_zip(tmp_path / "x.zip", ("well/1.png", b"x"), (junk, b"x")))
    assert [entry.name for entry in entries] == ["well/1.png"]


def test_name_in_utf8_without_its_flag_is_read(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", ("Ödem.png", b"x"))
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        data[data.index(mark) + at] &= ~0x08
    path.write_bytes(bytes(data))
    assert [entry.name for entry in read_entries(path)] == ["Ödem.png"]


def test_entry_without_a_name_is_refused(tmp_path: Path) -> None:
    # found by fuzzing: zipfile itself fails on it when asked whether it is a folder
    nameless = zipfile.ZipInfo("x")
    nameless.filename = ""
    path = write_zip(tmp_path / "x.zip", ("well/1.png", b"x"), (nameless, b"x"))
    with pytest.raises(DataError):
        require(path)
