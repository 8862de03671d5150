"""Reading the history: pages and counts of predictions. Nothing is written here."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from snellen.core.errors import UsageError
from snellen.serve.audit_rows import Page, PageRequest, PredictionFilter, RecordedPrediction
from snellen.serve.database import Database
from snellen.serve.row_values import PREDICTION, clean, count_microseconds, decode_prediction
from snellen.serve.schema import audit_log

LONGEST_PAGE = 1000
_EQUAL = (
    "model", "model_sha256", "key_id", "request_id", "image_sha256", "prediction", "decision", "abstain",
)  # fmt: skip


def list_predictions(database: Database, wanted: PredictionFilter, page: PageRequest) -> Page:
    """Newest first. Raises UsageError for a page of no or too many rows."""
    if not 1 <= page.limit <= LONGEST_PAGE:
        raise UsageError(f"limit={page.limit}: a page has 1 to {LONGEST_PAGE} rows.", "Ask for further pages.")
    query = _select(wanted).order_by(audit_log.c.row.desc()).limit(page.limit + 1)
    if page.before is not None:
        query = query.where(audit_log.c.row < page.before)
    with database.reading() as connection:
        found = [decode_prediction(dict(row)) for row in connection.execute(query).mappings()]
    rows = tuple(found[: page.limit])
    return Page(rows, rows[-1].row if len(found) > page.limit else None)


def iter_predictions(database: Database, wanted: PredictionFilter) -> Iterator[RecordedPrediction]:
    """Newest first, page by page: what is recorded meanwhile does not come, and no transaction stays open."""
    before: int | None = None
    while True:
        page = list_predictions(database, wanted, PageRequest(LONGEST_PAGE, before))
        yield from page.rows
        if page.next_before is None:
            return
        before = page.next_before


def count_predictions(database: Database, wanted: PredictionFilter) -> int:
    query = sa.select(sa.func.count()).select_from(audit_log).where(*_list_conditions(wanted))
    with database.reading() as connection:
        return int(connection.execute(query).scalar_one())


def _select(wanted: PredictionFilter) -> sa.Select[tuple[object, ...]]:
    return sa.select(*audit_log.c).where(*_list_conditions(wanted))


def _list_conditions(wanted: PredictionFilter) -> list[sa.ColumnElement[bool]]:
    columns = audit_log.c
    conditions = [columns.kind == PREDICTION]
    asked = {name: value for name in _EQUAL if (value := getattr(wanted, name)) is not None}
    # cleaned as it was when it was recorded: PostgreSQL takes no zero byte in a question either
    conditions += [
        columns[name] == (clean(value) if isinstance(value, str) else value) for name, value in asked.items()
    ]
    if wanted.has_error is not None:
        conditions.append(columns.error.is_not(None) if wanted.has_error else columns.error.is_(None))
    if wanted.since is not None:
        conditions.append(columns.time_us >= count_microseconds(wanted.since))
    if wanted.until is not None:
        conditions.append(columns.time_us < count_microseconds(wanted.until))
    return conditions
