"""Tables of operating points, calibration, parts of the cohort and prevalence, from records and without markup.

This room knows records and column heads. It must not know HTML, figures or pictures.
"""

from __future__ import annotations

from snellen.core.letters import agree
from snellen.evaluation.tables import UNDEFINED, Cell, Table
from snellen.evaluation.wording import (
    MISSING,
    default_point,
    format_interval,
    format_level,
    format_number,
    format_percent,
    knows_patients,
    list_compared,
    name_baseline,
    name_metric,
    name_split,
    name_units,
)
from snellen.metrics.decision import CALLED
from snellen.records.evaluation import CalibrationCheck, Estimate, Evaluation, OperatingPoint, Subgroup

UNKNOWN = "(not known)"
_CURVE_STEP = 5
_SHIFTED = ("accuracy", "balanced_accuracy", "brier", "log_loss", "ece")
_OF_PARTS = ("auc", "balanced_accuracy", "kappa_quadratic", "accuracy", "sensitivity", "specificity", "brier")


def build_cuts(evaluation: Evaluation) -> Table | None:
    """Of ordered classes: each grade and all above it against those below; none of other classes."""
    if not evaluation.grade_cuts:
        return None
    has_patients = knows_patients(evaluation)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            f"{each.grade} or higher",
            f"{each.n:,} of {evaluation.n:,}",
            *([str(each.n_patients)] if has_patients else []),
            each.sensitivity,
            each.specificity,
            each.ppv,
            each.npv,
            each.auc,
        )
        for each in evaluation.grade_cuts
    )
    counted = (name_units(evaluation), *(["Patients"] if has_patients else []))
    head = ("Grade", *counted, "Sensitivity", "Specificity", "PPV", "NPV", "AUC")
    caption = (
        f"A grade and all above it against those below, a picture being called {CALLED[evaluation.decision]}. "
        "PPV and NPV hold for the mixture of grades here"
    )
    return Table(caption, head, rows, ("text", *["num"] * (len(head) - 1)))


def build_differences(evaluation: Evaluation) -> Table | None:
    """The model minus each baseline, paired."""
    if not evaluation.baseline_differences:
        return None
    keys = list_compared(evaluation)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (f"Model minus {name_baseline(name).lower()}", *(found.get(key, UNDEFINED) for key in keys))
        for name, found in evaluation.baseline_differences.items()
    )
    drawn = "patients" if evaluation.intervals.unit == "patient" else "pictures"
    caption = f"Differences, both scored on the same resampled {drawn}"
    return Table(caption, ("", *(name_metric(key) for key in keys)), rows, ("text", *["num"] * len(keys)))


def build_ratios(evaluation: Evaluation) -> Table:
    """Likelihood ratios of every operating point, and how many pictures stand behind the choice of its threshold."""
    rows = tuple(
        (
            point.name + (" (default)" if point.is_default else ""),
            point.lr_positive or UNDEFINED,
            point.lr_negative or UNDEFINED,
            _show_chosen(point),
        )
        for point in evaluation.operating_points
    )
    head = ("Name", "Positive likelihood ratio", "Negative likelihood ratio", "Chosen on")
    return Table("Likelihood ratios, and what chose the thresholds", head, rows, ("text", "num", "num", "text"))


def _show_chosen(point: OperatingPoint) -> str:
    if point.n_chosen_positive is None:
        return "no data" if point.chosen_on == "fixed" else MISSING
    return (
        f"{point.n_chosen_positive} positive and {point.n_chosen_negative} negative pictures, "
        f"{name_split(point.chosen_on)}"
    )


def build_prevalences(evaluation: Evaluation) -> Table | None:
    """Predictive values of the default operating point where the positive class is rarer or more frequent."""
    point = default_point(evaluation)
    if point is None or not point.at_prevalence:
        return None
    rows = tuple((format_percent_fine(each.prevalence), each.ppv, each.npv) for each in point.at_prevalence)
    caption = f"Predictive values at other prevalences, operating point “{point.name}”"
    return Table(caption, (f"Prevalence of “{evaluation.positive}”", "PPV", "NPV"), rows, ("text", "num", "num"))


def format_percent_fine(share: float) -> str:
    """`0.5 %`, `20 %`."""
    return f"{100 * share:g}\u00a0%"


