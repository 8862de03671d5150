"""What goes over the wire: the shapes of requests and answers. The names here are frozen: others read them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Wire(BaseModel):
    """Base of all shapes."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ErrorDetail(Wire):
    """`code` is for programs and stable; `message` and `hint` are for people."""

    code: str
    message: str
    hint: str
    request_id: str


class ErrorBody(Wire):
    """The body of every answer that is no success."""

    error: ErrorDetail


class PictureProblem(Wire):
    """Why one picture of several has no answer."""

    code: str
    message: str
    hint: str


class PictureAnswer(Wire):
    """What the model says of one picture, as `snellen predict` says it.

    Where the picture cannot be read `error` says why, `abstain` is true with a `reason`, and the rest is empty.
    `set` holds the classes that cannot be ruled out, where the bundle knows how to tell; else it is null.
    """

    filename: str = Field(description="As it was sent; frames of a DICOM have `::frame[3]` behind it.")
    prediction: str | None = Field(description="The class.")
    probabilities: dict[str, float] = Field(description="Calibrated, one a class.")
    decision: str | None = Field(description="The class at the default operating point.")
    set: list[str] | None
    abstain: bool = Field(description="The model should not be asked about this picture; `reason` says why.")
    reason: str
    error: PictureProblem | None


class PredictAnswer(Wire):
    """The answer to `predict`: an entry a picture, in the order they were sent."""

    request_id: str
    model: str
    model_sha256: str
    predictions: list[PictureAnswer]


class OperatingPoint(Wire):
    """Positive when the probability of `positive` is at least `threshold`."""

    name: str
    rule: str
    threshold: float
    chosen_on: str
    is_default: bool


class ModelAnswer(Wire):
    """A model that is served."""

    name: str
    sha256: str = Field(description="Of the bundle's manifest, which holds the hashes of all its files.")
    title: str
    created: str
    snellen_version: str
    task: str
    classes: list[str]
    positive: str | None
    is_ordered: bool
    operating_points: list[OperatingPoint]
    backbone: str
    width_px: int
    height_px: int
    n_patients: int = Field(description="Patients that it was trained and validated on.")
    intended_use: str


class ModelsAnswer(Wire):
    """All models."""

    models: list[ModelAnswer]


class HealthAnswer(Wire):
    """`ok`, or the error shape with 503."""

    status: str


class MeAnswer(Wire):
    """Who asks, and what they may do."""

    needs_key: bool
    key_id: str | None
    name: str | None
    roles: list[str]
    version: str


class HistoryRow(Wire):
    """One recorded prediction; `row` counts from 1. `filename` only where the server keeps pictures."""

    row: int
    time: str
    request_id: str
    key_id: str | None
    model: str
    model_sha256: str
    image_sha256: str
    prediction: str | None
    decision: str | None
    probabilities: dict[str, float]
    abstain: bool
    reason: str
    latency_ms: float
    error: str | None
    filename: str | None
    set: list[str] | None = Field(description="Classes that cannot be ruled out; null where the model gives no sets.")


class HistoryAnswer(Wire):
    """A page, newest first. `next_before` asks for the next one; null where nothing older is left."""

    predictions: list[HistoryRow]
    next_before: int | None


class JobAnswer(Wire):
    """Many pictures, predicted in the background."""

    job_id: str
    model: str
    state: str = Field(description="queued, running, done, failed or cancelled.")
    created: str
    updated: str
    n_total: int
    n_done: int = Field(description="Answered or found unreadable.")
    n_failed: int = Field(description="Of these, unreadable.")
    message: str | None


class JobsAnswer(Wire):
    """Jobs, the newest first."""

    jobs: list[JobAnswer]
