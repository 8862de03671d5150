"""Figures of a study: its history, what mattered, and value against each key.

This room knows trials and how to draw them. It must not know pages, tables, files or how a trial is run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from snellen.evaluation.svg import (
    INK,
    LABEL_IN,
    MUTED,
    SERIES,
    Drawing,
    add_axes,
    drawing_style,
    new_figure,
    shorten,
    to_drawing,
    write_row_labels,
)
from snellen.evaluation.wording import format_number, format_percent, name_metric
from snellen.records.tuning import TrialRecord, TuneRecord

WIDTH_IN = 4.6


def list_complete(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Trials with a value on every fold."""
    return [trial for trial in trials if trial.state == "complete" and trial.value is not None]


def draw_history(record: TuneRecord, trials: Sequence[TrialRecord]) -> Drawing | None:
    """The value of each trial, pruned ones faint, the best so far as a line, the unchanged recipe as a broken one."""
    complete = list_complete(trials)
    if not complete:
        return None
    pruned = [trial for trial in trials if trial.state == "pruned" and trial.value is not None]
    x, y = [trial.number for trial in complete], [_value(trial) for trial in complete]
    pick = np.minimum if record.direction == "minimize" else np.maximum
    so_far = pick.accumulate(y)
    last = max(trial.number for trial in trials)
    with drawing_style():
        figure = new_figure(WIDTH_IN, 3.5)
        axes = add_axes(figure, 0.7, 0.5, WIDTH_IN - 0.85, 2.5)
        if pruned:
            values = [_value(trial) for trial in pruned]
            axes.plot(
                [t.number for t in pruned], values, "x", color=MUTED, markersize=4, markeredgewidth=0.9, label="pruned"
            )
        axes.plot(x, y, "o", color=SERIES[0], markersize=3.6, label="complete", linestyle="none")
        axes.step([*x, last], [*so_far, so_far[-1]], where="post", color=SERIES[1], linewidth=1.4, label="best so far")
        as_it_is = record.recipe_as_it_is
        if as_it_is is not None and as_it_is.value is not None:
            axes.axhline(as_it_is.value, color=INK, linewidth=0.9, linestyle=(0, (4, 2)), label="recipe as it is")
        axes.set_xlim(-0.5, last + 0.5)
        axes.set_ylim(*_limits(record, y))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="Trial", ylabel=name_metric(record.metric))
        axes.grid(True)
        axes.set_axisbelow(True)
        figure.legend(loc="upper left", bbox_to_anchor=(0.1, 1.02), ncols=4, handlelength=1.4, columnspacing=1.0)
        text = (
            f"{len(complete)} complete and {len(pruned)} pruned trials; best so far from {format_number(so_far[0], 4)} "
            f"to {format_number(so_far[-1], 4)}."
        )
        return to_drawing(figure, "history", "Optimisation history", text)


def draw_importances(record: TuneRecord, names: dict[str, str]) -> Drawing | None:
    """A bar a key, the most important first."""
    found = sorted(record.importances.items(), key=lambda item: -item[1])
    if not found:
        return None
    row = 0.36
    height = row * len(found) + 0.2
    with drawing_style():
        figure = new_figure(WIDTH_IN, height)
        axes = add_axes(figure, LABEL_IN, 0.1, WIDTH_IN - LABEL_IN - 0.55, height - 0.2)
        places = list(range(len(found)))
        values = [value for _, value in found]
        axes.barh(places, values, height=0.62, color=SERIES[0], linewidth=0)
        for place, value in zip(places, values, strict=True):
            axes.annotate(format_percent(value), (value, place), (4, 0), textcoords="offset points", va="center")
        axes.set(xlim=(0, max(*values, 1e-9)), ylim=(len(found) - 0.5, -0.5))
        write_row_labels(axes, places, [names[key] for key, _ in found])
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        text = "; ".join(f"{names[key]}: {format_percent(value)}" for key, value in found)
        return to_drawing(figure, "importance", "Importance of each key", text)


