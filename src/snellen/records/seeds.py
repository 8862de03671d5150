"""What `snellen train --seeds` records: `seeds.json`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from snellen.records.base import Record
from snellen.records.run import TrainRequest

SEEDS_FILE = "seeds.json"


class Spread(Record):
    """One metric over `n` runs; runs in which it is undefined are not among them."""

    mean: float
    sd: float | None = Field(description="sample standard deviation; None of a single run")
    smallest: float
    largest: float
    n: int


class SeedOutcome(Record):
    """What one run gave: split → metric → value. `folder` lies beside seeds.json."""

    seed: int
    folder: str
    values: dict[str, dict[str, float | None]]
    splits_sha256: str
    test_opened: int
    bundle_sha256: str


class SeedsRecord(Record):
    """The content of `seeds.json`. `request` is that of the first seed; the others differ from it in the seed alone."""

    schema_version: int = 1
    state: Literal["running", "finished"]
    request: TrainRequest
    seeds: tuple[int, ...]
    command: str
    started: str
    classes: tuple[str, ...] = ()
    held: str = Field(default="", description="the split that chooses: val, or oof with folds")
    spreads: dict[str, dict[str, Spread]] = Field(default={}, description="split → metric → spread")
    runs: tuple[SeedOutcome, ...] = ()
    split_varies: Literal["whole", "not_test", "none"] | None = None
    recommended: int | None = Field(default=None, description="the seed whose run was best on `held`")
    recommended_by: str = "log_loss"
    notes: tuple[str, ...] = ()
