"""From records to tables of the report: rows of strings and estimates, without markup.

This room knows records and column heads. It must not know HTML, figures or pictures.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snellen.evaluation.wording import (
    MISSING,
    format_count,
    format_duration,
    format_interval,
    format_level,
    format_number,
    format_percent,
    format_value,
    knows_patients,
    list_compared,
    name_baseline,
    name_metric,
    name_origin,
    name_rule,
    name_split,
    name_units,
    order_metrics,
)
from snellen.metrics.decision import CALLED
from snellen.records.audit import Shortcuts
from snellen.records.cohort import PARTS, Split
from snellen.records.evaluation import Estimate, Evaluation
from snellen.records.plan import Decision, Fingerprint
from snellen.records.run import ChosenHead, EpochRecord, Resampling, StageOutcome

if TYPE_CHECKING:  # curves draw with matplotlib, which the audit's page does without
    from snellen.evaluation.curves import ClassCurve

METHODS = {
    "wilson": "Wilson",
    "delong": "DeLong",
    "obuchowski": "Obuchowski",
    "newcombe": "Newcombe",
    "mover": "MOVER",
    "sandwich": "sandwich variance",
    "none": "none",
}
_READ_OFF = ". Read off this very set, so too good for a threshold that is chosen beforehand"
GRID = tuple(step / 20 for step in range(20, 9, -1))

Cell = str | Estimate
UNDEFINED = Estimate(value=None)


@dataclass(frozen=True)
class Table:
    """`kinds` says of each column whether it holds `text`, `num`bers or `code`; column 0 names the row."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    kinds: tuple[str, ...]


def build_metrics(evaluation: Evaluation, validation: Evaluation | None = None) -> Table:
    """Every metric of the record with its interval and how that was made; beside it what validation said."""
    rows: list[tuple[Cell, ...]] = []
    for key in order_metrics(evaluation):
        each = evaluation.metrics[key]
        is_bootstrap = each.method == "bootstrap"
        method = f"{evaluation.intervals.unit} bootstrap" if is_bootstrap else METHODS[each.method]
        beside = (validation.metrics.get(key, UNDEFINED),) if validation is not None else ()
        value = Estimate(value=each.value)
        rows.append((name_metric(key), value, format_interval(each) or MISSING, *beside, method))
    on_validation = () if validation is None else ("Out of fold" if validation.split == "oof" else "On validation",)
    head = ("Metric", "Value", f"{format_level(evaluation)} interval", *on_validation, "Interval by")
    caption = f"All metrics on the {name_split(evaluation.split)} set, {evaluation.subjects}"
    if validation is not None:
        caption += (
            ". Out of fold each picture was scored by a member that had not seen its patient"
            if validation.split == "oof"
            else ". Validation chose the model: its numbers are too good, and shown for the drop"
        )
    return Table(caption, head, tuple(rows), ("text", *["num"] * (len(head) - 2), "text"))


def build_per_class(evaluation: Evaluation) -> Table:
    """Each class against the rest."""
    has_patients = knows_patients(evaluation)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            name + (" (positive)" if name == evaluation.positive else ""),
            str(each.n),
            *([str(each.n_patients)] if has_patients else []),
            each.recall,
            each.specificity,
            each.precision,
            each.npv,
            each.f1,
            each.auc,
            each.average_precision,
        )
        for name, each in evaluation.per_class.items()
    )
    head = (
        "Class",
        name_units(evaluation),
        *(["Patients"] if has_patients else []),
        "Recall (sensitivity)",
        "Specificity",
        "Precision (PPV)",
        "NPV",
        "F1",
        "AUC",
        "Average precision",
    )
    caption = (
        f"Each class against the rest, a picture being called {CALLED[evaluation.decision]}. PPV and NPV hold for the "
        "mixture of classes here"
    )
    return Table(caption, head, rows, ("text", *["num"] * (len(head) - 1)))


def build_baselines(evaluation: Evaluation) -> Table:
    """The metrics of the figure, the model first."""
    keys = list_compared(evaluation)
    sources = {"Model": evaluation.metrics} | {name_baseline(k): v for k, v in evaluation.baselines.items()}
    rows: list[tuple[Cell, ...]] = []
    for name, each in sources.items():
        rows.append((name, *(each.get(key, UNDEFINED) for key in keys)))
    head = ("", *(name_metric(key) for key in keys))
    return Table("The model beside its baselines", head, tuple(rows), ("text", *["num"] * len(keys)))


