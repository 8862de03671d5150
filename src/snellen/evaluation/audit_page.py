"""`audit.html`: what the data hold and what is wrong with them, as one self-contained page.

This room knows records and which parts the page has. It must not know files or how an issue is found; it returns
text and writes nothing. Names are never lost: where the page stops listing, it says how many more audit.json holds.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from snellen.core.letters import show_class
from snellen.evaluation import audit_tables
from snellen.evaluation.audit_copies import choose_shown, collect_links, tell_relation
from snellen.evaluation.audit_labels import choose_suspects, list_suspects
from snellen.evaluation.audit_needs import build_needs, explain_joined, explain_needs
from snellen.evaluation.audit_shortcuts import LIMIT, build_chart, build_facts, explain_reach
from snellen.evaluation.pages import open_environment
from snellen.evaluation.wording import format_count, list_some, name_classes, name_split
from snellen.records.cohort import PARTS, SPLITS, Cohort, Issue, Sample, Split
from snellen.records.evaluation import Estimate

THUMBNAIL_PX = 128
MAX_CLASSES = 100
MAX_NAMES = 2000
MAX_GROUPS = 200
N_GROUP_PICTURES = 30
N_CLASS_PICTURES = 96
N_OF_A_CLASS = 12
N_ISSUE_PICTURES = 6
FEW_IN_TEST = 10
SEVERITIES = {
    "severe": "Severe: correct these first",
    "warning": "Warnings: numbers may be worse or less certain than they could be",
    "info": "To know",
}

# told in another section, with pictures there, or of no single picture
_UNSHOWN = ("exact_duplicates", "likely_wrong_labels", "high_bit_depth", "patients_inferred", "patients_unknown")


@dataclass(frozen=True)
class AuditPage:
    """What the page is made of. `thumbnails` maps names of samples to data URIs; a sample without one is only named.

    `model` is a split with a model's AUC on it, where one was trained. `order_hint` says why numbers are no grades.
    """

    cohort: Cohort
    splits: Sequence[Split]
    data: str
    command: str
    next_command: str
    thumbnails: Mapping[str, str] = field(default_factory=dict)
    snellen_version: str = ""
    model: tuple[str, Estimate] | None = None
    order_hint: str = ""


@dataclass(frozen=True)
class ClassRow:
    """A class: its counts, patients in each part, and whether training has what it needs of it."""

    name: str
    pictures: int
    patients: int
    parts: dict[str, int]
    share: float

    @property
    def lacking(self) -> list[str]:
        return [part for part in SPLITS if not self.parts[part]]

    @property
    def is_thin(self) -> bool:
        return self.parts["test"] < FEW_IN_TEST


@dataclass(frozen=True)
class Copy:
    """One picture of a group of copies. `fate` says in words in which part it is, or why in none; `relation` how it
    differs from the first one; `source` is its picture, where the page shows it.
    """

    name: str
    label: str
    fate: str
    relation: str = ""
    source: str = ""


@dataclass(frozen=True)
class CopyGroup:
    """Copies of one picture. `notes` says what is wrong with the group; empty where nothing has to be done."""

    copies: tuple[Copy, ...]
    notes: tuple[str, ...]

    @property
    def shown(self) -> tuple[Copy, ...]:
        """Those that the page shows as pictures."""
        return tuple(copy for copy in self.copies if copy.source)


def render_audit(page: AuditPage) -> str:
    """The page as HTML. Equal inputs give equal text; nothing in it refers to another file or host."""
    cohort, audit = page.cohort, page.cohort.audit
    rows = list_classes(cohort, page.splits)
    context = {
        "page": page,
        "cohort": cohort,
        "audit": audit,
        "sections": _list_sections(page),
        "facts": _list_facts(page),
        "rows": rows[:MAX_CLASSES],
        "n_more_classes": max(0, len(rows) - MAX_CLASSES),
        "verdict": _judge(rows, audit.issues),
        "steps": _list_steps(page),
        "has_own_splits": any(sample.split for sample in cohort.samples),
        "issues": {name: [i for i in audit.issues if i.severity == name] for name in SEVERITIES},
        "severities": SEVERITIES,
        "max_names": MAX_NAMES,
        "groups": list_groups(page),
        "max_groups": MAX_GROUPS,
        "n_group_pictures": min(N_GROUP_PICTURES, len(audit.duplicate_groups)),
        "samples": choose_samples(cohort),
        "tables": audit_tables,
        "parts": list_parts(page.splits),
        "worst": [(issue, _begin(issue.message)) for issue in audit.list_worst()],
        "issue_pictures": {issue.code: choose_issue_pictures(cohort, issue) for issue in audit.issues},
        **_add_shortcuts(page),
        "suspects": list_suspects(audit.labels, page.thumbnails),
        "n_strong": sum(each.is_strong for each in audit.labels.suspects) if audit.labels else 0,
        "needs_table": build_needs(audit.needs) if audit.needs else None,
        "needs_text": explain_needs(audit.needs) if audit.needs else "",
        "joined_text": explain_joined(page.splits),
    }
    return open_environment().get_template("audit.html.j2").render(context)


def _begin(message: str) -> str:
    """The first two sentences: the summary is short, the list of issues has all."""
    sentences = message.split(". ")
    return message if len(sentences) <= 2 else f"{'. '.join(sentences[:2])}."


def _add_shortcuts(page: AuditPage) -> dict[str, object]:
    found = page.cohort.audit.shortcuts
    if found is None:
        return {}
    return {
        "chart": build_chart(found, page.model),
        "reach": explain_reach(found, page.model),
        "facts_table": build_facts(found),
        "shortcut_limit": LIMIT,
    }


def choose_issue_pictures(cohort: Cohort, issue: Issue) -> list[Sample]:
    """A few pictures of an issue, where it is of single pictures: not where it names most of the cohort."""
    if issue.code in _UNSHOWN or 2 * len(issue.samples) > len(cohort.samples) + N_ISSUE_PICTURES:
        return []
    wanted = dict.fromkeys(issue.samples[:N_ISSUE_PICTURES])
    by_name = {sample.name: sample for sample in cohort.samples if sample.name in wanted}
    return [by_name[name] for name in wanted if name in by_name]


def list_parts(splits: Sequence[Split]) -> list[str]:
    """The three that every training needs, and calibration where there is one."""
    has = {row.split for row in splits}
    return [part for part in PARTS if part in SPLITS or part in has]


def list_classes(cohort: Cohort, splits: Sequence[Split]) -> list[ClassRow]:
    """Every class in the cohort's order, counted against the splits."""
    patients: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in splits:
        patients[row.label, row.split].add(row.patient)
    of_class: dict[str, set[str]] = defaultdict(set)
    for sample in cohort.samples:
        of_class[sample.label].add(sample.patient)
    counts = cohort.audit.classes
    most = max(counts.values(), default=0)
    return [
        ClassRow(
            name,
            counts.get(name, 0),
            len(of_class[name]),
            {part: len(patients[name, part]) for part in list_parts(splits)},
            counts.get(name, 0) / most if most else 0.0,
        )
        for name in cohort.classes
    ]


