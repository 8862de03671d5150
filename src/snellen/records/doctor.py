"""What `snellen doctor` found: the machine, what was measured on it, and what that means for a run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from snellen.records.base import Record

Resource = Literal["decoding", "forward pass", "head", "export", "disk", "start"]


class MachineFacts(Record):
    """The machine as this process may use it. None where the system does not tell."""

    platform: str
    processors: int
    processor_limit: float | None = Field(description="of the container or slice, in processors")
    busy_processors: float | None = Field(description="taken by others in the last minute")
    free_memory_bytes: int
    openmp_threads: int | None = Field(description="asked for in the environment")
    cache: str
    cache_file_system: str | None
    cache_free_bytes: int
    gpu: str | None = Field(description="as torch names it; None: none is visible, or torch is not installed")


class Extra(Record):
    """An optional part of the installation, and how to get it."""

    name: str
    is_installed: bool
    missing: tuple[str, ...]
    command: str


class Speed(Record):
    """One measured figure: so many `unit` a second with so many threads."""

    name: str
    per_second: float
    unit: str
    threads: int
    n: int


class Work(Record):
    """What a run on these data would do. Parts are by the recipe's fractions; nothing was split."""

    n_pictures: int
    n_train: int
    n_val: int
    n_test: int
    size: int
    views: int
    backbone: str
    n_candidates: int
    need_bytes: dict[str, int]


class StepTime(Record):
    """Projected seconds of one step, from measured figures, and what it spends them on."""

    step: str
    seconds: float
    resource: Resource


class Hazard(Record):
    """Something about this machine that hurts runs."""

    code: str
    message: str
    advice: str


class Diagnosis(Record):
    """What `snellen doctor --json` prints."""

    schema_version: int = 1
    data: str | None = Field(description="None: drawn pictures")
    n_listed: int
    n_sampled: int
    machine: MachineFacts
    versions: dict[str, str]
    extras: tuple[Extra, ...]
    offline_weights: str | None = Field(description="where they lie; None: not on this machine, or not looked for")
    work: Work | None = Field(description="None where a training library is missing")
    speeds: tuple[Speed, ...]
    steps: tuple[StepTime, ...]
    total_s: float | None
    bound: str | None = Field(description="one sentence")
    advice: tuple[str, ...]
    hazards: tuple[Hazard, ...]
    not_measured: tuple[str, ...]
    seconds: float
