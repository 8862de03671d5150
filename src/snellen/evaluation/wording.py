"""Words and numbers of the report: what a metric is called and means, how a number is printed.

This room knows names and formats. It must not know HTML, figures, or what is worth a warning.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

from snellen.records.bundle import ENSEMBLE, FIXED
from snellen.records.cohort import PatientRule
from snellen.records.evaluation import Estimate, Evaluation, OperatingPoint

MISSING = "–"

# key → (name, what it says in one line)
METRICS: dict[str, tuple[str, str]] = {
    "auc": (
        "AUC",
        "Chance that a random picture of the class gets a higher probability of it than a random other one; "
        "0.5 is guessing. For several classes the mean of each class against the rest.",
    ),
    "average_precision": (
        "Average precision",
        "Area below the precision–recall curve; guessing reaches the prevalence. For several classes the mean of each "
        "class against the rest.",
    ),
    "balanced_accuracy": (
        "Balanced accuracy",
        "Mean of the recalls of all classes, so that a frequent class counts no more than a rare one.",
    ),
    "accuracy": ("Accuracy", "Share of pictures that are called their true class."),
    "kappa_quadratic": (
        "Quadratic kappa",
        "Agreement of grades beyond chance; an error of two grades weighs four times an error of one.",
    ),
    "kappa_linear": (
        "Linear kappa",
        "The same, an error of two grades weighing twice an error of one.",
    ),
    "off_by_two": (
        "Off by two grades or more",
        "Share of pictures called a grade that lies two or more from the true one; lower is better.",
    ),
    "f1": ("F1, macro", "Harmonic mean of precision and recall, averaged over the classes."),
    "precision": (
        "Precision, macro",
        "Of the pictures called a class, the share that is of it, averaged over the classes. "
        "Of one class: positive predictive value.",
    ),
    "recall": (
        "Recall, macro",
        "Of the pictures of a class, the share that is found, averaged over the classes. Of one class: sensitivity.",
    ),
    "f1_weighted": ("F1, weighted", "As F1, each class weighted by its number of pictures."),
    "precision_weighted": (
        "Precision, weighted",
        "As precision, each class weighted by its number of pictures.",
    ),
    "recall_weighted": (
        "Recall, weighted",
        "As recall, each class weighted by its number of pictures; it equals accuracy.",
    ),
    "mcc": (
        "Matthews correlation",
        "Correlation of labels and predictions over all cells of the confusion matrix; 0 is guessing.",
    ),
    "brier": (
        "Brier score",
        "Mean squared distance of the probabilities from the truth; lower is better.",
    ),
    "brier_skill": (
        "Brier skill",
        "1 − Brier score over that of always giving the shares of the classes in this set; 0 is no better than that.",
    ),
    "log_loss": (
        "Log loss",
        "Mean of −ln of the probability given to the true class; lower is better, sure errors cost most.",
    ),
    "ece": (
        "Calibration error (ECE)",
        "Mean gap between stated confidence and actual accuracy over bins of confidence; lower is better.",
    ),
    "ece_adaptive": (
        "Calibration error, adaptive",
        "The same over bins that hold equally many pictures.",
    ),
}
_BY_GRADE = {"accuracy": ("Accuracy", "Share of pictures that are called their true grade.")}
_EXPECTED_GRADE = (
    "Expected grade",
    "The mean of the grades 0, 1, 2 …, each weighted by its probability. A picture is called the grade nearest to it, "
    "which makes large errors rarer than the most probable grade does; of two equally near grades the lower one.",
)
_BALANCED = (
    "In relation to its share",
    "A picture is called the class whose probability is highest over its share in training, so that rare classes are "
    "found as often as frequent ones. That is seldom the most probable class where a frequent one is nearly sure.",
)
BASELINES = {
    "majority": "Most frequent in training",
    "majority_class": "Most frequent in training",
    "linear_probe": "Linear probe",
}
COMPARED = ("auc", "balanced_accuracy", "accuracy", "kappa_quadratic", "f1")
RULES = {"youden": "highest sensitivity + specificity", "argmax": "the more probable of the two classes"}
SPLITS = {
    "train": "training", "val": "validation", "calibration": "calibration", "all": "whole", "left_out": "left out",
    "oof": "out-of-fold",
    ENSEMBLE: "out-of-fold scores of the ensemble",
}  # fmt: skip


def name_metric(key: str) -> str:
    """`balanced_accuracy` → Balanced accuracy; unknown keys are spelled out."""
    return METRICS[key][0] if key in METRICS else _spell(key)


def order_metrics(evaluation: Evaluation) -> list[str]:
    """The evaluation's metrics as a reader wants them: AUC first, unknown ones last."""
    known = [key for key in METRICS if key in evaluation.metrics]
    return known + [key for key in evaluation.metrics if key not in METRICS]


def list_compared(evaluation: Evaluation) -> list[str]:
    """The metrics by which the model is set beside its baselines."""
    return [
        key
        for key in COMPARED
        if key in evaluation.metrics and any(key in each for each in evaluation.baselines.values())
    ]


def name_baseline(key: str) -> str:
    """`linear_probe` → Linear probe."""
    return BASELINES.get(key, _spell(key))


def name_split(key: str) -> str:
    """`val` → validation."""
    return SPLITS.get(key, key)


def format_number(value: float | None, digits: int = 3) -> str:
    """Three decimals; a dash where the number is undefined."""
    if value is None or math.isnan(value):
        return MISSING
    return f"{value:.{digits}f}".replace("-", "−")


