"""The chain in its database: rows are appended under a lock on its head, so that several servers share one chain."""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa

from snellen.core.errors import StorageError, StoreUnavailableError, UsageError
from snellen.serve.anchor import AnchorFile, create_key, load_key
from snellen.serve.chain import SIGNED, Anchor, ChainKey, Head, describe, is_same_mac
from snellen.serve.database import Database
from snellen.serve.row_values import Values, count_microseconds
from snellen.serve.schema import audit_head, audit_log

Event = Literal["key_added", "key_revoked", "purged", "anchored", "accepted"]
_RESTORE = (
    "Restore what is missing. If an older database was put back on purpose: `snellen audit-log accept --reason …`, "
    "which the log then tells for ever."
)


class Pen:
    """A transaction that may append rows to the chain, and change other tables with them."""

    def __init__(self, connection: sa.Connection, key: ChainKey, shortest: int) -> None:
        self.connection = connection
        self.key = key
        self.head = _lock_head(connection, key)
        if self.head.last < shortest:
            raise StoreUnavailableError(f"The audit log has {self.head.last} rows and had {shortest}: rows were lost.")

    def append(self, rows: Sequence[Values]) -> None:
        """Chain `rows`; they are there once the transaction has ended."""
        number, mac = self.head.last, self.head.last_mac
        written = []
        for row in rows:
            number += 1
            full = {**row, "row": number}
            mac = self.key.sign_row(mac, full)
            full["mac"] = mac
            written.append(full)
        if written:
            self.connection.execute(_INSERT, written)
            self.move(Head(self.head.chain_id, number, mac, self.head.purged, self.head.purged_mac))

    def tell(self, event: Event, details: Mapping[str, Any]) -> None:
        """Chain what happened to the log itself."""
        row: Values = dict.fromkeys(SIGNED)
        row |= {"kind": event, "time_us": count_microseconds(datetime.now(UTC))}
        self.append([{**row, "details": json.dumps(details, sort_keys=True)}])

    def move(self, head: Head) -> None:
        """Sign and write the head."""
        self.connection.execute(_MOVE, _describe_head(head, self.key))
        self.head = head


_INSERT = sa.insert(audit_log)
_LOCK = sa.select(audit_head).with_for_update()
_MOVE = sa.update(audit_head).where(audit_head.c.id == 1)


class Ledger:
    """The chain of one database, its key and its anchor."""

    def __init__(self, database: Database, key: ChainKey) -> None:
        self.database = database
        self.key = key
        self.anchor = AnchorFile(database.address.anchor_file, key)
        self._longest = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Pen]:
        """One transaction of all who write to the chain. Ends when it is on the disk, or with an error and nothing."""
        with self.database.writing() as connection:
            pen = Pen(connection, self.key, self._longest)
            yield pen
        self.note(pen.head)

    def append(self, rows: Sequence[Values]) -> None:
        """Chain encoded rows, all or none."""
        with self.writing() as pen:
            pen.append(rows)

    def note(self, head: Head) -> None:
        """Remember what is on the disk."""
        with self._lock:
            self._longest = max(self._longest, head.last)
        self.anchor.follow(head)


def open_ledger(database: Database) -> Ledger:
    """The chain, begun where there is none. Raises StorageError where key or anchor do not fit to it."""
    place = database.address
    with database.writing() as connection:
        database.take_turn(connection)  # servers that begin at once begin one chain, with one key
        ledger = Ledger(database, _find_or_begin(database, connection))
        pen = Pen(connection, ledger.key, 0)
        anchor = ledger.anchor.read()
        if anchor is not None:
            require_anchor_holds(connection, pen.head, anchor, str(place.anchor_file))
        elif pen.head.last > 0:
            pen.tell("anchored", {"rows": pen.head.last, "reason": "no anchor was found where this server keeps it"})
    ledger.note(pen.head)
    return ledger


def accept(database: Database, reason: str) -> int:
    """Go on with the database as it is although its anchor says more; the log tells it. Returns its length.

    Raises UsageError where the anchor says nothing else.
    """
    key = require_key(database)
    with database.writing() as connection:
        ledger = Ledger(database, key)
        pen = Pen(connection, key, 0)
        anchor = ledger.anchor.read()
        if anchor is not None and find_anchor_problem(connection, pen.head, anchor) is None:
            raise UsageError(
                f"The audit log has all {pen.head.last} rows that were anchored: there is nothing to accept.",
                "`snellen audit-log verify` says whether it holds.",
            )
        known = None if anchor is None else {"chain_id": anchor.chain_id, "last": anchor.last, "mac": anchor.last_mac}
        pen.tell("accepted", {"reason": reason, "rows": pen.head.last, "anchor": known})
    ledger.anchor.replace(pen.head)
    return pen.head.last


def require_key(database: Database) -> ChainKey:
    """The key that the chain was written with. Raises StorageError where it is missing or another."""
    with database.reading() as connection:
        row = connection.execute(sa.select(audit_head)).mappings().one_or_none()
    key = load_key(database.address.key_file)
    if key is None:
        raise _miss_key(database)
    if row is not None:
        _require_same_key(database, key, row["key_fingerprint"])
    return key


def _find_or_begin(database: Database, connection: sa.Connection) -> ChainKey:
    row = connection.execute(sa.select(audit_head)).mappings().one_or_none()
    key = load_key(database.address.key_file)
    if row is not None:
        if key is None:
            raise _miss_key(database)
        _require_same_key(database, key, row["key_fingerprint"])
        return key
    if connection.execute(sa.select(audit_log.c.row).limit(1)).first():
        raise StorageError(f"{database.address.shown}: the audit log has rows and no head.", "Restore a backup.")
    key = key or create_key(database.address.key_file)
    values = _describe_head(key.begin(uuid.uuid4().hex), key)
    connection.execute(sa.insert(audit_head).values(id=1, key_fingerprint=key.fingerprint, **values))
    return key


def _miss_key(database: Database) -> StorageError:
    return StorageError(
        f"{database.address.shown}: the audit log's HMAC key is not at {database.address.key_file}.",
        "Restore the file, or give the key in SNELLEN_AUDIT_KEY or SNELLEN_AUDIT_KEY_FILE.",
    )


def _require_same_key(database: Database, key: ChainKey, fingerprint: str) -> None:
    if key.fingerprint != fingerprint:
        raise StorageError(
            f"{database.address.shown}: the audit log was begun with another HMAC key ({fingerprint}) than the one "
            f"given ({key.fingerprint}).",
            "Every server of one database needs the same key: SNELLEN_AUDIT_KEY_FILE names its file.",
        )


def require_anchor_holds(connection: sa.Connection, head: Head, anchor: Anchor, place: str) -> None:
    """Raise StorageError where the database lacks rows that the anchor knows of."""
    if problem := find_anchor_problem(connection, head, anchor):
        raise StorageError(f"{place}: {problem}", _RESTORE)


def find_anchor_problem(connection: sa.Connection, head: Head, anchor: Anchor) -> str | None:
    """What contradicts the anchor, in words; None where nothing does."""
    if anchor.chain_id != head.chain_id:
        return "the anchor is that of another audit log; this database was begun anew, or the file belongs elsewhere."
    if anchor.last > head.last:
        return f"the audit log once had {anchor.last} rows and now has {head.last}: an older state was put back."
    if anchor.last < head.purged or anchor.last == 0:
        return None
    mac = head.purged_mac if anchor.last == head.purged else _find_mac(connection, anchor.last)
    if mac is None:
        return f"row {anchor.last}, the last one that was anchored, is missing."
    if not is_same_mac(mac, anchor.last_mac):
        return f"row {anchor.last} is not the one that was anchored: an older state was put back and gone on from."
    return None


def _find_mac(connection: sa.Connection, row: int) -> str | None:
    found = connection.execute(sa.select(audit_log.c.mac).where(audit_log.c.row == row)).scalar_one_or_none()
    return None if found is None else str(found)


def read_head(connection: sa.Connection, key: ChainKey) -> tuple[Head | None, bool]:
    """The head and whether it is as it was signed."""
    return _check_head(connection.execute(sa.select(audit_head)).mappings().one_or_none(), key)


def _check_head(row: sa.RowMapping | None, key: ChainKey) -> tuple[Head | None, bool]:
    if row is None:
        return None, False
    head = Head(**{name: row[name] for name in Head.__slots__})
    return head, is_same_mac(str(row["mac"]), key.sign_head(head))


def _lock_head(connection: sa.Connection, key: ChainKey) -> Head:
    """The head, which nobody else moves until the transaction ends (SQLite: `BEGIN IMMEDIATE` has seen to it)."""
    row = connection.execute(_LOCK).mappings().one_or_none()
    head, is_signed = _check_head(row, key)
    if head is None or not is_signed:
        raise StoreUnavailableError("The head of the audit log is missing or forged: `snellen audit-log verify`.")
    return head


def _describe_head(head: Head, key: ChainKey) -> dict[str, Any]:
    return {**describe(head), "mac": key.sign_head(head)}
