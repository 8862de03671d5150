"""What the audit database takes and gives: plain frozen values. They know no database, no HTTP and no picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

Role = Literal["predict", "read", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
JobState = Literal["queued", "running", "done", "failed", "cancelled"]
OPEN_STATES: tuple[JobState, ...] = ("queued", "running")


@dataclass(frozen=True, slots=True)
class PredictionRow:
    """One answered picture. Holds no pixels; `filename` stays None unless pictures are kept (`--keep-images`)."""

    request_id: str
    time: datetime  # with its zone
    key_id: str | None  # None where the server runs without keys
    model: str
    model_sha256: str
    image_sha256: str  # of the encoded bytes as they were received
    probabilities: Mapping[str, float] | None  # None where the picture could not be read
    prediction: str | None
    decision: str | None
    abstain: bool
    reason: str | None
    latency_ms: float
    error: str | None  # code of the error, where there is one
    filename: str | None = None
    set: tuple[str, ...] | None = None  # classes that cannot be ruled out; None where the model gives no sets


@dataclass(frozen=True, slots=True)
class RecordedPrediction:
    """A row as it lies in the chain: `row` counts from 1 and is never given twice."""

    row: int
    prediction: PredictionRow


@dataclass(frozen=True, slots=True)
class PredictionFilter:
    """Which predictions are wanted; what is None is not asked for. `since` is included, `until` is not."""

    model: str | None = None
    model_sha256: str | None = None
    key_id: str | None = None
    request_id: str | None = None
    image_sha256: str | None = None
    prediction: str | None = None
    decision: str | None = None
    abstain: bool | None = None
    has_error: bool | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class PageRequest:
    """At most `limit` rows (1 to 1000) that are older than row `before`; without it the newest."""

    limit: int = 50
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Newest first. `next_before` goes into the next PageRequest; None where nothing older is left."""

    rows: tuple[RecordedPrediction, ...]
    next_before: int | None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret, which nobody knows but its holder."""

    key_id: str
    name: str
    role: Role
    created: datetime
    revoked: datetime | None = None

    def allows(self, role: Role) -> bool:
        """Whether the holder may do what `role` may: an admin everything; predict and read do not imply each other."""
        return self.revoked is None and self.role in (role, "admin")


@dataclass(frozen=True, slots=True)
class Job:
    """Many pictures, predicted in the background. Its files lie in `folder`, beside the database."""

    job_id: str
    key_id: str | None
    model: str
    state: JobState
    created: datetime
    updated: datetime
    n_total: int
    n_done: int
    n_failed: int
    message: str | None
    folder: Path

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES
