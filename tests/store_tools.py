"""Audit databases for tests: one on SQLite and one on PostgreSQL, rows, and hands that tamper with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from postgres_server import PostgresServer

from snellen.serve.address import read_address
from snellen.serve.audit_check import AuditReport, verify
from snellen.serve.audit_rows import PageRequest, PredictionFilter, PredictionRow
from snellen.serve.database import Database, create_file
from snellen.serve.store import Store

START = datetime(2026, 1, 31, 8, 30, 0, 123456, tzinfo=UTC)
ALL = PredictionFilter()


@dataclass(frozen=True)
class Place:
    """Where a store lies; `server` where that is PostgreSQL."""

    url: str
    folder: Path
    server: PostgresServer | None = None

    def open(self) -> Store:
        return Store.open(self.url, folder=self.folder)

    def connect(self) -> Database:
        """Past the store, as whoever has the database's password."""
        return Database(read_address(self.url, self.folder))

    def begin(self) -> Database:
        """The same before any store has opened it."""
        address = read_address(self.url, self.folder)
        if address.path is not None:
            create_file(address.path)
        return Database(address)

    def execute(self, *statements: str) -> None:
        database = self.connect()
        with database.writing() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        database.close()

    def verify(self) -> AuditReport:
        database = self.connect()
        try:
            return verify(database)
        finally:
            database.close()


def make_row(number: int, **changes: Any) -> PredictionRow:
    """A row unlike all others, with numbers that have no short decimal form."""
    row = PredictionRow(
        request_id=f"request-{number}",
        time=START + timedelta(seconds=number),
        key_id="k_1",
        model="oct",
        model_sha256="ab" * 32,
        image_sha256=f"{number:064x}",
        probabilities={"normal": 1 / 3 + number / 1e6, "drusen": 2 / 3 - number / 1e6},
        prediction="drusen",
        decision="refer",
        abstain=False,
        reason=None,
        latency_ms=0.1 + number,
        error=None,
    )
    return replace(row, **changes)


def fill(place: Place, n_rows: int) -> list[PredictionRow]:
    """A store with rows, closed again."""
    rows = [make_row(number) for number in range(1, n_rows + 1)]
    with place.open() as store:
        store.record(rows)
    return rows


def list_rows(store: Store, wanted: PredictionFilter = ALL) -> list[PredictionRow]:
    """Newest first."""
    return [recorded.prediction for recorded in store.list_predictions(wanted, PageRequest(1000)).rows]
