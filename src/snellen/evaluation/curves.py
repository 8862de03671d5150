"""ROC and precision-recall curves of an evaluation's scores, and the figures of them.

This room knows scores and how a curve is drawn. It must not know pages, tables or where scores come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from snellen.evaluation.svg import (
    INK,
    MUTED,
    PAPER,
    Drawing,
    add_axes,
    drawing_style,
    new_figure,
    series_style,
    shorten,
    to_drawing,
    wrap,
)
from snellen.evaluation.wording import format_number
from snellen.metrics.scores import compute_precision_recall, compute_roc
from snellen.records.evaluation import Evaluation, OperatingPoint, Score

MAX_POINTS = 300
MAX_HIGHLIGHTS = 8
N_HARDEST = 5
PLOT_IN = 3.6
LEGEND_ROW_IN = 0.19
LEGEND_CHARACTERS = 50

DrawStyle = Literal["default", "steps-post"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassCurve:
    """One class against the rest. `fpr`, `tpr` (K,); `precision`, `recall` (L,), recall falling to 0."""

    name: str
    prevalence: float
    fpr: Floats
    tpr: Floats
    precision: Floats
    recall: Floats

    @property
    def area(self) -> float:
        """Area under the ROC curve, to order the classes by."""
        return float(np.sum(np.diff(self.fpr) * (self.tpr[1:] + self.tpr[:-1]) / 2))

    def sensitivity_at(self, specificity: float) -> float:
        """The highest sensitivity whose specificity is at least that."""
        return float(self.tpr[self.fpr <= 1 - specificity + 1e-9].max())

    def precision_at(self, recall: float) -> float:
        """The best precision whose recall is at least that."""
        return float(self.precision[self.recall >= recall - 1e-9].max())


def compute_curves(evaluation: Evaluation, scores: Sequence[Score]) -> list[ClassCurve]:
    """A curve for the positive class of a binary task, else for every class; none for an absent class."""
    probabilities = np.array([score.probabilities for score in scores], dtype=np.float64)
    is_binary = evaluation.task == "binary" and evaluation.positive is not None
    curves = []
    for column, name in enumerate(evaluation.classes):
        labels = np.array([score.label == name for score in scores], dtype=np.int64)
        if 0 < labels.sum() < len(labels) and (not is_binary or name == evaluation.positive):
            curves.append(_compute_curve(name, labels, probabilities[:, column]))
    return curves


def choose_highlights(curves: Sequence[ClassCurve]) -> list[ClassCurve]:
    """All curves while they can be told apart; else those of the classes that are hardest."""
    if len(curves) <= MAX_HIGHLIGHTS:
        return list(curves)
    return sorted(curves, key=lambda curve: curve.area)[:N_HARDEST]


def explain_highlights(curves: Sequence[ClassCurve]) -> str:
    """A sentence for the caption where some curves are only hinted at."""
    shown = choose_highlights(curves)
    if len(shown) == len(curves):
        return ""
    n_others = len(curves) - len(shown)
    return f"In colour the {len(shown)} classes with the lowest AUC, in grey the other {n_others}. "


def draw_roc(evaluation: Evaluation, curves: Sequence[ClassCurve]) -> Drawing | None:
    """Sensitivity against 1 − specificity; with the operating points of a binary task."""
    if not curves:
        return None
    points = evaluation.operating_points if evaluation.task == "binary" else ()
    points = tuple(point for point in points if point.sensitivity and point.specificity)
    shown = choose_highlights(curves)
    labels = [_label_with_auc(evaluation, curve) for curve in shown]
    with drawing_style():
        figure, axes = _open_square([*labels, *(_label_point(point) for point in points)])
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        for curve in curves if len(shown) < len(curves) else ():
            axes.plot(*_thin(curve.fpr, curve.tpr), color=MUTED, linewidth=0.5, alpha=0.5)
        for number, curve in enumerate(shown):
            _plot(axes, number, (curve.fpr, curve.tpr), labels[number])
        for number, point in enumerate(points, len(shown)):
            _mark_point(axes, number, point)
        axes.set_xlabel("1 − specificity")
        axes.set_ylabel("Sensitivity" if len(curves) > 1 else f"Sensitivity for “{shorten(curves[0].name, 30)}”")
        _close(figure, axes)
        return to_drawing(figure, "roc", "ROC curve", f"Sensitivity against 1 − specificity. {'; '.join(labels)}.")


def draw_precision_recall(curves: Sequence[ClassCurve]) -> Drawing | None:
    """Precision against recall; a dotted line of the same colour at each class's prevalence.

    Drawn in steps: a straight line between two points promises too much (Davis and Goadrich 2006).
    """
    if not curves:
        return None
    shown = choose_highlights(curves)
    labels = [f"{curve.name}, prevalence {format_number(curve.prevalence, 2)}" for curve in shown]
    with drawing_style():
        figure, axes = _open_square(labels)
        for curve in curves if len(shown) < len(curves) else ():
            thin = _thin(curve.recall, curve.precision)
            axes.plot(*thin, color=MUTED, linewidth=0.5, alpha=0.5, drawstyle="steps-post")
        for number, curve in enumerate(shown):
            colour = series_style(number)[0]
            axes.axhline(curve.prevalence, color=colour, linewidth=0.9, linestyle=(0, (1, 2)))
            _plot(axes, number, (curve.recall, curve.precision), labels[number], "steps-post")
        axes.set_xlabel("Recall (sensitivity)")
        axes.set_ylabel("Precision")
        _close(figure, axes)
        text = f"Precision against recall, dotted at the prevalence. {'; '.join(labels)}."
        return to_drawing(figure, "pr", "Precision–recall curve", text)


def _compute_curve(name: str, labels: NDArray[np.int64], scores: Floats) -> ClassCurve:
    fpr, tpr, _ = compute_roc(labels, scores)
    precision, recall, _ = compute_precision_recall(labels, scores)
    return ClassCurve(name, float(labels.mean()), fpr, tpr, precision, recall)


def _label_with_auc(evaluation: Evaluation, curve: ClassCurve) -> str:
    per_class = evaluation.per_class.get(curve.name)
    auc = per_class.auc if per_class is not None else evaluation.metrics.get("auc")
    return f"{curve.name}, AUC {format_number(auc.value)}" if auc is not None else curve.name


def _label_point(point: OperatingPoint) -> str:
    default = ", default" if point.is_default else ""
    return f"{point.name}: threshold {format_number(point.threshold)}{default}"


def _open_square(labels: Sequence[str]) -> tuple[Figure, Axes]:
    """Square axes from 0 to 1 with room for the legend of `labels` below."""
    n_rows = sum(len(wrap(label, LEGEND_CHARACTERS)) for label in labels)
    below = 0.62 + LEGEND_ROW_IN * n_rows
    figure = new_figure(PLOT_IN + 0.75, PLOT_IN + below + 0.12)
    axes = add_axes(figure, 0.6, below, PLOT_IN, PLOT_IN)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.grid(True)
    axes.set_axisbelow(True)
    return figure, axes


def _close(figure: Figure, axes: Axes) -> None:
    """The legend, below the axes and flush with the figure's left edge."""
    handles, labels = axes.get_legend_handles_labels()
    wrapped = ["\n".join(wrap(label, LEGEND_CHARACTERS)) for label in labels]
    figure.legend(
        handles,
        wrapped,
        loc="lower left",
        bbox_to_anchor=(0.01, 0),
        handlelength=2.8,
        labelspacing=0.35,
        borderaxespad=0.1,
    )


