"""Figure and tables of what a model does not answer: errors by share answered, sets by class, reasons of the gate.

This room knows records and how to draw and list them. It must not know pages, pictures or files.
"""

from __future__ import annotations

from snellen.evaluation.svg import (
    INK,
    MUTED,
    SERIES,
    Drawing,
    add_axes,
    drawing_style,
    new_figure,
    to_drawing,
)
from snellen.evaluation.tables import Cell, Table
from snellen.evaluation.wording import (
    MISSING,
    format_count,
    format_interval,
    format_number,
    format_percent,
    knows_patients,
    name_split,
    name_units,
)
from snellen.records.evaluation import Abstentions, ConformalSummary, Evaluation, SelectiveRisk

WIDTH_IN = 4.6


def draw_selective(found: SelectiveRisk) -> Drawing:
    """Errors among the surest pictures, by the share that is answered, with their interval."""
    points = [point for point in found.points if point.error.value is not None]
    x = [100 * point.share for point in points]
    y = [100 * (point.error.value or 0) for point in points]
    with drawing_style():
        figure = new_figure(WIDTH_IN, 2.9)
        axes = add_axes(figure, 0.65, 0.5, WIDTH_IN - 0.85, 2.25)
        banded = [point for point in points if point.error.low is not None and point.error.high is not None]
        axes.fill_between(
            [100 * point.share for point in banded],
            [100 * (point.error.low or 0) for point in banded],
            [100 * (point.error.high or 0) for point in banded],
            color=SERIES[0], alpha=0.18, linewidth=0,
        )  # fmt: skip
        axes.plot(x, y, color=SERIES[0], marker="o", markersize=4)
        if y:
            axes.axhline(y[-1], color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
            axes.annotate(
                "all answered", (0, y[-1]), (3, 4), textcoords="offset points", color=INK, fontsize=8.5, va="bottom"
            )
        axes.set(xlabel="Answered, % of pictures, the surest first", ylabel="Wrong, %", xlim=(0, 102))
        axes.set_ylim(bottom=0)
        axes.grid(True)
        return to_drawing(figure, "selective", "Errors by share answered", describe_selective(found))


def describe_selective(found: SelectiveRisk, unit: str = "picture") -> str:
    """What the curve says at half and at all of the pictures."""
    by_share = {point.share: point.error.value for point in found.points}
    half, whole = by_share.get(0.5), by_share.get(1.0)
    if half is None or whole is None:
        return f"Errors among the surest {unit}s."
    n_half = next(point.n for point in found.points if point.share == 0.5)
    return (
        f"Of all {unit}s {format_percent(whole)} are called wrongly, of the surest half ({n_half}) "
        f"{format_percent(half)}. Mean height of the curve {format_number(found.area)}; with these errors last, the "
        f"best order, it would be {format_number(found.area_best)}. Surest is meant within this set: a limit has to be "
        "chosen on other pictures."
    )


def build_selective(found: SelectiveRisk, unit: str = "picture") -> Table:
    """The numbers of the curve; the probability is that of the class called."""
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (format_percent(point.share), f"{point.n}", format_number(point.threshold), point.error)
        for point in found.points
    )
    head = ("Answered", f"{unit.capitalize()}s", "Probability from", "Wrong")
    return Table(f"Errors among the surest {unit}s", head, rows, ("num",) * 4)


def build_sets(evaluation: Evaluation) -> Table | None:
    """Coverage and size of the sets, over all pictures and by class, with the patients behind each class's limit."""
    found = evaluation.conformal
    if found is None:
        return None
    has_patients = knows_patients(evaluation)
    parts = {"all": found.whole, **found.per_class}
    rows: list[tuple[Cell, ...]] = []
    for name, part in parts.items():
        mark = " (shared quantile)" if name in found.pooled else ""
        behind = MISSING if name not in found.n_fitted else f"{found.n_fitted[name]}"
        rows.append(
            (
                f"{name}{mark}",
                f"{part.n}",
                *([f"{part.n_patients}"] if has_patients else []),
                part.coverage,
                format_number(part.mean_size, 2),
                behind,
            )
        )
    head = (
        "Class",
        name_units(evaluation),
        *(["Patients"] if has_patients else []),
        f"True class in the set (asked: {format_percent(found.wanted)})",
        "Mean size",
        f"Behind the limit, {name_split(found.fitted_on)}",
    )
    kinds = ("text", *["num"] * (len(head) - 1))
    return Table("Sets of classes that cannot be ruled out", head, tuple(rows), kinds)


