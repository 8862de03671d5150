"""A recipe: a person's wish, where every value may be "auto". Read from TOML, checked as a whole."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from snellen.records.base import Record
from snellen.records.layers import BackboneLayer, HeadLayer

Auto = Literal["auto"]
CopyScope = Literal["all", "exact", "off"]
CopySearchWish = CopyScope | Auto
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Task = Literal["binary", "multiclass", "ordinal"]
Fit = Literal["stretch", "pad", "crop"]
Normalize = Literal["weights", "imagenet", "unit"]
Background = Literal["white", "black"]
Imbalance = Literal[
    "none", "class_weights", "balanced_sampling", "focal", "logit_adjustment",
    "smote", "smote_tomek", "random_over", "random_under", "augment",
]  # fmt: skip
ResampledOn = Literal["features", "pixels"]
Schedule = Literal["constant", "cosine"]
FinetuneSchedule = Literal["constant", "cosine", "one_cycle", "plateau"]
BatchStatistics = Literal["frozen", "learned"]
Keep = Literal["better", "always"]
HeadInit = Literal["before", "new"]
Precision = Literal["fp32", "bf16"]
Share = Annotated[float, Field(ge=0, lt=1)]
Size = Annotated[int, Field(ge=16, le=2048)]
Optimizer = Literal["lbfgs", "adamw"]
DecisionRule = Literal["most_probable", "balanced", "expected_grade"]
AbstainRule = Literal["gate", "set"]
PointName = Literal["balanced", "screening", "confirming", "most-likely", "costs"]
Decay = Annotated[float, Field(ge=0)]


_OLD_METHODS = {"oversample_features": "smote"}


def rename_method(method: object) -> object:
    """Names that methods against imbalance had in earlier versions mean what they are called now."""
    return _OLD_METHODS.get(method, method) if isinstance(method, str) else method


def _require_name(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("no_name", "a class needs a name")
    return text


ClassName = Annotated[str, AfterValidator(_require_name)]
Label = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) in (int, float) else value)]
Decays = Annotated[tuple[Decay, ...], Field(min_length=1)]
EvaluationUnit = Literal["picture", "eye", "patient"]
UNITS: tuple[EvaluationUnit, ...] = ("picture", "eye", "patient")
TuneMetric = Literal["auc", "balanced_accuracy", "log_loss", "kappa_quadratic"]


def _require_three(folds: int) -> int:
    if folds in (1, 2):
        raise ValueError("0 (one validation split) or at least 3: one fold measures, another chooses, the rest learns")
    return folds


Folds = Annotated[int, Field(ge=0, le=20), AfterValidator(_require_three)]


class DataWish(Record):
    """`fractions` are those of train, val and test where the data bring no splits of their own. From
    `calibration_patients` on a part of its own is kept for calibration, thresholds and sets; 0 is never.

    `order` names every class once, from lowest to highest. `merge` maps a class to the labels of the data that mean it;
    labels that it does not list stay classes. `copies` are kept together in every split and fold: `all` that show one
    picture, turned, cropped or compressed ones too; `exact`, those of identical pixels; none (`off`); or what suits
    their number (`auto`).
    """

    task: Task | Auto = "auto"
    ordered: bool | Auto = "auto"
    order: Annotated[tuple[Label, ...], Field(min_length=2)] | Auto = "auto"
    positive: ClassName | Auto = "auto"
    merge: dict[ClassName, Annotated[tuple[Label, ...], Field(min_length=1)]] = {}
    fractions: tuple[Fraction, Fraction, Fraction] = (0.7, 0.15, 0.15)
    calibration_patients: Annotated[int, Field(ge=0)] = 1000
    copies: CopySearchWish = "auto"


class PreprocessWish(Record):
    """`sizes` maps a backbone to its own size, which holds where `size` is "auto"."""

    size: Size | Auto = "auto"
    sizes: dict[str, Size] = {}
    fit: Fit | Auto = "auto"
    crop_border: bool | Auto = "auto"
    clahe: Annotated[float, Field(ge=0, le=40)] | Auto = "auto"
    channels: Literal[1, 3] | Auto = "auto"
    normalize: Normalize | Auto = "auto"
    window: tuple[float, float] | Auto = "auto"
    background: Background | Auto = "auto"


class AugmentWish(Record):
    views: Annotated[int, Field(ge=0, le=64)] | Auto = "auto"
    flip_horizontal: bool | Auto = "auto"
    flip_vertical: bool | Auto = "auto"
    rotation_deg: Annotated[float, Field(ge=0, le=180)] | Auto = "auto"
    scale: Annotated[float, Field(ge=0, le=0.9)] | Auto = "auto"
    translation: Annotated[float, Field(ge=0, le=0.5)] | Auto = "auto"
    brightness: Annotated[float, Field(ge=0, le=0.9)] | Auto = "auto"
    contrast: Annotated[float, Field(ge=0, le=0.9)] | Auto = "auto"
    noise: Annotated[float, Field(ge=0, le=0.5)] | Auto = "auto"


class ImbalanceWish(Record):
    """What is done where classes differ in size. Each parameter belongs to some methods and means nothing to others.

    `on` says of what the resampling methods make or choose: cached features, or pixels of small pictures.
    """

    method: Annotated[Imbalance | Auto, BeforeValidator(rename_method)] = "auto"
    on: ResampledOn | Auto = "auto"
    focal_gamma: Annotated[float, Field(ge=0, le=5)] | Auto = "auto"
    logit_tau: Annotated[float, Field(ge=0, le=2)] | Auto = "auto"
    neighbors: Annotated[int, Field(ge=1, le=50)] | Auto = "auto"


class ModelWish(Record):
    """`weights`: `auto`, `none`, `package`, `timm` or the path of a .safetensors file.

    `backbone_args` go to timm as they are, such as `{pad_type = "same"}`. The backbone `layers` is a small network
    whose blocks the recipe lists in the key of that name; it begins by chance.
    """

    backbone: str = "auto"
    backbone_args: dict[str, bool | int | float | str] = {}
    layers: tuple[BackboneLayer, ...] = ()
    weights: str = "auto"
    head: tuple[HeadLayer, ...] | Auto = "auto"


class StageWish(Record):
    """The head alone, on a frozen backbone. `weight_decay` may list several values; validation patients choose.

    `adamw` learns in batches with decoupled decay. `lbfgs` takes all pictures and views at once and
    weight_decay as an L2 penalty on the mean loss; `batch_size` and `schedule` mean nothing to it.
    A head on the map learns by `adamw`, with one weight decay; only there are `one_cycle` and `plateau` known.
    """

    unfreeze: Literal["none"] = "none"
    optimizer: Optimizer | Auto = "auto"
    epochs: Annotated[int, Field(ge=1, le=10_000)] | Auto = "auto"
    batch_size: Annotated[int, Field(ge=2, le=65_536)] | Auto = "auto"
    lr: Positive | Auto = "auto"
    weight_decay: Decays | Decay | Auto = "auto"
    schedule: FinetuneSchedule | Auto = "auto"
    patience: Annotated[int, Field(ge=1)] | Auto = "auto"


class FinetuneWish(Record):
    """One stage that learns the `top` of the backbone, or `all` of it, together with the head, in batches (AdamW);
    `none` leaves the stage out, or is the head alone where the stage is the first.

    `share` is the part of the network's multiplications that learn (`top`). The head begins as it was `before` the
    stage, or `new`: then its weights begin at zero. `layer_decay` multiplies the learning rate
    from each layer to the one below. 0 switches off `ema`, `clip_norm`, `drop_path`, `label_smoothing`, `mixup`,
    `cutmix` and `randaugment`. `cache` keeps the activations below the first layer that learns, of each picture and
    `views` augmented views. `keep` takes what is `better` on validation pictures (the model before, the one after, or
    the mean of both where they cannot tell), or what was learned `always`; `blend` tries weighted means of the weights
    with those before.
    """

    unfreeze: Literal["auto", "none", "top", "all"] = "auto"
    share: Annotated[float, Field(gt=0, le=1)] | Auto = "auto"
    epochs: Annotated[int, Field(ge=1, le=10_000)] | Auto = "auto"
    batch_size: Annotated[int, Field(ge=2, le=4096)] | Auto = "auto"
    lr: Positive | Auto = "auto"
    head_lr: Positive | Auto = "auto"
    head_init: HeadInit | Auto = "auto"
    layer_decay: Annotated[float, Field(gt=0, le=1)] | Auto = "auto"
    weight_decay: Decay | Auto = "auto"
    schedule: FinetuneSchedule | Auto = "auto"
    warmup: Share | Auto = "auto"
    patience: Annotated[int, Field(ge=1)] | Auto = "auto"
    ema: Share | Auto = "auto"
    clip_norm: Annotated[float, Field(ge=0)] | Auto = "auto"
    dropout: Share | Auto = "auto"
    drop_path: Share | Auto = "auto"
    batch_norm: BatchStatistics | Auto = "auto"
    label_smoothing: Share | Auto = "auto"
    mixup: Annotated[float, Field(ge=0, le=10)] | Auto = "auto"
    cutmix: Annotated[float, Field(ge=0, le=10)] | Auto = "auto"
    randaugment: Annotated[int, Field(ge=0, le=30)] | Auto = "auto"
    views: Annotated[int, Field(ge=0, le=64)] | Auto = "auto"
    cache: bool | Auto = "auto"
    precision: Precision | Auto = "auto"
    channels_last: bool | Auto = "auto"
    keep: Keep | Auto = "auto"
    blend: bool | Auto = "auto"

    @model_validator(mode="before")
    @classmethod
    def _leave_out_optimizer(cls, value: Any) -> Any:
        """What learns in these stages learns by AdamW: a first stage may say so, as it may where the head is alone."""
        if isinstance(value, dict) and value.get("optimizer") in ("auto", "adamw"):
            return {key: inner for key, inner in value.items() if key != "optimizer"}
        return value


_OWN_KEYS = FinetuneWish.model_fields.keys() - StageWish.model_fields.keys()


def _tell_stage(value: Any) -> str:
    if not isinstance(value, dict):
        return "finetune" if isinstance(value, FinetuneWish) else "head"
    # "none" is the head alone, unless a key is there that only fine-tuning has
    return "head" if value.get("unfreeze", "none") == "none" and not _OWN_KEYS & value.keys() else "finetune"


AnyStage = Annotated[
    Annotated[StageWish, Tag("head")] | Annotated[FinetuneWish, Tag("finetune")], Discriminator(_tell_stage)
]


def _require_head_first(stages: tuple[StageWish | FinetuneWish, ...]) -> tuple[StageWish | FinetuneWish, ...]:
    # "none" leaves a later stage out, whatever its other keys say
    left_out = FinetuneWish(unfreeze="none")
    later = [
        left_out if stage.unfreeze == "none" and "unfreeze" in stage.model_fields_set else stage for stage in stages[1:]
    ]
    if any(isinstance(stage, StageWish) for stage in later):
        raise ValueError('each stage after the first says what learns, such as unfreeze = "top"')
    if stages[0].unfreeze == "auto":
        raise ValueError('the first stage says what learns: unfreeze = "none" (the head alone), "top" or "all"')
    return stages[0], *later


class TrainingWish(Record):
    threads: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    stages: Annotated[tuple[AnyStage, ...], Field(min_length=1, max_length=4), AfterValidator(_require_head_first)] = (
        StageWish(),
        FinetuneWish(),
    )


class EvaluationWish(Record):
    """`folds` of the patients to learn from: 0 is one validation split, K makes K members that each leave one out.

    `distill` adds one network that says nearly what the K members say together. `decision` says how probabilities
    become a class; `expected_grade` is for ordered classes. `operating_point` is that by which a bundle of two
    classes decides; `costs` needs `miss_cost`. 0 leaves out the operating point of `miss_cost` and the predictive
    values at a `prevalence` of one's own. `coverage` is that of conformal sets; `abstain` says whether a
    picture whose set is not one class gets no answer (`set`), or only what the gate refuses.
    """

    folds: Folds = 0
    distill: bool = False
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    sensitivity: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    specificity: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    miss_cost: Annotated[float, Field(ge=0, le=1000)] = 0.0
    operating_point: PointName = "balanced"
    prevalence: Annotated[float, Field(ge=0, lt=1)] = 0.0
    unit: EvaluationUnit = "picture"
    subgroups: tuple[str, ...] = ()
    decision: DecisionRule | Auto = "auto"
    coverage: Annotated[float, Field(ge=0.5, lt=1)] = 0.9
    abstain: AbstainRule = "gate"

    @model_validator(mode="after")
    def _require_costs(self) -> EvaluationWish:
        if self.operating_point == "costs" and not self.miss_cost:
            raise PydanticCustomError("no_costs", 'operating_point = "costs" needs miss_cost above 0')
        return self


class Range(Record):
    """Any number from `low` to `high`; whole numbers where both are whole. `when` as in Choices."""

    low: int | float
    high: int | float
    log: bool = False
    when: dict[str, Any] = {}


class Choices(Record):
    """One of several values. `when` maps an earlier key to the value, or list of values, at which this one counts."""

    choices: tuple[Any, ...]
    when: dict[str, Any] = {}


def _tell_dimension(value: Any) -> str:
    is_choice = "choices" in value if isinstance(value, dict) else isinstance(value, Choices)
    return "choices" if is_choice else "range"


Dimension = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")], Discriminator(_tell_dimension)
]


class TuneWish(Record):
    """What `snellen tune` tries: dotted recipe keys → ranges and choices. "auto" is the space of the recipe `auto`.

    `space` holds keys of the head, which learn on cached features; `pixel_space` those for which features are
    computed anew, tried where `pixels` is true.
    """

    metric: TuneMetric = "auc"
    folds: Annotated[int, Field(ge=2, le=20)] = 3
    prune: bool = True
    pixels: bool = False
    space: dict[str, Dimension] | Auto = "auto"
    pixel_space: dict[str, Dimension] | Auto = "auto"


class Recipe(Record):
    """The content of a recipe file."""

    # a part of the run folder's name
    name: Annotated[str, Field(pattern=r"^[\w][\w .+-]{0,99}$")] = "auto"
    description: str = ""
    data: DataWish = DataWish()
    preprocess: PreprocessWish = PreprocessWish()
    augment: AugmentWish = AugmentWish()
    imbalance: ImbalanceWish = ImbalanceWish()
    model: ModelWish = ModelWish()
    training: TrainingWish = TrainingWish()
    evaluation: EvaluationWish = EvaluationWish()
    tune: TuneWish = TuneWish()
