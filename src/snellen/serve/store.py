"""The audit database: predictions in a chain, API keys, jobs. The server's only door to SQLAlchemy.

    with Store.open("sqlite:////srv/snellen/audit.db") as store:
        store.record(rows)                          # durable before it returns
        await asyncio.wrap_future(store.submit(rows))   # the same without a thread that waits

Every method may be called from any thread. Where the database is gone or its disk is full they raise
StoreUnavailableError (answer 503); afterwards the store recovers by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self

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
)  # fmt: skip


class Store:
    """An open audit database. Made by `Store.open`; ends with `close`, or at the end of its `with` block."""

    folder: Path  # of key file, anchor, jobs and kept pictures: the database's own, or `folder` of `open`
    shown_url: str  # the address without its password

    @classmethod
    def open(cls, url: str | None = None, *, folder: Path | None = None) -> Self:
        """Open the database at `url`, made where SQLite has none yet, and brought to this version's schema.

        `url`: `sqlite:///FILE`, `postgresql+psycopg://…`, or the path of a SQLite file. None: `$SNELLEN_DB`, else a
        file in the user's data folder. Raises UsageError (no such kind of address), StorageError (newer schema, wrong or
        missing HMAC key, a database that is older than its anchor) and StoreUnavailableError (not reached).
        """
        raise NotImplementedError

    def close(self) -> None:
        """Write what waits, and give the connections back."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def check(self) -> None:
        """Return where a row could be written now; else raise StoreUnavailableError. For /readyz: milliseconds."""
        raise NotImplementedError

    # predictions

    def record(self, rows: Sequence[PredictionRow]) -> None:
        """Chain `rows`, all or none, and return when they are on the disk. Callers at one time share a transaction.

        Raises StoreUnavailableError where they are not known to be recorded: then no answer may be given.
        """
        self.submit(rows).result()

    def submit(self, rows: Sequence[PredictionRow]) -> Future[None]:
        """`record` without waiting. The future ends when the rows are on the disk, or with StoreUnavailableError."""
        raise NotImplementedError

    def list_predictions(self, wanted: PredictionFilter, page: PageRequest) -> Page:
        """A page of the history, newest first."""
        raise NotImplementedError

    def iter_predictions(self, wanted: PredictionFilter) -> Iterator[RecordedPrediction]:
        """All of the history that is wanted, newest first, read in pieces: for a CSV of any length."""
        raise NotImplementedError

    def count_predictions(self, wanted: PredictionFilter) -> int:
        """How many there are; reads the whole index, so not for every page."""
        raise NotImplementedError

    def keep_image(self, data: bytes) -> str:
        """Keep the encoded picture beside the database (`--keep-images`), before its row is recorded; its sha256."""
        raise NotImplementedError

    # keys

    def add_key(self, name: str, role: Role) -> tuple[ApiKey, str]:
        """A new key and its secret, which is told this once. Raises UsageError where the name is taken."""
        raise NotImplementedError

    def find_key(self, secret: str) -> ApiKey | None:
        """The key of this secret unless it is unknown or revoked. A key revoked elsewhere is refused within 2 s."""
        raise NotImplementedError

    def list_keys(self) -> list[ApiKey]:
        """All keys, revoked ones too, oldest first."""
        raise NotImplementedError

    def revoke_key(self, name: str) -> ApiKey:
        """Refuse the key of this name or id from now on. Raises UsageError where there is none."""
        raise NotImplementedError

    # jobs

    def create_job(self, model: str, *, key_id: str | None, n_total: int) -> Job:
        """A queued job with an empty folder of its own."""
        raise NotImplementedError

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
        """Change what is given. A job that is done, failed or cancelled stays as it is: look at what comes back."""
        raise NotImplementedError

    def find_job(self, job_id: str) -> Job | None:
        """One job, or None."""
        raise NotImplementedError

    def list_jobs(self, *, key_id: str | None = None, limit: int = 50) -> list[Job]:
        """The newest jobs first; with `key_id` those of one key."""
        raise NotImplementedError

    def unfinished_jobs(self) -> list[Job]:
        """Queued and running jobs whose folders lie here, oldest first: what a server takes up again at its start."""
        raise NotImplementedError

    def remove_job(self, job_id: str) -> None:
        """Forget a job and delete its folder."""
        raise NotImplementedError