def describe_sets(evaluation: Evaluation) -> list[str]:
    """How the sets were made, what they promise and what they gave, in plain words."""
    found = evaluation.conformal
    if found is None:
        return []
    one = "one picture of each patient" if evaluation.intervals.unit == "patient" else "each picture"
    # a part for calibration chose no model; validation, and what folds held out, did
    chose = "their calibration" if found.fitted_on == "calibration" else "the model and its calibration"
    made = (
        f"A class is in the set unless its probability lies below a limit for that class, set on {one} of the "
        f"{name_split(found.fitted_on)} set so that the true class is in the sets of at least "
        f"{format_percent(found.wanted)} of new pictures of each class. The promise holds on average over such "
        f"calibration sets and for pictures like those, and only nearly, because the same pictures also chose {chose}."
    )
    pooled = (
        f" Of {', '.join(f'“{name}”' for name in found.pooled)} there were too few patients for a limit of their own; "
        "they share one, and the promise holds over all classes, not for them alone."
        if found.pooled
        else ""
    )
    single = found.single_accuracy
    interval = format_interval(single)
    told = (
        f" A lone class was right in {format_percent(single.value)}{f' ({interval})' if interval else ''}."
        if single.value is not None
        else ""
    )
    empty = ": no class is likely enough" if found.n_empty else ""
    gave = (
        f"One class was left for {format_count(found.n_single, evaluation.unit)}, several for {found.n_several}, none "
        f"for {found.n_empty}{empty}.{told}{_tell_below(found)}"
    )
    return [made + pooled, gave]


def _tell_below(found: ConformalSummary) -> str:
    """The classes whose sets hold the true class less often than asked for."""
    below = {name: each.coverage for name, each in found.per_class.items() if (each.coverage.value or 0) < found.wanted}
    if not below:
        return " No class lies below what was asked for."
    sure = [f"“{name}”" for name, each in below.items() if each.high is not None and each.high < found.wanted]
    unsure = [f"“{name}”" for name in below if f"“{name}”" not in sure]
    parts = [f"{', '.join(sure)} beyond chance"] if sure else []
    parts += [f"{', '.join(unsure)} within its interval"] if unsure else []
    return f" Below what was asked for: {'; '.join(parts)}."


def build_reasons(found: Abstentions) -> Table:
    """Reasons of the gate, most frequent first."""
    rows: tuple[tuple[Cell, ...], ...] = tuple((reason, f"{n}") for reason, n in found.reasons.items())
    return Table("Why the gate gave no answer", ("Reason", "Pictures"), rows, ("text", "num"))


def describe_reasons(found: Abstentions, n: int) -> str:
    """How many of `n` pictures get no answer, and how many calls of both kinds are wrong."""
    if not found.n:
        return f"The gate let all {n} pictures pass."
    classes = ", ".join(f"{count} of “{name}”" for name, count in found.per_class.items() if count)
    answered, refused = found.error_answered, found.error_abstained
    told = ""
    if answered is not None and refused is not None:
        wrong = round(refused * found.n)
        told = (
            f" Of these {found.n}, {wrong} would have been called wrongly; of the {n - found.n} others, "
            f"{round(answered * (n - found.n))} were ({format_percent(answered)})."
            f"{'' if wrong else ' Here the refusals took no error away.'}"
        )
    return f"The gate gave no answer on {found.n:,} of {n:,} pictures ({classes}).{told} All other numbers count them."
