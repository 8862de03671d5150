"""The chart of docs/explanation/leaks.md: each protocol's accuracy and AUC, experiment by experiment."""

from __future__ import annotations

from pathlib import Path

SHOWN = (("accuracy", "Accuracy"), ("auc", "AUC"))
NAMES = {"published": "published protocol", "by picture": "split by picture, steps inside training",
         "honest": "honest protocol"}  # fmt: skip


def draw(records: list[dict], path: Path) -> None:
    """A row an experiment, a column a metric; bars are 95 % intervals over seeds."""
    from matplotlib.figure import Figure

    from snellen.evaluation.svg import INK, MARKERS, MUTED, RULE, SERIES

    figure = Figure(figsize=(9.0, 0.9 + 1.25 * len(records)), dpi=150)
    axes = figure.subplots(1, len(SHOWN), sharey=True)
    handles = {}
    for column, (metric, title) in enumerate(SHOWN):
        place = axes[column]
        for row, record in enumerate(records):
            for number, name in enumerate(NAMES):
                found = record["means"].get(name)
                if found is None:
                    continue
                y, each = row + 0.24 * (number - 1), found[metric]
                place.plot([each["low"], each["high"]], [y, y], color=SERIES[number], linewidth=1.6)
                (handles[NAMES[name]],) = place.plot(
                    [each["value"]], [y], MARKERS[number], color=SERIES[number], markersize=6, linestyle="none"
                )
                place.annotate(f"{each['value']:.3f}", (each["high"], y), (4, -3), textcoords="offset points",
                               fontsize=8, color=INK)  # fmt: skip
                fresh = [arm.get(f"new_{metric}") for arm in record["arms"][name]]
                if None not in fresh:
                    (handles["the same models on new patients"],) = place.plot(
                        [sum(fresh) / len(fresh)], [y], "x", color=INK, markersize=6, linestyle="none"
                    )
        place.set_title(title, fontsize=10, color=INK)
        place.set_yticks(range(len(records)), [record["title"].replace(", ", ",\n", 1) for record in records])
        place.set_ylim(len(records) - 0.45, -0.55)
        place.margins(x=0.18)
        place.grid(visible=True, axis="x", color=RULE, linewidth=0.6)
        place.tick_params(colors=MUTED, labelcolor=INK, labelsize=9)
        place.tick_params(axis="y", length=0)
        for side in ("top", "right", "left"):
            place.spines[side].set_visible(False)
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=2, frameon=False, fontsize=8.5)
    figure.tight_layout(rect=(0, 0.5 / figure.get_figheight(), 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
