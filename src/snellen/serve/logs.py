"""Logs as JSON lines on standard output: request ids, statuses, times. No picture, name, key or header of a file.

What an exception says may quote what was sent; its kind and the lines of code it passed cannot.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

LOGGER = "snellen.serve"
_log = logging.getLogger(LOGGER)
_PACKAGE = Path(__file__).parents[1]


class JsonLines(logging.Formatter):
    """One object a line, in English names that do not change."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", None)
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        if fields is None:
            line |= {"event": "message", "logger": record.name, "message": record.getMessage().splitlines()[0]}
        else:
            line |= {"event": record.getMessage(), **fields}
        if record.exc_info and record.exc_info[1] is not None:
            line |= describe_exception(record.exc_info[1])
        return json.dumps(line, ensure_ascii=True, default=str)


def describe_exception(error: BaseException) -> dict[str, object]:
    """Kind and place of an error, without its text."""
    return {"error": type(error).__name__, "at": _list_places(error.__traceback__)}


def _list_places(trace: TracebackType | None) -> list[str]:
    places = []
    for frame in traceback.extract_tb(trace)[-12:]:
        path = Path(frame.filename)
        shown = path.relative_to(_PACKAGE).as_posix() if path.is_relative_to(_PACKAGE) else path.name
        places.append(f"{shown}:{frame.lineno} {frame.name}")
    return places


def log_event(event: str, *, level: int = logging.INFO, error: BaseException | None = None, **fields: object) -> None:
    """Write one line. `fields` are numbers, ids and codes of ours, never what a client sent."""
    _log.log(level, event, extra={"fields": fields}, exc_info=error)


def write_json_logs() -> None:
    """From now on Snellen and the HTTP server log as JSON on standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    for name in ("snellen", "uvicorn", "uvicorn.error", "sqlalchemy", "alembic"):
        logger = logging.getLogger(name)
        logger.handlers = [handler] if name in ("snellen", "uvicorn", "sqlalchemy", "alembic") else []
        logger.propagate = name == "uvicorn.error"
        logger.setLevel(logging.INFO if name == "snellen" else logging.WARNING)
