"""What a run records of itself: `run.json`, and a line of `metrics.jsonl`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from snellen.records.base import Record
from snellen.records.evaluation import Estimate


class DataRequest(Record):
    """What the user said of the data: path as given, columns, how patients are told, where the cache lies."""

    data: str
    columns: dict[str, str] = {}
    patients: str = "auto"
    cache: str | None = None

    def to_words(self) -> list[str]:
        """DATA and the options that go with it, as words of a command."""
        words = [self.data]
        if self.columns:
            words += ["--columns", ",".join(f"{role}={name}" for role, name in self.columns.items())]
        if self.patients != "auto":
            words += ["--patients", self.patients]
        if self.cache:
            words += ["--cache", self.cache]
        return words


class TrainRequest(Record):
    """Everything that `train` was asked, so that `--resume` and the report can repeat it.

    `split_seed` draws the split where `seed` should not.
    """

    source: DataRequest
    recipe: str = "auto"
    settings: tuple[str, ...] = ()
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    opens_test: bool = True
    track: tuple[str, ...] = ()


class EpochRecord(Record):
    """One line of `metrics.jsonl`. Epochs count from 1, times are in seconds.

    With folds the losses of member `fold` are those on the fold that it leaves out, which decides nothing. `model` says
    that it is the network learning from the finished ensemble, which no picture judges.
    """

    stage: int
    candidate: int
    fold: int | None = None
    weight_decay: float
    epoch: int
    lr: float
    train_loss: float
    val_loss: float | None
    val_auc: float | None
    seconds: float
    images_per_s: float | None = None
    model: Literal["distilled"] | None = None


class WeightsRecord(Record):
    """Where pretrained weights came from."""

    source: Literal["file", "package", "timm", "none"]
    origin: str
    licence: str
    sha256: str | None
    n_parameters: int
    missing: tuple[str, ...] = ()


class ChosenHead(Record):
    """Which of the candidates validation chose, and by what; of a member of a fold ensemble, which the others chose."""

    weight_decay: float
    epoch: int
    val_loss: float | None
    val_auc: float | None
    n_candidates: int


class StageOutcome(Record):
    """What a stage of fine-tuning gave, on pictures that choose: log loss after the best temperature, and AUC, `before`
    it, with it, and of the `mean` of both models' logits, with `standard_error` of the fall from `before` to what was
    taken (of the mean where nothing was). `kept` says whether anything of it was taken, `averaged` whether that is the
    mean. `blend` is the part of what was learned in the weighted mean of the weights with those before. With folds, of
    the member that leaves out `fold`, on its pictures: what is taken is one for all members, chosen by all pictures.
    """

    stage: int
    fold: int | None
    share: float
    epoch: int
    n_epochs: int
    blend: float = 1.0
    standard_error: float = 0.0
    before_loss: float
    before_auc: float | None
    val_loss: float
    val_auc: float | None
    mean_loss: float | None = None
    mean_auc: float | None = None
    kept: bool
    averaged: bool = False


class Resampling(Record):
    """Pictures of each class that a head learned from, `before` and `after` the training part was resampled: what
    `augment` shows in further views counts each time. With folds, of the member that leaves out `fold`.
    """

    method: str
    on: str
    fold: int | None
    before: dict[str, int]
    after: dict[str, int]


class DistilledStage(Record):
    """A stage in which the distilled network learned: so much of it, for so many epochs, and its last loss."""

    stage: int
    share: float
    epochs: int
    train_loss: float


class DistilledRecord(Record):
    """One network in place of an ensemble of `n_members`, and what that costs.

    `is_exact` says that it is the ensemble's mean in another form and nothing was learned. Otherwise it learned in
    `stages` from `n_pictures` pictures, each in `n_views` augmented views and as it is. Multiplications are those of
    the layers below the heads, None where they are not known; latencies are medians on one thread.
    `differences` are scores on test minus the ensemble's, `same_prediction` the share of test pictures that both call
    the same; where there are none `reason` says why.
    """

    n_members: int
    is_exact: bool
    stages: tuple[DistilledStage, ...] = ()
    n_pictures: int = 0
    n_views: int = 0
    multiplications: float | None
    ensemble_multiplications: float | None
    latency_ms: float
    ensemble_latency_ms: float
    same_prediction: float | None = None
    differences: dict[str, Estimate] = {}
    reason: str = ""


class RunRecord(Record):
    """The content of `run.json`."""

    schema_version: int = 1
    name: str
    state: Literal["running", "finished"]
    request: TrainRequest
    command: str
    started: str
    versions: dict[str, str]
    platform: str
    device: str
    threads: int
    durations_s: dict[str, float] = {}
    peak_memory_mb: float | None = None
    weights: WeightsRecord | None = None
    chosen: ChosenHead | None = None
    members: tuple[ChosenHead, ...] = ()
    resampled: tuple[Resampling, ...] = ()
    finetuned: tuple[StageOutcome, ...] = ()
    distilled: DistilledRecord | None = None
    test_opened: int = 0
    split_sha256: str | None = None
    sha256: dict[str, str] = {}
