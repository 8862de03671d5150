"""What the numbers say in plain sentences, and what a reader must know before believing them.

This room knows records and English. It must not know HTML, figures or files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from snellen.evaluation.wording import (
    default_point,
    format_count,
    format_level,
    format_number,
    format_of_hundred,
    format_percent,
    list_some,
    name_baseline,
    name_metric,
    name_split,
)
from snellen.records.cohort import Audit
from snellen.records.evaluation import Estimate, Evaluation
from snellen.records.plan import UNDECIDED, Plan

FEW_PATIENTS = 100
FEW_PATIENTS_OF_A_CLASS = 10
_GUESSING = 0.5
_LARGE_SHIFT = 0.2
_GRAVE = ("of the bundle's own test split", "The model was trained on these pictures")
_PICTURE_LEVEL = re.compile(r"picture[- ]level|one patient (a|per) picture|each picture", re.IGNORECASE)


@dataclass(frozen=True)
class Notice:
    """Something that a reader must know before the numbers.

    A note of the evaluation that begins with `text` or matches the expression `covers` says the same and is not
    repeated.
    """

    severity: Literal["warning", "severe"]
    text: str
    advice: str = ""
    covers: str = ""

    def is_said_by(self, note: str) -> bool:
        """Whether a note of the evaluation says the same."""
        is_covered = bool(self.covers) and re.search(self.covers, note, re.IGNORECASE) is not None
        return is_covered or note.startswith(self.text)


def describe_result(evaluation: Evaluation) -> list[str]:
    """What the numbers mean, one plain sentence each."""
    told = (
        _say_auc(evaluation),
        _say_accuracy(evaluation),
        _say_operating_point(evaluation),
        _say_baselines(evaluation),
    )
    return [sentence for sentence in told if sentence]


def collect_notices(evaluation: Evaluation, audit: Audit | None, plan: Plan | None = None) -> list[Notice]:
    """What weakens the numbers, gravest first."""
    own = [
        *_notices_of_patients(evaluation, audit),
        *_notices_of_split(evaluation),
        *_notices_of_audit(audit),
        *_notices_of_shortcuts(evaluation, audit),
        *_notices_of_size(evaluation),
        *_notices_of_baselines(evaluation),
        *_notices_of_probabilities(evaluation),
        *_notices_of_positive(plan),
        *_notices_of_calibration(evaluation),
        *_notices_of_points(evaluation),
        *_notices_of_shift(evaluation),
    ]
    notes = [note for note in evaluation.notes if not any(notice.is_said_by(note) for notice in own)]
    graver = [Notice("severe", note) for note in notes if any(words in note for words in _GRAVE)]
    known = {notice.text for notice in graver}
    notices = graver + own + [Notice("warning", note) for note in notes if note not in known]
    return sorted(notices, key=lambda notice: notice.severity != "severe")


def add_notices(evaluation: Evaluation, audit: Audit | None, plan: Plan | None = None) -> Evaluation:
    """The evaluation with every notice among its notes, so that file, screen and report say the same."""
    notices = collect_notices(evaluation, audit, plan)
    notes = tuple(f"{notice.text} {notice.advice}".strip() for notice in notices)
    return evaluation.model_copy(update={"notes": notes})


def add_drop(evaluation: Evaluation, validation: Evaluation) -> Evaluation:
    """The evaluation of the test split with a note where its AUC lies below the interval of validation's."""
    own, before = evaluation.metrics.get("auc"), validation.metrics.get("auc")
    if own is None or before is None or own.value is None or before.low is None or own.value >= before.low:
        return evaluation
    note = (
        f"The AUC on test, {format_number(own.value)}, lies below the interval of validation's "
        f"({format_number(before.low)} to {format_number(before.high)}). Believe the test: validation chose the model, "
        "or the patients differ."
    )
    return evaluation.model_copy(update={"notes": (*evaluation.notes, note)})


def _say_auc(evaluation: Evaluation) -> str:
    auc = evaluation.metrics.get("auc")
    if auc is None or auc.value is None:
        return ""
    won, one = f"{format_of_hundred(auc.value)} cases", "an eye" if evaluation.unit == "eye" else f"a {evaluation.unit}"
    shown = f"AUC {format_number(auc.value)}"
    if auc.low is not None and auc.high is not None:
        low, high = format_number(auc.low), format_number(auc.high)
        shown += f"; {format_level(evaluation)} interval {low} to {high}"
    if evaluation.task == "binary" and evaluation.positive is not None:
        return (
            f"Given {one} with “{evaluation.positive}” and one without, the model gives the first the "
            f"higher probability in {won} ({shown})."
        )
    return (
        f"Given {one} of a class and one of another, the model gives the first the higher probability of "
        f"that class in {won}, averaged over the classes ({shown})."
    )


