"""Retention: the oldest rows are removed, and the chain keeps a signed tombstone that says so.

The head remembers where the chain begins now, and the MAC that its first row follows; the tombstone is a row like any
other. Both are written in the transaction that deletes, so that `verify` holds before and after, and at every kill.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from snellen.core.errors import StoreUnavailableError, UsageError
from snellen.serve.ledger import Ledger, Pen
from snellen.serve.row_values import count_microseconds
from snellen.serve.schema import audit_log

LOG = logging.getLogger("snellen.serve.store")
AT_ONCE = 20_000  # rows a transaction: recording waits for each, some tenths of a second


@dataclass(frozen=True)
class PurgeOutcome:
    """`n_rows` were removed, up to and with row `last` of the chain, and `n_images` kept pictures with them."""

    n_rows: int
    last: int
    n_images: int


def purge(ledger: Ledger, images: ImageFolder, before: datetime, at_once: int = AT_ONCE) -> PurgeOutcome:
    """Remove the rows from the beginning of the chain up to the first that is not older than `before`.

    Raises UsageError for a time without its zone.
    """
    if before.tzinfo is None:
        raise UsageError(f"{before} has no time zone.", "Example: 2026-01-31T00:00:00+00:00")
    if before > datetime.now(UTC):
        raise UsageError(f"{before} has not come yet.", "Name a time that is past.")
    n_rows, n_images, last = 0, 0, 0
    while True:
        with ledger.writing() as pen:
            first, last = pen.head.purged + 1, _find_last(pen, before, at_once)
            hashes = _list_images(pen.connection, last) if images.exists() else []
            if last >= first:
                _delete(pen, last, before)
            unused = _list_unused(pen.connection, hashes)
        ledger.anchor.flush()
        n_images += images.remove(unused)
        n_rows += max(0, last - first + 1)
        if last - first + 1 < at_once:
            return PurgeOutcome(n_rows, max(last, first - 1), n_images)


def _find_last(pen: Pen, before: datetime, at_once: int) -> int:
    """The last row of the beginning that goes: rows lie in the order of their recording, and a late one waits."""
    log = audit_log.c
    end = min(pen.head.last, pen.head.purged + at_once)
    younger = sa.select(sa.func.min(log.row)).where(log.time_us >= count_microseconds(before), log.row <= end)
    first_kept = pen.connection.execute(younger).scalar_one()
    return end if first_kept is None else int(first_kept) - 1


def _list_images(connection: sa.Connection, last: int) -> list[str]:
    """Hashes of the pictures of rows that go."""
    log = audit_log.c
    query = sa.select(log.image_sha256).where(log.row <= last, log.image_sha256.is_not(None)).distinct()
    return [str(digest) for digest in connection.execute(query).scalars()]


def _delete(pen: Pen, last: int, before: datetime) -> None:
    log = audit_log.c
    mac = pen.connection.execute(sa.select(log.mac).where(log.row == last)).scalar_one_or_none()
    if mac is None:
        raise StoreUnavailableError(f"Row {last} of the audit log is missing: `snellen audit-log verify` says more.")
    first = pen.head.purged + 1
    pen.connection.execute(sa.delete(audit_log).where(log.row <= last))
    pen.move(replace(pen.head, purged=last, purged_mac=str(mac)))
    pen.tell("purged", {"first": first, "last": last, "last_mac": mac, "before_us": count_microseconds(before)})


def _list_unused(connection: sa.Connection, hashes: Iterable[str]) -> list[str]:
    """Those that no row names any more."""
    query = sa.select(audit_log.c.row).where(audit_log.c.image_sha256 == sa.bindparam("image")).limit(1)
    return [image for image in hashes if connection.execute(query, {"image": image}).first() is None]


class ImageFolder:
    """Pictures that were asked to be kept, named by their sha256: one that comes twice is there once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def exists(self) -> bool:
        return self._folder.is_dir()

    def keep(self, data: bytes) -> str:
        """Write it, on the disk when this returns. Raises StoreUnavailableError."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._locate(digest)
        if path.exists():
            return digest
        temporary = path.with_name(f".{digest}.{os.getpid()}.{threading.get_ident()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            LOG.warning("A picture cannot be kept: %s", error.strerror)
            raise StoreUnavailableError(f"{path}: {error.strerror}") from error
        return digest

    def remove(self, digests: Iterable[str]) -> int:
        """Delete those that are there; how many were."""
        n_removed = 0
        for path in map(self._locate, digests):
            if path.is_file():
                path.unlink(missing_ok=True)
                n_removed += 1
        return n_removed

    def _locate(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest
