"""`snellen audit-log verify`: the whole chain is read again and every MAC computed anew. Nothing is written."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from snellen.core.errors import StorageError
from snellen.core.progress import follow
from snellen.records.base import Record
from snellen.serve.anchor import read_anchor
from snellen.serve.api_keys import is_signed_key
from snellen.serve.chain import Anchor, ChainKey, Head, is_same_mac
from snellen.serve.database import Database
from snellen.serve.ledger import find_anchor_problem, read_head, require_key
from snellen.serve.row_values import PREDICTION
from snellen.serve.schema import api_keys, audit_log

AT_ONCE = 5_000
MOST_TOLD = 50
_MAC = re.compile(r"[0-9a-f]{64}")
Code = Literal[
    "row_changed", "rows_missing", "tail_cut", "row_added", "head_missing", "head_forged", "head_differs",
    "anchor_missing", "anchor_forged", "anchor_contradicted", "tombstone_missing", "key_changed", "key_missing",
    "key_unrevoked",
]  # fmt: skip


class AuditProblem(Record):
    """One thing that contradicts the chain; `row` where it is about a row."""

    code: Code
    row: int | None
    message: str


class AuditReport(Record):
    """What `verify` found. The chain holds where `problems` is empty."""

    database: str
    chain_id: str | None
    n_rows: int  # that lie in the table
    n_predictions: int
    first: int | None
    last: int | None
    last_mac: str | None
    purged: int  # rows that retention has removed, by signed tombstones
    anchored: int | None  # the row up to which a cut would show even if somebody put an old head back
    first_bad_row: int | None
    n_problems: int
    problems: tuple[AuditProblem, ...]  # the first 50
    notes: tuple[str, ...]  # signed rows about the log itself that a reader should know


@dataclass
class _Findings:
    problems: list[AuditProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    n_problems: int = 0
    first_bad_row: int | None = None

    def add(self, code: Code, message: str, row: int | None = None) -> None:
        self.n_problems += 1
        if row is not None and (self.first_bad_row is None or row < self.first_bad_row):
            self.first_bad_row = row
        if len(self.problems) < MOST_TOLD:
            self.problems.append(AuditProblem(code=code, row=row, message=message))


def verify(database: Database, other_anchor: Path | None = None) -> AuditReport:
    """Check rows, head and anchor; `other_anchor`: a copy of the anchor file that was kept elsewhere.

    Raises StorageError where the HMAC key is missing or another, and where `other_anchor` cannot be read.
    """
    key = require_key(database)
    findings = _Findings()
    # before the rows: a server that runs meanwhile moves the anchor beyond the snapshot that is read below
    anchors = _read_anchors(database, key, other_anchor, findings)
    with database.reading() as connection:
        head, is_signed = read_head(connection, key)
        if head is None:
            findings.add("head_missing", "The head is missing: nothing says where the chain ends.")
        elif not is_signed:
            findings.add("head_forged", "The head was not signed with this key: it was changed.")
        walk = _Walk(key, head, findings)
        for row in follow(_iter_rows(connection), "verify", head.last - head.purged if head else 0, "rows"):
            walk.see(row)
        walk.end()
        _check_keys(connection, key, walk.added, walk.revoked, findings)
        for place, anchor in anchors:
            if head is not None and (problem := find_anchor_problem(connection, head, anchor)):
                findings.add("anchor_contradicted", f"{place}: {problem}", head.last + 1)
    return AuditReport(
        database=database.address.shown,
        chain_id=head.chain_id if head else None,
        n_rows=walk.n_rows,
        n_predictions=walk.n_predictions,
        first=walk.first,
        last=walk.last,
        last_mac=walk.previous,
        purged=head.purged if head else 0,
        anchored=max((anchor.last for _, anchor in anchors), default=None),
        first_bad_row=findings.first_bad_row,
        n_problems=findings.n_problems,
        problems=tuple(findings.problems),
        notes=tuple(findings.notes),
    )


def _iter_rows(connection: sa.Connection) -> Iterator[sa.RowMapping]:
    """All rows in order, in pieces: drivers would hold the whole table."""
    query = sa.select(*audit_log.c).order_by(audit_log.c.row).limit(AT_ONCE)
    after: int | None = None
    while True:
        piece = query if after is None else query.where(audit_log.c.row > after)
        rows = connection.execute(piece).mappings().all()
        yield from rows
        if len(rows) < AT_ONCE:
            return
        after = rows[-1]["row"]


class _Walk:
    """Goes along the chain. A bad row is told once: its neighbours are checked against what it says it is."""

    def __init__(self, key: ChainKey, head: Head | None, findings: _Findings) -> None:
        self._key, self._head, self._findings = key, head, findings
        self.n_rows = self.n_predictions = 0
        self.first: int | None = None
        self.last: int | None = None
        self.previous: str | None = head.purged_mac if head else None
        self._expected = head.purged + 1 if head else None
        self._tombstone = 0
        self.added: dict[str, str] = {}  # ids of keys and their names, as the log tells them
        self.revoked: set[str] = set()

    def see(self, row: sa.RowMapping) -> None:
        number = int(row["row"])
        self.n_rows += 1
        self.n_predictions += row["kind"] == PREDICTION
        self.first = number if self.first is None else self.first
        if self._expected is not None and number < self._expected:
            self._findings.add("row_added", f"Row {number} lies where rows were purged, and was added since.", number)
            return
        if self._head is not None and number > self._head.last:
            self._findings.add("row_added", f"Row {number} was added: the chain ends at {self._head.last}.", number)
            return
        if self._expected is not None and number > self._expected:
            self._tell_gap(self._expected, number - 1)
            self.previous = None  # what this row followed is gone: it cannot be checked, the next one can
        self._check(row, number)
        self.last, self._expected = number, number + 1

    def _check(self, row: sa.RowMapping, number: int) -> None:
        mac = row["mac"]
        is_mac = isinstance(mac, str) and _MAC.fullmatch(mac) is not None
        if not is_mac or (self.previous is not None and not self._fits(row, mac)):
            self._findings.add("row_changed", f"Row {number} is not as it was written.", number)
        elif row["kind"] != PREDICTION:
            self._note(row, number)
        self.previous = mac if is_mac else None

    def _fits(self, row: sa.RowMapping, mac: str) -> bool:
        try:
            return is_same_mac(mac, self._key.sign_row(str(self.previous), dict(row)))
        except (TypeError, ValueError):  # SQLite takes anything into any column
            return False

    def _tell_gap(self, first: int, last: int) -> None:
        which = f"Row {first} is" if first == last else f"Rows {first} to {last} are"
        self._findings.add("rows_missing", f"{which} missing.", first)

    def _note(self, row: sa.RowMapping, number: int) -> None:
        details = json.loads(row["details"])
        if row["kind"] == "purged":
            self._tombstone = max(self._tombstone, int(details["last"]))
        elif row["kind"] == "anchored":
            self._findings.notes.append(
                f"Row {number}: a server that found no anchor began a new one at {details['rows']} rows; "
                "an older state put back before that would not show."
            )
        elif row["kind"] == "key_added":
            self.added[details["key_id"]] = details["name"]
        elif row["kind"] == "key_revoked":
            self.revoked.add(details["key_id"])
        elif row["kind"] == "accepted":
            known = details["anchor"] or {}
            self._findings.notes.append(
                f"Row {number}: {details['rows']} rows were accepted where {known.get('last', 'unknown')} were "
                f"anchored. Reason given: {details['reason']}"
            )

    def end(self) -> None:
        head = self._head
        if head is None:
            return
        expected = self._expected or 1
        if expected <= head.last:
            which = f"row {head.last} is" if expected == head.last else f"rows {expected} to {head.last} are"
            self._findings.add("tail_cut", f"The end was cut off: {which} missing.", expected)
        elif self.previous is None or not is_same_mac(self.previous, head.last_mac):
            self._findings.add("head_differs", "The last row is not the one that the head names.", head.last)
        if head.purged > self._tombstone:
            self._findings.add("tombstone_missing", f"No tombstone tells that rows up to {head.purged} were purged.")


def _check_keys(
    connection: sa.Connection, key: ChainKey, added: Mapping[str, str], revoked: Collection[str], findings: _Findings
) -> None:
    """The table of API keys against what the log tells of them; what was purged of the log is not held against it."""
    found = {str(row["key_id"]): row for row in connection.execute(sa.select(*api_keys.c)).mappings()}
    for key_id, row in found.items():
        if not is_signed_key(row, key):
            findings.add("key_changed", f"The key {row['name']} ({key_id}) is not as it was written; it is refused.")
        elif key_id in revoked and row["revoked_us"] is None:
            findings.add("key_unrevoked", f"The key {row['name']} ({key_id}) was revoked, and an older state put back.")
    for key_id in sorted(set(added) - set(found)):
        findings.add("key_missing", f"The key {added[key_id]} ({key_id}) was removed from the table.")


def _read_anchors(
    database: Database, key: ChainKey, other: Path | None, findings: _Findings
) -> list[tuple[Path, Anchor]]:
    """(file, anchor) of our own and the other file."""
    own = database.address.anchor_file
    anchors = []
    try:
        found = read_anchor(own, key)
    except StorageError as error:
        findings.add("anchor_forged", error.message)
    else:
        if found is not None:
            anchors.append((own, found))
        elif other is None:
            findings.add("anchor_missing", f"{own} is missing: an older state, put back, would not show.")
    if other is not None:
        kept = read_anchor(other, key)
        if kept is None:
            raise StorageError(f"{other} does not exist.", "Name a copy of the anchor file.")
        anchors.append((other, kept))
    return anchors