def build_decision_curve(evaluation: Evaluation) -> Table:
    """Net benefit at some of the thresholds, per 1,000 pictures."""
    curve = evaluation.decision_curve
    if curve is None:
        return Table("Net benefit", ("Threshold",), (), ("text",))
    rows = tuple(
        (
            format_number(threshold, 2),
            Estimate(value=own, low=low, high=high),
            format_number(everyone),
        )
        for at, (threshold, own, low, high, everyone) in enumerate(
            zip(curve.thresholds, curve.model, curve.low, curve.high, curve.treat_all, strict=True)
        )
        if (at + 1) % _CURVE_STEP == 0
    )
    head = ("Threshold", "By the model", "Treat all")
    return Table("Net benefit; of treating nobody it is 0", head, rows, ("text", "num", "num"))


def build_check(evaluation: Evaluation) -> Table | None:
    """Calibration before and after, beside what chance alone would give."""
    own = evaluation.calibration
    if own.check is None:
        return None
    checks = [own.check] if own.check_before is None else [own.check_before, own.check]
    columns = ["Not calibrated" if own.method == "none" else "Calibrated"]
    columns = columns if len(checks) == 1 else ["Before", "After"]
    rows: list[tuple[Cell, ...]] = []
    for key, value in (("ece", "ece"), ("ece_adaptive", "ece_adaptive")):
        expected = own.check.expected.get(key)
        chance = MISSING if expected is None else f"{format_number(expected.mean)}; {format_number(expected.limit)}"
        rows.append((name_metric(key), *(format_number(getattr(each, value)) for each in checks), chance))
    rows += [
        (name_metric(key), *(format_number(getattr(each, key)) for each in checks), MISSING)
        for key in ("brier", "log_loss")
    ]
    rows.append(("Calibration slope", *(each.slope for each in checks), "1"))
    head = ("", *columns, "If all were right: mean; 95th percentile")
    caption = f"Calibration on the {name_split(evaluation.split)} set, beside what chance alone would give"
    return Table(caption, head, tuple(rows), ("text", *["num"] * (len(head) - 1)))


def describe_check(evaluation: Evaluation) -> list[str]:
    """What the check says, in sentences; none of them stands for the others."""
    check = evaluation.calibration.check
    if check is None:
        return []
    level = format_level(evaluation)
    return [each for each in (_say_error(evaluation), _say_slope(check, level), _say_lines(check, level)) if each]


def _say_error(evaluation: Evaluation) -> str:
    check = evaluation.calibration.check
    expected = check.expected.get("ece_adaptive") if check is not None else None
    if check is None or expected is None:
        return ""
    several = (
        " Chance is drawn with independent pictures; where patients have several it does somewhat more."
        if evaluation.unit == "picture" and evaluation.n_patients < evaluation.n
        else ""
    )
    found = format_number(check.ece_adaptive)
    limit = format_number(expected.limit)
    if check.ece_adaptive > expected.limit:
        return (
            f"The adaptive calibration error of {found} is more than chance: with this many {evaluation.unit}s right "
            f"probabilities exceed {limit} once in twenty times.{several}"
        )
    return (
        f"The adaptive calibration error of {found} is no more than right probabilities give by chance with this many "
        f"{evaluation.unit}s (up to {limit} in 95 of 100 such sets). It is a blunt measure: the slope below may still "
        f"find a fault.{several}"
    )


def _say_slope(check: CalibrationCheck, level: str) -> str:
    slope = check.slope
    if slope.value is None or slope.low is None or slope.high is None:
        return ""
    shown = f"slope {format_number(slope.value, 2)}, {level} interval {_show_interval(slope)}"
    if slope.low <= 1 <= slope.high:
        return f"The calibration {shown}, holds 1: they are not shown to be too bold or too cautious."
    how = "too extreme: overconfident" if slope.value < 1 else "not extreme enough: too cautious"
    return f"The calibration {shown}, leaves out 1: the probabilities are {how}."


def _say_lines(check: CalibrationCheck, level: str) -> str:
    """How many of the classes' own slopes and intercepts leave out what is right: of many some do by chance."""
    found = [
        (f"{what} of “{name}”", estimate.low, right, estimate.high)
        for name, line in check.lines.items()
        for what, estimate, right in (("slope", line.slope, 1.0), ("intercept", line.intercept, 0.0))
        if estimate.low is not None and estimate.high is not None
    ]
    if not found:
        return ""
    off = [name for name, low, right, high in found if not (low or 0) <= right <= (high or 0)]
    told = f"{agree(len(off), 'leave')} out the right value{': ' if off else ''}{', '.join(off)}"
    return (
        f"Of the {len(found)} slopes and intercepts of single classes in the table, {len(off) or 'none'} {told}. Each "
        f"interval is {level} by itself. A dash stands where a class is parted wholly, so that no slope is the best."
    )


