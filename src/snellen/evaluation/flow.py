"""The way of pictures and patients through a study, drawn as boxes: what STARD asks for as a diagram.

This room knows records and plain SVG. It must not know matplotlib, pages or files.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from snellen.core.letters import reveal
from snellen.evaluation.svg import Drawing
from snellen.evaluation.tables import Table
from snellen.evaluation.wording import format_count, knows_patients, name_split
from snellen.records.cohort import PARTS

if TYPE_CHECKING:
    from snellen.evaluation.report import ReportInputs

_WIDTH, _BOX, _GAP, _LINE = 460, 210, 34, 15
_PAD = 9
_SIDE = 250
_SHOWN = 6


@dataclass(frozen=True)
class Box:
    """Lines of text; `aside` stands to the right of the way down."""

    lines: tuple[str, ...]
    aside: tuple[str, ...] = ()


def list_boxes(inputs: ReportInputs) -> list[Box]:
    """From what was found to what was answered, from the top."""
    evaluation, audit = inputs.evaluation, inputs.audit
    boxes = []
    if audit is not None:
        aside = (f"Set aside: {audit.n_set_aside:,}", "not readable or not usable") if audit.n_set_aside else ()
        boxes.append(Box(("Found", format_count(audit.n_samples, "picture")), aside))
        who = "patients not known" if audit.patients.origin == "none" else format_count(audit.patients.n, "patient")
        boxes.append(Box(("Read", f"{format_count(audit.n_read, 'picture')}", who)))
    counts = Counter[str](each.split for each in inputs.splits)
    if counts:
        parts = [
            f"{name_split(split).capitalize()}: {counts[split]:,}{_count_patients(inputs, split)}"
            for split in PARTS[:-1]
            if counts[split] and split != evaluation.split
        ]
        left = [f"Left out: {format_count(counts['left_out'], 'picture')}"] if counts["left_out"] else []
        if boxes:
            boxes[-1] = Box(boxes[-1].lines, (*parts, *left))
    boxes.append(
        Box((f"Evaluated: {name_split(evaluation.split)} set", *_split_subjects(inputs)), _tell_abstained(inputs))
    )
    right = [evaluation.confusion[at][at] for at in range(len(evaluation.classes))]
    whole = f"{sum(right):,} of {format_count(evaluation.n, evaluation.unit)}"
    own = [
        _shorten(f"{n:,} of {sum(row):,} “{name}”")
        for n, row, name in zip(right, evaluation.confusion, evaluation.classes, strict=True)
        if sum(row)
    ]
    wrong = (f"Called otherwise: {evaluation.n - sum(right):,}", "(see the confusion matrix)")
    boxes.append(Box(("Called as their label says", whole, *own[:_SHOWN]), wrong))
    return boxes


def draw_flow(inputs: ReportInputs) -> Drawing:
    """The boxes with arrows between them."""
    boxes = list_boxes(inputs)
    parts, top = list[str](), 4.0
    for number, box in enumerate(boxes):
        height = _LINE * len(box.lines) + 2 * _PAD
        parts.append(_draw_box(0, top, _BOX, height, box.lines, is_bold=True))
        bottom = top + height
        reach = bottom
        is_last = number + 1 == len(boxes)
        if box.aside:
            lines = tuple(line for text in box.aside for line in _wrap(text))
            tall = _LINE * len(lines) + 2 * _PAD
            # what leaves between two boxes leaves their arrow, at the end the last box
            middle = top + height / 2 if is_last else bottom + _GAP / 2
            begin = max(middle - tall / 2, top)
            parts.append(_draw_box(_SIDE, begin, _WIDTH - _SIDE, tall, lines, is_bold=False))
            parts.append(_draw_arrow(_BOX if is_last else _BOX / 2, middle, _SIDE, middle))
            reach = max(reach, begin + tall - (0 if is_last else _GAP))
        if not is_last:
            parts.append(_draw_arrow(_BOX / 2, bottom, _BOX / 2, reach + _GAP))
        top = reach + _GAP
    whole = top - _GAP + 6
    told = describe_flow(boxes)
    head = (
        f'<svg class="plot flow" role="img" viewBox="0 0 {_WIDTH} {whole:g}" style="--w:{_WIDTH}" '
        f'aria-labelledby="flow-title flow-desc"><title id="flow-title">Flow of pictures and patients</title>'
        f'<desc id="flow-desc">{escape(told)}</desc>'
    )
    # every text in the parts is escaped where it is drawn
    svg = Markup(reveal(head + "".join(parts)) + "</svg>")  # noqa: S704
    return Drawing("flow", "Flow of pictures and patients", told, svg)


def describe_flow(boxes: list[Box]) -> str:
    """The boxes in words."""
    return "; ".join(", ".join(box.lines) + (f" (aside: {', '.join(box.aside)})" if box.aside else "") for box in boxes)


def build_flow(inputs: ReportInputs) -> Table:
    """The boxes as a table."""
    rows = tuple((", ".join(box.lines), ", ".join(box.aside)) for box in list_boxes(inputs))
    return Table("Flow of pictures and patients", ("Stays", "Leaves the way here"), rows, ("text", "text"))


def _split_subjects(inputs: ReportInputs) -> tuple[str, ...]:
    evaluation = inputs.evaluation
    counts = [f"{each.n:,} “{name}”" for name, each in evaluation.per_class.items() if each.n]
    return (
        format_count(evaluation.n, evaluation.unit),
        *([format_count(evaluation.n_patients, "patient")] if knows_patients(evaluation) else []),
        *(_shorten(count) for count in counts[:_SHOWN]),
    )


def _tell_abstained(inputs: ReportInputs) -> tuple[str, ...]:
    found = inputs.evaluation.abstentions
    if found is None:
        return ()
    return (f"No answer by the gate: {found.n:,}", "(counted below all the same)")


def _count_patients(inputs: ReportInputs, split: str) -> str:
    if not knows_patients(inputs.evaluation) and inputs.evaluation.unit == "picture":
        return ""
    return f", of {format_count(len({each.patient for each in inputs.splits if each.split == split}), 'patient')}"


def _wrap(text: str) -> list[str]:
    from snellen.evaluation.svg import wrap

    return wrap(text, 34)


def _shorten(text: str) -> str:
    from snellen.evaluation.svg import shorten

    return shorten(text, 32)


def _draw_box(left: float, top: float, width: float, height: float, lines: tuple[str, ...], *, is_bold: bool) -> str:
    weight = ' font-weight="600"'
    rows = "".join(
        f'<text x="{left + width / 2:g}" y="{top + _PAD + _LINE * (at + 0.75):g}" text-anchor="middle" '
        f'font-size="11.5"{weight if is_bold and at == 0 else ""}>{escape(line)}</text>'
        for at, line in enumerate(lines)
    )
    frame = (
        f'<rect x="{left + 0.5:g}" y="{top:g}" width="{width - 1:g}" height="{height:g}" rx="2" '
        'style="fill:none;stroke:var(--muted,#5b626c)"/>'
    )
    return frame + rows


def _draw_arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    is_down = x == to_x
    tip = (
        f"M{to_x - 4:g} {to_y - 6:g}L{to_x:g} {to_y:g}L{to_x + 4:g} {to_y - 6:g}"
        if is_down
        else f"M{to_x - 6:g} {to_y - 4:g}L{to_x:g} {to_y:g}L{to_x - 6:g} {to_y + 4:g}"
    )
    return f'<path d="M{x:g} {y:g}L{to_x:g} {to_y:g}{tip}" style="fill:none;stroke:var(--muted,#5b626c)"/>'
