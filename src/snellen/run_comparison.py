"""The steps of `snellen compare`: the test scores of two runs, paired picture by picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from snellen import __version__
from snellen.core.errors import DataError, UsageError
from snellen.core.storage import compute_sha256, write_atomic
from snellen.evaluation.compare_words import describe_verdict, list_notes
from snellen.evaluation.score_files import read_scores
from snellen.evaluation.units import note_groups
from snellen.metrics.decision import Rule, make_rule
from snellen.metrics.differences import Paired, count_patients_needed, find_detectable, pair_models
from snellen.outputs import COMPARISON, make_output
from snellen.planning.splits import list_joined
from snellen.records.comparison import Agreement, ComparedModel, Comparison, MetricDifference
from snellen.records.evaluation import Evaluation, Intervals, Score
from snellen.runs import Run, load_record, open_run

FEW_TO_COMPARE = 10  # patients of each of two classes, twice as many of several: below it their spread is a guess
LOWER_IS_BETTER = ("brier", "log_loss", "ece", "ece_adaptive", "off_by_two")
_SHOWN = 3


@dataclass(frozen=True)
class Side:
    """One model with its test scores. `pixels` maps samples to hashes; a folder of `evaluate --out` has none. `groups`
    has the group of each patient who shares a picture with others, where a run knows it.
    """

    folder: Path
    evaluation: Evaluation
    scores: list[Score]
    pixels: dict[str, str]
    groups: dict[str, str] = field(default_factory=dict)


def compare_runs(first: Path, second: Path, out: Path | None, *, is_common: bool = False) -> Comparison:
    """Paired differences on the test pictures of two runs, or of two folders that `evaluate --out` wrote.

    Raises UsageError where the test sets differ, unless `is_common`: then on what both have.
    """
    sides = (_open_side(first), _open_side(second))
    _require_same_question(sides)
    by_pixels = all(side.pixels for side in sides)
    rows, only = _pair(sides, by_pixels=by_pixels)
    if any(only) and not (is_common and rows):
        raise _tell_difference(sides, len(rows), only)
    _require_same_labels(rows)
    comparison = _compare(sides, rows, (len(only[0]), len(only[1])), "pixels" if by_pixels else "name")
    if out is not None:
        from snellen.evaluation.compare_page import render_comparison

        make_output(out, COMPARISON)
        write_atomic(out / "compare.html", render_comparison(comparison))
        write_atomic(out / COMPARISON.mark, comparison.to_json())
    return comparison


def _open_side(folder: Path) -> Side:
    if (folder / "evaluation.json").is_file() and not (folder / "run.json").is_file():
        evaluation = load_record(folder / "evaluation.json", Evaluation)
        if evaluation.scores_sha256 not in ("", compute_sha256(folder / "scores.csv")):
            raise DataError(
                f"{folder / 'scores.csv'} was changed since `snellen evaluate` wrote it.",
                f"Score the pictures again: snellen evaluate BUNDLE DATA --out {folder} --overwrite.",
            )
        return Side(folder, evaluation, read_scores(folder / "scores.csv", evaluation.classes), {})
    run = open_run(folder)
    if not (run.folder / "evaluation.json").is_file():
        raise UsageError(
            f"The run {folder} has no test scores: its test split was kept shut, or it is not finished.",
            f"snellen evaluate {folder} --out DIR opens it; then compare DIR.",
        )
    _require_unchanged(run)
    evaluation = run.evaluation
    scores = read_scores(run.folder / "scores-test.csv", evaluation.classes)
    return Side(
        folder, evaluation, scores, run.pixel_hashes, list_joined((row.patient, row.group) for row in run.splits)
    )


def _require_unchanged(run: Run) -> None:
    known = run.record.sha256
    for name in ("scores-test.csv", "evaluation.json", "cohort.csv", "splits.csv"):
        if name in known and compute_sha256(run.folder / name) != known[name]:
            raise DataError(
                f"{run.folder / name} was changed since the run wrote it.",
                f"snellen evaluate {run.folder} --out DIR scores the test pictures again; then compare DIR.",
            )


def _require_same_question(sides: tuple[Side, Side]) -> None:
    a, b = (side.evaluation for side in sides)
    if a.classes != b.classes:
        raise UsageError(
            f"The two models tell other classes apart: {', '.join(a.classes)} and {', '.join(b.classes)}.",
            "Compare models of the same classes in the same order; data.merge and data.order can make them so.",
        )
    if a.positive != b.positive:
        raise UsageError(
            f"The positive class of one is “{a.positive}”, of the other “{b.positive}”.",
            "Train both with the same data.positive.",
        )


def _pair(
    sides: tuple[Side, Side], *, by_pixels: bool
) -> tuple[list[tuple[Score, Score]], tuple[list[Score], list[Score]]]:
    """Scores of the same picture side by side, in the order of the first, and what only one side has.

    Copies of one picture have equal hashes: they are paired in the order of their names.
    """
    found: list[dict[str, list[Score]]] = []
    for side in sides:
        rows: dict[str, list[Score]] = defaultdict(list)
        for score in sorted(side.scores, key=lambda each: each.sample):
            rows[side.pixels.get(score.sample, score.sample) if by_pixels else score.sample].append(score)
        found.append(rows)
    first, second = found
    pairs = {
        one.sample: (one, other)
        for key, own in first.items()
        for one, other in zip(own, second.get(key, []), strict=False)
    }
    only_first = [score for key, own in first.items() for score in own[len(second.get(key, [])) :]]
    only_second = [score for key, own in second.items() for score in own[len(first.get(key, [])) :]]
    return [pairs[each.sample] for each in sides[0].scores if each.sample in pairs], (only_first, only_second)


def _tell_difference(sides: tuple[Side, Side], n_common: int, only: tuple[list[Score], list[Score]]) -> UsageError:
    told = [
        f"{len(rows)} are only in {side.folder} (such as {', '.join(row.sample for row in rows[:_SHOWN])})"
        for side, rows in zip(sides, only, strict=True)
        if rows
    ]
    common = f"{n_common} picture{'s' * (n_common != 1)} {'is' if n_common == 1 else 'are'} in both"
    way = (
        "Train both on the same data with one --split-seed, or score both bundles on the same DATA (snellen evaluate "
        "BUNDLE DATA --out DIR) and compare the two folders."
    )
    more = f" --common compares on the {n_common} that both have." if n_common else ""
    return UsageError(f"The test sets differ: {common}, {'; '.join(told)}.", way + more)


def _require_same_labels(rows: Sequence[tuple[Score, Score]]) -> None:
    other = [(a, b) for a, b in rows if a.label != b.label]
    if other:
        a, b = other[0]
        raise DataError(
            f"{len(other)} pictures have another label in the other run, such as {a.sample}: {a.label} and {b.label}.",
            "Labels were changed in between: train or evaluate one of them again.",
        )


def _read_rule(evaluation: Evaluation) -> Rule:
    return make_rule(evaluation.decision, [evaluation.decision_shares.get(name, 0.0) for name in evaluation.classes])


def _compare(
    sides: tuple[Side, Side],
    rows: Sequence[tuple[Score, Score]],
    n_only: tuple[int, int],
    matched_by: Literal["pixels", "name"],
) -> Comparison:
    evaluation = sides[0].evaluation
    classes, settings = evaluation.classes, _choose_intervals(sides)
    n_patients = len({a.patient for a, _ in rows})
    is_patient_same = all(a.patient == b.patient for a, b in rows)
    # one of the two may have looked for identical pictures only
    groups = max((side.groups for side in sides), key=len) if is_patient_same else sides[0].groups
    patients = [groups.get(a.patient, a.patient) for a, _ in rows]
    n_groups = len(set(patients))
    # also where pictures are drawn, those that are copies are drawn together
    drawn = settings.model_copy(update={"unit": "patient"}) if n_groups < n_patients else settings
    labels = np.array([classes.index(a.label) for a, _ in rows], np.int64)
    probabilities = [np.array([row[side].probabilities for row in rows], np.float64) for side in (0, 1)]
    paired = pair_models(
        labels,
        (probabilities[0], probabilities[1]),
        patients,
        settings=drawn,
        is_ordered=evaluation.is_ordered,
        positive=None if evaluation.positive is None else classes.index(evaluation.positive),
        rules=(_read_rule(evaluation), _read_rule(sides[1].evaluation)),
    )
    n_units = n_groups if drawn.unit == "patient" else len(rows)
    is_few = _count_fewest(labels, patients, len(classes)) < FEW_TO_COMPARE
    metrics = {name: _to_record(name, each, n_units, settings.level, is_few=is_few) for name, each in paired.items()}
    found = Comparison(
        a=_describe_side(sides[0]),
        b=_describe_side(sides[1]),
        task=evaluation.task,
        classes=classes,
        positive=evaluation.positive,
        n=len(rows),
        n_patients=n_patients,
        n_only_a=n_only[0],
        n_only_b=n_only[1],
        n_by_class={name: int((labels == index).sum()) for index, name in enumerate(classes)},
        matched_by=matched_by,
        headline="auc",
        metrics=metrics,
        agreement=_count_agreement(rows),
        intervals=settings,
        verdict="",
        snellen_version=__version__,
    )
    notes = (*list_notes(found, has_same_patients=is_patient_same), *note_groups(n_patients, n_groups, settings))
    return found.model_copy(update={"verdict": describe_verdict(found), "notes": notes})


def _choose_intervals(sides: tuple[Side, Side]) -> Intervals:
    """Those of the first; pictures are the unit as soon as one side knows no patients."""
    a, b = (side.evaluation.intervals for side in sides)
    return a.model_copy(update={"unit": "picture" if "picture" in (a.unit, b.unit) else "patient"})


def _count_fewest(labels: NDArray[np.int64], patients: Sequence[str], n_classes: int) -> float:
    """Patients of the smaller of two classes; half of all where there are more."""
    if n_classes > 2:
        return len(set(patients)) / 2
    return min(len({who for who, label in zip(patients, labels, strict=True) if label == c}) for c in (0, 1))


def _to_record(name: str, found: Paired, n_units: int, level: float, *, is_few: bool) -> MetricDifference:
    error, value = found.standard_error, found.difference.value
    better = _choose_better(name, found, is_few=is_few)
    if is_few:
        return MetricDifference(
            a=found.first, b=found.second, difference=found.difference, standard_error=error, detectable=None,
            n_patients_needed=None, better=better,
        )  # fmt: skip
    needed = (
        None if error is None or value is None else count_patients_needed(value, error, n_units, found.n_behind, level)
    )
    return MetricDifference(
        a=found.first,
        b=found.second,
        difference=found.difference,
        standard_error=error,
        detectable=None if error is None else find_detectable(error, found.n_behind, level),
        n_patients_needed=needed,
        better=better,
    )


def _choose_better(name: str, found: Paired, *, is_few: bool) -> Literal["a", "b", "undecided", "equal", "undefined"]:
    difference = found.difference
    if difference.value is None:
        return "undefined"
    if difference.low is None or difference.high is None:
        return "equal" if difference.value == 0 else "undecided"
    if is_few or difference.low <= 0 <= difference.high:
        return "undecided"
    return "b" if (difference.low > 0) != (name in LOWER_IS_BETTER) else "a"


def _describe_side(side: Side) -> ComparedModel:
    evaluation = side.evaluation
    return ComparedModel(
        name=side.folder.resolve().name,
        folder=str(side.folder),
        data=evaluation.data,
        bundle_sha256=evaluation.bundle_sha256,
        decision=evaluation.decision,
        n=len(side.scores),
        unit=evaluation.unit,
        test_opened=evaluation.test_opened,
    )


def _count_agreement(rows: Sequence[tuple[Score, Score]]) -> Agreement:
    right = [(a.prediction == a.label, b.prediction == b.label) for a, b in rows]
    return Agreement(
        both_right=right.count((True, True)),
        only_a_right=right.count((True, False)),
        only_b_right=right.count((False, True)),
        both_wrong=right.count((False, False)),
        same_prediction=sum(a.prediction == b.prediction for a, b in rows),
    )