def _say_accuracy(evaluation: Evaluation) -> str:
    accuracy = _value(evaluation.metrics, "accuracy")
    if accuracy is None or evaluation.operating_points:
        return ""
    counts = {name: each.n for name, each in evaluation.per_class.items() if each.n}
    shares = list_some([f"“{name}” {format_percent(n / evaluation.n)}" for name, n in counts.items()], 8)
    return (
        f"It names the right class of {format_of_hundred(accuracy)} {evaluation.unit}s, mixed as here ({shares}); "
        "where a class is rarer, more of its calls are wrong."
    )


def _say_operating_point(evaluation: Evaluation) -> str:
    point = default_point(evaluation)
    if point is None or point.sensitivity is None or point.specificity is None:
        return ""
    found, cleared = point.sensitivity.value, point.specificity.value
    if found is None or cleared is None:
        return ""
    return (
        f"At the default threshold {format_number(point.threshold)} it finds {format_of_hundred(found)} "
        f"{evaluation.unit}s with “{evaluation.positive}” and calls {format_of_hundred(cleared)} without it negative."
    )


def _say_baselines(evaluation: Evaluation) -> str:
    told = []
    for key, estimates in evaluation.baselines.items():
        metric = "accuracy" if "majority" in key or "auc" not in estimates else "auc"
        own, other = _value(evaluation.metrics, metric), _value(estimates, metric)
        if own is None or other is None:
            continue
        who = f"a {name_baseline(key).lower()}"
        if "majority" in key:
            who = "always naming the class that is most frequent in training"
        what = "AUC" if metric == "auc" else "accuracy"
        difference = _say_difference(evaluation.baseline_differences.get(key, {}).get(metric))
        told.append(f"{who} has {what} {format_number(other)}, the model {format_number(own)}{difference}")
    return f"For comparison: {'; '.join(told)}." if told else ""


def _say_difference(found: Estimate | None) -> str:
    if found is None or found.low is None or found.high is None:
        return ""
    holds = ", so the two are not told apart" if found.low <= 0 <= found.high else ""
    return (
        f" (difference {format_number(found.value)}, interval {format_number(found.low)} to {format_number(found.high)}"
        f"{holds})"
    )


def _notices_of_patients(evaluation: Evaluation, audit: Audit | None) -> Iterator[Notice]:
    rule = evaluation.patient_rule
    has_no_rule = audit is not None and audit.patients.origin == "none" and evaluation.split != "all"
    if _PICTURE_LEVEL.match(rule) or evaluation.intervals.unit == "picture" or has_no_rule:
        yield Notice(
            "severe",
            f"Which pictures belong to one patient is not known: {rule}.",
            "Pictures of one person may lie in training and test at once. That flatters every number and "
            "makes the intervals too narrow. Name a patient column or pattern with --patients.",
            covers="^picture-level",
        )
    elif _PICTURE_LEVEL.search(rule):
        yield Notice(
            "warning",
            f"Some pictures carry no patient and count as patients of their own: {rule}.{_say_unknown(evaluation)}",
            "Where they are of one person, numbers are too good and intervals too narrow.",
        )


def _say_unknown(evaluation: Evaluation) -> str:
    """Of which classes they are: where it is one class alone, its numbers suffer most."""
    counts = [
        f"{evaluation.unknown_patients[name]} of {sum(row)} “{name}”"
        for name, row in zip(evaluation.classes, evaluation.confusion, strict=True)
        if evaluation.unit == "picture" and name in evaluation.unknown_patients
    ]
    return f" Of those measured here they are {list_some(counts, 8)}." if counts else ""


def _tell_fitted(evaluation: Evaluation) -> str:
    fitted = evaluation.calibration is not None and evaluation.calibration.fitted_on != "val"
    return "" if fitted else ", its calibration and its thresholds"