def list_groups(page: AuditPage) -> list[CopyGroup]:
    """Groups of copies, those that ask for an action first, then the largest."""
    label_of = {sample.name: sample.label for sample in page.cohort.samples}
    fate_of = {row.sample: _tell_fate(row) for row in page.splits}
    own = {sample.name: sample.split for sample in page.cohort.samples if sample.split}
    links = collect_links(page.cohort.audit)
    groups = []
    for names in order_groups(page.cohort):
        notes = []
        labels = Counter(label_of[name] for name in names)
        if len(labels) > 1:
            notes.append("labels contradict: " + ", ".join(f"{show_class(label)} ({n})" for label, n in labels.items()))
        places = sorted({own[name] for name in names if name in own}, key=PARTS.index)
        if len(places) > 1:
            notes.append("in several splits: " + ", ".join(name_split(place) for place in places))
        shown = choose_shown(links, names)
        copies = tuple(
            Copy(
                name, label_of[name], fate_of.get(name, ""), tell_relation(links, names, name),
                page.thumbnails.get(name, "") if name in shown else "",
            )
            for name in names
        )  # fmt: skip
        groups.append(CopyGroup(copies, tuple(notes)))
    return groups


def order_groups(cohort: Cohort) -> list[tuple[str, ...]]:
    """Contradicting labels first, then several splits, then by size and name."""
    facts = {sample.name: (sample.label, sample.split) for sample in cohort.samples}

    def rank(names: tuple[str, ...]) -> tuple[int, int, int, str]:
        labels, places = (len({facts[name][at] for name in names}) for at in (0, 1))
        return -(labels > 1), -(places > 1), -len(names), names[0]

    return sorted(cohort.audit.duplicate_groups, key=rank)


