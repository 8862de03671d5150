"""Unpacking a zip once into the cache, whole or not at all. core/archives.py says what is safe."""

from __future__ import annotations

import calendar
import os
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from snellen.core.archives import LIMITS, ArchiveLimits, Entry, list_entries, open_zip, require_safe
from snellen.core.errors import StorageError
from snellen.core.progress import follow, say
from snellen.core.storage import compute_sha256, explain_os_error, hold_lock, read_json, require_space, write_json

UNPACKED = "unpacked"
_KEY_LETTERS = 24
_BLOCK = 1 << 20
_REPORT = "report.json"
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Unpacked:
    """Where the content lies, and the entries that could not be read: `(name, reason)`."""

    folder: Path
    damaged: tuple[tuple[str, str], ...]


def unpack_zip(path: Path, cache: Path, limits: ArchiveLimits = LIMITS) -> Unpacked:
    """The folder in the cache that holds the content of the zip at `path`; unpacked only if it is not there yet.

    The place follows from the content's sha256, so a moved archive is not unpacked again and a changed one is.
    Damaged entries are left out and told. Raises DataError where the archive is unsafe, encrypted or no zip,
    StorageError where the disk has no room.
    """
    try:
        with path.open("rb") as stream, open_zip(path, stream) as archive:
            entries = list_entries(archive)
            require_safe(path, entries, limits)
            key = compute_sha256(path)[:_KEY_LETTERS]
            place = cache / UNPACKED / key
            with hold_lock(cache / "locks" / f"{UNPACKED}-{key}.lock"):
                found = _find(place, entries)
                if found is None:
                    _unpack(path, archive, entries, place)
                    found = _find(place, entries)
    except OSError as error:
        raise explain_os_error(error, Path(error.filename or path)) from error
    if found is None:
        raise StorageError(f"{place} is not what was unpacked.", "Run `snellen cache clear` and try again.")
    return found


def _find(place: Path, entries: Sequence[Entry]) -> Unpacked | None:
    """What an earlier call left, if nothing of it was removed or cut since."""
    try:
        report = read_json(place / _REPORT)
        folder = place / str(report["name"])
        damaged = tuple((str(name), str(reason)) for name, reason in report["damaged"])
        left_out = {name for name, _ in damaged}
        is_whole = all(
            (folder / entry.name).stat().st_size == entry.info.file_size
            for entry in entries
            if entry.name not in left_out
        )
    except (StorageError, OSError, KeyError, TypeError, ValueError):
        return None
    return Unpacked(folder, damaged) if is_whole else None


def _unpack(path: Path, archive: zipfile.ZipFile, entries: Sequence[Entry], place: Path) -> None:
    """Unpack beside `place` and rename at the end: a killed process leaves nothing that looks whole."""
    total = sum(entry.info.file_size for entry in entries)
    temporary = place.with_name(f".{place.name}.part")
    for stale in (temporary, place):  # of a process that was killed; the lock says that none is at work
        if stale.exists():
            shutil.rmtree(stale)
    require_space(place, total, f"Unpacking {path.name}")
    say(f"Unpacking {path.name}: {len(entries):,} files, {total / 1e6:,.1f} MB into {place}")
    folder = temporary / path.stem
    folder.mkdir(parents=True)
    damaged = []
    try:
        for entry in follow(entries, "Unpacking", len(entries), "files"):
            if reason := _unpack_entry(archive, entry, folder / entry.name):
                damaged.append((entry.name, reason))
        write_json(temporary / _REPORT, {"name": folder.name, "damaged": damaged})
        temporary.replace(place)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _unpack_entry(archive: zipfile.ZipFile, entry: Entry, target: Path) -> str:
    """Write one entry; why it is damaged, or nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    try:
        with archive.open(entry.info) as source, target.open("xb") as stream:
            while block := source.read(_BLOCK):
                written += len(block)
                stream.write(block)
    except _DAMAGED as error:
        reason = str(error) or type(error).__name__
    else:
        reason = "" if written == entry.info.file_size else f"{written} of {entry.info.file_size} bytes"
    if reason:
        target.unlink(missing_ok=True)
    else:
        stamp = _to_stamp(entry.info)
        os.utime(target, (stamp, stamp))
    return reason


def _to_stamp(info: zipfile.ZipInfo) -> float:
    """The date in the archive, so that facts of pictures are found again after `cache clear`."""
    try:
        return float(calendar.timegm((*info.date_time, 0, 0, 0)))
    except (ValueError, OverflowError):
        return 0.0
