"""What is wrong with the data, as issues; those of copies come from next door (`ingest/copy_issues.py`)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from snellen.core.letters import agree, show_class, show_count, show_name
from snellen.ingest.copies import group_copies
from snellen.ingest.copy_issues import check_copies, check_copies_in_splits
from snellen.ingest.patients import HOW_TO_TELL
from snellen.records.cohort import PARTS, Audit, CopyLink, Issue, PatientRule, Sample, SetAside
from snellen.records.recipe import CopyScope

_SMALL_CLASS = 30
_FEW_PATIENTS = 5
_SHOWN_PATIENTS = 3


def build_audit(
    samples: Sequence[Sample],
    classes: Sequence[str],
    rule: PatientRule,
    issues: Sequence[Issue],
    set_aside: Sequence[SetAside] = (),
    *,
    links: Sequence[CopyLink] = (),
    copies: CopyScope | None = None,
) -> Audit:
    """The audit of all readable samples and of what was set aside: together all that the source named.

    `links` are transformed copies, `copies` what was asked to be looked for: identical pictures, if nothing was.
    """
    groups = () if copies == "off" else group_copies(samples, links)
    found = [
        *issues,
        *check_copies(samples, groups, links, copies),
        *check_patients(rule),
        *(check_mixed_patients(samples, rule) or check_patient_labels(samples)),
        *check_splits(samples),
        *check_copies_in_splits(samples, groups),
        *check_classes(samples, classes),
    ]
    return Audit(
        n_samples=len(samples) + len(set_aside),
        n_read=len(samples),
        n_set_aside=len(set_aside),
        classes={name: sum(sample.label == name for sample in samples) for name in classes},
        patients=rule,
        duplicate_groups=groups,
        copies=tuple(links),
        copy_search=copies or "exact",
        set_aside=tuple(set_aside),
    ).with_issues(found)


def check_patients(rule: PatientRule) -> list[Issue]:
    """What the inference of patients took for granted."""
    if rule.origin != "inferred":
        return []
    return [
        Issue(
            code="patients_inferred",
            severity="info",
            message=f"{show_count(rule.n, 'patient was', 'patients were')} inferred from file names ({rule.rule}).",
            advice=(
                f"Check the examples: {' | '.join(rule.examples)}. If they are wrong"
                if rule.examples
                else "No patient has several pictures. If that is wrong"
            )
            + f", use {HOW_TO_TELL}.",
        )
    ]


def check_mixed_patients(samples: Sequence[Sample], rule: PatientRule) -> list[Issue]:
    """Patients guessed from names of whom most have several classes: numbers may begin anew in each class's folder."""
    labels: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        labels[sample.patient].append(sample.label)
    several = {patient: set(found) for patient, found in labels.items() if len(found) > 1}
    mixed = [patient for patient, found in several.items() if len(found) > 1]
    if rule.origin != "inferred" or len(several) < _FEW_PATIENTS or 2 * len(mixed) <= len(several):
        return []
    chosen = set(mixed)
    names = tuple(sample.name for sample in samples if sample.patient in chosen)
    shown = ", ".join([sample.name for sample in samples if sample.patient == mixed[0]][:3])
    return [
        Issue(
            code="patients_of_several_classes",
            severity="info",
            message=f"{len(mixed):,} of {len(several):,} inferred patients with several pictures have several classes, "
            f"such as {shown}.",
            advice=f"Where numbers begin anew in each class these are different patients: give {HOW_TO_TELL}. Where "
            "one patient does show several classes, nothing.",
            samples=names,
        )
    ]


def check_patient_labels(samples: Sequence[Sample]) -> list[Issue]:
    """Patients whose pictures carry different labels, whoever told the patients."""
    own: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        own[sample.patient].append(sample)
    several = [found for found in own.values() if len(found) > 1]
    mixed = [found for found in several if len({sample.label for sample in found}) > 1]
    if not mixed:
        return []
    shown = "; ".join(_show_labels(found) for found in mixed[:_SHOWN_PATIENTS])
    is_one = len(mixed) == 1
    return [
        Issue(
            code="patients_labelled_differently",
            severity="info",
            message=f"{len(mixed)} of {show_count(len(several), 'patient')} with several pictures "
            f"{'has' if is_one else 'have'} pictures of different classes, such as {shown}.",
            advice="Two eyes of a person can differ, and so can two places or visits. Where they cannot, have "
            "the labels "
            "looked at.",
            samples=tuple(sample.name for found in mixed for sample in found),
        )
    ]


def _show_labels(own: Sequence[Sample]) -> str:
    """`P7: a.png (drusen), b.png (normal)`: one picture of each of the first two labels."""
    first = list({sample.label: sample for sample in reversed(own)}.values())[::-1][:2]
    listed = ", ".join(f"{show_name(sample.name)} ({show_class(sample.label)})" for sample in first)
    return f"{show_name(own[0].patient)}: {listed}"


def check_splits(samples: Sequence[Sample]) -> list[Issue]:
    """Patients that occur in several of the data's own splits, and pictures for which none is told."""
    found = []
    untold = tuple(sample.name for sample in samples if not sample.split)
    if 0 < len(untold) < len(samples):
        found.append(
            Issue(
                code="split_untold",
                severity="warning",
                message=f"{len(untold):,} of {len(samples):,} pictures {agree(len(untold), 'have')} no split where "
                "the others have one, such as "
                f"{untold[0]}.",
                advice="Write their split. Until then they are left out of training, validation and test.",
                samples=untold,
            )
        )
    splits: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        if sample.split:
            splits[sample.patient].add(sample.split)
    shared = {patient: where for patient, where in splits.items() if len(where) > 1}
    if shared:
        names = tuple(sample.name for sample in samples if sample.patient in shared)
        one = next(iter(shared))
        parts = {sample.split: sample.name for sample in reversed(samples) if sample.patient == one and sample.split}
        example = ", ".join(f"{show_name(parts[part])} ({part})" for part in sorted(parts, key=PARTS.index))
        found.append(
            Issue(
                code="patients_in_several_splits",
                severity="warning",
                message=f"{show_count(len(shared), 'patient occurs', 'patients occur')} in several of the data's "
                "own splits "
                f"({_count_places(shared.values())}), such as {show_name(one)}: {example}.",
                advice="Nothing to do: they stay in test before val before train; `snellen train` leaves the "
                "others out "
                "and lists them in its splits.csv with the reason.",
                samples=names,
            )
        )
    return found


def _count_places(places: Iterable[set[str]]) -> str:
    """`2 in train and test, 1 in train and val`."""
    counts = Counter(" and ".join(sorted(where, key=PARTS.index)) for where in places)
    return ", ".join(f"{count} in {where}" for where, count in counts.most_common())


def check_classes(samples: Sequence[Sample], classes: Sequence[str]) -> list[Issue]:
    """Classes with few patients, whose numbers will be uncertain."""
    patients: Counter[str] = Counter()
    for _, label in {(sample.patient, sample.label) for sample in samples}:
        patients[label] += 1
    small = [name for name in classes if patients[name] < _SMALL_CLASS]
    if not small:
        return []
    listed = ", ".join(f"{show_class(name)} ({patients[name]})" for name in small)
    return [
        Issue(
            code="few_patients",
            severity="warning",
            message=f"Classes with fewer than {_SMALL_CLASS} patients: {listed}. Their intervals will be wide.",
            advice="Collect more patients of these classes.",
        )
    ]