def choose_samples(cohort: Cohort) -> dict[str, list[Sample]]:
    """Class → a few of its pictures, drawn by the hash of their pixels: random, and every time the same."""
    per_class = max(1, min(N_OF_A_CLASS, N_CLASS_PICTURES // max(1, len(cohort.classes))))
    members: dict[str, list[Sample]] = defaultdict(list)
    for sample in cohort.samples:
        members[sample.label].append(sample)
    chosen = {}
    for name in cohort.classes[:N_CLASS_PICTURES]:
        drawn = sorted(members[name], key=lambda sample: (_draw_number(sample), sample.name))
        first_with: dict[str, Sample] = {}
        for sample in drawn:
            first_with.setdefault(sample.pixels_sha256, sample)
        chosen[name] = list(first_with.values())[:per_class]
    return chosen


def choose_pictures(cohort: Cohort) -> list[Sample]:
    """All samples whose pictures the page shows; their number is bounded, whatever the cohort's size."""
    by_name = {sample.name: sample for sample in cohort.samples}
    groups = order_groups(cohort)[:N_GROUP_PICTURES]
    links = collect_links(cohort.audit)
    copies = [by_name[name] for names in groups for name in choose_shown(links, names)]
    drawn = [sample for several in choose_samples(cohort).values() for sample in several]
    told = [sample for issue in cohort.audit.issues for sample in choose_issue_pictures(cohort, issue)]
    suspects = choose_suspects(cohort.audit.labels)
    names = [name for each in suspects for name in (each.sample, *(near.sample for near in each.neighbours))]
    beside = [by_name[name] for name in names if name in by_name]
    return list({sample.name: sample for sample in [*copies, *drawn, *told, *beside]}.values())


def _draw_number(sample: Sample) -> bytes:
    return hashlib.sha256(sample.pixels_sha256.encode()).digest()


def _tell_fate(row: Split) -> str:
    return f"left out: {row.reason}" if row.split == "left_out" else name_split(row.split)


def _list_sections(page: AuditPage) -> dict[str, str]:
    audit = page.cohort.audit
    parts = (
        ("summary", "What was found", True),
        ("next", "What to do next", True),
        ("classes", "Classes", True),
        ("patients", "Patients", True),
        ("issues", "Issues", True),
        ("shortcuts", "Shortcuts", audit.shortcuts is not None),
        ("labels", "Labels to look at", bool(audit.labels and audit.labels.suspects)),
        ("copies", "Copies", bool(audit.duplicate_groups)),
        ("set-aside", "Set aside", bool(audit.set_aside)),
        ("pictures", "Pictures", True),
        ("files", "Sizes and formats", True),
        ("reproduce", "How to reproduce", True),
    )
    return {anchor: heading for anchor, heading, is_shown in parts if is_shown}


def _list_facts(page: AuditPage) -> dict[str, str]:
    cohort = page.cohort
    facts = {
        "Data": page.data,
        "Read as": cohort.layout,
        "Labels from": cohort.class_origin,
        "Classes": name_classes(cohort.classes, is_ordered=cohort.is_ordered),
        "Order": "grades, the lowest first" if cohort.is_ordered else page.order_hint,
        "Patients told by": cohort.patients.rule,
    }
    return {name: value for name, value in facts.items() if value}


def _judge(rows: Sequence[ClassRow], issues: Sequence[Issue]) -> str:
    """Whether training is possible, and whether its numbers could be believed."""
    lacking = [row.name for row in rows if row.lacking]
    n_severe = sum(issue.severity == "severe" for issue in issues)
    n_warnings = sum(issue.severity == "warning" for issue in issues)
    if len(rows) < 2:
        return "Training is not possible: there is one class only."
    if lacking:
        shown = list_some([show_class(name) for name in lacking], 5)
        return f"Training is not possible yet: {shown} cannot fill training, validation and test."
    possible = "Training is possible: every class has patients for training, validation and test."
    if any(issue.code == "shortcut_facts" for issue in issues):
        return (
            "Training is possible, but its numbers could not be believed: the files give the class away. "
            f"Settle {'that' if n_severe == 1 else f'the {n_severe} severe issues'} first."
        )
    if n_severe:
        return f"Training is possible, but {format_count(n_severe, 'severe issue')} should be looked at first."
    return f"{possible} {format_count(n_warnings, 'warning')} to look at." if n_warnings else possible


def _list_steps(page: AuditPage) -> list[str]:
    """What a careful person would do now, in order."""
    audit = page.cohort.audit
    n_severe = sum(issue.severity == "severe" for issue in audit.issues)
    steps = (
        [f"Settle the {'severe issue' if n_severe == 1 else f'{n_severe} severe issues'} above."] if n_severe else []
    )
    if audit.set_aside:
        listed = format_count(len(audit.set_aside), "picture or row", "pictures or rows")
        steps.append(f"See whether the {listed} set aside can be repaired.")
    if audit.patients.origin in ("inferred", "none"):
        steps.append("Check who the patients are: everything that follows rests on it.")
    steps.append("Look through the pictures of each class below: many a wrong label is seen at once.")
    return steps
