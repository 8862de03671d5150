"""Figures of the decision curve and of the parts of a cohort.

This room knows records and how to draw them. It must not know pages, tables, pictures or files.
"""

from __future__ import annotations

from snellen.evaluation.number_tables import list_columns, list_intervals, name_part, name_part_metric
from snellen.evaluation.svg import (
    INK,
    LABEL_IN,
    MUTED,
    PAPER,
    SERIES,
    Drawing,
    add_axes,
    drawing_style,
    new_figure,
    series_style,
    to_drawing,
    write_row_labels,
)
from snellen.evaluation.wording import format_number
from snellen.records.evaluation import Evaluation

WIDTH_IN = 4.6
ROW_IN = 0.3


def draw_decision_curve(evaluation: Evaluation) -> Drawing | None:
    """Net benefit of the model with its interval, of treating all and of treating nobody."""
    curve = evaluation.decision_curve
    if curve is None:
        return None
    lowest = min(0.0, *(value for value in (*curve.model, *curve.low) if value is not None))
    highest = max(0.0, *(value for value in (*curve.model, *curve.high, *curve.treat_all) if value is not None))
    with drawing_style():
        figure = new_figure(WIDTH_IN, 4.1)
        axes = add_axes(figure, 0.65, 1.05, WIDTH_IN - 0.8, 2.95)
        low = [own if end is None else end for own, end in zip(curve.model, curve.low, strict=True)]
        high = [own if end is None else end for own, end in zip(curve.model, curve.high, strict=True)]
        axes.fill_between(list(curve.thresholds), low, high, color=SERIES[0], alpha=0.18, linewidth=0)
        lines = (("By the model", curve.model), ("Treat all", curve.treat_all))
        for number, (name, values) in enumerate(lines):
            colour, dash, marker = series_style(number)
            axes.plot(
                list(curve.thresholds), list(values), color=colour, linestyle=dash, marker=marker, markersize=4.5,
                markevery=8, markeredgecolor=PAPER, markeredgewidth=0.6, label=name,
            )  # fmt: skip
        axes.axhline(0, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)), label="Treat nobody")
        room = 0.06 * (highest - lowest)
        axes.set(xlim=(0, 1), ylim=(max(lowest, -0.25 * highest) - room, highest + room))
        axes.set_xlabel(f"Probability from which one acts on “{evaluation.positive}”")
        axes.set_ylabel("Net benefit")
        axes.grid(True)
        axes.set_axisbelow(True)
        figure.legend(loc="lower left", bbox_to_anchor=(0.02, 0), ncols=3, columnspacing=1.2)
        at = {threshold: row for row, threshold in enumerate(curve.thresholds)}
        text = "; ".join(
            f"at {threshold}: model {format_number(curve.model[row])}, treat all {format_number(curve.treat_all[row])}"
            for threshold, row in at.items()
            if threshold in (0.1, 0.2, 0.3, 0.5, 0.7)
        )
        return to_drawing(figure, "decision", "Decision curve", f"Net benefit by threshold; {text}.")


def draw_parts(evaluation: Evaluation, key: str) -> Drawing | None:
    """One metric of every part with its interval, beside that of all."""
    parts = [each for each in evaluation.subgroups if key in each.metrics and each.metrics[key].value is not None]
    if not parts:
        return None
    whole = evaluation.metrics.get(key)
    labels = [f"{part.column}: {name_part(part)}" for part in parts]
    height = ROW_IN * len(parts) + 0.85
    with drawing_style():
        figure = new_figure(WIDTH_IN, height)
        axes = add_axes(figure, LABEL_IN, 0.55, WIDTH_IN - LABEL_IN - 0.15, height - 0.7)
        if whole is not None and whole.value is not None:
            axes.axvline(whole.value, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        shown = []
        for row, part in enumerate(parts):
            own = part.metrics[key]
            number = list_columns(evaluation).index(part.column)
            colour, _, marker = series_style(number)
            if own.low is not None and own.high is not None:
                axes.plot([own.low, own.high], [row, row], color=colour, linewidth=1.8)
                shown += [own.low, own.high]
            shown.append(own.value or 0.0)
            differs = key in part.differs
            axes.plot(
                [own.value or 0.0], [row], linestyle="none", marker=marker, markersize=6.5, markeredgewidth=1.4,
                markeredgecolor=INK if differs else colour, markerfacecolor=INK if differs else PAPER,
            )  # fmt: skip
        axes.set_ylim(len(parts) - 0.4, -0.6)
        axes.set_xlim(min(*shown, whole.value or 1.0 if whole else 1.0) - 0.03, min(1.02, max(shown) + 0.03))
        write_row_labels(axes, range(len(parts)), labels)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(name_part_metric(key))
        axes.grid(True, axis="x")
        axes.set_axisbelow(True)
        text = "; ".join(
            f"{label} {list_intervals(part.metrics[key])}" for label, part in zip(labels, parts, strict=True)
        )
        return to_drawing(figure, "parts", "Parts of the cohort", f"{name_part_metric(key)}: {text}.")
