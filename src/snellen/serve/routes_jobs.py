"""Routes of jobs: many pictures or a zip of them, predicted in the background."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, BinaryIO, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from snellen.core.errors import DataError
from snellen.core.storage import measure_free_space
from snellen.prediction import to_csv, to_json
from snellen.serve.access import Caller, needs
from snellen.serve.audit_rows import Job
from snellen.serve.contract import READING, SENDING, tell_errors, tell_form
from snellen.serve.forms import FormRules, iterate_names, read_form
from snellen.serve.job_files import JobFiles
from snellen.serve.models import Served
from snellen.serve.refusals import RefusedError
from snellen.serve.service import Service, get_service
from snellen.serve.wire import JobAnswer, JobsAnswer

router = APIRouter(prefix="/jobs", tags=["jobs"])
Predicting = Annotated[Caller, Depends(needs("predict"))]
_FREE_BYTES = 500_000_000  # for the audit database, which must go on


@router.post(
    "", status_code=202, response_model=JobAnswer, responses=tell_errors(409, *SENDING), openapi_extra=tell_form()
)
async def create_job(
    request: Request,
    caller: Predicting,
    model: Annotated[str | None, Query(description="May be left out where one is served.", max_length=64)] = None,
) -> JobAnswer:
    """Send pictures, or zip archives of pictures, in the field `images`; ask for the job's state until it is done."""
    service = get_service(request)
    served = _choose_model(service, model)
    async with service.jobs.creating:  # else many that come at once all find room
        if len(await run_in_threadpool(service.store.unfinished_jobs)) >= service.limits.jobs:
            raise RefusedError(
                429, "busy", "There are as many unfinished jobs as the server takes.", "Wait for them.", 60
            )
        job = await run_in_threadpool(lambda: service.store.create_job(served.name, key_id=caller.key_id, n_total=0))
    try:
        with JobFiles(job.folder).hold():
            return _describe(await _receive(service, request, job, served))
    except BaseException as error:
        is_ended = isinstance(error, DataError | OSError) and not await _is_open(service, job)
        await run_in_threadpool(service.store.remove_job, job.job_id)
        if is_ended:
            raise _tell_ended() from error
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise _tell_full_disk() from error
        raise
    finally:
        service.jobs.wake()


@router.get("", response_model=JobsAnswer, responses=tell_errors(*READING))
async def list_jobs(request: Request, caller: Predicting) -> JobsAnswer:
    """The newest first: one's own, or all for an admin."""
    store = get_service(request).store
    own = None if caller.allows("admin") else caller.key_id
    return JobsAnswer(jobs=[_describe(job) for job in await run_in_threadpool(lambda: store.list_jobs(key_id=own))])


@router.get("/{job_id}", response_model=JobAnswer, responses=tell_errors(404, *READING))
async def get_job(job_id: str, request: Request, caller: Predicting) -> JobAnswer:
    """How far a job is."""
    return _describe(await _find(get_service(request), job_id, caller))


@router.post("/{job_id}/cancel", response_model=JobAnswer, responses=tell_errors(404, *READING))
async def cancel_job(job_id: str, request: Request, caller: Predicting) -> JobAnswer:
    """Stop a job. What it answered stays; one that has ended stays as it is."""
    service = get_service(request)
    before = await _find(service, job_id, caller)
    job = await run_in_threadpool(lambda: service.store.update_job(job_id, state="cancelled"))
    if before.is_open:
        await run_in_threadpool(service.jobs.delete_pictures, job)
    return _describe(job)


@router.delete("/{job_id}", status_code=204, response_class=Response, responses=tell_errors(404, 409, *READING))
async def delete_job(job_id: str, request: Request, caller: Predicting) -> Response:
    """Forget a job that has ended, with its results. The history keeps its rows."""
    service = get_service(request)
    job = await _find(service, job_id, caller)
    if job.is_open:
        raise RefusedError(409, "job_open", "The job has not ended.", f"First: POST /v1/jobs/{job_id}/cancel")
    await run_in_threadpool(service.store.remove_job, job_id)
    return Response(status_code=204)


