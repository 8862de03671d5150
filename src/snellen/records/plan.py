"""A plan: every value concrete, each with how it was decided. And the fingerprint it was decided from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from snellen.records.base import Record
from snellen.records.layers import BackboneLayer, HeadLayer
from snellen.records.recipe import (
    AbstainRule,
    Background,
    BatchStatistics,
    DecisionRule,
    EvaluationUnit,
    FinetuneSchedule,
    Fit,
    HeadInit,
    Imbalance,
    Keep,
    Normalize,
    Optimizer,
    PointName,
    Precision,
    ResampledOn,
    Schedule,
    Task,
    rename_method,
)

How = Literal["fixed", "asked", "rule", "measured"]
UNDECIDED = "UNDECIDED"


class Fingerprint(Record):
    """Measured facts of the training part. Sizes in px as (5 %, median, 95 %) quantiles."""

    schema_version: int = 1
    n_samples: int
    n_patients: int
    class_counts: dict[str, int]
    patients_by_class: dict[str, int]
    width_px: tuple[float, float, float]
    height_px: tuple[float, float, float]
    aspect_median: float
    n_shapes: int
    formats: dict[str, int]
    grey_fraction: float = Field(description="share of pictures without colour")
    border_fraction: float = Field(description="mean share of rows and columns in the black border")
    mean: tuple[float, float, float] = Field(description="per channel, of [0, 1]")
    std: tuple[float, float, float]
    n_measured: int = Field(description="pictures read for the grey levels")
    bits: dict[str, int] = Field(default={}, description="bits a channel → number of pictures")
    deep_levels: tuple[float, float] | None = Field(
        default=None, description="0.5 % and 99.5 % quantiles of the values of pictures with more than 8 bits"
    )
    n_deep_measured: int = Field(default=0, description="pictures read for them")


class Decision(Record):
    """How one value of the plan came about, the reason in one sentence.

    A reason that begins with `UNDECIDED` is a guess that a person must confirm.
    """

    key: str
    value: Any
    how: How
    reason: str


class DataPlan(Record):
    task: Task
    classes: tuple[str, ...]
    ordered: bool
    positive: str | None
    merge: dict[str, tuple[str, ...]] = {}
    fractions: tuple[float, float, float]
    calibration_patients: int = 0


class PreprocessPlan(Record):
    """One deterministic way from pixels to uint8 `(size, size, channels)`.

    `window` maps values of more than 8 bits to 0 … 255; None refuses them. 8-bit pictures are not windowed.
    """

    size: Annotated[int, Field(ge=1, le=4096)]
    fit: Fit
    crop_border: bool
    clahe: Annotated[float, Field(ge=0, le=40)]
    channels: Literal[1, 3]
    normalize: Normalize
    window: tuple[float, float] | None = None
    background: Background = "white"


class AugmentPlan(Record):
    views: int
    flip_horizontal: bool
    flip_vertical: bool
    rotation_deg: float
    scale: float
    translation: float
    brightness: float
    contrast: float
    noise: float = 0.0


class ImbalancePlan(Record):
    """A method and the parameters of all; plans of earlier versions have none."""

    method: Annotated[Imbalance, BeforeValidator(rename_method)]
    on: ResampledOn = "features"
    focal_gamma: float = 2.0
    logit_tau: float = 1.0
    neighbors: int = 5


class ModelPlan(Record):
    """`mean` and `std` are of [0, 1] pixels, one value a channel of the backbone's input.

    The backbone `layers` is made of `layers`, for an input of `side_px`; other backbones have neither.
    """

    backbone: str
    backbone_args: dict[str, bool | int | float | str]
    layers: tuple[BackboneLayer, ...] = ()
    side_px: int = 0
    weights: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    head: tuple[HeadLayer, ...]
    n_classes: int


class StagePlan(Record):
    unfreeze: Literal["none"]
    optimizer: Optimizer
    epochs: int
    batch_size: int
    lr: float
    weight_decay: tuple[float, ...]
    schedule: Schedule
    patience: int


class FinetunePlan(Record):
    """A stage that learns the top of the backbone with the head: all of it where `share` is 1, the head alone where it
    is 0. 0 switches off as in the recipe. Plans of earlier versions have no `blend`: they tried it.
    """

    unfreeze: Literal["none", "top", "all"]
    share: float
    epochs: int
    batch_size: int
    lr: float
    head_lr: float
    head_init: HeadInit
    layer_decay: float
    weight_decay: float
    schedule: FinetuneSchedule
    warmup: float
    patience: int
    ema: float
    clip_norm: float
    dropout: float
    drop_path: float
    batch_norm: BatchStatistics
    label_smoothing: float
    mixup: float
    cutmix: float
    randaugment: int
    views: int
    cache: bool
    precision: Precision
    channels_last: bool
    keep: Keep
    blend: bool = True


class TrainingPlan(Record):
    """`stages` begins with the head alone on pooled features, unless the head asks for the map or more than the head
    learns at once: then all stages are of the kind that fine-tunes.
    """

    seed: int
    threads: int
    stages: tuple[StagePlan | FinetunePlan, ...]

    @property
    def begins_on_features(self) -> bool:
        """Whether the first stage learns on pooled features of the frozen backbone."""
        return isinstance(self.stages[0], StagePlan)

    @property
    def head_stage(self) -> StagePlan:
        """The first stage, on features of the frozen backbone."""
        first = self.stages[0]
        if not isinstance(first, StagePlan):
            raise TypeError("the first stage learns on no pooled features")
        return first

    @property
    def finetune_stages(self) -> tuple[FinetunePlan, ...]:
        return tuple(stage for stage in self.stages if isinstance(stage, FinetunePlan))


class EvaluationPlan(Record):
    """Plans of earlier versions have no `decision` (they took the most probable class), measure pictures, and have no
    conformal sets.
    """

    folds: int = 0
    distill: bool = False
    resamples: int
    level: float
    sensitivity: float
    specificity: float = 0.9
    miss_cost: float = 0.0
    operating_point: PointName = "balanced"
    prevalence: float = 0.0
    unit: EvaluationUnit = "picture"
    subgroups: tuple[str, ...] = ()
    decision: DecisionRule = "most_probable"
    coverage: float = 0.9
    abstain: AbstainRule = "gate"


class Plan(Record):
    """The content of `plan.json`."""

    schema_version: int = 1
    recipe: str
    data: DataPlan
    preprocess: PreprocessPlan
    augment: AugmentPlan
    imbalance: ImbalancePlan
    model: ModelPlan
    training: TrainingPlan
    evaluation: EvaluationPlan
    decisions: tuple[Decision, ...]
