"""The part of the audit's page on suspected labels: which are shown, with whom beside them.

This room knows records. It must not know files or how a label is suspected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from snellen.evaluation.wording import format_percent
from snellen.records.audit import LabelCheck, Suspect

MAX_SHOWN = 24
N_WITHOUT_STRONG = 8
N_NEIGHBOURS = 4


@dataclass(frozen=True)
class ShownNeighbour:
    """A similar picture of another patient; `source` is a data URI or empty."""

    name: str
    label: str
    source: str


@dataclass(frozen=True)
class ShownSuspect:
    """A suspected label in words."""

    name: str
    label: str
    suggested: str
    probability: str
    source: str
    is_strong: bool
    neighbours: tuple[ShownNeighbour, ...]


def choose_suspects(found: LabelCheck | None) -> list[Suspect]:
    """All strong ones that fit on the page, else a few to look at."""
    if found is None:
        return []
    has_strong = any(each.is_strong for each in found.suspects)
    return list(found.suspects[: MAX_SHOWN if has_strong else N_WITHOUT_STRONG])


def list_suspects(found: LabelCheck | None, thumbnails: Mapping[str, str]) -> list[ShownSuspect]:
    """Those of the page, with pictures."""
    return [
        ShownSuspect(
            name=each.sample,
            label=each.label,
            suggested=each.suggested,
            probability=format_percent(each.probability_suggested),
            source=thumbnails.get(each.sample, ""),
            is_strong=each.is_strong,
            neighbours=tuple(
                ShownNeighbour(near.sample, near.label, thumbnails.get(near.sample, ""))
                for near in each.neighbours[:N_NEIGHBOURS]
            ),
        )
        for each in choose_suspects(found)
    ]