@router.get(
    "/{job_id}/results",
    response_class=Response,
    responses={
        200: {"content": {"text/csv": {}, "application/json": {}}, "description": "The rows of `snellen predict`."},
        **tell_errors(404, *READING),
    },
)
async def get_results(
    job_id: str, request: Request, caller: Predicting, format: Literal["csv", "json"] = "csv"
) -> Response:
    """The answers so far, a row a picture, with the columns of `snellen predict`."""
    job = await _find(get_service(request), job_id, caller)
    files = JobFiles(job.folder)
    if not files.is_complete:
        raise RefusedError(404, "no_results", "The job has no results yet.", "Its pictures are still arriving.")
    write, kind = (to_csv, "text/csv") if format == "csv" else (to_json, "application/json")
    text = await run_in_threadpool(lambda: write(list(files.read_results()), files.read_list().classes))
    return Response(
        text,
        media_type=f"{kind}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="job-{job.job_id}.{format}"'},
    )


async def _receive(service: Service, request: Request, job: Job, served: Served) -> Job:
    limits, files = service.limits, JobFiles(job.folder)
    rules = FormRules(
        files=("images",), max_files=limits.job_pictures, max_file_bytes=limits.job_bytes, max_bytes=limits.job_bytes,
        receive_s=60 * limits.receive_s,
    )  # fmt: skip
    sinks: list[BinaryIO] = []

    def open_sink() -> BinaryIO:
        for sink in sinks:  # the one before is whole
            sink.close()
        sinks[:] = [files.open_sink()]
        return sinks[0]

    try:
        form = await read_form(request, rules, open_sink, lambda n_bytes: _take_space(service, job, n_bytes))
    finally:
        service.jobs.arriving.pop(job.job_id, None)
        for sink in sinks:
            sink.close()
    if not form.files:
        raise RefusedError(
            422, "no_pictures", "The form holds no picture.", "Name the field `images`: -F images=@x.zip"
        )
    if not await _is_open(service, job):
        raise _tell_ended()
    try:
        names = list(iterate_names(form))
        found = await run_in_threadpool(files.write_list, names, served.predictor.classes, limits)
    except DataError as error:
        raise RefusedError(422, error.code, error.message, error.hint) from error
    message = _tell_left_out(found.left_out)
    return await run_in_threadpool(
        lambda: service.store.update_job(job.job_id, n_total=len(found.pictures), message=message)
    )


def _tell_left_out(kinds: Sequence[str]) -> str | None:
    """Their names would tell patients: kinds and counts do not."""
    if not kinds:
        return None
    counts = [f"{n} × {kind}" for kind, n in sorted(Counter(kinds).items())]
    return f"Left out, because no picture that Snellen reads: {', '.join(counts)}."


def _choose_model(service: Service, name: str | None) -> Served:
    names = service.models.names
    if name is None and len(names) > 1:
        raise RefusedError(422, "model_missing", "Several models are served.", f"Name one: ?model={names[0]}")
    return service.models.find(name or names[0])


def _take_space(service: Service, job: Job, n_bytes: int) -> None:
    """Room for so many bytes beside what other jobs were promised, of which a part may have arrived already."""
    arriving = service.jobs.arriving
    if measure_free_space(job.folder) < sum(arriving.values()) + n_bytes + _FREE_BYTES:
        raise _tell_full_disk()
    arriving[job.job_id] = arriving.get(job.job_id, 0) + n_bytes


async def _is_open(service: Service, job: Job) -> bool:
    found = await run_in_threadpool(service.store.find_job, job.job_id)
    return found is not None and found.is_open


def _tell_ended() -> RefusedError:
    return RefusedError(
        409, "job_ended", "The job was cancelled or deleted while its pictures arrived.", "Send it again."
    )


def _tell_full_disk() -> RefusedError:
    return RefusedError(503, "disk_full", "The server's disk has no room for the job.", "Tell whoever runs it.", 600)


async def _find(service: Service, job_id: str, caller: Caller) -> Job:
    job = await run_in_threadpool(service.store.find_job, job_id)
    if job is None or not (caller.allows("admin") or job.key_id == caller.key_id):
        raise RefusedError(404, "unknown_job", "There is no such job.", "GET /v1/jobs lists them.")
    return job


def _describe(job: Job) -> JobAnswer:
    return JobAnswer(
        job_id=job.job_id,
        model=job.model,
        state=job.state,
        created=job.created.isoformat(),
        updated=job.updated.isoformat(),
        n_total=job.n_total,
        n_done=job.n_done,
        n_failed=job.n_failed,
        message=job.message,
    )
