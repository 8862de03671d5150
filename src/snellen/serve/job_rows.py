"""Jobs: what is known of them lies in the database, what they work on in a folder of their own beside it."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from snellen.core.errors import DataError, StoreUnavailableError
from snellen.serve.audit_rows import OPEN_STATES, Job
from snellen.serve.database import Database
from snellen.serve.row_values import clean, count_microseconds, read_microseconds
from snellen.serve.schema import jobs

_ID = re.compile(r"[0-9a-f]{32}")


class JobBook:
    """The jobs of one database; `folder` holds a folder for each that this machine works on."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder

    def create(self, model: str, *, key_id: str | None, n_total: int) -> Job:
        """Queued. Its folder is there first: a row without one would never be taken up."""
        job_id = secrets.token_hex(16)
        now = count_microseconds(datetime.now(UTC))
        values = {
            "job_id": job_id, "key_id": key_id, "model": clean(model), "state": "queued", "created_us": now,
            "updated_us": now, "n_total": n_total, "n_done": 0, "n_failed": 0, "message": None,
        }  # fmt: skip
        place = self._locate(job_id)
        try:
            place.mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise StoreUnavailableError(f"{place}: {error.strerror}") from error
        try:
            with self._database.writing() as connection:
                connection.execute(sa.insert(jobs).values(**values))
        except StoreUnavailableError:
            shutil.rmtree(place, ignore_errors=True)
            raise
        return self._read(values)

    def update(self, job_id: str, changes: Mapping[str, Any]) -> Job:
        """Change what is not None, unless the job has ended. Raises DataError where there is no such job."""
        given = {name: value for name, value in changes.items() if value is not None}
        if "message" in given:
            given["message"] = clean(given["message"])
        given["updated_us"] = count_microseconds(datetime.now(UTC))
        still_open = sa.and_(jobs.c.job_id == job_id, jobs.c.state.in_(OPEN_STATES))
        with self._database.writing() as connection:
            connection.execute(sa.update(jobs).where(still_open).values(**given))
            row = connection.execute(_ALL.where(jobs.c.job_id == job_id)).mappings().one_or_none()
        if row is None:
            raise DataError(f"There is no job {job_id}.", "It may have been removed.")
        return self._read(row)

    def find(self, job_id: str) -> Job | None:
        """One job, or None, also for what is no id: PostgreSQL takes no zero byte in a question."""
        if not _ID.fullmatch(job_id):
            return None
        with self._database.reading() as connection:
            row = connection.execute(_ALL.where(jobs.c.job_id == job_id)).mappings().one_or_none()
        return None if row is None else self._read(row)

    def list_newest(self, *, key_id: str | None, limit: int) -> list[Job]:
        query = _ALL.order_by(jobs.c.created_us.desc(), jobs.c.job_id).limit(limit)
        if key_id is not None:
            query = query.where(jobs.c.key_id == key_id)
        return self._read_all(query)

    def list_unfinished(self) -> list[Job]:
        """Open jobs whose folders lie here, oldest first; others are another server's."""
        query = _ALL.where(jobs.c.state.in_(OPEN_STATES)).order_by(jobs.c.created_us, jobs.c.job_id)
        return [job for job in self._read_all(query) if job.folder.is_dir()]

    def remove(self, job_id: str) -> None:
        """Forget a job and delete its files; one that is not there is no error."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(jobs).where(jobs.c.job_id == job_id))
        shutil.rmtree(self._locate(job_id), ignore_errors=True)

    def _locate(self, job_id: str) -> Path:
        # ids come from addresses of requests too
        if not _ID.fullmatch(job_id):
            raise DataError(f"{job_id!r} is no job's id.", "Ids are told when a job is made.")
        return self._folder / job_id

    def _read_all(self, query: sa.Select[Any]) -> list[Job]:
        with self._database.reading() as connection:
            return [self._read(row) for row in connection.execute(query).mappings()]

    def _read(self, row: Mapping[str, Any] | sa.RowMapping) -> Job:
        return Job(
            job_id=row["job_id"],
            key_id=row["key_id"],
            model=row["model"],
            state=row["state"],
            created=read_microseconds(row["created_us"]),
            updated=read_microseconds(row["updated_us"]),
            n_total=row["n_total"],
            n_done=row["n_done"],
            n_failed=row["n_failed"],
            message=row["message"],
            folder=self._locate(row["job_id"]),
        )


_ALL = sa.select(*jobs.c)
