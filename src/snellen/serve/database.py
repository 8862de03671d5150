"""One database behind two transactions, `reading` and `writing`, on SQLite and PostgreSQL alike.

What a driver raises leaves as StoreUnavailableError. SQLite: write-ahead log, `synchronous=FULL`, so that a commit is
on the disk and not only with the system; one writer at a time, by `BEGIN IMMEDIATE`. PostgreSQL: `synchronous_commit`
is raised where it was lowered. Group commit (`writer.py`) makes up for what that costs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from snellen.core.errors import StorageError, StoreUnavailableError, UsageError
from snellen.core.storage import explain_os_error
from snellen.serve.address import Address

LOG = logging.getLogger("snellen.serve.store")
BUSY_S = 5.0
CONNECT_S = 3
TELL_AGAIN_S = 30.0
ROOM_BYTES = 1 << 20
_LOCK = 7_310_552_019  # of PostgreSQL's advisory locks: any number that nobody else takes
_WRITES = "snellen_writes"
_OPENED = "snellen_opened"
# secure_delete: what retention removes is overwritten, not only unlinked
_PRAGMAS = (
    "synchronous=FULL", "fullfsync=ON", "checkpoint_fullfsync=ON", "secure_delete=ON", "journal_size_limit=67108864",
)  # fmt: skip
# a replicated server may ask for more than `on`: only less is raised
_SETTINGS = """
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local');
SET statement_timeout = '15s'; SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '60s';
"""


class Database:
    """Connections to the database at `address`; none is made before it is needed."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.is_sqlite = address.path is not None
        self._engine = _make_sqlite(address.path) if address.path else _make_postgresql(address.url)
        # threads of one process queue here; SQLite itself would have them sleep and try again
        self._turn: contextlib.AbstractContextManager[object] = (
            threading.Lock() if self.is_sqlite else contextlib.nullcontext()
        )
        self._told: tuple[str, float] | None = None  # the last failure that was logged, and when

    def close(self) -> None:
        self._engine.dispose()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One snapshot, however long the block takes and whatever is written meanwhile."""
        with self._speaking(), self._engine.connect() as connection:
            self._require_same_file(connection)
            if not self.is_sqlite:
                connection = connection.execution_options(  # noqa: PLW2901
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that is on the disk when the block has ended without an error, and otherwise never was."""
        with self._turn, self._speaking(), self._engine.connect() as connection:
            self._require_same_file(connection)
            with connection.execution_options(**{_WRITES: True}).begin():
                yield connection
            # SQLite writes as happily into a file that somebody has removed meanwhile
            self._require_same_file(connection)
        self._tell_success()

    def require_room(self) -> None:
        """Raise StoreUnavailableError where SQLite's disk is nearly full; only PostgreSQL itself knows its own."""
        path = self.address.path
        if path is None:
            return
        try:
            free = shutil.disk_usage(path.parent).free
        except OSError as error:
            raise StoreUnavailableError(f"{path.parent}: {error.strerror}") from error
        if free < ROOM_BYTES:
            raise StoreUnavailableError(f"{path.parent}: the disk is full.")

    def take_turn(self, connection: sa.Connection) -> None:
        """Until the transaction ends, nobody else who asks for it goes on, though there be no row yet to lock.

        `BEGIN IMMEDIATE` has seen to it on SQLite.
        """
        if not self.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).strip()
            self._tell_failure(reason.partition("\n")[0])
            raise StoreUnavailableError(f"{self.address.shown}: {reason}") from error
        except StoreUnavailableError as error:
            self._tell_failure(error.reason)
            raise

    def _tell_success(self) -> None:
        """Log that rows are taken again. That something can be read says nothing of it."""
        if self._told is not None:
            self._told = None
            LOG.warning("The audit database is back.")

    def _tell_failure(self, reason: str) -> None:
        """Log it, but not for every request that it hinders."""
        now = time.monotonic()
        if self._told is None or self._told[0] != reason or now - self._told[1] > TELL_AGAIN_S:
            self._told = (reason, now)
            LOG.warning("The audit database failed: %s", reason)

    def _require_same_file(self, connection: sa.Connection) -> None:
        """Raise where SQLite's file is no longer the one that this connection has opened."""
        path = self.address.path
        if path is None or connection.info[_OPENED] == _identify(path):
            return
        self._engine.dispose()
        connection.invalidate()
        raise StoreUnavailableError(f"{path} was removed or replaced while it was open.")


def create_file(path: Path) -> None:
    """An empty file that its owner alone may read; one that is there stays."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        failure = explain_os_error(error, path)
        raise StorageError(failure.message, "Name a place that you may write with --db.") from error


def require_file(path: Path) -> None:
    """Raise UsageError where there is no database to look into."""
    if not path.is_file():
        raise UsageError(f"{path}: there is no audit database.", "Name it with --db, as `snellen serve` was told.")


def _make_sqlite(path: Path) -> sa.Engine:
    def connect() -> sqlite3.Connection:
        # rw: a file that is gone is an error; SQLite would begin an empty one
        opened = sqlite3.connect(
            f"{path.as_uri()}?mode=rw", uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            (mode,) = opened.execute("PRAGMA journal_mode=WAL").fetchone()
            if mode != "wal":
                raise sqlite3.OperationalError(f"no write-ahead log is possible here (journal_mode={mode})")
            for pragma in _PRAGMAS:
                opened.execute(f"PRAGMA {pragma}")
        except BaseException:
            opened.close()
            raise
        return opened

    engine = sa.create_engine(
        "sqlite://", creator=connect, poolclass=sa.QueuePool, pool_timeout=BUSY_S, hide_parameters=True
    )

    @sa.event.listens_for(engine, "connect")
    def remember(_: Any, record: Any) -> None:
        record.info[_OPENED] = _identify(path)

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _identify(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _make_postgresql(url: sa.URL) -> sa.Engine:
    wanted = {"connect_timeout": CONNECT_S, "application_name": "snellen", "keepalives_idle": 30}
    arguments = {name: value for name, value in wanted.items() if name not in url.query}
    engine = sa.create_engine(
        url, connect_args=arguments, pool_pre_ping=True, pool_timeout=BUSY_S, hide_parameters=True
    )

    @sa.event.listens_for(engine, "connect")
    def set_up(opened: Any, _: Any) -> None:
        opened.autocommit = True  # within a transaction they would be taken back with it
        opened.execute(_SETTINGS)
        opened.autocommit = False

    return engine