def _notices_of_split(evaluation: Evaluation) -> Iterator[Notice]:
    if evaluation.split == "train":
        yield Notice(
            "severe",
            "These numbers are measured on the very pictures that the model learned from.",
            "They show the fit, never the performance.",
            covers="trained on these pictures",
        )
    if evaluation.split == "val":
        yield Notice(
            "severe",
            f"These numbers are measured on validation pictures, which chose the model{_tell_fitted(evaluation)}.",
            "They are optimistic. Numbers to report need the test split.",
            covers="chosen on the validation patients",
        )
    if evaluation.split == "calibration":
        yield Notice(
            "warning",
            "These numbers are measured on the pictures that calibration and thresholds were fitted on.",
            "They are a little optimistic. Numbers to report need the test split.",
            covers="fitted on the calibration patients",
        )
    if evaluation.split == "oof":
        yield Notice(
            "warning",
            "Each picture was scored by the member that had not seen its patient. The model that was delivered is the "
            "mean of all members, which no picture here can measure.",
            "Calibration and thresholds were chosen on these scores; a test split or other data tell of them.",
            covers="left out its fold",
        )
    if evaluation.test_opened > 1:
        yield Notice(
            "warning",
            f"The test split has been opened {evaluation.test_opened} times.",
            "If anything was changed in between, its numbers are no longer independent: confirm on new patients.",
            covers="has been opened",
        )
    if evaluation.workspace_runs > 1:
        yield Notice(
            "warning",
            f"{evaluation.workspace_runs} runs in the folder of this one have opened the same test split, "
            f"{evaluation.workspace_opened} times in all.",
            "Whoever reports the best of them has chosen on test. " + _say_optimism(evaluation),
        )
    if evaluation.n_failed:
        failed = format_count(evaluation.n_failed, "picture")
        yield Notice(
            "warning",
            f"{failed} could not be read or used and are in none of the numbers.",
        )


def _say_optimism(evaluation: Evaluation) -> str:
    """By how much the best of as many equal models would look too good: Blom's expected maximum of normal numbers."""
    auc, n = evaluation.metrics.get("auc"), evaluation.workspace_runs
    if auc is None or auc.low is None or auc.high is None:
        return "Confirm it on new patients."
    normal = NormalDist()
    error = (auc.high - auc.low) / (2 * normal.inv_cdf(0.5 + evaluation.intervals.level / 2))
    by = normal.inv_cdf((n - 0.375) / (n + 0.25)) * error
    return (
        f"Were all {n} equally good, the best would look better than it is, in AUC by up to about {format_number(by)}: "
        "confirm it on new patients."
    )


def _notices_of_audit(audit: Audit | None) -> Iterator[Notice]:
    for issue in audit.issues if audit is not None else ():
        if issue.severity == "severe":
            yield Notice("severe", issue.message, issue.advice)


def _notices_of_shortcuts(evaluation: Evaluation, audit: Audit | None) -> Iterator[Notice]:
    """How much of the model's AUC could be had without anatomy, where the audit found that a class is given away."""
    shortcuts = audit.shortcuts if audit is not None else None
    found = {issue.code for issue in audit.issues} if audit is not None else set()
    own = _value(evaluation.metrics, "auc")
    if shortcuts is None or own is None or own <= _GUESSING:
        return
    for code, estimate, what in (
        ("shortcut_facts", shortcuts.unnamed_auc, "facts of the files alone, without their names,"),
        ("shortcut_border", shortcuts.border_auc, "the rim and corners of the pictures alone"),
    ):
        if code in found and estimate is not None and estimate.value is not None:
            share = min(1.0, max(0.0, (estimate.value - _GUESSING) / (own - _GUESSING)))
            yield Notice(
                "warning",
                f"On the whole cohort {what} reach an AUC of {format_number(estimate.value)}, "
                f"{format_percent(share)} of what the model has above guessing ({format_number(own)} here).",
                "The number does not show that the model looks at the disease: measure on each source by itself, or on "
                "pictures from elsewhere.",
            )


def _notices_of_size(evaluation: Evaluation) -> Iterator[Notice]:
    if evaluation.n_patients < FEW_PATIENTS:
        unit = "picture" if evaluation.intervals.unit == "picture" else "patient"
        patients = format_count(evaluation.n_patients, unit)
        yield Notice(
            "warning",
            f"Only {patients} in the {name_split(evaluation.split)} set.",
            "The intervals are wide, and what is rare may not occur at all.",
        )
    knows = evaluation.intervals.unit == "patient"
    few = [
        f"{each.n_patients} of “{name}”"
        for name, each in evaluation.per_class.items()
        if each.n_patients < FEW_PATIENTS_OF_A_CLASS
    ]
    if few:
        yield Notice(
            "warning",
            f"Fewer than {FEW_PATIENTS_OF_A_CLASS} {'patients' if knows else 'pictures'} of a class: "
            f"{list_some(few, 5)}.",
            f"The numbers of such a class may change much with a single {'patient' if knows else 'picture'}.",
        )


