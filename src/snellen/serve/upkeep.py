"""What an operator does with an audit database beside the server: verify, export, back up, accept a restored one."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from snellen.core.csv_text import format_csv
from snellen.core.errors import StorageError, StoreUnavailableError, UsageError
from snellen.core.storage import explain_os_error
from snellen.serve.address import read_address
from snellen.serve.audit_check import AuditReport, verify
from snellen.serve.audit_rows import PredictionFilter, RecordedPrediction
from snellen.serve.database import BUSY_S, LOG, Database, require_file
from snellen.serve.history import iter_predictions
from snellen.serve.ledger import accept
from snellen.serve.store import Store
from snellen.serve.upgrade import require_ours

EXPORT_COLUMNS = (
    "row", "time", "request_id", "key_id", "model", "model_sha256", "image_sha256", "filename", "prediction",
    "probabilities", "decision", "abstain", "reason", "latency_ms", "error", "set",
)  # fmt: skip


@contextlib.contextmanager
def open_existing(url: str | None) -> Iterator[Store]:
    """The store at `url`, which must be there. What hinders is told in full: an operator asks, no client."""
    with _looking(url, is_current=False):
        pass  # a database that is not ours would be made so
    with _telling_all(), Store.open(url) as store:
        yield store


@contextlib.contextmanager
def open_or_begin(url: str | None) -> Iterator[Store]:
    """The same where a new SQLite file is fine too: keys may be made before the server first starts."""
    with _telling_all(), Store.open(url) as store:
        yield store


def verify_log(url: str | None, other_anchor: Path | None = None) -> AuditReport:
    """Check every row, the head and the anchor; `other_anchor`: a copy of the anchor file that was kept elsewhere."""
    with _looking(url) as database:
        return verify(database, other_anchor)


def accept_log(url: str | None, reason: str) -> int:
    """Go on with a database that is older than its anchor. Returns its rows. Raises UsageError without a reason."""
    if not reason.strip():
        raise UsageError("--reason is empty.", "Say why rows are missing: the log keeps it for ever.")
    with _looking(url) as database:
        return accept(database, reason.strip())


def export_log(url: str | None, out: Path, since: datetime | None, until: datetime | None) -> int:
    """All predictions of that time as CSV, newest first, into a new file. Returns how many."""
    if out.exists():
        raise UsageError(f"--out {out} exists already.", "Choose another name.")
    n_rows = 0
    with _looking(url) as database, _writing(out) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write(format_csv([EXPORT_COLUMNS]))
        for recorded in iter_predictions(database, PredictionFilter(since=since, until=until)):
            stream.write(format_csv([_flatten(recorded)]))
            n_rows += 1
    return n_rows


def backup_log(url: str | None, out: Path) -> None:
    """A copy of a SQLite database as it is at one moment, while the server goes on. Raises UsageError elsewhere."""
    if out.exists():
        raise UsageError(f"--out {out} exists already.", "Choose another name.")
    address = read_address(url)
    if address.path is None:
        raise UsageError(
            f"{address.shown} is no file.", "PostgreSQL has its own: pg_dump --format=custom --file=audit.dump …"
        )
    with _looking(url), _writing(out) as temporary:
        source = sqlite3.connect(f"{address.path.as_uri()}?mode=rw", uri=True, timeout=BUSY_S)
        try:
            source.execute("VACUUM INTO ?", (str(temporary),))
        except sqlite3.Error as error:
            raise StorageError(f"{out}: the backup failed: {error}", "Choose a disk with more room.") from error
        finally:
            source.close()
        temporary.chmod(0o600)


def _flatten(recorded: RecordedPrediction) -> list[object]:
    row = recorded.prediction
    values: dict[str, object] = {name: getattr(row, name, None) for name in EXPORT_COLUMNS}
    values |= {
        "row": recorded.row,
        "time": row.time.astimezone(UTC).isoformat(),
        "probabilities": None if row.probabilities is None else json.dumps(dict(row.probabilities)),
        "abstain": str(row.abstain).lower(),
        "set": None if row.set is None else json.dumps(list(row.set)),
    }
    return ["" if value is None else value for value in values.values()]


@contextlib.contextmanager
def _looking(url: str | None, *, is_current: bool = True) -> Iterator[Database]:
    """The database as it is. Raises where it is not ours, or, if `is_current` is needed, of another schema."""
    with _telling_all():
        address = read_address(url)
        if address.path is not None:
            require_file(address.path)
        database = Database(address)
        try:
            require_ours(database, is_current=is_current)
            yield database
        finally:
            database.close()


@contextlib.contextmanager
def _telling_all() -> Iterator[None]:
    LOG.disabled = True  # what a server logs beside its answers is the answer here
    try:
        yield
    except StoreUnavailableError as error:
        raise StorageError(
            error.reason, "Check that the database runs, may be reached and written, and that its disk has room."
        ) from error
    finally:
        LOG.disabled = False


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[Path]:
    """A name beside `out` that becomes it when the block ends well, and is gone when it does not."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise explain_os_error(error, out) from error
