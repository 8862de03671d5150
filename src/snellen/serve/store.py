"""The audit database: predictions in a chain, API keys, jobs. The server's only door to SQLAlchemy.

    with Store.open("sqlite:////srv/snellen/audit.db") as store:
        store.record(rows)                              # durable before it returns
        await asyncio.wrap_future(store.submit(rows))   # the same without a thread that waits

Every method may be called from any thread. Where the database is gone or its disk is full they raise
StoreUnavailableError (answer 503); afterwards the store recovers by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from snellen.serve import history
from snellen.serve.address import read_address
from snellen.serve.api_keys import KeyRing
from snellen.serve.audit_rows import (
    ApiKey,
    Job,
    JobState,
    Page,
    PageRequest,
    PredictionFilter,
    PredictionRow,
    RecordedPrediction,
    Role,
)
from snellen.serve.database import Database, create_file
from snellen.serve.job_rows import JobBook
from snellen.serve.ledger import Ledger, open_ledger
from snellen.serve.retention import ImageFolder, PurgeOutcome, purge
from snellen.serve.row_values import encode_prediction
from snellen.serve.upgrade import upgrade
from snellen.serve.writer import GroupWriter


class Store:
    """An open audit database. Made by `Store.open`; ends with `close`, or at the end of its `with` block."""

    def __init__(self, database: Database, ledger: Ledger) -> None:
        place = database.address
        self.shown_url = place.shown  # without its password
        self.folder = place.folder  # of key file, anchor, jobs and kept pictures
        self._database, self._ledger = database, ledger
        self._keys = KeyRing(ledger)
        self._jobs = JobBook(database, place.jobs_folder)
        self._images = ImageFolder(place.images_folder)
        self._writer = GroupWriter(ledger.append, ledger.anchor.flush)

    @classmethod
    def open(cls, url: str | None = None, *, folder: Path | None = None) -> Self:
        """Open the database at `url`, made where SQLite has none yet, and brought to this version's schema.

        `url`: `sqlite:///FILE`, `postgresql+psycopg://…`, or the path of a SQLite file. None: `$SNELLEN_DB`, else a
        file in the user's data folder. `folder` of the files beside it: None is `$SNELLEN_STATE`, else SQLite's own.
        Raises UsageError (no such kind of address), StorageError (newer schema, wrong or missing HMAC key, a database
        that is older than its anchor) and StoreUnavailableError (not reached).
        """
        address = read_address(url, folder)
        if address.path is not None:
            create_file(address.path)
        database = Database(address)
        try:
            upgrade(database)
            return cls(database, open_ledger(database))
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """Write what waits, and give the connections back."""
        self._writer.close()
        self._ledger.anchor.flush()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def check(self) -> None:
        """Return where a row could be written now; else raise StoreUnavailableError. For /readyz: milliseconds."""
        self._database.require_room()
        with self._ledger.writing() as pen:
            pen.move(pen.head)  # really written: who may only read can begin a transaction

    # predictions

    def record(self, rows: Sequence[PredictionRow]) -> None:
        """Chain `rows`, all or none, and return when they are on the disk. Callers at one time share a transaction.

        Raises StoreUnavailableError where they are not known to be recorded: then no answer may be given.
        """
        self.submit(rows).result()

    def submit(self, rows: Sequence[PredictionRow]) -> Future[None]:
        """`record` without waiting. The future ends when the rows are on the disk, or with StoreUnavailableError.

        Raises that error at once where too many rows wait, and ValueError for values that are none.
        """
        return self._writer.submit([encode_prediction(row) for row in rows])

    def list_predictions(self, wanted: PredictionFilter, page: PageRequest) -> Page:
        """A page of the history, newest first. Raises UsageError for a page of no or too many rows."""
        return history.list_predictions(self._database, wanted, page)

    def iter_predictions(self, wanted: PredictionFilter) -> Iterator[RecordedPrediction]:
        """All of the history that is wanted, newest first, read in pieces: for a CSV of any length."""
        return history.iter_predictions(self._database, wanted)

    def count_predictions(self, wanted: PredictionFilter) -> int:
        """How many there are; reads all of them, so not for every page."""
        return history.count_predictions(self._database, wanted)

    def keep_image(self, data: bytes) -> str:
        """Keep the encoded picture beside the database (`--keep-images`), before its row is recorded; its sha256."""
        return self._images.keep(data)

    def purge(self, before: datetime) -> PurgeOutcome:
        """Remove rows older than `before`, with the pictures that only they named; the chain keeps a tombstone."""
        return purge(self._ledger, self._images, before)

    # keys

    def add_key(self, name: str, role: Role) -> tuple[ApiKey, str]:
        """A new key and its secret, which is told this once. Raises UsageError where the name is taken."""
        return self._keys.add(name, role)

    def find_key(self, secret: str) -> ApiKey | None:
        """The key of this secret unless it is unknown or revoked. A key revoked elsewhere is refused within 2 s."""
        return self._keys.find(secret)

    def list_keys(self) -> list[ApiKey]:
        """All keys, revoked ones too, oldest first."""
        return self._keys.list_all()

    def has_had_keys(self) -> bool:
        """Whether a key was ever made. Reads the log to its first one, or to its end."""
        return self._keys.is_begun()

    def revoke_key(self, name: str) -> ApiKey:
        """Refuse the key of this name or id from now on. Raises UsageError where there is none."""
        return self._keys.revoke(name)

    # jobs

    def create_job(self, model: str, *, key_id: str | None, n_total: int) -> Job:
        """A queued job with an empty folder of its own."""
        return self._jobs.create(model, key_id=key_id, n_total=n_total)

    def update_job(
        self,
        job_id: str,
        *,
        state: JobState | None = None,
        n_total: int | None = None,
        n_done: int | None = None,
        n_failed: int | None = None,
        message: str | None = None,
    ) -> Job:
        """Change what is given. A job that is done, failed or cancelled stays as it is: look at what comes back.

        A transaction each: tell progress once a second, not once a picture.
        """
        changes = {"state": state, "n_total": n_total, "n_done": n_done, "n_failed": n_failed, "message": message}
        return self._jobs.update(job_id, changes)

    def find_job(self, job_id: str) -> Job | None:
        """One job, or None."""
        return self._jobs.find(job_id)

    def list_jobs(self, *, key_id: str | None = None, limit: int = 50) -> list[Job]:
        """The newest jobs first; with `key_id` those of one key."""
        return self._jobs.list_newest(key_id=key_id, limit=limit)

    def unfinished_jobs(self) -> list[Job]:
        """Queued and running jobs whose folders lie here, oldest first: what a server takes up again at its start."""
        return self._jobs.list_unfinished()

    def remove_job(self, job_id: str) -> None:
        """Forget a job and delete its folder."""
        self._jobs.remove(job_id)
