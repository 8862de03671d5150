"""Routes of the history: what was predicted, page by page or as CSV."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from snellen.core.csv_text import format_csv
from snellen.serve.access import Caller, needs
from snellen.serve.audit_rows import PageRequest, PredictionFilter, RecordedPrediction
from snellen.serve.contract import READING, tell_errors
from snellen.serve.service import get_service
from snellen.serve.wire import HistoryAnswer, HistoryRow

router = APIRouter(prefix="/predictions", tags=["history"])
_FILTERED = (
    "model", "model_sha256", "key_id", "request_id", "image_sha256", "prediction", "decision", "abstain", "has_error",
    "since", "until",
)  # fmt: skip
Reading = Annotated[Caller, Depends(needs("read"))]
Text = Annotated[str | None, Field(max_length=200)]


def _require_date(value: object) -> object:
    """A bare number is a time to pydantic, and no date-time as the document has it."""
    if isinstance(value, str) and ("-" not in value[1:] or _DAY.fullmatch(value)):
        raise ValueError("write it with time and zone, like 2026-01-31T12:00:00Z")
    return value


_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
Time = Annotated[AwareDatetime | None, BeforeValidator(_require_date)]


class HistoryQuery(BaseModel):
    """Which predictions, and in which form. Times carry their zone."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: Text = None
    model_sha256: Text = None
    key_id: Text = None
    request_id: Text = None
    image_sha256: Text = None
    prediction: Text = None
    decision: Text = None
    abstain: bool | None = None
    has_error: bool | None = None
    since: Time = Field(None, description="From then on.")
    until: Time = Field(None, description="Before then.")
    limit: int = Field(50, ge=1, le=1000)
    before: int | None = Field(None, ge=1, le=2**63 - 1, description="Rows older than this one: `next_before`.")
    format: Literal["json", "csv"] = Field("json", description="csv: all rows that fit, not only a page.")


@router.get(
    "",
    response_model=HistoryAnswer,
    responses={200: {"content": {"text/csv": {}}, "description": "A page, or a CSV."}, **tell_errors(*READING)},
)
async def list_predictions(query: Annotated[HistoryQuery, Query()], request: Request, _: Reading) -> Response:
    """The newest first. The history holds no picture and no file name, unless the server keeps pictures."""
    store = get_service(request).store
    wanted = PredictionFilter(**{name: getattr(query, name) for name in _FILTERED})
    if query.format == "csv":
        await run_in_threadpool(store.check)  # a database that is gone is told by a status, not by half a file
        return StreamingResponse(
            _format_rows(store.iter_predictions(wanted)),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="predictions.csv"'},
        )
    page = await run_in_threadpool(store.list_predictions, wanted, PageRequest(query.limit, query.before))
    answer = HistoryAnswer(predictions=[_describe(found) for found in page.rows], next_before=page.next_before)
    return Response(answer.model_dump_json(), media_type="application/json")


def _describe(found: RecordedPrediction) -> HistoryRow:
    row = found.prediction
    return HistoryRow(
        row=found.row,
        time=row.time.isoformat(),
        request_id=row.request_id,
        key_id=row.key_id,
        model=row.model,
        model_sha256=row.model_sha256,
        image_sha256=row.image_sha256,
        prediction=row.prediction,
        decision=row.decision,
        probabilities=dict(row.probabilities or {}),
        abstain=row.abstain,
        reason=row.reason or "",
        latency_ms=row.latency_ms,
        error=row.error,
        filename=row.filename,
        set=None if row.set is None else list(row.set),
    )


def _format_rows(found: Iterator[RecordedPrediction]) -> Iterator[str]:
    yield format_csv([list(HistoryRow.model_fields)])
    for item in found:
        values = _describe(item).model_dump()
        for name in ("probabilities", "set"):
            values[name] = json.dumps(values[name], ensure_ascii=False) if values[name] is not None else None
        yield format_csv([["" if value is None else _show(value) for value in values.values()]])


def _show(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value
