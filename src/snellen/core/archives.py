"""Zip archives of strangers: which entries count, and what makes an archive unsafe to unpack.

Knows names, sizes and limits; nothing of the disk, of pictures or labels. core/unpacking.py writes.
"""

from __future__ import annotations

import itertools
import re
import stat
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from snellen.core.errors import DataError, require_no_problems

_SHOWN = 10
# what systems add on their own; also files that are no data of anybody
_JUNK_FOLDERS = ("__macosx", "@eadir")
_JUNK_FILES = (".ds_store", "thumbs.db", "desktop.ini")
# zipfile inflates the others without a limit: 2 KB of bzip2 that declare 5,000 bytes took 6 GB
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_METHOD_NAMES = {zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "LZMA", 9: "Deflate64", 93: "Zstandard", 95: "XZ"}


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may ask of the disk. The ratio is unpacked by packed bytes.

    It counts for large entries only: a small black picture packs as well as a bomb and harms nobody.
    """

    entries: int = 1_000_000
    total_bytes: int = 200_000_000_000
    ratio: float = 200.0
    ratio_from_bytes: int = 50_000_000


LIMITS = ArchiveLimits()


@dataclass(frozen=True)
class Entry:
    """One file of an archive; `name` is its path with `/`, as it will lie on disk."""

    name: str
    info: zipfile.ZipInfo


def open_zip(path: Path, stream: IO[bytes]) -> zipfile.ZipFile:
    """The archive's directory. Raises DataError where it is none."""
    try:
        return zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        raise DataError(
            f"{path} is no readable zip archive: {error}", "The download may have broken off: copy it again."
        ) from error


def list_entries(archive: zipfile.ZipFile) -> list[Entry]:
    """Files of the archive, without those that systems add on their own."""
    # not is_dir(), which fails on an empty name; found by bench/fuzz.py
    entries = [Entry(_clean_name(info), info) for info in archive.infolist() if not info.filename.endswith("/")]
    return [entry for entry in entries if not _is_junk(entry.name)]


def require_safe(path: Path, entries: Sequence[Entry], limits: ArchiveLimits) -> None:
    """Raise DataError that lists what makes the archive unsafe to unpack."""
    if len(entries) > limits.entries:
        raise DataError(
            f"{path} holds {len(entries):,} files, more than the limit of {limits.entries:,}.", "Unpack it yourself."
        )
    total = sum(entry.info.file_size for entry in entries)
    if total > limits.total_bytes:
        raise DataError(
            f"{path} would take {total / 1e9:,.1f} GB unpacked, "
            f"more than the limit of {limits.total_bytes / 1e9:,.1f}.",
            "Unpack it yourself, if you trust it, and give the folder.",
        )
    problems = [
        *(problem for entry in entries if (problem := _describe_problem(entry, limits))),
        *_find_collisions(entries),
        *_find_overlaps(entries),
    ]
    more = [f"… and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    require_no_problems(
        [*problems[:_SHOWN], *more],
        f"{path} is not unpacked:",
        "Unpack it with a tool that you trust, look at these files, and give the folder.",
    )


def describe_method(info: zipfile.ZipInfo) -> str:
    """What is wrong with how an entry is packed, naming the method; nothing where it is stored or deflated."""
    if info.compress_type in _METHODS:
        return ""
    name = _METHOD_NAMES.get(info.compress_type, f"method {info.compress_type}")
    return f"is packed by {name}, which is not unpacked: pack it again with the usual method (deflate)"


def _clean_name(info: zipfile.ZipInfo) -> str:
    name = info.filename
    if not info.flag_bits & 0x800 and not name.isascii():
        try:  # macOS writes UTF-8 without the flag that says so
            name = name.encode("cp437").decode("utf-8")
        except (UnicodeEncodeError, UnicodeDecodeError):
            name = info.filename
    return name.replace("\\", "/").removeprefix("./")


def _is_junk(name: str) -> bool:
    parts = name.lower().split("/")
    return any(part in _JUNK_FOLDERS for part in parts[:-1]) or parts[-1] in _JUNK_FILES


def _describe_problem(entry: Entry, limits: ArchiveLimits) -> str:
    info, shown = entry.info, repr(entry.name)
    parts = entry.name.split("/")
    mode = info.external_attr >> 16
    is_large = info.file_size > limits.ratio_from_bytes
    ratio = info.file_size / max(info.compress_size, 1)
    checks = (
        (entry.name.startswith("/") or re.match(r"[A-Za-z]:", entry.name), "has an absolute name"),
        (".." in parts or "" in parts or "\0" in entry.name, "leads out of the archive or has no proper name"),
        (stat.S_ISLNK(mode), "is a symbolic link"),
        (stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFLNK), "is no ordinary file"),
        (info.flag_bits & 0x1, "is encrypted"),
        (describe_method(info), describe_method(info)),
        (is_large and ratio > limits.ratio, f"would grow {ratio:,.0f} times to {info.file_size / 1e6:,.0f} MB"),
    )
    return next((f"{shown} {words}" for is_bad, words in checks if is_bad), "")


def _find_collisions(entries: Sequence[Entry]) -> Iterator[str]:
    """Two entries that many file systems take for one, or a file where another has a folder."""
    seen: dict[str, str] = {}
    for entry in entries:
        key = _fold(entry.name)
        if key in seen:
            yield (
                f"{entry.name!r} occurs twice"
                if seen[key] == entry.name
                else f"{seen[key]!r} and {entry.name!r} differ only in case or Unicode form"
            )
        seen[key] = entry.name
    for folder in sorted({entry.name.rpartition("/")[0] for entry in entries} - {""}):
        for parent in (PurePosixPath(folder), *PurePosixPath(folder).parents):
            if (file := seen.get(_fold(parent.as_posix()))) is not None:
                yield f"{file!r} is a file and the folder {folder!r}"
                return


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _find_overlaps(entries: Sequence[Entry]) -> Iterator[str]:
    """Entries that share packed bytes: how a few kilobytes become petabytes (Fifield 2019)."""
    ordered = sorted((entry.info.header_offset, entry.info.compress_size, entry.name) for entry in entries)
    for (start, size, name), (after, _, other) in itertools.pairwise(ordered):
        if start + size > after:
            yield f"{name!r} and {other!r} share their packed bytes"
            return
