"""`compare.html`: two models on the same pictures, as one self-contained page.

This room knows a comparison and which parts its page has. It must not know files; it returns text and writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from snellen.evaluation import wording
from snellen.evaluation.compare_words import round_to_two
from snellen.evaluation.pages import open_environment
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
    to_drawing,
    write_row_labels,
)
from snellen.evaluation.tables import METHODS, Cell, Table
from snellen.records.comparison import Comparison, MetricDifference
from snellen.records.evaluation import Estimate

WIDTH_IN = 5.4
ROW_IN = 0.32
BETTER = {
    "a": "A",
    "b": "B",
    "undecided": "cannot be told",
    "equal": "equal",
    "undefined": wording.MISSING,
}


@dataclass(frozen=True)
class Illustration:
    """A drawing, what to see in it, and its numbers as a table."""

    drawing: Drawing
    caption: str
    table: Table


def render_comparison(found: Comparison) -> str:
    """The page as HTML. Equal inputs give equal text; nothing in it refers to another file or host."""
    level = f"{100 * found.intervals.level:g} %"
    caption = (
        f"B minus A, with {level} intervals; right of the broken line B has the higher value. Filled where the "
        "interval leaves out 0. Of Brier score, log loss and calibration error the lower is the better."
    )
    context = {
        "found": found,
        "title": _name_both(found),
        "facts": _list_facts(found),
        "figure": Illustration(draw_differences(found), caption, build_differences(found)),
        "table": build_differences(found),
        "agreement": build_agreement(found),
        "models": build_models(found),
        "snellen_version": found.snellen_version,
    }
    return open_environment().get_template("compare.html.j2").render(context)


def _name_both(found: Comparison) -> str:
    """Names of the folders; with the folder above where both are called the same."""
    if found.a.name != found.b.name:
        return f"{found.a.name} and {found.b.name}"
    return " and ".join("/".join(each.folder.replace("\\", "/").split("/")[-2:]) for each in (found.a, found.b))


def _list_facts(found: Comparison) -> dict[str, str]:
    patients = (
        "patients unknown" if found.intervals.unit == "picture" else wording.format_count(found.n_patients, "patient")
    )
    classes = ", ".join(f"{name} {n}" for name, n in found.n_by_class.items())
    facts = {
        "A": found.a.folder,
        "B": found.b.folder,
        "Compared on": f"{wording.format_count(found.n, 'picture')}, {patients}",
        "Pictures of each class": classes,
        "Positive class": found.positive or "",
        "Matched by": "hash of the pixels" if found.matched_by == "pixels" else "name of the picture",
    }
    return {name: value for name, value in facts.items() if value}


def order_differences(found: Comparison) -> list[str]:
    """The metrics as a reader wants them: the headline first."""
    known = [name for name in wording.METRICS if name in found.metrics]
    return known + [name for name in found.metrics if name not in wording.METRICS]


def build_differences(found: Comparison) -> Table:
    """A row a metric: both values, the difference with its interval, what would be found, what it would take."""
    rows: list[tuple[Cell, ...]] = []
    for name in order_differences(found):
        each = found.metrics[name]
        rows.append(
            (
                wording.name_metric(name),
                wording.format_number(each.a),
                wording.format_number(each.b),
                each.difference,
                _name_method(found, each.difference),
                BETTER[each.better],
                wording.format_number(each.detectable),
                wording.MISSING if each.n_patients_needed is None else f"{round_to_two(each.n_patients_needed):,}",
            )
        )
    units = "pictures" if found.intervals.unit == "picture" else "patients"
    level = f"{100 * found.intervals.level:g} %"
    head = (
        "Metric",
        "A",
        "B",
        f"B − A, {level} interval",
        "Interval by",
        "Better",
        "Would be found from",
        f"{units.capitalize()} needed",
    )
    kinds = ("text", "num", "num", "num", "text", "text", "num", "num")
    return Table("Both models on the same pictures", head, tuple(rows), kinds)


def build_agreement(found: Comparison) -> Table:
    """How often which of the two is right."""
    own = found.agreement
    rows = (
        ("A right", str(own.both_right), str(own.only_a_right)),
        ("A wrong", str(own.only_b_right), str(own.both_wrong)),
    )
    return Table("Pictures by who is right", ("", "B right", "B wrong"), rows, ("text", "num", "num"))


def build_models(found: Comparison) -> Table:
    """What was compared."""
    rows = tuple(
        (side, each.folder, str(each.n), str(each.test_opened), each.bundle_sha256)
        for side, each in (("A", found.a), ("B", found.b))
    )
    head = ("", "Folder", "Test pictures", "Test opened", "Bundle, sha256")
    return Table("The two models", head, rows, ("text", "code", "num", "num", "code"))


def draw_differences(found: Comparison) -> Drawing:
    """A dot and interval a metric around the line of no difference."""
    names = [name for name in order_differences(found) if found.metrics[name].difference.value is not None]
    height = ROW_IN * len(names) + 0.75
    with drawing_style():
        figure = new_figure(WIDTH_IN, height)
        axes = add_axes(figure, LABEL_IN, 0.55, WIDTH_IN - LABEL_IN - 0.15, height - 0.65)
        axes.axvline(0, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        for row, name in enumerate(names):
            each = found.metrics[name]
            low, high = each.difference.low, each.difference.high
            if low is not None and high is not None:
                axes.plot([low, high], [row, row], color=SERIES[0], linewidth=1.8)
            axes.plot(
                [each.difference.value or 0.0], [row], linestyle="none", marker="o", markersize=6.5,
                markeredgecolor=INK if _is_told(each) else SERIES[0], markerfacecolor=INK if _is_told(each) else PAPER,
                markeredgewidth=1.4,
            )  # fmt: skip
        axes.set_ylim(len(names) - 0.4, -0.6)
        write_row_labels(axes, range(len(names)), [wording.name_metric(name) for name in names])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("B − A")
        axes.grid(True, axis="x")
        axes.set_axisbelow(True)
        text = "; ".join(f"{wording.name_metric(name)} {_say(found.metrics[name].difference)}" for name in names)
        return to_drawing(figure, "differences", "Differences of the two models", f"B minus A. {text}.")


def _is_told(each: MetricDifference) -> bool:
    return each.better in ("a", "b")


def _say(estimate: Estimate) -> str:
    interval = wording.format_interval(estimate)
    return wording.format_number(estimate.value) + (f" ({interval})" if interval else "")


def _name_method(found: Comparison, estimate: Estimate) -> str:
    return f"{found.intervals.unit} bootstrap" if estimate.method == "bootstrap" else METHODS[estimate.method]
