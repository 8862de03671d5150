"""The content of `evaluation.json` and of `scores-*.csv`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from snellen.records.base import Record
from snellen.records.recipe import DecisionRule, EvaluationUnit


class Estimate(Record):
    """A number with its interval. `value` is None where it is undefined (a class is absent), `low` and `high` where
    nothing can be said of how sure it is. As text "0.812 [0.740, 0.871]", "0.812" or "undefined".
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    method: Literal["bootstrap", "wilson", "delong", "obuchowski", "newcombe", "mover", "sandwich", "none"] = (
        "bootstrap"
    )

    def __str__(self) -> str:
        if self.value is None:
            return "undefined"
        return f"{self.value:.3f}" if self.low is None else f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Intervals(Record):
    """How the intervals were made. The unit is a picture where patients are not known: numbers are "picture-level"."""

    level: float = 0.95
    n_resamples: int
    unit: Literal["patient", "picture"]
    seed: int


UNDEFINED = Estimate(value=None, method="none")


class PerClass(Record):
    """One class against the rest, a picture being called the class that `Evaluation.decision` gives it: `recall` is
    sensitivity, `precision` the positive predictive value. Files of earlier versions lack the last two.
    """

    n: int
    n_patients: int
    precision: Estimate
    recall: Estimate
    specificity: Estimate
    f1: Estimate
    auc: Estimate
    npv: Estimate = UNDEFINED
    average_precision: Estimate = UNDEFINED


class GradeCut(Record):
    """Of ordered classes: `grade` and all above it against those below, by the grade that a picture is called; `auc` is
    that of the summed probabilities.
    """

    grade: str
    n: int
    n_patients: int
    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    npv: Estimate
    auc: Estimate


class AtPrevalence(Record):
    """Predictive values where the positive class has that share."""

    prevalence: float
    ppv: Estimate
    npv: Estimate


class OperatingPoint(Record):
    """A threshold on the positive class's probability, `chosen_on` validation or `fixed`, measured on this split.

    `n_chosen_positive` and `n_chosen_negative` are the pictures behind the choice.
    """

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
    lr_positive: Estimate | None = None
    lr_negative: Estimate | None = None
    at_prevalence: tuple[AtPrevalence, ...] = ()
    n_chosen_positive: int | None = None
    n_chosen_negative: int | None = None


class DecisionCurve(Record):
    """Net benefit at each threshold of the positive class's probability; of treating nobody it is 0."""

    thresholds: tuple[float, ...]
    model: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    treat_all: tuple[float, ...]


class ExpectedError(Record):
    """A calibration error under perfect calibration, of as many pictures: `mean`, and `limit`, its 95th percentile."""

    mean: float
    limit: float


class CalibrationLine(Record):
    """One class against the rest: `slope` is 1 and `intercept` (at slope 1) 0 where its probabilities are right."""

    n: int
    mean_probability: float
    share: float
    slope: Estimate
    intercept: Estimate


class CalibrationCheck(Record):
    """How far the probabilities are right on this split: errors beside what chance alone gives (`expected`), slope over
    all classes, and each class against the rest.
    """

    ece: float
    ece_adaptive: float
    brier: float
    log_loss: float
    expected: dict[str, ExpectedError]
    slope: Estimate
    lines: dict[str, CalibrationLine]


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
    check: CalibrationCheck | None = None
    check_before: CalibrationCheck | None = None


class Subgroup(Record):
    """The part of a split whose `column` has this `value` (empty: unknown), and its scores minus those of the rest.

    `is_small` marks parts of fewer than 20 patients, or than 10 of a class. `differs` names the scores whose difference
    remains when the level is corrected for `n_compared` comparisons.
    """

    column: str
    value: str
    n: int
    n_patients: int
    n_by_class: dict[str, int]
    is_small: bool
    metrics: dict[str, Estimate]
    differences: dict[str, Estimate]
    differs: tuple[str, ...] = ()
    n_compared: int


class PrevalenceShift(Record):
    """Shares of the classes that the probabilities assume (`assumed`) and here (`here`), and the metrics once the
    probabilities are re-weighted to those here.
    """

    assumed: dict[str, float]
    here: dict[str, float]
    reweighted: dict[str, Estimate]


class SetCoverage(Record):
    """How often the conformal set of a picture holds the true class. `mean_size` is that of the sets."""

    n: int
    n_patients: int
    coverage: Estimate
    mean_size: float


class ConformalSummary(Record):
    """What sets at the `wanted` coverage gave on this split, over all pictures and class by class.

    `n_empty`, `n_single` and `n_several` count pictures by the size of their set; `single_accuracy` is how often a lone
    class was right. `n_fitted` has the patients behind the limit of each class.
    """

    wanted: float
    fitted_on: str
    n_fitted: dict[str, int] = {}
    pooled: tuple[str, ...] = ()
    whole: SetCoverage
    per_class: dict[str, SetCoverage]
    n_empty: int
    n_single: int
    n_several: int
    single_accuracy: Estimate


