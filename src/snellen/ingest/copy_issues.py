"""What copies mean for the data, as issues: counts, labels that contradict each other, splits that share a picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from snellen.core.letters import show_class, show_count
from snellen.ingest.copies import group_copies, is_sure
from snellen.records.cohort import PARTS, CopyLink, Issue, Sample
from snellen.records.recipe import CopyScope

Groups = Sequence[Sequence[str]]
_HOW_TO_OVERRULE = (
    "`snellen train DATA --set data.copies=exact` (of an audit `--copies exact`) keeps identical pictures together only"
)
_NOT_SEARCHED = {
    "exact": ("Only identical pictures were looked for", "A turned or compressed copy may lie in another part."),
    "off": ("Copies were not looked for", "Identical pictures may lie in several parts: every number may be too good."),
}


def check_copies(
    samples: Sequence[Sample], groups: Groups, links: Sequence[CopyLink], asked: CopyScope | None
) -> list[Issue]:
    """Exact and transformed copies, and those among them whose labels contradict each other."""
    pixels_of = {sample.name: sample.pixels_sha256 for sample in samples}
    exact = _find_identical(groups, pixels_of)
    conflicts = _check_labels(samples, groups, links)
    what_to_do = "Settle those whose labels differ (conflicting_copies); they" if conflicts else "Nothing to do: they"
    found = []
    if exact:
        found.append(
            Issue(
                code="exact_duplicates",
                severity="info",
                message=f"{show_count(sum(len(names) - 1 for names in exact), *_EXACT)} of others "
                f"({show_count(len(exact), 'group', 'groups')}), such as {exact[0][0]} = {exact[0][1]}.",
                advice=f"{what_to_do} stay on one side of every split.",
                samples=tuple(name for names in exact for name in names),
            )
        )
    return [
        *found,
        *_check_transformed(samples, groups, links, what_to_do),
        *conflicts,
        *_tell_search(asked),
    ]


_EXACT = ("picture is an exact copy", "pictures are exact copies")
_TRANSFORMED = ("picture is a transformed copy", "pictures are transformed copies")


def _find_identical(groups: Groups, pixels_of: dict[str, str]) -> list[list[str]]:
    """Groups, or parts of groups, of the same pixels."""
    found = []
    for names in groups:
        parts: dict[str, list[str]] = defaultdict(list)
        for name in names:
            parts[pixels_of[name]].append(name)
        found += [part for part in parts.values() if len(part) > 1]
    return found


def _check_transformed(
    samples: Sequence[Sample], groups: Groups, links: Sequence[CopyLink], what_to_do: str
) -> list[Issue]:
    facts = {sample.name: sample for sample in samples}
    several = [names for names in groups if len({facts[name].pixels_sha256 for name in names}) > 1]
    if not several:
        return []
    n_copies = sum(len({facts[name].pixels_sha256 for name in names}) - 1 for names in several)
    joins = [names for names in several if len({facts[name].patient for name in names}) > 1]
    example = f", such as {links[0].first} and {links[0].second} ({links[0].describe()})" if links else ""
    across = f" {show_count(len(joins), 'group joins', 'groups join')} several patients." if joins else ""
    return [
        Issue(
            code="transformed_copies",
            severity="warning" if joins else "info",
            message=f"{show_count(n_copies, *_TRANSFORMED)} of others "
            f"({show_count(len(several), 'group', 'groups')}){example}.{across}",
            advice=f"{what_to_do} stay on one side of every split and fold. If they are different photographs, "
            f"{_HOW_TO_OVERRULE}.",
            samples=tuple(name for names in several for name in names),
        )
    ]


def _check_labels(samples: Sequence[Sample], groups: Groups, links: Sequence[CopyLink]) -> list[Issue]:
    """Severe where identical pixels or sure links contradict each other; what is only alike asks for a look."""
    label_of = {sample.name: sample.label for sample in samples}
    pixels_of = {sample.name: sample.pixels_sha256 for sample in samples}

    def list_conflicts(found: Groups) -> list[Sequence[str]]:
        return [names for names in found if len({label_of[name] for name in names}) > 1]

    conflicts = list_conflicts(groups)
    if not conflicts:
        return []
    sure = list_conflicts(group_copies(samples, [link for link in links if is_sure(link)]))
    clearest = (list_conflicts(group_copies(samples, ())) or sure or conflicts)[0]
    first = ", ".join(f"{name} ({show_class(label_of[name])})" for name in clearest)
    is_exact = all(len({pixels_of[name] for name in names}) == 1 for names in conflicts)
    if not sure:
        return [
            Issue(
                code="conflicting_copies",
                severity="warning",
                message=f"{show_count(len(conflicts), 'group', 'groups')} of pictures that are much alike "
                f"{'carries' if len(conflicts) == 1 else 'carry'} different labels, such as {first}. They may be "
                "copies of one picture, or different pictures.",
                advice="Look at them side by side. If they are one picture, ask whoever graded them; if not, nothing: "
                "they stay in one part, which makes no number better.",
                samples=tuple(name for names in conflicts for name in names),
            )
        ]
    return [
        Issue(
            code="conflicting_copies",
            severity="severe",
            message=f"{show_count(len(conflicts), 'group', 'groups')} of "
            f"{'identical pictures' if is_exact else 'copies'} "
            f"{'carries' if len(conflicts) == 1 else 'carry'} different labels, such as {first}.",
            advice="Ask whoever graded them; until then both labels are kept and count as noise.",
            samples=tuple(name for names in conflicts for name in names),
        )
    ]


def _tell_search(asked: CopyScope | None) -> list[Issue]:
    if asked is None or asked == "all":
        return []
    message, effect = _NOT_SEARCHED[asked]
    return [
        Issue(
            code="copies_not_searched",
            severity="info" if asked == "exact" else "warning",
            message=f"{message}.",
            advice=f"{effect} `snellen audit` looks for all; `snellen train DATA --set data.copies=all` keeps "
            "what it finds "
            "together.",
        )
    ]


def check_copies_in_splits(samples: Sequence[Sample], groups: Groups) -> list[Issue]:
    """Groups of copies that lie in several of the data's own splits."""
    split_of = {sample.name: sample.split for sample in samples if sample.split}
    pixels_of = {sample.name: sample.pixels_sha256 for sample in samples}
    shared = []
    for names in groups:
        told = [name for name in names if name in split_of]
        if len({split_of[name] for name in told}) > 1:
            shared.append(told)
    if not shared:
        return []
    is_exact = all(len({pixels_of[name] for name in names}) == 1 for names in shared)
    kind = "of identical pictures" if is_exact else "of copies of one picture"
    what = (f"group {kind} occurs", f"groups {kind} occur")
    places = [" and ".join(sorted({split_of[name] for name in names}, key=PARTS.index)) for names in shared]
    counts = ", ".join(f"{places.count(place)} in {place}" for place in sorted(set(places), key=places.index))
    return [
        Issue(
            code="copies_in_several_splits",
            severity="warning",
            message=f"{show_count(len(shared), *what)} in several of the data's own splits ({counts}), "
            f"such as {shared[0][0]}.",
            advice="Nothing to do: they stay in test before val before train; `snellen train` leaves the others "
            "out and "
            "lists them in its splits.csv with the reason.",
            samples=tuple(name for names in shared for name in names),
        )
    ]
