"""Figures of an evaluation: beside its baselines, its confusion matrix, its reliability.

This room knows records and how to draw them. It must not know pages, tables, pictures or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from snellen.evaluation.svg import (
    HEAT,
    INK,
    LABEL_IN,
    MUTED,
    ON_FILL,
    PAPER,
    SERIES,
    Drawing,
    add_axes,
    drawing_style,
    new_figure,
    series_style,
    shorten,
    to_drawing,
    write_row_labels,
)
from snellen.evaluation.wording import format_number, list_compared, name_baseline, name_metric
from snellen.records.evaluation import Estimate, Evaluation, ReliabilityBin

WIDTH_IN = 4.6
COLUMN_CHARACTERS = 20
SHORT = 6
MAX_CLASSES_WITH_NUMBERS = 10


def draw_baselines(evaluation: Evaluation) -> Drawing | None:
    """The model and its baselines as dots with intervals, one group of rows a metric."""
    keys = list_compared(evaluation)
    if not keys:
        return None
    sources = {"Model": evaluation.metrics} | {name_baseline(k): v for k, v in evaluation.baselines.items()}
    row = 0.2
    group = row * len(sources) + 0.16
    height = group * len(keys) + 0.95
    with drawing_style():
        figure = new_figure(WIDTH_IN, height)
        axes = add_axes(figure, LABEL_IN, 0.75, WIDTH_IN - LABEL_IN - 0.15, height - 0.85)
        for number, (name, estimates) in enumerate(sources.items()):
            places = [k * group + row * (number + 0.5) for k in range(len(keys))]
            _dots(axes, number, places, [estimates.get(key) for key in keys], name)
        for k in range(1, len(keys)):
            axes.axhline(k * group - 0.08, color=MUTED, linewidth=0.4)
        middles = [k * group + row * len(sources) / 2 for k in range(len(keys))]
        axes.set_ylim(len(keys) * group - 0.08, -0.08)
        write_row_labels(axes, middles, [name_metric(key) for key in keys])
        axes.spines["left"].set_visible(False)
        lowest = [e.low if e.low is not None else e.value for s in sources.values() for k, e in s.items() if k in keys]
        axes.set_xlim(min(0.0, *(value for value in lowest if value is not None)) - 0.02, 1.02)
        axes.grid(True, axis="x")
        figure.legend(loc="lower left", bbox_to_anchor=(0.02, 0), ncols=min(3, len(sources)), columnspacing=1.2)
        text = "; ".join(f"{name}: {_list_estimates(source, keys)}" for name, source in sources.items())
        return to_drawing(figure, "baselines", "The model beside its baselines", text)


def draw_confusion(evaluation: Evaluation) -> Drawing:
    """Counts, and below them the share of the row, as shade and as number."""
    counts = np.array(evaluation.confusion, dtype=np.int64)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    n = len(counts)
    side = WIDTH_IN - LABEL_IN - 0.1
    height = max(side * min(1, 0.25 * n + 0.25), 0.17 * n)
    longest = min(COLUMN_CHARACTERS, max(len(name) for name in evaluation.classes))
    below = 0.35 if longest <= SHORT or n > MAX_CLASSES_WITH_NUMBERS else 0.2 + 0.047 * longest
    with drawing_style():
        figure = new_figure(WIDTH_IN, height + below + 0.3)
        axes = add_axes(figure, LABEL_IN, below, side, height)
        for row in range(n):
            for column in range(n):
                _cell(axes, (row, column), int(counts[row, column]), float(shares[row, column]), n)
        axes.set(xlim=(0, n), ylim=(n, 0))
        axes.spines[:].set_visible(False)
        write_row_labels(axes, [k + 0.5 for k in range(n)], _row_names(evaluation.classes))
        _column_labels(axes, evaluation.classes)
        axes.annotate("True class", (0, 1), (-7, 6), "axes fraction", "offset points", color=MUTED, ha="right")
        axes.annotate("Predicted class", (0.5, 1), (0, 6), "axes fraction", "offset points", color=MUTED, ha="center")
        text = "; ".join(
            f"{name}: {int(counts[k, k])} of {int(totals[k, 0])} right" for k, name in enumerate(evaluation.classes)
        )
        return to_drawing(figure, "confusion", "Confusion matrix", f"Rows are true classes. {text}.")


def draw_reliability(evaluation: Evaluation) -> Drawing | None:
    """Accuracy against stated confidence with Wilson intervals, above the count of every bin; hollow where there was a
    calibration, before it.
    """
    bins = [each for each in evaluation.calibration.bins if each.n]
    if not bins:
        return None
    with drawing_style():
        figure = new_figure(4.35, 4.95)
        axes = add_axes(figure, 0.6, 1.4, 3.6, 3.45)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        x, y = [each.confidence for each in bins], [each.accuracy for each in bins]
        errors = [
            [max(0.0, each.accuracy - each.accuracy_low) for each in bins],
            [max(0.0, each.accuracy_high - each.accuracy) for each in bins],
        ]
        hollow = [each for each in evaluation.calibration.bins_before if each.n]
        if hollow:
            axes.plot(
                [each.confidence for each in hollow], [each.accuracy for each in hollow], linestyle=(0, (1.5, 1.5)),
                linewidth=0.9, color=SERIES[1], marker="s", markersize=5.5, markerfacecolor=PAPER, label="before",
            )  # fmt: skip
        axes.errorbar(
            x, y, yerr=errors, color=SERIES[0], fmt="o", markersize=5.5, elinewidth=1.3, capsize=2.5,
            label="after calibration" if hollow else None,
        )  # fmt: skip
        if hollow:
            axes.legend(loc="lower right")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="Share that is right")
        axes.tick_params(labelbottom=False)
        axes.grid(True)
        axes.set_axisbelow(True)
        unit = f"{evaluation.unit}s"
        _count_bars(add_axes(figure, 0.6, 0.55, 3.6, 0.7), bins, unit)
        text = "; ".join(f"confidence {b.confidence:.2f}, right {b.accuracy:.2f}, {b.n} {unit}" for b in bins)
        if hollow:
            told = "; ".join(f"confidence {b.confidence:.2f}, right {b.accuracy:.2f}" for b in hollow)
            text = f"{text}. Before calibration: {told}"
        return to_drawing(figure, "reliability", "Reliability diagram", text)


def _dots(axes: Axes, number: int, places: Sequence[float], estimates: Sequence[Estimate | None], name: str) -> None:
    colour, _, marker = series_style(number)
    drawn = [(p, e) for p, e in zip(places, estimates, strict=True) if e is not None and e.value is not None]
    for place, estimate in drawn:
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=1.8)
    x = [estimate.value for _, estimate in drawn if estimate.value is not None]
    axes.plot(
        x, [place for place, _ in drawn], linestyle="none", marker=marker, color=colour, markersize=6.5,
        markerfacecolor=colour if number == 0 else PAPER, markeredgewidth=1.4, label=name,
    )  # fmt: skip


def _list_estimates(estimates: dict[str, Estimate], keys: Sequence[str]) -> str:
    return ", ".join(f"{name_metric(key)} {format_number(estimates[key].value)}" for key in keys if key in estimates)


def _cell(axes: Axes, place: tuple[int, int], count: int, share: float, n: int) -> None:
    row, column = place
    axes.fill(
        [column, column + 1, column + 1, column], [row, row, row + 1, row + 1],
        facecolor=HEAT, alpha=0.04 + 0.96 * share, edgecolor="none",
    )  # fmt: skip
    axes.plot(
        [column, column + 1, column + 1, column, column],
        [row, row, row + 1, row + 1, row],
        color=PAPER,
        linewidth=1.5,
    )
    if n > MAX_CLASSES_WITH_NUMBERS:
        return
    colour = ON_FILL if share > 0.55 else INK
    size = 12 if n <= 4 else 10 if n <= 6 else 8
    axes.text(column + 0.5, row + 0.46, f"{count}", ha="center", color=colour, fontsize=size, fontweight="bold")
    axes.text(
        column + 0.5,
        row + 0.54,
        f"{100 * share:.0f} %",
        ha="center",
        va="top",
        color=colour,
        fontsize=size * 0.78,
    )


def _row_names(classes: Sequence[str]) -> list[str]:
    if len(classes) <= MAX_CLASSES_WITH_NUMBERS:
        return list(classes)
    return [f"{shorten(name, 14)} {k}" for k, name in enumerate(classes, 1)]


def _column_labels(axes: Axes, classes: Sequence[str]) -> None:
    """Short names upright, longer ones slanted, many by their number."""
    places = [k + 0.5 for k in range(len(classes))]
    if len(classes) > MAX_CLASSES_WITH_NUMBERS:
        step = 1 + len(classes) // 16
        axes.set_xticks(places[::step], [str(k + 1) for k in range(0, len(classes), step)])
    elif max(len(name) for name in classes) <= SHORT:
        axes.set_xticks(places, list(classes))
    else:
        names = [shorten(name, COLUMN_CHARACTERS) for name in classes]
        axes.set_xticks(places, names, rotation=38, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="x", length=0)


def _count_bars(axes: Axes, bins: Sequence[ReliabilityBin], unit: str) -> None:
    widths = [each.high - each.low for each in bins]
    middles = [(each.low + each.high) / 2 for each in bins]
    axes.bar(
        middles,
        [each.n for each in bins],
        width=[0.85 * width for width in widths],
        color=SERIES[0],
        alpha=0.45,
    )
    for middle, each in zip(middles, bins, strict=True):
        axes.annotate(f"{each.n}", (middle, each.n), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1.3 * max(each.n for each in bins)),
        xlabel="Stated confidence",
        ylabel=unit.capitalize(),
    )
    axes.set_yticks([])
