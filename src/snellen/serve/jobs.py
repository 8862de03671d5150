"""Jobs: many pictures, predicted one small group after the other, so that requests need not wait behind them.

One thread works. What it did is on the disk after every group: a server that ends, or is killed, goes on where it was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

from snellen.core.errors import PictureError, SnellenError, StoreUnavailableError
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
_LONGEST_PAUSE_S = 30.0
_LOOK_S = 600.0
_KEPT_DAYS = 7


class JobRunner:
    """Works on what is queued, the oldest first, until `stop`."""

    def __init__(self, store: Store, models: Models, measures: Measures, limits: Limits, *, keeps_images: bool) -> None:
        self._store, self._models, self._measures, self._limits = store, models, measures, limits
        self._keeps_images = keeps_images
        self._wake = threading.Event()
        self._is_stopped = threading.Event()
        self._began = datetime.now(UTC)
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

    def _work(self) -> None:
        pause_s, swept = 1.0, float("-inf")
        while not self._is_stopped.is_set():
            self._wake.clear()
            try:
                if time.monotonic() - swept > _LOOK_S:
                    self._sweep()
                    swept = time.monotonic()
                found = [job for job in self._store.unfinished_jobs() if JobFiles(job.folder).is_complete]
                if not found:
                    self._wake.wait(_LOOK_S)
                    continue
                self._run(found[0])
                pause_s = 1.0
            except StoreUnavailableError:  # it comes back, and the job goes on
                self._is_stopped.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _sweep(self) -> None:
        """Forget jobs that ended long ago; end those whose pictures were arriving when an earlier server ended."""
        for job in self._store.unfinished_jobs():
            if job.created < self._began and not JobFiles(job.folder).is_complete:
                self._store.update_job(job.job_id, state="failed", message="The server ended while it arrived.")
                JobFiles(job.folder).delete_pictures()
        oldest = datetime.now(UTC) - timedelta(days=_KEPT_DAYS)
        for job in self._store.list_jobs(limit=1000):
            if not job.is_open and job.updated < oldest:
                self._store.remove_job(job.job_id)

    def _run(self, job: Job) -> None:
        try:
            state = self._go_on(job)
        except StoreUnavailableError:
            raise
        except SnellenError as error:
            self._store.update_job(job.job_id, state="failed", message=error.message)
            state = "failed"
        except Exception as error:  # a defect of ours: this job fails, the next goes on
            log_event("job_failed", error=error, job_id=job.job_id)
            self._store.update_job(job.job_id, state="failed", message="The server failed: see its log.")
            state = "failed"
        if state != "stopped" and not self._keeps_images:
            JobFiles(job.folder).delete_pictures()
        log_event("job_ended", job_id=job.job_id, state=state)

    def _go_on(self, job: Job) -> str:
        files = JobFiles(job.folder)
        wanted, done = files.read_list(), files.mend_results()
        n_failed = sum(bool(answer.error) for answer in done)
        n_done = len(done)
        job = self._store.update_job(job.job_id, state="running", n_done=n_done, n_failed=n_failed)
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
            waiting = [self._submit(served, files, picture) for picture in group]
            answers = [rename(found.result(), picture.name) for found, picture in zip(waiting, group, strict=True)]
        asked = Asked(job.job_id, served, _stand_for(job))
        self._store.record([to_row(asked, answer, begin, names=self._keeps_images) for answer in answers])
        for answer in answers:
            outcome = "unreadable" if answer.problem else "abstained" if answer.prediction.abstain else "answered"
            self._measures.note_pictures(served.name, outcome)
        return answers

    def _submit(self, served: Served, files: JobFiles, picture: JobPicture) -> Future[Answer]:
        try:
            content = files.read_picture(picture, self._limits)
        except PictureError as problem:
            unread: Future[Answer] = Future()
            unread.set_result(Answer(describe_unreadable("", problem.message), problem, ""))
            return unread
        if self._keeps_images:
            self._store.keep_image(content)
        return served.scorer.submit(content, picture.frame)


def _stand_for(job: Job) -> Caller:
    """Who sent the job: its rows carry the id of that key."""
    if job.key_id is None:
        return Caller(None)
    return Caller(ApiKey(job.key_id, "", "predict", job.created))
