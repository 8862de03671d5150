"""What the audit's page says of copies: how each picture of a group differs from the group's first one.

This room knows records. It must not know HTML, pictures or how copies are found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from snellen.records.cohort import Audit, CopyLink

MAX_SHOWN = 6


Links = Mapping[str, Sequence[CopyLink]]


def collect_links(audit: Audit) -> Links:
    """Name → the links that it is in."""
    found: dict[str, list[CopyLink]] = defaultdict(list)
    for link in audit.copies:
        found[link.first].append(link)
        found[link.second].append(link)
    return found


def tell_relation(links: Links, names: Sequence[str], name: str) -> str:
    """How `name` differs from the first of `names`, or from the one that it was found by; empty if not at all."""
    own = sorted(links.get(name, ()), key=lambda link: (names[0] not in (link.first, link.second), -link.correlation))
    if not own or name == names[0]:
        return ""
    other = own[0].second if own[0].first == name else own[0].first
    return own[0].describe() + ("" if other == names[0] else f" (to {other})")


def choose_shown(links: Links, names: Sequence[str]) -> tuple[str, ...]:
    """Which pictures of a group the page shows: one where all are identical, else some that differ."""
    return tuple([names[0], *(name for name in names[1:] if name in links)][:MAX_SHOWN])
