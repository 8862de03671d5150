"""The deliverable's manifest, and what a predictor answers. The names here are frozen: others read them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from snellen.records.base import Record
from snellen.records.plan import PreprocessPlan
from snellen.records.recipe import AbstainRule, DecisionRule, Task
from snellen.records.run import WeightsRecord

MANIFEST_SCHEMA = 1
OUTPUTS = ("probabilities", "logits", "embedding", "feature_map")
MEMBER_OUTPUTS = ("member_probabilities", "member_logits")
CLASS_MAP = "class_map"
INPUT = "pixels"
FIXED = "fixed"
ENSEMBLE = "ensemble-oof"


class InputSpec(Record):
    """uint8 pixels after preprocessing, `(N, height_px, width_px, channels)`, N free."""

    name: str = INPUT
    dtype: Literal["uint8"] = "uint8"
    layout: Literal["NHWC"] = "NHWC"
    height_px: int
    width_px: int
    channels: int


class Calibration(Record):
    """`probabilities = softmax(logits / temperature + bias)`, inside the graph.

    `bias` has one entry a class; empty means 0. `prevalence` is filled where a bias was fitted: the shares of the
    classes among the pictures it was fitted on, which the probabilities then assume. `is_compared` says that the
    methods were compared on patients left out: `none` was then the best of them, not a lack.
    """

    method: Literal["none", "temperature", "bias_and_temperature"]
    temperature: float
    bias: tuple[float, ...] = ()
    prevalence: dict[str, float] = {}
    fitted_on: str
    n: int
    reason: str = ""
    is_compared: bool = False


def _require_probability(value: float) -> float:
    # a probability of single precision may exceed 1 by its last digit, and the point above all scores by one more
    if not 0 <= value <= 1 + 1e-6:
        raise ValueError(f"{value:g} is no probability: a threshold lies within 0 and 1")
    return value


class Threshold(Record):
    """A named operating point: positive when the probability of `positive` is at least `threshold`, within 0 and 1.

    `chosen_on` is a split, `ensemble-oof` where the ensemble's scores out of fold chose it for the network distilled
    from it, or `fixed` where no data chose it. `n_positive` and `n_negative` are the pictures behind that choice;
    bundles of earlier versions do not tell them.
    """

    name: str
    rule: str
    threshold: Annotated[float, AfterValidator(_require_probability)]
    chosen_on: str
    is_default: bool = False
    n_positive: int | None = None
    n_negative: int | None = None


class Conformal(Record):
    """Which classes belong to a picture's set: those with 1 − probability of at most their entry in `quantiles`.

    The true class of a picture is in its set with at least the probability `coverage`, for each class alone. `pooled`
    are classes with too few patients for that: they share one quantile, and the promise holds over all classes only.
    """

    coverage: float
    quantiles: dict[str, float]
    n_patients: dict[str, int]
    pooled: tuple[str, ...] = ()
    fitted_on: str
    note: str = ""


class TrainedOn(Record):
    """What the model has seen (`pixel_hashes`: training and validation) and what is kept to test it (`test_hashes`).

    Hashes are salted, so that they name no picture to an outsider.
    """

    n_samples: int
    n_patients: int
    patient_rule: str
    class_counts: dict[str, int]
    salt: str
    pixel_hashes: tuple[str, ...]
    test_hashes: tuple[str, ...]


class Manifest(Record):
    """The content of `manifest.json`. `files` maps every other file of the bundle to its sha256.

    `tuned_share` is the part of the network's multiplications whose layers were fine-tuned; 0 is a frozen backbone.
    `prevalence` holds the shares of the classes in the training part; bundles of earlier versions have none.
    `decision` is the rule by which probabilities become the prediction. `distilled_from` is the sha256 of the manifest
    of the ensemble that this network stands for, if it does. `abstain_by` says whether a picture whose conformal set is
    not one class gets no answer (`set`), or only what the gate refuses. `multiplications` are those of one
    picture's pass through the backbone, 0 where they are not known.
    """

    schema_version: int = MANIFEST_SCHEMA
    name: str
    created: str
    snellen_version: str
    task: Task
    classes: tuple[str, ...]
    positive: str | None
    ordered: bool
    decision: DecisionRule = "most_probable"
    merge: dict[str, tuple[str, ...]] = {}
    input: InputSpec
    outputs: tuple[str, ...] = OUTPUTS
    n_members: int = 1
    preprocess: PreprocessPlan
    calibration: Calibration
    thresholds: tuple[Threshold, ...]
    conformal: Conformal | None = None
    abstain_by: AbstainRule = "gate"
    backbone: str
    weights: WeightsRecord
    trained_on: TrainedOn
    prevalence: dict[str, float] = {}
    tuned_share: float = 0.0
    multiplications: float = 0.0
    distilled_from: str | None = None
    plan_sha256: str
    intended_use: str
    files: dict[str, str]

    @model_validator(mode="after")
    def require_sense(self) -> Manifest:
        """What is said twice must agree: a letter that changed on the way is noticed before it answers anything."""
        if self.positive is not None and self.positive not in self.classes:
            raise ValueError(f"the positive class {self.positive} is none of the classes {', '.join(self.classes)}")
        if unknown := sorted(set(self.merge) - set(self.classes)):
            raise ValueError(f"labels are merged into {', '.join(unknown)}, which is none of the classes")
        shape = (self.input.height_px, self.input.width_px, self.input.channels)
        if shape != (self.preprocess.size, self.preprocess.size, self.preprocess.channels):
            raise ValueError(f"the input {shape} is not what preprocessing makes: {self.preprocess.size} px")
        return self


class Parity(Record):
    """Agreement of two forms of one model on real samples: the content of `parity.json`."""

    reference: str
    candidate: str
    n_samples: int
    max_abs_probability: float
    max_abs_logit: float
    tolerance_probability: float
    tolerance_logit: float
    n_decisions_changed: int
    is_within: bool


class Prediction(Record):
    """What the predictor says of one picture.

    Where it cannot be read `error` says why, `abstain` is true with a `reason`, and the rest is empty: whoever heeds
    `abstain` alone takes no unreadable picture for an answer. `set` is the conformal set: the classes that cannot be
    left out at the bundle's coverage; None of a bundle without one.
    """

    path: str
    prediction: str | None = None
    probabilities: dict[str, float] = {}
    decision: str | None = None
    set: tuple[str, ...] | None = None
    abstain: bool = False
    reason: str = ""
    error: str = ""
