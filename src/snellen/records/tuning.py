"""What `snellen tune` records: `tune.json`, and a row of `trials.csv`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from snellen.records.base import Record
from snellen.records.recipe import Dimension, TuneMetric
from snellen.records.run import DataRequest

TrialState = Literal["complete", "pruned", "failed", "running"]


class TuneRequest(Record):
    """Everything that `tune` was asked. `storage` never holds a password."""

    source: DataRequest
    recipe: str = "auto"
    settings: tuple[str, ...] = ()
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    trials: Annotated[int, Field(ge=1)] = 100
    timeout_s: Annotated[float, Field(gt=0)] | None = None
    storage: str | None = None


class TrialRecord(Record):
    """One trial. `value` is the mean of `fold_values`; of a pruned trial these are the folds that were done."""

    number: int
    state: TrialState
    value: float | None
    spread: float | None = Field(description="standard deviation over the folds")
    fold_values: tuple[float, ...] = ()
    parameters: dict[str, Any] = {}
    seconds: float | None = None
    reason: str = ""
    is_stopped: bool = Field(default=False, description="ended from outside: not counted, and tried again")


class TuneRecord(Record):
    """The content of `tune.json`. `recipe_as_it_is` is the recipe without any change, on the same folds."""

    schema_version: int = 1
    state: Literal["running", "stopped", "finished"]
    request: TuneRequest
    command: str
    train_command: str = Field(description="trains best.toml, with the same splits")
    page: str
    study: str
    question_sha256: str
    recipe_sha256: str
    recipe_name: str
    metric: TuneMetric
    direction: Literal["maximize", "minimize"]
    n_folds: int
    n_samples: int
    n_patients: int
    n_test_untouched: int
    space: dict[str, Dimension]
    recipe_as_it_is: TrialRecord | None = None
    best: TrialRecord | None = None
    n_trials: dict[str, int] = {}
    importances: dict[str, float] = {}
    importance_method: str = ""
    versions: dict[str, str] = {}
    started: str
    seconds: float = 0.0

    @property
    def gain(self) -> float | None:
        """By how much the best trial is better than the recipe as it is; None where one of them has no value."""
        values = [None if trial is None else trial.value for trial in (self.best, self.recipe_as_it_is)]
        if values[0] is None or values[1] is None:
            return None
        return values[0] - values[1] if self.direction == "maximize" else values[1] - values[0]

    @property
    def keeps_recipe(self) -> bool:
        """No trial beat the recipe as it is: it is what best.toml holds."""
        return self.gain is not None and self.gain <= 0