def _plot(axes: Axes, number: int, curve: tuple[Floats, Floats], label: str, drawstyle: DrawStyle = "default") -> None:
    """A line with a few markers, so that classes are told apart without colour."""
    x, y = _thin(*curve)
    colour, dash, marker = series_style(number)
    axes.plot(
        x,
        y,
        color=colour,
        linestyle=dash,
        drawstyle=drawstyle,
        marker=marker,
        markersize=4.5,
        markeredgecolor=PAPER,
        markeredgewidth=0.6,
        markevery=(0.06 + 0.03 * (number % 4), 0.2),
        label=label,
    )


def _mark_point(axes: Axes, number: int, point: OperatingPoint) -> None:
    """A cross of both intervals and a marker: filled for the default, open for the others."""
    found, cleared = point.sensitivity, point.specificity
    if found is None or cleared is None or found.value is None or cleared.value is None:
        return
    x, y = 1 - cleared.value, found.value
    if found.low is not None and found.high is not None:
        axes.plot([x, x], [found.low, found.high], color=INK, linewidth=1.1)
    if cleared.low is not None and cleared.high is not None:
        axes.plot([1 - cleared.high, 1 - cleared.low], [y, y], color=INK, linewidth=1.1)
    axes.plot(
        [x],
        [y],
        linestyle="none",
        marker=series_style(number)[2],
        markersize=7.5,
        markeredgecolor=INK,
        markerfacecolor=INK if point.is_default else PAPER,
        label=_label_point(point),
        zorder=5,
    )


def _thin(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """At most `MAX_POINTS` points, evenly along the curve: a report stays small for any cohort."""
    if len(x) <= MAX_POINTS:
        return x, y
    length = np.concatenate(([0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))))
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], MAX_POINTS)))
    return x[kept], y[kept]
