"""Reporting checklists, filled in as far as a run's records go; the rest is marked as a person's work.

This room knows the items of guidelines by number, in our words. It must not know HTML, figures or files of a run.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

from snellen.evaluation.statements import state

if TYPE_CHECKING:
    from snellen.evaluation.report import ReportInputs

Filled = Literal["stated", "in part", "to be written"]


@dataclass(frozen=True)
class Item:
    """What an item asks for, the statements that fill it, and whether they are all of it."""

    number: str
    topic: str
    statements: tuple[str, ...]
    is_whole: bool


@dataclass(frozen=True)
class Guideline:
    """A published checklist; `about` says where it is."""

    name: str
    year: int
    about: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Answer:
    """An item with what the records say to it."""

    item: Item
    filled: Filled
    text: str


@dataclass(frozen=True)
class Checklist:
    """A guideline with its answers."""

    guideline: Guideline
    answers: tuple[Answer, ...]

    def count(self, filled: Filled) -> int:
        """How many items are filled so."""
        return sum(answer.filled == filled for answer in self.answers)


def fill_checklists(inputs: ReportInputs) -> list[Checklist]:
    """Every guideline with what a run's records say to its items."""
    return [
        Checklist(guideline, tuple(_answer(item, inputs) for item in guideline.items))
        for guideline in load_guidelines()
    ]


def _answer(item: Item, inputs: ReportInputs) -> Answer:
    text = " ".join(filter(None, (state(key, inputs) for key in item.statements)))
    if not text:
        return Answer(item, "to be written", "")
    return Answer(item, "stated" if item.is_whole else "in part", text)


@cache
def load_guidelines() -> tuple[Guideline, ...]:
    """TRIPOD+AI, STARD-AI and CLAIM."""
    content = tomllib.loads(files("snellen.evaluation").joinpath("checklists.toml").read_text(encoding="utf-8"))
    return tuple(
        Guideline(each["name"], each["year"], each["about"], tuple(_read_item(*row) for row in each["items"]))
        for each in content["guideline"]
    )


def _read_item(number: str, topic: str, statements: str) -> Item:
    return Item(number, topic, tuple(statements.lstrip("+").split()), not statements.startswith("+"))