def draw_slice(
    record: TuneRecord, trials: Sequence[TrialRecord], key: str, name: str, labels: dict[str, str]
) -> Drawing | None:
    """The value of each complete trial against one key; `labels` maps a choice as JSON to what it is called."""
    own = [trial for trial in list_complete(trials) if key in trial.parameters]
    if len(own) < 2:
        return None
    y = [_value(trial) for trial in own]
    values = [trial.parameters[key] for trial in own]
    drawn_key = "slice-" + "".join(letter if letter.isalnum() else "-" for letter in key)
    with drawing_style():
        if labels:
            drawing = _draw_choices(record, [labels[_name(value)] for value in values], y, list(labels.values()))
        else:
            figure = new_figure(WIDTH_IN, 2.7)
            axes = add_axes(figure, 0.7, 0.5, WIDTH_IN - 0.85, 2.1)
            dimension = record.space[key]
            if getattr(dimension, "log", False):
                axes.set_xscale("log")
                axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
                axes.xaxis.set_minor_formatter(NullFormatter())
            axes.plot([float(value) for value in values], y, "o", color=SERIES[0], markersize=3.6)
            _mark_best(axes, record, key)
            axes.set(xlabel=name, ylabel=name_metric(record.metric), ylim=_limits(record, y))
            axes.grid(True)
            drawing = figure
        text = f"{len(own)} complete trials against {name}."
        return to_drawing(drawing, drawn_key, f"Value against {name}", text)


def _draw_choices(record: TuneRecord, names: Sequence[str], y: Sequence[float], order: Sequence[str]) -> Any:
    """A row a choice with a dot a trial; a bar marks the median."""
    row = 0.42 if all(len(name) <= 20 for name in order) else 0.62
    height = row * len(order) + 0.6
    figure = new_figure(WIDTH_IN, height)
    axes = add_axes(figure, LABEL_IN, 0.5, WIDTH_IN - LABEL_IN - 0.15, height - 0.6)
    for place, name in enumerate(order):
        values = [value for value, own in zip(y, names, strict=True) if own == name]
        if not values:
            continue
        shift = np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else np.zeros(1)
        axes.plot(values, place + shift, "o", color=SERIES[0], markersize=3.6, alpha=0.75, linestyle="none")
        axes.plot([np.median(values)] * 2, [place - 0.28, place + 0.28], color=SERIES[1], linewidth=1.8)
    axes.set(xlim=_limits(record, y), ylim=(len(order) - 0.5, -0.5), xlabel=name_metric(record.metric))
    write_row_labels(axes, list(range(len(order))), [shorten(name, 50) for name in order])
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(True, axis="x")
    axes.set_axisbelow(True)
    return figure


def _mark_best(axes: Axes, record: TuneRecord, key: str) -> None:
    if record.best is not None and key in record.best.parameters and record.best.value is not None:
        place = [float(record.best.parameters[key])], [record.best.value]
        axes.plot(*place, "o", color=SERIES[1], markersize=6.5, linestyle="none")


def _limits(record: TuneRecord, values: Sequence[float]) -> tuple[float, float]:
    """Room for the better part: what is far worse than the rest is cut off, as the caption says."""
    array = np.array(values)
    sign = 1 if record.direction == "minimize" else -1
    best, usual = (sign * array).min(), float(np.quantile(sign * array, 0.75))
    worst = min(float((sign * array).max()), usual + 1.5 * (usual - best))
    as_it_is = record.recipe_as_it_is
    if as_it_is is not None and as_it_is.value is not None:
        best, worst = min(best, sign * as_it_is.value), max(worst, sign * as_it_is.value)
    room = max(0.06 * (worst - best), 1e-4)
    ends = sign * (best - room), sign * (worst + room)
    return float(min(ends)), float(max(ends))


def _value(trial: TrialRecord) -> float:
    return float("nan") if trial.value is None else trial.value


def _name(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
