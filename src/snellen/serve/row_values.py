"""Between the values of `audit_rows.py` and the columns of the chain: both ways, and bit by bit the same after it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from snellen.serve.audit_rows import PredictionRow, RecordedPrediction
from snellen.serve.chain import SIGNED

Values = dict[str, Any]
PREDICTION = "prediction"
LONGEST = 4000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_AS_THEY_ARE = (
    "request_id", "key_id", "model", "model_sha256", "image_sha256",
    "prediction", "decision", "reason", "error", "filename",
)  # fmt: skip


def encode_prediction(row: PredictionRow) -> Values:
    """The columns of a row, without its number. Raises ValueError for numbers that are none and times without zone."""
    probabilities = None
    if row.probabilities is not None:
        plain = {clean(name): float(value) for name, value in row.probabilities.items()}
        probabilities = json.dumps(plain, allow_nan=False, separators=(",", ":"))
    latency_ms = float(row.latency_ms)
    if not math.isfinite(latency_ms):
        raise ValueError(f"latency_ms is {latency_ms}")
    values: Values = dict.fromkeys(SIGNED)
    texts = {name: getattr(row, name) for name in _AS_THEY_ARE}
    values |= {name: None if text is None else clean(text) for name, text in texts.items()}
    return values | {
        "kind": PREDICTION,
        "time_us": count_microseconds(row.time),
        "probabilities": probabilities,
        "abstain": bool(row.abstain),
        "latency_ms": latency_ms,
        "details": None if row.set is None else json.dumps({"set": [clean(name) for name in row.set]}),
    }


def decode_prediction(values: Mapping[str, Any]) -> RecordedPrediction:
    """A prediction of its columns."""
    text, details = values["probabilities"], values["details"]
    found = json.loads(details)["set"] if details is not None else None
    return RecordedPrediction(
        row=values["row"],
        prediction=PredictionRow(
            **{name: values[name] for name in _AS_THEY_ARE},
            time=read_microseconds(values["time_us"]),
            probabilities=None if text is None else json.loads(text),
            abstain=bool(values["abstain"]),
            latency_ms=values["latency_ms"],
            set=None if found is None else tuple(found),
        ),
    )


def clean(text: str) -> str:
    """As every database takes it: no zero byte, no half of a letter, not endless."""
    return text[:LONGEST].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "backslashreplace").decode()


def count_microseconds(time: datetime) -> int:
    """Since 1970, UTC. Raises ValueError for a time without its zone."""
    if time.tzinfo is None:
        raise ValueError(f"{time} has no time zone")
    return (time - _EPOCH) // _MICROSECOND


def read_microseconds(number: int) -> datetime:
    return _EPOCH + number * _MICROSECOND
