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
from snellen.evaluation.wording import format_count, format_number, format_percent, name_split
from snellen.records.evaluation import Abstentions, ConformalSummary, SelectiveRisk

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


def describe_selective(found: SelectiveRisk) -> str:
    """What the curve says at half and at all of the pictures."""
    by_share = {point.share: point.error.value for point in found.points}
    half, whole = by_share.get(0.5), by_share.get(1.0)
    if half is None or whole is None:
        return "Errors among the surest pictures."
    return (
        f"Of all pictures {format_percent(whole)} are called wrongly, of the surest half {format_percent(half)}. Area "
        "under "
        f"the curve {format_number(found.area)}; the best order of these errors would have "
        f"{format_number(found.area_best)}."
    )


def build_selective(found: SelectiveRisk) -> Table:
    """The numbers of the curve."""
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (format_percent(point.share), f"{point.n}", format_number(point.threshold), point.error)
        for point in found.points
    )
    head = ("Answered", "Pictures", "Probability from", "Wrong")
    return Table("Errors among the surest pictures", head, rows, ("num",) * 4)


def build_sets(found: ConformalSummary) -> Table:
    """Coverage and size of the sets, over all pictures and by class."""
    parts = {"all": found.whole, **found.per_class}
    rows: list[tuple[Cell, ...]] = []
    for name, part in parts.items():
        mark = " (shared quantile)" if name in found.pooled else ""
        rows.append(
            (f"{name}{mark}", f"{part.n}", f"{part.n_patients}", part.coverage, format_number(part.mean_size, 2))
        )
    head = (
        "Class",
        "Pictures",
        "Patients",
        f"True class in the set (asked: {format_percent(found.wanted)})",
        "Mean size",
    )
    return Table("Sets of classes that cannot be ruled out", head, tuple(rows), ("text", "num", "num", "num", "num"))


def describe_sets(found: ConformalSummary) -> str:
    """How the sets were made and what they gave, in plain words."""
    pooled = (
        f" Of {', '.join(f'“{name}”' for name in found.pooled)} there were too few patients for a quantile of their "
        "own; "
        "they share one, and the promise holds over all classes, not for them alone."
        if found.pooled
        else ""
    )
    single = found.single_accuracy.value
    told = f" A lone class was right in {format_percent(single)}." if single is not None else ""
    return (
        f"Quantiles by class from one picture of each patient of the {name_split(found.fitted_on)} set. One class was "
        "left "
        f"for {format_count(found.n_single, 'picture')}, several for {found.n_several}, none for "
        f"{found.n_empty}.{told}{pooled}"
    )


def build_reasons(found: Abstentions) -> Table:
    """Reasons of the gate, most frequent first."""
    rows: tuple[tuple[Cell, ...], ...] = tuple((reason, f"{n}") for reason, n in found.reasons.items())
    return Table("Why the gate gave no answer", ("Reason", "Pictures"), rows, ("text", "num"))


def describe_reasons(found: Abstentions, n: int) -> str:
    """How many pictures get no answer, and how often the calls of both kinds are wrong."""
    if not found.n:
        return f"The gate let all {n} pictures pass."
    classes = ", ".join(f"{count} of “{name}”" for name, count in found.per_class.items() if count)
    answered, refused = found.error_answered, found.error_abstained
    told = ""
    if answered is not None and refused is not None:
        told = (
            f" Of those it refused {format_percent(refused)} would have been called wrongly, of the others "
            f"{format_percent(answered)}."
        )
    return f"The gate gave no answer on {found.n} of {n} pictures ({classes}).{told} All other numbers count them."