def _show_interval(estimate: Estimate) -> str:
    return f"{format_number(estimate.low, 2)} to {format_number(estimate.high, 2)}"


def build_lines(evaluation: Evaluation) -> Table | None:
    """Of each class against the rest: how often it is stated and occurs, intercept and slope."""
    check = evaluation.calibration.check
    if check is None or not check.lines:
        return None
    rows = tuple(
        (
            name,
            format_number(each.mean_probability),
            format_number(each.share),
            each.intercept,
            each.slope,
        )
        for name, each in check.lines.items()
    )
    head = ("Class", "Mean probability", "Share", "Intercept (0 if right)", "Slope (1 if right)")
    return Table("Calibration of each class against the rest", head, rows, ("text", *["num"] * 4))


def list_columns(evaluation: Evaluation) -> list[str]:
    """The columns by which parts were measured."""
    return list(dict.fromkeys(each.column for each in evaluation.subgroups))


def list_part_metrics(evaluation: Evaluation) -> list[str]:
    """The metrics of parts, the headline first."""
    return [key for key in _OF_PARTS if any(key in each.metrics for each in evaluation.subgroups)]


def name_part(part: Subgroup) -> str:
    """The value, and that the part is small."""
    return (part.value or UNKNOWN) + (" *" if part.is_small else "")


def build_parts(evaluation: Evaluation, column: str) -> Table:
    """A row a value of the column: its metrics."""
    keys = list_part_metrics(evaluation)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            name_part(part),
            str(part.n),
            str(part.n_patients),
            *(part.metrics.get(key, UNDEFINED) for key in keys),
        )
        for part in evaluation.subgroups
        if part.column == column
    )
    head = (column, "Pictures", "Patients", *(name_part_metric(key) for key in keys))
    return Table(f"Parts by {column}", head, rows, ("text", *["num"] * (len(head) - 1)))


def build_part_differences(evaluation: Evaluation, column: str) -> Table:
    """A row a value: its metrics minus those of all other pictures."""
    keys = list_part_metrics(evaluation)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            name_part(part),
            *(part.differences.get(key, UNDEFINED) for key in keys),
            ", ".join(name_part_metric(key) for key in part.differs) or ("too few to say" if part.is_small else "none"),
        )
        for part in evaluation.subgroups
        if part.column == column
    )
    head = (column, *(name_part_metric(key) for key in keys), "Remains after correction")
    caption = f"Parts by {column}, minus all others"
    return Table(caption, head, rows, ("text", *["num"] * len(keys), "text"))


def build_part_values(evaluation: Evaluation, key: str) -> Table:
    """One metric of every part of all columns."""
    rows = tuple(
        (f"{part.column}: {name_part(part)}", str(part.n_patients), part.metrics.get(key, UNDEFINED))
        for part in evaluation.subgroups
    )
    head = ("Part", "Patients", name_part_metric(key))
    return Table(f"{name_part_metric(key)} of the parts", head, rows, ("text", "num", "num"))


def name_part_metric(key: str) -> str:
    """As `name_metric`; sensitivity and specificity at the default operating point."""
    return {"sensitivity": "Sensitivity", "specificity": "Specificity"}.get(key) or name_metric(key)


def build_shift(evaluation: Evaluation) -> Table | None:
    """Shares of the classes that the probabilities assume and those here."""
    shift = evaluation.prevalence_shift
    if shift is None:
        return None
    rows = tuple(
        (name, format_percent(shift.assumed[name]), format_percent(shift.here[name])) for name in evaluation.classes
    )
    head = ("Class", "Assumed by the model", "Here")
    return Table("Shares of the classes", head, rows, ("text", "num", "num"))


def build_reweighted(evaluation: Evaluation) -> Table | None:
    """Metrics as the bundle gives them, and with probabilities re-weighted to the shares here."""
    shift = evaluation.prevalence_shift
    if shift is None:
        return None
    keys = [key for key in _SHIFTED if key in shift.reweighted]
    rows = tuple((name_metric(key), evaluation.metrics[key], shift.reweighted[key]) for key in keys)
    head = ("Metric", "As it is", "Re-weighted")
    return Table("Without and with re-weighting to the shares here", head, rows, ("text", "num", "num"))


def list_intervals(estimate: Estimate) -> str:
    """A value with its interval as text."""
    interval = format_interval(estimate)
    return format_number(estimate.value) + (f" ({interval})" if interval else "")