def _notices_of_baselines(evaluation: Evaluation) -> Iterator[Notice]:
    if sum(1 for row in evaluation.confusion if sum(row)) < 2:
        return  # of one class alone whoever always names it is right
    for key, estimates in evaluation.baselines.items():
        better = []
        for metric in ("accuracy",) if "majority" in key else ("auc", "accuracy"):
            own, other = _value(evaluation.metrics, metric), _value(estimates, metric)
            if own is not None and other is not None and other > own:
                better.append(f"{name_metric(metric)} {format_number(other)} against {format_number(own)}")
        if better:
            yield Notice(
                "warning",
                f"A baseline does better than the model: {name_baseline(key).lower()}, {', '.join(better)}.",
            )


def _notices_of_probabilities(evaluation: Evaluation) -> Iterator[Notice]:
    """Both losses of probabilities, against those that look at no picture."""
    majority = next((found for key, found in evaluation.baselines.items() if "majority" in key), {})
    worse = []
    for metric in ("brier", "log_loss"):
        own, other = _value(evaluation.metrics, metric), _value(majority, metric)
        if own is not None and other is not None and own >= other:
            worse.append(f"{name_metric(metric)} {format_number(own)} against {format_number(other)}")
    if worse:
        yield Notice(
            "warning",
            "The probabilities are no better than the shares of the classes in training, given for every picture: "
            f"{', '.join(worse)}.",
            "Do not use them as probabilities here. A higher AUC may still rank pictures well.",
        )


def _notices_of_positive(plan: Plan | None) -> Iterator[Notice]:
    for decision in plan.decisions if plan is not None else ():
        if decision.key == "data.positive" and decision.reason.startswith(UNDECIDED):
            yield Notice(
                "warning",
                f"“{decision.value}” was taken for the class that is looked for, because neither class is named like "
                "the absence of disease.",
                "If it is the other one, sensitivity and specificity, PPV and NPV are exchanged and the thresholds are "
                "wrong: name it with --set data.positive=CLASS and train again.",
            )


def _notices_of_calibration(evaluation: Evaluation) -> Iterator[Notice]:
    check = evaluation.calibration.check
    slope = check.slope if check is not None else Estimate(value=None)
    if (
        slope.value is not None
        and slope.low is not None
        and slope.high is not None
        and not slope.low <= 1 <= slope.high
    ):
        ends = f"{format_number(slope.low, 2)} to {format_number(slope.high, 2)}"
        is_bold = slope.value < 1
        yield Notice(
            "warning",
            f"The probabilities are {'too extreme' if is_bold else 'not extreme enough'} here: calibration slope "
            f"{format_number(slope.value, 2)}, interval {ends}; 1 would be right.",
            f"Read a high probability as {'less' if is_bold else 'more'} sure than it says.",
        )
    if evaluation.calibration.method == "none" and not evaluation.calibration.is_compared:
        reason = evaluation.calibration.reason
        yield Notice(
            "warning",
            f"The probabilities are not calibrated{f': {reason}' if reason else ''}.",
            "A probability of 0.8 need not mean 80 of 100."
            + (" More validation pictures of every class may mend it." if evaluation.calibration.n_fitted else ""),
        )


def _notices_of_points(evaluation: Evaluation) -> Iterator[Notice]:
    """Where the default threshold reaches a target already, the point made for it may do less of what it is for."""
    points = {point.name: point for point in evaluation.operating_points}
    default = default_point(evaluation)
    for name, key in (("screening", "sensitivity"), ("confirming", "specificity")):
        point = points.get(name)
        if point is None or default is None:
            continue
        own, other = (_value({key: getattr(each, key) or Estimate(value=None)}, key) for each in (point, default))
        if own is not None and other is not None and own < other:
            yield Notice(
                "warning",
                f"“{default.name}” has a higher {key} than “{name}”, whose target ({point.rule}) asks for less.",
                f"Use “{default.name}”, or train with a higher target: --set evaluation.{key}=0.99.",
            )


def _notices_of_shift(evaluation: Evaluation) -> Iterator[Notice]:
    shift = evaluation.prevalence_shift
    if shift is None:
        return
    moved = [
        f"“{name}” {format_percent(shift.assumed[name])} there, {format_percent(here)} here"
        for name, here in shift.here.items()
        if abs(here - shift.assumed[name]) > _LARGE_SHIFT
    ]
    if moved:
        yield Notice(
            "warning",
            f"The classes are mixed otherwise than where the model was made: {list_some(moved, 5)}.",
            "Accuracy, predictive values and probabilities hold for the mixture: see “Shares of the classes”, and give "
            "yours to predict with --prevalence.",
        )


def _value(estimates: dict[str, Estimate], key: str) -> float | None:
    return estimates[key].value if key in estimates else None