def build_confusion(evaluation: Evaluation) -> Table:
    """Rows are true classes, columns predictions; count and share of the row."""
    rows = []
    for name, counts in zip(evaluation.classes, evaluation.confusion, strict=True):
        total = sum(counts)
        cells = (f"{count} ({format_percent(count / total if total else None)})" for count in counts)
        rows.append((name, *cells, str(total)))
    head = ("True class", *(f"called {name}" for name in evaluation.classes), "All")
    caption = f"{name_units(evaluation)} by true class (rows) and prediction (columns)"
    return Table(caption, head, tuple(rows), ("text", *["num"] * (len(head) - 1)))


def build_roc(curves: Sequence[ClassCurve]) -> Table:
    """Sensitivity at given specificities."""
    rows = tuple((format_number(at, 2), *(format_number(curve.sensitivity_at(at)) for curve in curves)) for at in GRID)
    head = ("Specificity at least", *(curve.name for curve in curves))
    return Table(f"Sensitivity of each class{_READ_OFF}", head, rows, ("text", *["num"] * len(curves)))


def build_precision_recall(curves: Sequence[ClassCurve]) -> Table:
    """Precision at given recalls."""
    rows = tuple((format_number(at, 2), *(format_number(curve.precision_at(at)) for curve in curves)) for at in GRID)
    head = ("Recall at least", *(curve.name for curve in curves))
    return Table(f"Precision of each class{_READ_OFF}", head, rows, ("text", *["num"] * len(curves)))


def build_reliability(evaluation: Evaluation) -> Table:
    """The bins of the reliability diagram that hold pictures; where there was a calibration, before and after it."""
    own = evaluation.calibration
    parts = [("", own.bins)] if not own.bins_before else [("before, ", own.bins_before), ("after, ", own.bins)]
    rows = tuple(
        (
            f"{part}{format_number(each.low, 2)}–{format_number(each.high, 2)}",
            str(each.n),
            format_number(each.confidence),
            Estimate(value=each.accuracy, low=each.accuracy_low, high=each.accuracy_high, method="wilson"),
        )
        for part, bins in parts
        for each in bins
        if each.n
    )
    head = ("Confidence", name_units(evaluation), "Mean confidence", "Share that is right")
    caption = "Stated confidence and accuracy" + (", before and after calibration" if own.bins_before else "")
    return Table(caption, head, rows, ("text", "num", "num", "num"))


def build_learning(epochs: Sequence[EpochRecord]) -> Table:
    """The epochs of the chosen candidate."""
    rows = tuple(
        (
            str(each.epoch),
            format_number(each.train_loss, 4),
            format_number(each.val_loss, 4),
            format_number(each.val_auc),
        )
        for each in epochs
    )
    head = ("Epoch", "Training loss", "Validation loss", "Validation AUC")
    return Table("Learning curves of the chosen candidate", head, rows, ("text", "num", "num", "num"))


def build_members(members: Sequence[ChosenHead], splits: Sequence[Split], *, is_first: bool) -> Table:
    """What the other folds chose for each member's head, and how it does on its own fold; last the mean over members.
    `is_first` says that fine-tuning followed.
    """
    rows: list[tuple[Cell, ...]] = []
    for fold, member in enumerate(members):
        own = [each for each in splits if each.fold == fold]
        patients = len({each.patient for each in own})
        chosen = (f"{member.weight_decay:g}", str(member.epoch))
        found = (format_number(member.val_loss), format_number(member.val_auc))
        rows.append((str(fold), str(len(own)), str(patients), *chosen, *found))
    means = (_format_mean([getattr(member, key) for member in members]) for key in ("val_loss", "val_auc"))
    rows.append(("Mean (SD)", "", "", "", "", *means))
    head = ("Fold", "Pictures", "Patients", "Weight decay", "Epoch", "Left-out loss", "Left-out AUC")
    told = "Members before fine-tuning" if is_first else "Members"
    return Table(f"{told}, each on the fold that it left out", head, tuple(rows), ("text", *["num"] * 6))


