"""Jobs: many pictures, predicted one small group after the other, so that requests need not wait behind them.

One thread works. What it did is on the disk after every group: a server that ends, or is killed, goes on where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from datetime import UTC, datetime, timedelta

from snellen.core.errors import DataError, PictureError, SnellenError, StoreUnavailableError
from snellen.inference.predictor import describe_unreadable
from snellen.serve.access import Caller
from snellen.serve.answering import Asked, to_row
from snellen.serve.audit_rows import ApiKey, Job
from snellen.serve.job_files import JobFiles, JobList, JobPicture
from snellen.serve.limits import Limits
from snellen.serve.logs import log_event
from snellen.serve.measures import Measures
from snellen.serve.models import Models, Served
from snellen.serve.refusals import RefusedError
from snellen.serve.scoring import Answer, rename
from snellen.serve.store import Store

_GROUP = 8
_GROUP_BYTES = 50_000_000  # of files that are read and not decoded yet
_LONGEST_PAUSE_S = 30.0
_LOOK_S = 600.0
_SHARED_LOOK_S = 5.0  # where another server is at work: it may end
_KEPT_DAYS = 7


class JobRunner:
    """Works on what is queued, the oldest first, until `stop`."""

    def __init__(self, store: Store, models: Models, measures: Measures, limits: Limits, *, keeps_images: bool) -> None:
        self._store, self._models, self._measures, self._limits = store, models, measures, limits
        self._keeps_images = keeps_images
        self._wake = threading.Event()
        self._is_stopped = threading.Event()
        self._began = datetime.now(UTC)
        self._at_hand: str | None = None
        self.creating = asyncio.Lock()  # of the event loop: counting the unfinished ones, and adding to them
        self.arriving: dict[str, int] = {}  # of the event loop: bytes that were announced for jobs not yet whole
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def start(self) -> None:
        """Begin with what an earlier server left."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the group at hand; the rest waits for the next server."""
        self._is_stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(self._limits.drain_s)

    def wake(self) -> None:
        """There is something new to do."""
        self._wake.set()

    def delete_pictures(self, job: Job) -> None:
        """Delete what was sent of a job that was cancelled; where it is at hand, that is done as soon as it is not."""
        if self._at_hand != job.job_id:
            JobFiles(job.folder).delete_pictures()

    def _work(self) -> None:
        pause_s, swept = 1.0, float("-inf")
        while not self._is_stopped.is_set():
            self._wake.clear()
            try:
                if time.monotonic() - swept > _LOOK_S:
                    self._sweep()
                    swept = time.monotonic()
                found = [job for job in self._store.unfinished_jobs() if JobFiles(job.folder).is_complete]
                if not any(self._try(job) for job in found):
                    self._wake.wait(_SHARED_LOOK_S if found else _LOOK_S)
                    continue
                pause_s = 1.0
            except Exception as error:  # the database comes back, and the job goes on; a defect must not end the thread
                if not isinstance(error, StoreUnavailableError):
                    log_event("jobs_failed", error=error)
                self._is_stopped.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _try(self, job: Job) -> bool:
        """Work on it, unless another server does, or has."""
        with JobFiles(job.folder).hold() as is_ours:
            now = self._store.find_job(job.job_id) if is_ours else None
            if now is None or not now.is_open:
                return False
            self._run(now)
            return True

    def _sweep(self) -> None:
        """Forget jobs that ended long ago; end those whose pictures were arriving when an earlier server ended."""
        for job in self._store.unfinished_jobs():
            files = JobFiles(job.folder)
            with files.hold() as is_ours:
                if is_ours and job.created < self._began and not files.is_complete:
                    self._store.update_job(job.job_id, state="failed", message="The server ended while it arrived.")
                    files.delete_pictures()
        oldest = datetime.now(UTC) - timedelta(days=_KEPT_DAYS)
        for job in self._store.list_jobs(limit=1000):
            if not job.is_open and job.updated < oldest:
                self._store.remove_job(job.job_id)
            elif not job.is_open and not self._keeps_images:  # a server that was killed has left some
                JobFiles(job.folder).delete_pictures()

    def _run(self, job: Job) -> None:
        self._at_hand = job.job_id
        files = JobFiles(job.folder)
        try:
            with contextlib.closing(files):
                state = self._go_on(job, files)
        except StoreUnavailableError:
            raise
        except Exception as error:
            state = self._fail(job, error)
        finally:
            self._at_hand = None
        if state == "removed":
            self._store.remove_job(job.job_id)  # what was written into its folder meanwhile
        elif state != "stopped" and not self._keeps_images:
            files.delete_pictures()
        log_event("job_ended", job_id=job.job_id, state=state)

    def _fail(self, job: Job, error: Exception) -> str:
        """This job fails, the next goes on; `removed` where it failed because it was deleted meanwhile."""
        if self._store.find_job(job.job_id) is None:
            return "removed"
        message = error.message if isinstance(error, SnellenError) else "The server failed: see its log."
        if not isinstance(error, SnellenError):
            log_event("job_failed", error=error, job_id=job.job_id)
        try:
            return self._store.update_job(job.job_id, state="failed", message=message).state
        except DataError:
            return "removed"

    def _go_on(self, job: Job, files: JobFiles) -> str:
        wanted, done = files.read_list(), files.mend_results()
        n_failed = sum(bool(answer.error) for answer in done)
        n_done = len(done)
        # n_total too: the request that sent the job may not have come to tell it
        job = self._store.update_job(
            job.job_id, state="running", n_total=len(wanted.pictures), n_done=n_done, n_failed=n_failed
        )
        while job.is_open and n_done < len(wanted.pictures):
            if self._is_stopped.is_set():
                return "stopped"
            group = wanted.pictures[n_done : n_done + _GROUP]
            answers = self._answer(job, wanted, files, group)
            files.append_results([answer.prediction for answer in answers])
            n_done += len(answers)
            n_failed += sum(answer.problem is not None for answer in answers)
            job = self._store.update_job(job.job_id, n_done=n_done, n_failed=n_failed)
        return self._store.update_job(job.job_id, state="done").state

    def _answer(self, job: Job, wanted: JobList, files: JobFiles, group: Sequence[JobPicture]) -> list[Answer]:
        """Answers to a group, recorded."""
        begin = datetime.now(UTC)
        with self._models.hold(job.model) as served:
            if served.predictor.classes != wanted.classes:
                raise RefusedError(409, "model_changed", "The model now has other classes than when the job began.")
            waiting = self._submit_all(served, files, group)
            answers = [rename(found.result(), picture.name) for found, picture in zip(waiting, group, strict=True)]
        asked = Asked(job.job_id, served, _stand_for(job))
        self._store.record([to_row(asked, answer, begin, names=self._keeps_images) for answer in answers])
        for answer in answers:
            outcome = "unreadable" if answer.problem else "abstained" if answer.prediction.abstain else "answered"
            self._measures.note_pictures(served.name, outcome)
        return answers

    def _submit_all(self, served: Served, files: JobFiles, group: Sequence[JobPicture]) -> list[Future[Answer]]:
        waiting: list[Future[Answer]] = []
        n_bytes = 0
        for picture in group:
            try:
                content = files.read_picture(picture, self._limits)
            except PictureError as problem:
                waiting.append(Future())
                waiting[-1].set_result(Answer(describe_unreadable("", problem.message), problem, ""))
                continue
            if self._keeps_images:
                self._store.keep_image(content)
            n_bytes += len(content)
            waiting.append(served.scorer.submit(content, picture.frame))
            if n_bytes > _GROUP_BYTES:  # eight files of the largest size would take 400 MB
                wait(waiting)
                n_bytes = 0
        return waiting


def _stand_for(job: Job) -> Caller:
    """Who sent the job: its rows carry the id of that key."""
    if job.key_id is None:
        return Caller(None)
    return Caller(ApiKey(job.key_id, "", "predict", job.created))
