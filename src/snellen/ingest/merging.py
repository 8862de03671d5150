"""Labels → classes, where several labels of the data mean one class (`data.merge`). Knows nothing of pictures."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from snellen.core.errors import UsageError, require_no_problems
from snellen.core.natural_order import read_numbers, sort_naturally
from snellen.ingest.classes import compose_label
from snellen.ingest.patients import RawSample

Merge = Mapping[str, Sequence[str]]


def merge_labels(samples: Sequence[RawSample], merge: Merge, *, is_complete: bool = True) -> list[RawSample]:
    """Give every sample whose label is listed the name of its class; others keep theirs.

    With `is_complete` (the data that are trained on) every listed label must occur: raises DataError listing those
    that do not. Data of another site may lack some, or carry the classes already.
    """
    class_of = invert(merge)
    if is_complete:
        _require_labels(samples, class_of)
    return [replace(sample, label=class_of.get(sample.label, sample.label)) for sample in samples]


def _require_labels(samples: Sequence[RawSample], class_of: Mapping[str, str]) -> None:
    present = {sample.label for sample in samples}
    problems = []
    for label, name in class_of.items():
        if label not in present and label != name:
            near = difflib.get_close_matches(label, present, n=1)
            problems.append(f"{name} takes {label!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    require_no_problems(
        problems,
        "data.merge names labels that the data do not have:",
        f"Their labels are: {', '.join(sorted(present)[:20])}",
    )


def find_joined(labels: Iterable[str], merge: Merge) -> list[str]:
    """Classes of `merge` that are also labels of the data, which no class lists: these pictures stay in them."""
    class_of = invert(merge)
    return sorted({label for label in labels if label in class_of.values() and label not in class_of})


def order_classes(labels: Sequence[str], merge: Merge) -> tuple[str, ...]:
    """Numbered classes by number, others in the order of the first of their labels.

    `labels` are those of the data in their own order, which is kept where nothing is merged.
    """
    class_of = map_labels(labels, merge)
    classes = tuple(dict.fromkeys(class_of.values()))
    is_renamed = any(label != name for label, name in class_of.items())
    return sort_naturally(classes) if is_renamed and read_numbers(classes) else classes


def map_labels(labels: Sequence[str], merge: Merge) -> dict[str, str]:
    """Label of the data → class, in the order of `labels`."""
    class_of = invert(merge)
    return {label: class_of.get(label, label) for label in labels}


def invert(merge: Merge) -> dict[str, str]:
    """Label → class. Raises UsageError where a label is listed twice."""
    composed = {compose_label(name): [compose_label(label) for label in labels] for name, labels in merge.items()}
    counts = Counter(label for labels in composed.values() for label in labels)
    twice = [label for label, count in counts.items() if count > 1]
    if twice:
        places = [name for name, labels in composed.items() if twice[0] in labels]
        raise UsageError(
            f"data.merge lists the label {twice[0]!r} more than once ({', '.join(places)}).", "A label has one class."
        )
    return {label: name for name, labels in composed.items() for label in labels}


def describe_merge(merge: Merge) -> str:
    """`positive = 2, 3, 4; negative = 0, 1`."""
    return "; ".join(f"{name} = {', '.join(labels)}" for name, labels in merge.items())