def build_outcomes(outcomes: Sequence[StageOutcome]) -> Table:
    """What each stage of fine-tuning gave, beside the model before it."""
    has_folds = any(each.fold is not None for each in outcomes)
    rows = tuple(
        (
            str(each.stage),
            *([MISSING if each.fold is None else str(each.fold)] if has_folds else []),
            f"{each.epoch} of {each.n_epochs}",
            f"{each.blend:.0%}",
            " · ".join(format_number(loss) for loss in (each.before_loss, each.val_loss, each.mean_loss)),
            " · ".join(format_number(auc) for auc in (each.before_auc, each.val_auc, each.mean_auc)),
            ("mean" if each.averaged else "after") if each.kept else "before",
        )
        for each in outcomes
    )
    folds = ["Fold"] if has_folds else []
    head = ("Stage", *folds, "Epoch", "Blend", "Loss", "AUC", "Taken")
    kinds = ("text", *["text"] * len(folds), *["num"] * 4, "text")
    return Table("Fine-tuning: before · after · mean of both, each after its best temperature", head, rows, kinds)


def _format_mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return MISSING
    return f"{format_number(statistics.mean(known))} ({format_number(statistics.stdev(known))})"


def build_splits(splits: Sequence[Split], classes: Sequence[str], *, has_patients: bool = True) -> Table:
    """Pictures, patients where they are known, and classes of each split."""
    rows = []
    for split in (*PARTS, "left_out"):
        own = [each for each in splits if each.split == split]
        if own:
            counts = Counter(each.label for each in own)
            patients = [f"{len({each.patient for each in own}):,}"] if has_patients else []
            by_class = (f"{counts[name]:,}" for name in classes)
            rows.append((name_split(split).capitalize(), f"{len(own):,}", *patients, *by_class))
    head = ("Split", "Pictures", *(["Patients"] if has_patients else []), *classes)
    caption = f"Pictures{' and patients' if has_patients else ''} of each split, and pictures by class"
    return Table(caption, head, tuple(rows), ("text", *["num"] * (len(head) - 1)))


def build_left_out(splits: Sequence[Split]) -> Table:
    """Why samples are in no split."""
    reasons = Counter(each.reason or "no reason recorded" for each in splits if each.split == "left_out")
    rows = tuple((reason, f"{count:,}") for reason, count in reasons.most_common())
    return Table("Left out of all splits", ("Reason", "Pictures"), rows, ("text", "num"))


def build_fingerprint(fingerprint: Fingerprint, *, has_patients: bool = True) -> Table:
    """What was measured of the training part, with its patients where they are known."""
    width, height = fingerprint.width_px, fingerprint.height_px
    formats = ", ".join(f"{name} ({count})" for name, count in fingerprint.formats.items())
    rows = (
        ("Pictures", str(fingerprint.n_samples)),
        *([("Patients", str(fingerprint.n_patients))] if has_patients else []),
        ("Width, median (5–95 %)", f"{width[1]:g} px ({width[0]:g}–{width[2]:g})"),
        ("Height, median (5–95 %)", f"{height[1]:g} px ({height[0]:g}–{height[2]:g})"),
        ("Width to height, median", format_number(fingerprint.aspect_median, 2)),
        ("Different sizes", str(fingerprint.n_shapes)),
        ("Formats", formats or MISSING),
        ("Without colour", format_percent(fingerprint.grey_fraction)),
        ("Black border", f"{format_percent(fingerprint.border_fraction)} of rows and columns"),
        ("Mean of red, green, blue", ", ".join(format_number(each) for each in fingerprint.mean)),
        ("Spread (SD)", ", ".join(format_number(each) for each in fingerprint.std)),
        ("Read for grey levels", format_count(fingerprint.n_measured, "picture")),
    )
    return Table("Measured in the training part", ("Fact", "Value"), rows, ("text", "text"))


def build_decisions(decisions: Sequence[Decision]) -> Table:
    """Every value of the plan, how it came about and why."""
    rows = tuple((each.key, format_value(each.value), each.how, each.reason) for each in decisions)
    head = ("Value of the plan", "Is", "How", "Why")
    return Table("How each value was decided", head, rows, ("code", "code", "text", "text"))