class SelectivePoint(Record):
    """The `error` share among the surest `share` of the pictures, `n` of them, whose confidence reaches `threshold`."""

    share: float
    n: int
    threshold: float
    error: Estimate


class SelectiveRisk(Record):
    """Errors where only the surest pictures are answered. `area` is their mean share, `area_best` that of the best
    order with as many errors.
    """

    points: tuple[SelectivePoint, ...]
    area: float
    area_best: float


class Abstentions(Record):
    """Pictures of this split on which the bundle would give no answer: how many for each reason, and how many of each
    class. `error_answered` and `error_abstained` are the shares of wrong calls among those it answers and the others.
    """

    n: int
    reasons: dict[str, int]
    per_class: dict[str, int]
    error_answered: float | None
    error_abstained: float | None


class BatchShift(Record):
    """Whether pictures as a whole differ from those of training. `signals` say of each measure how often a picture of
    these has more of it than one of training (0.5: no difference); `differs` names those that differ beyond chance.
    """

    n: int
    signals: dict[str, float]
    differs: tuple[str, ...]
    message: str = ""


class EvidenceCheck(Record):
    """Whether evidence maps by `method` can be believed, on `n` pictures.

    `by_map` and `by_random` are the mean probability of the class a picture is called once each of `shares` of it is
    blurred away, by the map and by the same map moved at random; in `n_faster` pictures it falls faster by the map.
    `random_head` has for each picture the rank correlation, without its sign, of its map with maps of random heads.
    """

    method: str
    n: int
    shares: tuple[float, ...]
    by_map: tuple[float, ...]
    by_random: tuple[float, ...]
    n_faster: int
    random_head: tuple[float, ...]


class Evaluation(Record):
    """What a split says of a bundle. `decision` is the rule by which a picture is called a class; `balanced`
    divides by `decision_shares`.

    `n` counts what is measured, `unit`; `n_pictures` is None where that are pictures. `workspace_opened` counts the
    openings of this test split by all runs in the folder that holds the run, `workspace_runs` those runs.
    `baseline_differences` are the model's metrics minus a baseline's, paired. `unknown_patients` counts pictures by
    class whose patient nobody told.
    """

    schema_version: int = 1
    task: Literal["binary", "multiclass", "ordinal"]
    classes: tuple[str, ...]
    positive: str | None
    decision: DecisionRule = "most_probable"
    decision_shares: dict[str, float] = {}
    split: str
    data: str
    n: int
    n_patients: int
    n_failed: int = 0
    unit: EvaluationUnit = "picture"
    n_pictures: int | None = None
    patient_rule: str
    metrics: dict[str, Estimate]
    unknown_patients: dict[str, int] = {}
    baselines: dict[str, dict[str, Estimate]]
    baseline_differences: dict[str, dict[str, Estimate]] = {}
    per_class: dict[str, PerClass]
    grade_cuts: tuple[GradeCut, ...] = ()
    confusion: tuple[tuple[int, ...], ...]
    operating_points: tuple[OperatingPoint, ...] = ()
    decision_curve: DecisionCurve | None = None
    calibration: CalibrationSummary
    subgroups: tuple[Subgroup, ...] = ()
    prevalence_shift: PrevalenceShift | None = None
    intervals: Intervals
    conformal: ConformalSummary | None = None
    selective: SelectiveRisk | None = None
    abstentions: Abstentions | None = None
    shift: BatchShift | None = None
    evidence: EvidenceCheck | None = None
    test_opened: int = 0
    workspace_opened: int = 0
    workspace_runs: int = 0
    bundle_sha256: str
    scores_sha256: str = Field(default="", description="of the `scores.csv` beside it; a run keeps those of its files")
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
            return f"{self.n:,} pictures, patients unknown (picture-level)"
        patients = f"{self.n_patients:,} patient{'s' * (self.n_patients != 1)}"
        if self.unit == "patient":
            return f"{patients} ({self.n_pictures:,} pictures)"
        if self.unit == "eye":
            return f"{self.n:,} eye{'s' * (self.n != 1)} ({self.n_pictures:,} pictures) of {patients}"
        return f"{self.n:,} picture{'s' * (self.n != 1)} of {patients}"


class Score(Record):
    """One row of `scores-*.csv`: what the bundle said of one sample."""

    sample: str
    patient: str
    label: str
    probabilities: tuple[float, ...]
    logits: tuple[float, ...]
    prediction: str
