"""Whether the class can be told without anatomy: from facts of the file, from the rim, from colour alone.

Each question is answered by a forest that is cross-validated over patients with all their copies, so that no one is
recognised. This room knows samples, looks and labels. It must not know models or splits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from snellen.core.errors import StorageError
from snellen.core.letters import show_class
from snellen.core.storage import compute_digest, read_json, write_atomic
from snellen.imaging.looks import BORDER, COLOURS
from snellen.ingest.file_facts import BYTES, NAME, build_fact_tables, describe_by_class
from snellen.ingest.grouped_probe import (
    FEWEST_GROUPS,
    TREES,
    Question,
    ask,
    estimate_auc,
    find_obstacle,
    list_small_classes,
    probe_table,
)
from snellen.ingest.picture_looks import LOOKS_VERSION, Looks
from snellen.planning.splits import join_groups
from snellen.records.audit import Giveaway, Shortcuts
from snellen.records.cohort import Cohort, Issue, Sample
from snellen.records.evaluation import Estimate

LIMIT = 0.7
WORTH_NAMING = 0.6
_MOST_PICTURES = 20_000
_TREES_OF_A_KIND = 30
_VERSION = "shortcuts-4"
_SHOWN_CLASSES = 4


def measure_shortcuts(cohort: Cohort, looks: Looks, cache: Path) -> Shortcuts:
    """The three AUCs with intervals, and each kind of fact by itself; what was measured before comes from `cache`.

    A class of too few patients is left out and named, and the others are asked: a mistyped label hides no shortcut.
    """
    samples, groups = cohort.samples, join_groups(cohort)
    small = list_small_classes([sample.label for sample in samples], [groups[sample.name] for sample in samples])
    if len({sample.label for sample in samples} - set(small)) < 2:
        small = []  # nothing would be left to ask
    rows = _choose_rows(samples, groups, set(small))
    chosen = [samples[row] for row in rows]
    labels, own = [sample.label for sample in chosen], [groups[sample.name] for sample in chosen]
    if obstacle := find_obstacle(labels, own):
        return Shortcuts(left_out=(obstacle,))
    lines = (
        f"{s.location}\0{s.name}\0{s.n_bytes}\0{s.pixels_sha256}\0{s.label}\0{g}"
        for s, g in zip(chosen, own, strict=True)
    )
    store = cache / "shortcuts" / f"{compute_digest([_VERSION, LOOKS_VERSION, *lines])[:24]}.json"
    found = _load(store)
    if found is None:
        found = _measure(chosen, Looks(looks.names, looks.values[rows]), ask(labels, own))
        write_atomic(store, found.to_json())
    return found.model_copy(update={"left_out": (*_name_small(small), *found.left_out)}) if small else found


def _name_small(small: Sequence[str]) -> tuple[str, ...]:
    shown = ", ".join(f"“{name}”" for name in small[:_SHOWN_CLASSES])
    more = f" and {len(small) - _SHOWN_CLASSES} more" if len(small) > _SHOWN_CLASSES else ""
    what = "the class" if len(small) == 1 else f"{len(small)} classes"
    return (f"{what} {shown}{more}, with fewer than {FEWEST_GROUPS} patients",)


def check_shortcuts(found: Shortcuts) -> list[Issue]:
    """What of it is worth a word."""
    return [*_check_facts(found), *_check_border(found), *_check_colours(found), *_tell_left_out(found)]


def _choose_rows(samples: Sequence[Sample], groups: dict[str, str], small: set[str]) -> NDArray[np.intp]:
    """All rows but those of small classes, or whole groups drawn by the hash of their names where they are too many."""
    asked = np.array([at for at, sample in enumerate(samples) if sample.label not in small], np.intp)
    if len(asked) <= _MOST_PICTURES:
        return asked
    own = [groups[samples[at].name] for at in asked]
    rank = {group: at for at, group in enumerate(sorted(set(own), key=lambda group: compute_digest([group])))}
    ranked = np.argsort([rank[group] for group in own], kind="stable")
    return np.sort(asked[ranked[:_MOST_PICTURES]])


def _measure(samples: Sequence[Sample], looks: Looks, question: Question) -> Shortcuts:
    border = estimate_auc(probe_table(looks.columns(BORDER), question), question)
    colours = estimate_auc(probe_table(looks.columns(COLOURS), question), question)
    found = Shortcuts(border_auc=border, colours_auc=colours, n_folds=question.n_folds)
    if all("::" in sample.location for sample in samples):
        reason = "file facts: the pictures lie in an array or a file of several, and have no files of their own"
        return found.model_copy(update={"left_out": (reason,)})
    tables = {kind: table for kind, table in build_fact_tables(samples, looks).items() if (table != table[:1]).any()}
    if not tables:
        reason = "file facts: they are the same in every file"
        return found.model_copy(update={"facts_auc": Estimate(value=0.5, method="none"), "left_out": (reason,)})

    def ask_of(kinds: Sequence[str], trees: int = TREES) -> Estimate | None:
        if not kinds:
            return None
        return estimate_auc(
            probe_table(np.concatenate([tables[kind] for kind in kinds], axis=1), question, trees), question
        )

    unnamed = [kind for kind in tables if kind != NAME]
    made = [kind for kind in unnamed if kind != BYTES]
    giveaways = [
        Giveaway(name=kind, auc=auc, by_class=describe_by_class(kind, samples, looks))
        for kind in tables
        if (auc := ask_of([kind], _TREES_OF_A_KIND)) is not None
    ]
    facts = ask_of(list(tables))
    seen = facts if len(unnamed) == len(tables) else ask_of(unnamed)
    return found.model_copy(
        update={
            "facts_auc": facts,
            "unnamed_auc": seen,
            "made_auc": seen if len(made) == len(unnamed) else ask_of(made),
            "giveaways": tuple(sorted(giveaways, key=lambda each: -(each.auc.value or 0))),
        }
    )


def _load(store: Path) -> Shortcuts | None:
    try:
        return Shortcuts.model_validate(read_json(store)) if store.is_file() else None
    except (StorageError, ValidationError):
        return None


def _exceeds(estimate: Estimate | None, limit: float = LIMIT) -> bool:
    return estimate is not None and estimate.low is not None and estimate.low > limit


def _check_facts(found: Shortcuts) -> list[Issue]:
    if found.facts_auc is None or not _exceeds(found.facts_auc):
        return []
    told = {each.name: each for each in found.giveaways}
    if not _exceeds(found.unnamed_auc):
        return [
            Issue(
                code="names_tell_class",
                severity="warning",
                message=f"The form of the files' names alone tells the class: AUC {_show_interval(found.facts_auc)} "
                f"({_list_classes(told[NAME])}). No model sees names; but names of several forms often mean several "
                "sources.",
                advice="If the classes come from different places, measure on each place by itself. Else nothing.",
            )
        ]
    if not _exceeds(found.made_auc, WORTH_NAMING):
        return [
            Issue(
                code="file_size_tells_class",
                severity="info",
                message="Of all facts of the files, the size in bytes tells the class: AUC "
                f"{_show_interval(found.unnamed_auc)} ({_list_classes(told[BYTES])}). With equal format and "
                "compression that may be what the pictures show: plain ones take fewer bytes.",
                advice="Check that all classes were exported in one way. If so, nothing.",
            )
        ]
    telling = [each for each in found.giveaways if _exceeds(each.auc, WORTH_NAMING)]
    named = [f"{each.name} (alone {_show(each.auc)})" for each in telling[:4]]
    seen = next((each for each in telling if each.name not in (NAME, BYTES)), None)
    return [
        Issue(
            code="shortcut_facts",
            severity="severe",
            message="The class can be told from facts of the files alone, without a look at the pictures: AUC "
            f"{_show_interval(found.facts_auc)}."
            + (f" What gives it away: {', '.join(named)}." if named else "")
            + (f" {seen.name.capitalize()}: {_list_classes(seen)}." if seen else ""),
            advice="The classes come from different sources, and a model can learn the source. Export all in one "
            "format, size and compression, cut off what only one source has, and measure on each source by itself or "
            "on pictures from elsewhere: a source that holds several classes is a sound cohort of its own.",
        )
    ]


def _check_border(found: Shortcuts) -> list[Issue]:
    if found.border_auc is None or not _exceeds(found.border_auc):
        return []
    return [
        Issue(
            code="shortcut_border",
            severity="warning",
            message="The class can be told from the rim and the corners of the pictures alone: AUC "
            f"{_show_interval(found.border_auc)}. The cause may be the mask or margin of a device, another "
            "compression, size or crop of one class, or the disease itself: where it reaches the rim, and in pictures "
            "so small that the rim holds anatomy.",
            advice="Look at the rims below, class by class. Cut off what differs (`snellen train DATA --set "
            "preprocess.crop_border=true`, or crop the files), and measure on each source by itself.",
        )
    ]


def _check_colours(found: Shortcuts) -> list[Issue]:
    if found.colours_auc is None or not _exceeds(found.colours_auc):
        return []
    return [
        Issue(
            code="colours_tell_class",
            severity="info",
            message="Mean colour, brightness and contrast alone tell the class: AUC "
            f"{_show_interval(found.colours_auc)}. In some diseases (cataract) that is the disease; else it is "
            "the camera.",
            advice="Nothing, where the disease changes colours. Else train with augment.brightness and "
            "augment.contrast above 0, and measure on another device.",
        )
    ]


def _tell_left_out(found: Shortcuts) -> list[Issue]:
    if not found.left_out:
        return []
    how = "in part" if found.n_folds else "as a whole"
    return [
        Issue(
            code="shortcuts_left_out",
            severity="info",
            message=f"The search for shortcuts was left out {how}: {'; '.join(found.left_out)}.",
            advice="Look at formats, sizes and rims by class yourself: `snellen audit DATA --out DIR` makes a page.",
        )
    ]


def _show(estimate: Estimate) -> str:
    return "–" if estimate.value is None else f"{estimate.value:.2f}"


def _show_interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    shown = "" if estimate.low is None else f" (95 % interval {estimate.low:.2f} to {estimate.high:.2f})"
    return _show(estimate) + shown


def _list_classes(giveaway: Giveaway) -> str:
    shown = [f"{show_class(label)}: {text}" for label, text in list(giveaway.by_class.items())[:_SHOWN_CLASSES]]
    more = len(giveaway.by_class) - _SHOWN_CLASSES
    return "; ".join(shown) + (f" and {more} more classes" if more > 0 else "")
