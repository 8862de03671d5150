"""From a form with pictures to recorded answers: the way of every prediction over HTTP.

No answer leaves before its row is on the database's disk.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from snellen.core.errors import PictureError
from snellen.imaging.dicom import count_frames
from snellen.imaging.kinds import find_kind
from snellen.serve.access import Caller
from snellen.serve.audit_rows import PredictionRow
from snellen.serve.forms import Form, FormRules, Kept, iterate_names, read_form
from snellen.serve.models import Served
from snellen.serve.refusals import RefusedError, read_request_id
from snellen.serve.scoring import Answer, rename
from snellen.serve.service import Service
from snellen.serve.wire import PictureAnswer, PictureProblem, PredictAnswer

_KIND_BYTES = 132
_SHOWN = 3


@dataclass(frozen=True)
class Picture:
    """One picture to be answered; `frame` of a DICOM that holds several."""

    filename: str
    content: bytes
    frame: int | None = None


@dataclass(frozen=True)
class Asked:
    """Who asked which model, under which id."""

    request_id: str
    served: Served
    caller: Caller


async def answer_request(service: Service, request: Request, model: str, caller: Caller) -> PredictAnswer:
    """Raises RefusedError, also where no picture of the request can be read (422)."""
    with service.models.hold(model) as served:
        asked = Asked(read_request_id(request), served, caller)
        async with receive_pictures(service, request) as pictures:
            answers = await answer_pictures(service, asked, pictures)
    if all(answer.problem is not None for answer in answers):
        raise _refuse_all(answers)
    return PredictAnswer(
        request_id=asked.request_id,
        model=served.name,
        model_sha256=served.predictor.sha256,
        predictions=[to_wire(answer) for answer in answers],
    )


@asynccontextmanager
async def receive_pictures(service: Service, request: Request) -> AsyncIterator[list[Picture]]:
    """The pictures of a form, with their bytes counted until the block ends. Raises RefusedError."""
    limits = service.limits
    service.pictures.require_room()
    rules = FormRules(
        files=("images",), max_files=limits.pictures, max_file_bytes=limits.picture_bytes,
        max_bytes=limits.request_bytes, receive_s=limits.receive_s,
    )  # fmt: skip
    with service.bodies.share() as share:
        form = await read_form(request, rules, Kept, share.grow)
        if not form.files:
            raise RefusedError(
                422, "no_pictures", "The form holds no picture.", "Name the field `images`: -F images=@x.jpg"
            )
        has_dicom = any(find_kind(bytes(sent.sink[:_KIND_BYTES])) == "DICOM" for sent in form.files)
        most = limits.pictures
        pictures = await run_in_threadpool(_list_pictures, form, most) if has_dicom else _list_pictures(form, most)
        if len(pictures) > most:
            raise RefusedError(
                413,
                "too_many_pictures",
                f"The request holds more than {most} pictures, all frames counted.",
                "Send fewer at once, or a job: POST /v1/jobs.",
            )
        with service.pictures.share(len(pictures)):
            yield pictures


async def answer_pictures(service: Service, asked: Asked, pictures: Sequence[Picture]) -> list[Answer]:
    """An answer each, in order, recorded, by a model that is held. Raises RefusedError where that took too long,
    StoreUnavailableError.
    """
    received = datetime.now(UTC)
    scorer = asked.served.scorer
    try:
        async with asyncio.timeout(service.limits.answer_s):
            waiting = [scorer.submit(picture.content, picture.frame) for picture in pictures]
            found = await asyncio.gather(*(asyncio.wrap_future(answer) for answer in waiting))
            answers = [rename(answer, picture.filename) for answer, picture in zip(found, pictures, strict=True)]
            if service.keeps_images:
                await run_in_threadpool(_keep, service, pictures)
            rows = [to_row(asked, answer, received, names=service.keeps_images) for answer in answers]
            await asyncio.wrap_future(service.store.submit(rows))
    except TimeoutError:
        raise RefusedError(
            503, "too_slow", f"The pictures took more than {service.limits.answer_s:g} s.", "Send fewer at once.", 5
        ) from None
    for answer in answers:
        outcome = "unreadable" if answer.problem else "abstained" if answer.prediction.abstain else "answered"
        service.measures.note_pictures(asked.served.name, outcome)
    return answers


def to_wire(answer: Answer) -> PictureAnswer:
    """An answer as it is sent."""
    found, problem = answer.prediction, answer.problem
    return PictureAnswer(
        filename=found.path,
        prediction=found.prediction,
        probabilities=found.probabilities,
        decision=found.decision,
        set=None if found.set is None else list(found.set),
        abstain=found.abstain,
        reason=found.reason,
        error=None
        if problem is None
        else PictureProblem(code=problem.code, message=problem.message, hint=problem.hint),
    )


def to_row(asked: Asked, answer: Answer, received: datetime, *, names: bool) -> PredictionRow:
    """An answer as it is recorded. Of an unreadable picture the error's code alone: its text may quote the file."""
    found = answer.prediction
    return PredictionRow(
        request_id=asked.request_id,
        time=received,
        key_id=asked.caller.key_id,
        model=asked.served.name,
        model_sha256=asked.served.predictor.sha256,
        image_sha256=answer.image_sha256,
        probabilities=found.probabilities or None,
        prediction=found.prediction,
        decision=found.decision,
        abstain=found.abstain,
        reason=found.reason or None,
        latency_ms=round(answer.latency_ms, 3),
        error=None if answer.problem is None else answer.problem.code,
        filename=found.path if names else None,
        set=None if found.set is None else tuple(found.set),
    )


def list_frames(filename: str, content: bytes) -> Iterator[Picture]:
    """The pictures in one file: itself, or each frame of a DICOM. One that cannot be read stays: reading says why."""
    n_frames = 1
    if find_kind(content[:_KIND_BYTES]) == "DICOM":
        try:
            n_frames = count_frames(content)
        except PictureError:
            n_frames = 1
    if n_frames == 1:
        yield Picture(filename, content)
    else:
        yield from (Picture(f"{filename}::frame[{index}]", content, index) for index in range(n_frames))


def _list_pictures(form: Form, most: int) -> list[Picture]:
    """Not much more than `most`: a header may claim millions of frames."""
    found: list[Picture] = []
    for name, sent in zip(iterate_names(form), form.files, strict=True):
        if len(found) <= most:
            found.extend(itertools.islice(list_frames(name, bytes(sent.sink)), most + 1))
        sent.sink.clear()  # held twice otherwise
    return found


def _keep(service: Service, pictures: Sequence[Picture]) -> None:
    for content in {picture.content for picture in pictures}:
        service.store.keep_image(content)


def _refuse_all(answers: Sequence[Answer]) -> RefusedError:
    problems = [answer for answer in answers if answer.problem is not None]
    first = problems[0].problem
    if len(problems) == 1 and first is not None:
        return RefusedError(422, first.code, f"The picture cannot be read: {first.message}.", first.hint)
    numbered = enumerate(problems[:_SHOWN], start=1)
    told = "; ".join(f"{number}: {answer.problem.message}" for number, answer in numbered if answer.problem)
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    hint = first.hint if first is not None else ""
    return RefusedError(
        422, "unreadable_picture", f"None of the {len(problems)} pictures can be read. {told}{more}.", hint
    )
