"""Names of classes: one Unicode form, natural order, and names that look like one class but are two."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from snellen.core.natural_order import sort_naturally
from snellen.ingest.patients import RawSample
from snellen.ingest.samples import make_issue, show_names
from snellen.records.cohort import Issue

# as they are compared: without case, blanks and punctuation; "none" and "nothing" may well mean healthy
_VAGUE = frozenset(
    {
        "", "na", "nan", "null", "unknown", "unk", "other", "others", "misc", "miscellaneous", "ungradable",
        "ungradeable", "notgradable", "notgradeable", "ungraded", "unlabelled", "unlabeled", "unclassified",
        "unclassifiable", "undefined", "undetermined", "indeterminate", "uncertain", "unsure", "unclear", "tbd", "todo",
        "missing", "rest",
    }
)  # fmt: skip


def compose_label(label: str) -> str:
    """A label in Unicode's composed form (NFC) and on one line."""
    return re.sub(r"[\t\n\v\f\r]+", " ", unicodedata.normalize("NFC", label))


def normalise_labels(samples: Sequence[RawSample]) -> tuple[list[RawSample], list[Issue]]:
    """Labels as `compose_label` makes them, and an issue where that changed them."""
    form = {label: compose_label(label) for label in {sample.label for sample in samples}}
    changed = sorted(label for label, composed in form.items() if label != composed)
    done = [replace(sample, label=form[sample.label]) for sample in samples] if changed else list(samples)
    issues = []
    if changed:
        shown = show_names([form[name] for name in changed])
        message = f"Class names were brought into one Unicode form (NFC) and on one line: {shown}."
        issues.append(make_issue("class_names_normalised", "info", message, "Nothing to do."))
    return done, issues


def check_alike(samples: Sequence[RawSample]) -> list[Issue]:
    """Classes whose names differ only in case or blanks. They stay two: only who made the data knows better."""
    counts = Counter(sample.label for sample in samples)
    groups: dict[str, list[str]] = defaultdict(list)
    for label in sort_classes(set(counts)):
        groups[" ".join(label.casefold().split())].append(label)
    alike = [labels for labels in groups.values() if len(labels) > 1]
    if not alike:
        return []
    shown = "; ".join(" and ".join(f"{label!r} ({counts[label]})" for label in labels) for labels in alike)
    # as `--set` reads it: the most frequent spelling stands for all
    merged = ", ".join(
        f"{json.dumps(max(labels, key=counts.__getitem__), ensure_ascii=False)} = "
        f"{json.dumps(labels, ensure_ascii=False)}"
        for labels in alike
    )
    return [
        make_issue(
            "class_names_alike",
            "severe",
            f"Class names differ only in case or blanks and count as different classes: {shown}.",
            "If they are one class, rename the folders or labels, or merge them: `snellen train DATA --set "
            f"'data.merge={{ {merged} }}'`",
            [sample.name for sample in samples if any(sample.label in labels for labels in alike)],
        )
    ]


def check_vague(samples: Sequence[RawSample]) -> list[Issue]:
    """Classes that are named like the lack of a finding's name: the model will learn to answer with them."""
    found = [label for label in sort_classes({sample.label for sample in samples}) if _is_vague(label)]
    if not found:
        return []
    return [
        make_issue(
            "class_names_vague",
            "info",
            f"Classes are named like no finding: {show_names(found)}. They are learned and answered like any other.",
            "If their pictures were not graded, or cannot be, leave them out: delete the label, or move the folder.",
            [sample.name for sample in samples if sample.label in found],
        )
    ]


def _is_vague(label: str) -> bool:
    """Also -1 and such, which many tables write where nothing was graded."""
    return re.sub(r"[\W_]+", "", label.casefold()) in _VAGUE or re.fullmatch(r"-[1-9]\d*(\.0)?", label) is not None


def sort_classes(labels: set[str]) -> tuple[str, ...]:
    """Natural order: `grade_2` before `grade_10`, -1 before 0.25 before 0.5."""
    return sort_naturally(labels)
