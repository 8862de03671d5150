"""The part of the audit's page on shortcuts: AUCs as rows of a small chart, and what files are like class by class.

This room knows records and numbers of a drawing. It must not know files or how a shortcut is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from snellen.core.letters import reveal
from snellen.evaluation.tables import Table
from snellen.evaluation.wording import format_interval, format_number, name_split
from snellen.records.audit import Shortcuts
from snellen.records.evaluation import Estimate

LIMIT = 0.7
_GUESS = 0.5
WIDTH = 500.0
_MOST_FACTS = 6


@dataclass(frozen=True)
class ChartRow:
    """One AUC: where it lies on a scale from 0.5 to 1 (0 to `WIDTH`), and in words.

    `kind` is fact, part (of the facts), rim, colour or model.
    """

    name: str
    kind: str
    value: str
    interval: str
    at: float
    low: float
    high: float
    is_above: bool


def build_chart(found: Shortcuts, model: tuple[str, Estimate] | None) -> list[ChartRow]:
    """All files' facts, each kind of fact, rim, colours, and the model's own where it is known."""
    rows = [_row("All facts of the file, no pixel", "fact", found.facts_auc)]
    if found.unnamed_auc != found.facts_auc:
        rows.append(_row("The same without the name", "fact", found.unnamed_auc))
    rows += [_row(each.name.capitalize(), "part", each.auc) for each in found.giveaways[:_MOST_FACTS]]
    rows += [
        _row("Rim and corners only", "rim", found.border_auc),
        _row("Mean colours and brightness", "colour", found.colours_auc),
    ]
    if model is not None:
        rows.append(_row(f"The model, {name_split(model[0])} split", "model", model[1]))
    return [row for row in rows if row is not None]


def explain_reach(found: Shortcuts, model: tuple[str, Estimate] | None) -> str:
    """How much of what the model has above guessing the best shortcut has too."""
    told = [(found.unnamed_auc, "facts of the files, without names,"), (found.border_auc, "rim and corners")]
    known = [(each.value, name) for each, name in told if each is not None and each.value is not None]
    if model is None or model[1].value is None or not known or model[1].value <= _GUESS:
        return ""
    value, name = max(known)
    share = max(0.0, (value - _GUESS) / (model[1].value - _GUESS))
    return (
        f"The model reaches {format_number(model[1].value)}; {name} alone reach {format_number(value)}: "
        f"{100 * share:.0f}\u00a0% of what the model has above guessing."
    )


def build_facts(found: Shortcuts) -> Table:
    """What the files of each class have, one kind of fact a column."""
    shown = found.giveaways[:_MOST_FACTS]
    labels = list(dict.fromkeys(label for each in shown for label in each.by_class))
    rows = tuple((reveal(label), *(each.by_class.get(label, "") for each in shown)) for label in labels)
    head = ("Class", *(each.name.capitalize() for each in shown))
    return Table("What the files of each class have", head, rows, ("text",) * len(head))


def _row(name: str, kind: str, estimate: Estimate | None) -> ChartRow | None:
    if estimate is None or estimate.value is None:
        return None
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    return ChartRow(
        name=name,
        kind=kind,
        value=format_number(estimate.value, 2),
        interval=format_interval(estimate),
        at=_place(estimate.value),
        low=_place(low),
        high=_place(high),
        is_above=low > LIMIT and kind not in ("model", "colour"),
    )


def _place(value: float) -> float:
    return round(WIDTH * min(max((value - _GUESS) / (1 - _GUESS), 0.0), 1.0), 1)