def build_operating_points(evaluation: Evaluation) -> Table:
    """Thresholds and what they give on this split."""
    rows = tuple(
        (
            each.name + (" (default)" if each.is_default else ""),
            format_number(each.threshold),
            each.sensitivity or UNDEFINED,
            each.specificity or UNDEFINED,
            each.ppv or UNDEFINED,
            each.npv or UNDEFINED,
            _count(each.sensitivity, each.n_positive),
            _count(each.specificity, each.n_negative, is_wrong=True),
            f"{name_rule(each.rule)}; {name_origin(each.chosen_on)}",
        )
        for each in evaluation.operating_points
    )
    counts = next((each for each in evaluation.operating_points if each.n_positive is not None), None)
    caption = f"Operating points. Positive class: {evaluation.positive or 'not set'}"
    if counts is not None:
        caption += f" ({counts.n_positive} {evaluation.unit}s with it, {counts.n_negative} without)"
    head = ("Name", "Threshold", "Sensitivity", "Specificity", "PPV", "NPV", "Found", "False alarms", "Rule")
    return Table(caption, head, rows, ("text", *["num"] * 7, "text"))


def _count(share: Estimate | None, n: int | None, *, is_wrong: bool = False) -> str:
    """`412 of 430`: the cases behind a share, or those that it leaves out."""
    if share is None or share.value is None or n is None:
        return MISSING
    hits = round(share.value * n)
    return f"{n - hits if is_wrong else hits:,} of {n:,}"


def build_calibration(evaluation: Evaluation) -> Table:
    """Calibration error and log loss on this split, before and after; once where nothing was calibrated."""
    own = evaluation.calibration
    caption = f"Calibration on the {name_split(evaluation.split)} set; lower is better"
    if own.method == "none":
        bare = (
            ("Calibration error (ECE)", format_number(own.ece_after)),
            ("Log loss", format_number(own.log_loss_after)),
        )
        return Table(caption, ("", "Not calibrated"), bare, ("text", "num"))
    rows = (
        ("Calibration error (ECE)", format_number(own.ece_before), format_number(own.ece_after)),
        ("Log loss", format_number(own.log_loss_before), format_number(own.log_loss_after)),
    )
    return Table(caption, ("", "Before", "After"), rows, ("text", "num", "num"))


def build_resampling(resampled: Sequence[Resampling], classes: Sequence[str]) -> Table:
    """Pictures of each class that a head learned from, before and after resampling; a row a member with folds."""
    rows = tuple(
        (
            "The head" if each.fold is None else f"Member without fold {each.fold}",
            *(f"{each.before[name]} → {each.after[name]}" for name in classes),
        )
        for each in resampled
    )
    caption = f"Training pictures before and after resampling ({resampled[0].method}, on {resampled[0].on})"
    return Table(caption, ("", *classes), rows, ("text", *["num"] * len(classes)))


def build_durations(durations_s: dict[str, float]) -> Table:
    """How long each stage took."""
    rows = tuple((name.replace("_", " "), format_duration(value)) for name, value in durations_s.items())
    return Table("Durations", ("Stage", "Time"), rows, ("text", "num"))


def build_shortcuts(shortcuts: Shortcuts) -> Table:
    """How well the class is told by what is no anatomy; what was not measured is left out."""
    guesses = (
        ("All facts of the file, no pixel", shortcuts.facts_auc),
        ("The same without the name", shortcuts.unnamed_auc),
        ("Rim and corners only", shortcuts.border_auc),
        ("Mean colours and brightness", shortcuts.colours_auc),
    )
    rows = tuple(
        (name, format_number(found.value), format_interval(found)) for name, found in guesses if found is not None
    )
    return Table(
        "Guessing without the anatomy, cross-validated", ("Seen", "AUC", "95 % interval"), rows, ("text", "num", "num")
    )


def build_facts(caption: str, facts: dict[str, str], head: tuple[str, str]) -> Table:
    """Names and values that are code: versions, checksums."""
    return Table(caption, head, tuple(facts.items()), ("text", "code"))
