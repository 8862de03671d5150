"""The figure of both checks of evidence maps, its numbers, and what it says in words.

This room knows the record of the checks and how to draw it. It must not know pictures or a Predictor.
"""

from __future__ import annotations

import numpy as np

from snellen.evaluation.svg import (
    INK,
    MUTED,
    Drawing,
    add_axes,
    drawing_style,
    new_figure,
    series_style,
    to_drawing,
)
from snellen.evaluation.tables import Table
from snellen.evaluation.wording import format_number, format_percent
from snellen.records.evaluation import EvidenceCheck

WIDTH_IN = 4.6
LOOKS_ALIKE = 0.5


def draw_evidence(check: EvidenceCheck) -> Drawing:
    """Left the probability that is left as a picture is blurred away; right how alike maps of random heads are."""
    with drawing_style():
        figure = new_figure(WIDTH_IN, 2.75)
        deletion = add_axes(figure, 0.6, 0.5, 2.35, 1.75)
        strip = add_axes(figure, 3.55, 0.5, 0.85, 1.75)
        lines = ((check.by_map, "by the map"), (check.by_random, "map moved at random"))
        for number, (values, label) in enumerate(lines):
            colour, dash, marker = series_style(number)
            deletion.plot(check.shares, values, color=colour, linestyle=dash, marker=marker, markersize=4, label=label)
        deletion.set(xlabel="Share blurred away", ylabel="Probability, mean", ylim=(0, 1.02), xlim=(-0.02, 1.02))
        deletion.grid(True)
        places = np.linspace(-0.3, 0.3, len(check.random_head)) if len(check.random_head) > 1 else [0.0]
        strip.plot(places, check.random_head, color=series_style(2)[0], marker="^", markersize=3.5, linestyle="")
        strip.axhline(float(np.median(check.random_head)), color=INK, linewidth=1)
        strip.set(ylim=(0, 1.02), xlim=(-0.5, 0.5), ylabel="|rank correlation|")
        strip.set_xticks([0], ["random\nhead"])
        strip.grid(True, axis="y")
        figure.legend(loc="upper left", bbox_to_anchor=(0.1, 1.0), ncols=2, handlelength=2.4)
        strip.annotate(
            "1: same map", (0.5, 1.0), (0, 6), xycoords="axes fraction", textcoords="offset points", ha="center",
            color=MUTED, fontsize=8,
        )  # fmt: skip
        return to_drawing(figure, "evidence", "Checks of the evidence maps", describe_evidence(check))


def describe_evidence(check: EvidenceCheck) -> str:
    """What both checks found, in two sentences."""
    left, chance = float(np.mean(check.by_map)), float(np.mean(check.by_random))
    alike = float(np.median(check.random_head))
    faster = (
        f"Blurring away what the map calls evidence lowers the probability faster than the same map moved at "
        f"random in {check.n_faster} of {check.n} pictures (mean over the curve {format_number(left)} against "
        f"{format_number(chance)})."
        if left < chance
        else f"Blurring away what the map calls evidence lowers the probability no faster than the same map "
        f"moved at random (mean over the curve {format_number(left)} against {format_number(chance)}): do not rely on "
        "these maps."
    )
    told = (
        "the maps do depend on what the head learned"
        if alike < LOOKS_ALIKE
        else ("the maps hardly depend on what the head learned: do not rely on them")
    )
    return (
        f"{faster} With random weights in place of the head the map changes: median rank correlation "
        f"{format_number(alike, 2)}; {told}."
    )


def build_evidence(check: EvidenceCheck) -> Table:
    """The numbers of the curves."""
    rows = tuple(
        (format_percent(share), format_number(one), format_number(other))
        for share, one, other in zip(check.shares, check.by_map, check.by_random, strict=True)
    )
    head = ("Blurred", "By the map", "Moved at random")
    return Table("Probability of the class as the picture is blurred away", head, rows, ("num",) * 3)
