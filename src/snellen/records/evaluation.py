"""The content of `evaluation.json` and of `scores-*.csv`."""

from __future__ import annotations

from typing import Literal

from snellen.records.base import Record
from snellen.records.recipe import DecisionRule


class Estimate(Record):
    """A number with its interval. `value` is None where it is undefined (a class is absent)."""

    value: float | None
    low: float | None = None
    high: float | None = None
    method: Literal["bootstrap", "wilson", "none"] = "bootstrap"


class Intervals(Record):
    """How the intervals were made. The unit is a picture where patients are not known: numbers are "picture-level"."""

    level: float = 0.95
    n_resamples: int
    unit: Literal["patient", "picture"]
    seed: int


class PerClass(Record):
    """One class against the rest, a picture being called the class that `Evaluation.decision` gives it."""

    n: int
    n_patients: int
    precision: Estimate
    recall: Estimate
    specificity: Estimate
    f1: Estimate
    auc: Estimate


class OperatingPoint(Record):
    """A threshold on the positive class's probability, `chosen_on` validation or `fixed`, measured on this split."""

    name: str
    rule: str
    chosen_on: str
    threshold: float
    is_default: bool = False
    sensitivity: Estimate | None = None
    specificity: Estimate | None = None
    ppv: Estimate | None = None
    npv: Estimate | None = None
    n_positive: int | None = None
    n_negative: int | None = None


class ReliabilityBin(Record):
    """Predictions whose confidence lies in (low, high]: their mean confidence and accuracy."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


class CalibrationSummary(Record):
    """What calibration the bundle carries and how well it holds on this split. `bins_before` are those of the same
    logits without it; none where nothing was calibrated.
    """

    method: str
    temperature: float
    fitted_on: str
    n_fitted: int
    ece_before: float
    ece_after: float
    log_loss_before: float
    log_loss_after: float
    reason: str = ""
    is_compared: bool = False
    bins: tuple[ReliabilityBin, ...]
    bins_before: tuple[ReliabilityBin, ...] = ()


class EvidenceCheck(Record):
    """Whether evidence maps by `method` can be believed, on `n` pictures.

    `by_map` and `by_random` are the mean probability of the class a picture is called once each of `shares` of it is
    blurred away, by the map and in random order; in `n_faster` pictures it falls faster by the map. `random_head` has
    for each picture the rank correlation, without its sign, of its map with maps of random heads.
    """

    method: str
    n: int
    shares: tuple[float, ...]
    by_map: tuple[float, ...]
    by_random: tuple[float, ...]
    n_faster: int
    random_head: tuple[float, ...]


class Evaluation(Record):
    """What a split says of a bundle. `decision` is the rule by which a picture is called a class."""

    schema_version: int = 1
    task: Literal["binary", "multiclass", "ordinal"]
    classes: tuple[str, ...]
    positive: str | None
    decision: DecisionRule = "most_probable"
    split: str
    data: str
    n: int
    n_patients: int
    n_failed: int = 0
    patient_rule: str
    metrics: dict[str, Estimate]
    baselines: dict[str, dict[str, Estimate]]
    per_class: dict[str, PerClass]
    confusion: tuple[tuple[int, ...], ...]
    operating_points: tuple[OperatingPoint, ...] = ()
    calibration: CalibrationSummary
    intervals: Intervals
    evidence: EvidenceCheck | None = None
    test_opened: int = 0
    bundle_sha256: str
    snellen_version: str
    notes: tuple[str, ...] = ()

    @property
    def is_ordered(self) -> bool:
        """Whether `classes` stand from lowest to highest: only then is there a kappa with squared distances."""
        return "kappa_quadratic" in self.metrics

    @property
    def subjects(self) -> str:
        """Of whom the numbers are, in words: patients, or pictures whose patients nobody knows."""
        if self.intervals.unit == "picture":
            return f"{self.n} pictures, patients unknown (picture-level)"
        return f"{self.n} picture{'s' * (self.n != 1)} of {self.n_patients} patient{'s' * (self.n_patients != 1)}"


class Score(Record):
    """One row of `scores-*.csv`: what the bundle said of one sample."""

    sample: str
    patient: str
    label: str
    probabilities: tuple[float, ...]
    logits: tuple[float, ...]
    prediction: str
