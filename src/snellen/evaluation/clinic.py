"""The report's first page: what the model is for, how often it is right and wrong, when it gives no answer.

Shares are told as natural frequencies, of 100 or of 1,000 pictures (Gigerenzer and Hoffrage 1995). This room knows
records and English. It must not know HTML or figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from snellen.evaluation.wording import (
    count_subjects,
    default_point,
    format_count,
    format_number,
    format_percent,
    list_some,
    name_origin,
    name_rule,
    name_split,
)
from snellen.inference.gate import GATE_FILE
from snellen.metrics.decision import CALLED
from snellen.records.evaluation import ConformalSummary, Estimate, Evaluation, OperatingPoint

if TYPE_CHECKING:
    from snellen.evaluation.report import ReportInputs

_FEWEST = 10
_SHOWN_CALLS = 2


@dataclass(frozen=True)
class Hundred:
    """Of 100 pictures of one kind: how many are called right, with interval, and what becomes of the others. `source`
    says how many stand behind it.
    """

    of: str
    right: int
    low: int | None
    high: int | None
    called: str
    otherwise: str
    n_patients: int
    source: str

    @property
    def is_few(self) -> bool:
        """Whether a single patient may change the numbers much."""
        return self.n_patients < _FEWEST


def count_hundreds(evaluation: Evaluation) -> list[Hundred]:
    """A row a class; of two classes at the default operating point."""
    point = default_point(evaluation)
    if point is not None and evaluation.positive is not None:
        return _count_at_point(evaluation, point)
    return [_count_class(evaluation, at) for at in range(len(evaluation.classes))]


def describe_purpose(inputs: ReportInputs) -> str:
    """What goes in and what comes out, in one sentence, and what it is not."""
    evaluation = inputs.evaluation
    names = list_some([f"“{name}”" for name in evaluation.classes], 8)
    kind = "grades" if evaluation.is_ordered else "classes"
    intended = inputs.manifest.intended_use if inputs.manifest is not None else "Research use only."
    return (
        f"The model takes one picture and says which of {len(evaluation.classes)} {kind} it shows: {names}. {intended}"
    )


def describe_basis(evaluation: Evaluation) -> str:
    """Of whom the numbers are."""
    point = default_point(evaluation)
    at = (
        f"At the operating point “{point.name}” (“{evaluation.positive}” from a probability of "
        f"{format_number(point.threshold)} on, {name_rule(point.rule)}, {name_origin(point.chosen_on)}). "
        if point is not None
        else f"A picture is called {CALLED[evaluation.decision]}. "
    )
    several = "" if evaluation.unit == "picture" else f"Each {evaluation.unit} counts once, by all its pictures. "
    cuts = "Each grade with all above it, against those below: see Metrics. " if evaluation.grade_cuts else ""
    return (
        f"{at}{several}Counted on the {name_split(evaluation.split)} set: {evaluation.subjects}. {cuts}"
        "In other hands, cameras and populations the numbers may differ."
    )


def describe_thousand(evaluation: Evaluation) -> str:
    """Two classes: what becomes of 1,000 pictures mixed as here; empty for more classes or unknown shares."""
    point = default_point(evaluation)
    if point is None or point.sensitivity is None or point.specificity is None:
        return ""
    found, cleared = point.sensitivity.value, point.specificity.value
    if found is None or cleared is None or not point.n_positive or not point.n_negative:
        return ""
    n_sick = round(1000 * point.n_positive / (point.n_positive + point.n_negative))
    hits, clear = round(n_sick * found), round((1000 - n_sick) * cleared)
    missed, alarms = n_sick - hits, 1000 - n_sick - clear
    name = evaluation.positive
    of_calls = f", of which {hits} have it" if hits + alarms else ""
    return (
        f"Of 1,000 {evaluation.unit}s mixed as in this set, {n_sick} show “{name}”: {hits} of them are called so, "
        f"{missed} are missed. "
        f"{1000 - n_sick} do not: {clear} of them are cleared, {alarms} are false alarms. So {hits + alarms} are "
        "called "
        f"“{name}”{of_calls}; where “{name}” is rarer, more of these calls are false."
    )


def describe_silence(inputs: ReportInputs) -> list[str]:
    """When there is no answer, and when there is more than one."""
    evaluation = inputs.evaluation
    told = []
    found = evaluation.abstentions
    if found is not None:
        reasons = [f"{reason.removeprefix('the picture is ')} ({n})" for reason, n in found.reasons.items()]
        listed = f": {list_some(reasons, 4)}" if reasons else ""
        told.append(
            "It gives no answer for pictures that are unlike those it was trained on, or too dark, too bright or "
            "blurred "
            f"beside them. Here that was {found.n} of {format_count(evaluation.n_pictures or evaluation.n, 'picture')}"
            f"{listed}."
        )
    if inputs.manifest is not None and GATE_FILE not in inputs.manifest.files:
        told.append("It has no gate: it answers every picture, whatever it shows.")
    sets = evaluation.conformal
    if sets is not None:
        held = sets.whole.coverage.value
        told.append(
            f"Beside its answer it names the classes that cannot be ruled out: one for {sets.n_single:,} of "
            f"{evaluation.n:,} {evaluation.unit}s, several for {sets.n_several:,}, none for {sets.n_empty:,}. The true "
            f"class was among them in {format_percent(held)} (asked for: {format_percent(sets.wanted)})"
            f"{_tell_least(sets, evaluation.unit)}."
        )
    if evaluation.shift is not None and evaluation.shift.message:
        told.append(evaluation.shift.message)
    return told


def _tell_least(sets: ConformalSummary, unit: str) -> str:
    """The class whose sets hold it least often: a mean over all may hide that."""
    found = [(each.coverage.value, name, each.n) for name, each in sets.per_class.items() if each.coverage.value]
    none = [name for name, each in sets.per_class.items() if each.coverage.value == 0]
    if len(sets.per_class) < 2 or not (found or none):
        return ""
    value, name, n = (0.0, none[0], sets.per_class[none[0]].n) if none else min(found)
    return f", least often of “{name}”: {format_percent(value)} of {format_count(n, unit)}"


def _count_at_point(evaluation: Evaluation, point: OperatingPoint) -> list[Hundred]:
    name = str(evaluation.positive)
    other = next(each for each in evaluation.classes if each != name)
    rows = []
    for own, called, wrong, share in (
        (name, f"called “{name}”", f"missed: called “{other}”", point.sensitivity),
        (other, f"called “{other}”", f"false alarms: called “{name}”", point.specificity),
    ):
        if share is None or share.value is None:
            continue
        counts = evaluation.per_class[own]
        right = round(100 * share.value)
        otherwise = f"{100 - right} {wrong}" if right < 100 else ""
        source = count_subjects(evaluation, counts.n, counts.n_patients)
        rows.append(Hundred(own, right, *_round_ends(share), called, otherwise, counts.n_patients, source))
    return rows


def _count_class(evaluation: Evaluation, at: int) -> Hundred:
    name = evaluation.classes[at]
    counts = evaluation.per_class[name]
    share = counts.recall
    row = np.array(evaluation.confusion[at], float)
    shares = np.zeros(len(row)) if not row.sum() else 100 * row / row.sum()
    others = sorted((k for k in range(len(row)) if k != at and shares[k] >= 0.5), key=lambda k: -shares[k])
    calls = [f"{shares[k]:.0f} “{evaluation.classes[k]}”" for k in others[:_SHOWN_CALLS]]
    last = others[_SHOWN_CALLS:]
    rest = sum(shares[k] for k in last)
    more = [f"{rest:.0f} {f'“{evaluation.classes[last[0]]}”' if len(last) == 1 else 'others'}"] if last else []
    told = ", ".join([*calls, *more])
    source = count_subjects(evaluation, counts.n, counts.n_patients)
    return Hundred(name, round(float(shares[at])), *_round_ends(share), "called so", told, counts.n_patients, source)


def _round_ends(share: Estimate) -> tuple[int | None, int | None]:
    if share.low is None or share.high is None:
        return None, None
    return round(100 * share.low), round(100 * share.high)