def format_interval(estimate: Estimate) -> str:
    """`0.912–0.968`, or nothing where there is no interval."""
    if estimate.low is None or estimate.high is None:
        return ""
    joint = " to " if min(estimate.low, estimate.high) < 0 else "–"
    return format_number(estimate.low) + joint + format_number(estimate.high)


def format_percent(share: float | None) -> str:
    """`61 %` with a space that does not break; a dash where the share is undefined."""
    return MISSING if share is None else f"{100 * share:.0f}\u00a0%"


def format_of_hundred(share: float) -> str:
    """`96 of 100`; never all or none where the share is not."""
    hundredths = round(100 * share)
    if hundredths == 100 and share < 1:
        return "more than 99 of 100"
    if hundredths == 0 and share > 0:
        return "fewer than 1 of 100"
    return f"{hundredths} of 100"


def format_level(evaluation: Evaluation) -> str:
    """`95 %`: how often the intervals are meant to hold the true value."""
    return f"{100 * evaluation.intervals.level:g}\u00a0%"


def format_count(number: int, singular: str, plural: str = "") -> str:
    """`1 patient`, `2 patients`, `5,232 patients`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def count_subjects(evaluation: Evaluation, n: int, n_patients: int) -> str:
    """`20 pictures of 12 patients`, `20 eyes of 12 patients`, `12 patients`; `20 pictures` where nobody knows them."""
    if evaluation.intervals.unit == "picture" or evaluation.unit == "patient":
        return format_count(n, evaluation.unit)
    return f"{format_count(n, evaluation.unit)} of {format_count(n_patients, 'patient')}"


def name_units(evaluation: Evaluation) -> str:
    """What is measured, as a column's head: Pictures, Eyes, Patients."""
    return f"{evaluation.unit.capitalize()}s"


def knows_patients(evaluation: Evaluation) -> bool:
    """Whether numbers of patients say more than numbers of what is measured."""
    return evaluation.intervals.unit == "patient" and evaluation.unit != "patient"


def list_some(names: Sequence[str], at_most: int, joint: str = ", ") -> str:
    """The first names, and how many more there are."""
    more = len(names) - at_most
    return joint.join(names) if more <= 0 else f"{joint.join(names[:at_most])} and {more} more"


def name_classes(names: Sequence[str], *, is_ordered: bool, at_most: int = 12) -> str:
    """`a < b < c` where they are ordered, else `a · b · c`."""
    return list_some(names, at_most, " < " if is_ordered else " · ")


def name_rule(rule: str) -> str:
    """How a threshold was chosen: `sensitivity>=0.90` → sensitivity of at least 0.90."""
    if rule.startswith("cost="):
        return f"least cost, a missed positive costing {rule.removeprefix('cost=')} false alarms"
    return RULES.get(rule, re.sub(r"\s*>=\s*", " of at least ", rule))


def name_origin(chosen_on: str) -> str:
    """Who chose a threshold: `val` → chosen on validation, `fixed` → the same in every run."""
    return "the same in every run" if chosen_on == FIXED else f"chosen on {name_split(chosen_on)}"


def explain_patients(rule: PatientRule) -> str:
    """What an inferred id such as `1034@N_side.jpg` means, by the rule's first example; empty for other ids."""
    shown = rule.examples[0].partition(": ")[0] if rule.examples else ""
    patient, at, source = shown.rpartition("@")
    if rule.origin != "inferred" or not at:
        return ""
    kind = f"folders called like {source}" if source.endswith("/") else f"files called like {source}"
    return (
        f"“{shown}” is patient {patient} of the {kind}, where N stands for a number. The same number in names of "
        "another form counts as another patient."
    )


def format_value(value: object) -> str:
    """A plan's value as a person would write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def format_duration(seconds: float) -> str:
    """`8.4 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def default_point(evaluation: Evaluation) -> OperatingPoint | None:
    """The operating point that the bundle uses when nobody names one."""
    return next((point for point in evaluation.operating_points if point.is_default), None)


def define_terms(evaluation: Evaluation) -> list[tuple[str, str]]:
    """One line for each metric that this evaluation reports, then the words of its tables."""
    level = format_level(evaluation)
    metrics = METRICS | _BY_GRADE if evaluation.decision == "expected_grade" else METRICS
    units = f"{evaluation.unit}s"
    terms = [
        (metrics[key][0], metrics[key][1].replace("pictures", units))
        for key in order_metrics(evaluation)
        if key in metrics
    ]
    if evaluation.decision == "expected_grade":
        terms.append(_EXPECTED_GRADE)
    if evaluation.decision == "balanced":
        terms.append(_BALANCED)
    terms.append(
        (
            f"{level} interval",
            f"Were the study repeated with other patients, about {level} of such intervals would hold the true value.",
        )
    )
    if evaluation.operating_points:
        name = evaluation.positive or "the positive class"
        terms += [
            (
                "Operating point",
                f"A threshold on the probability of “{name}”: from it on a {evaluation.unit} counts as positive.",
            ),
            ("Sensitivity", f"Of the {units} with “{name}”, the share called positive."),
            ("Specificity", f"Of the {units} without “{name}”, the share called negative."),
            (
                "PPV, NPV",
                "Share of positive, of negative calls that are right. Both change with how frequent "
                f"“{name}” is: in a screening population PPV is usually much lower than in a clinic.",
            ),
        ]
    return terms


def _spell(key: str) -> str:
    words = key.replace("_", " ").strip()
    return words[:1].upper() + words[1:]
