"""What is wrong with the data, as issues. This is the first part; copies that are not exact come later."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from snellen.core.letters import reveal
from snellen.ingest.patients import HOW_TO_TELL
from snellen.records.cohort import SPLITS, Audit, Issue, PatientRule, Sample, SetAside

_SMALL_CLASS = 30
_FEW_PATIENTS = 5


def build_audit(
    samples: Sequence[Sample],
    classes: Sequence[str],
    rule: PatientRule,
    issues: Sequence[Issue],
    set_aside: Sequence[SetAside] = (),
) -> Audit:
    """The audit of all readable samples and of what was set aside: together all that the source named."""
    groups = find_duplicates(samples)
    found = [
        *issues,
        *check_duplicates(samples, groups),
        *check_patients(rule),
        *check_mixed_patients(samples, rule),
        *check_splits(samples),
        *check_classes(samples, classes),
    ]
    return Audit(
        n_samples=len(samples) + len(set_aside),
        n_read=len(samples),
        n_set_aside=len(set_aside),
        classes={name: sum(sample.label == name for sample in samples) for name in classes},
        patients=rule,
        duplicate_groups=groups,
        set_aside=tuple(set_aside),
    ).with_issues(found)


def find_duplicates(samples: Sequence[Sample]) -> tuple[tuple[str, ...], ...]:
    """Names of samples whose decoded pixels are identical, group by group."""
    by_pixels: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        by_pixels[sample.pixels_sha256].append(sample.name)
    return tuple(tuple(sorted(names)) for names in by_pixels.values() if len(names) > 1)


def check_duplicates(samples: Sequence[Sample], groups: Sequence[Sequence[str]]) -> list[Issue]:
    """Exact copies, and those among them whose labels contradict each other."""
    if not groups:
        return []
    label_of = {sample.name: sample.label for sample in samples}
    conflicts = [group for group in groups if len({label_of[name] for name in group}) > 1]
    n_copies = sum(len(group) - 1 for group in groups)
    found = [
        Issue(
            code="exact_duplicates",
            severity="info",
            message=f"{_count(n_copies, 'picture is an exact copy', 'pictures are exact copies')} of others "
            f"({_count(len(groups), 'group', 'groups')}), such as {groups[0][0]} = {groups[0][1]}.",
            advice="Nothing to do: copies stay on one side of every split.",
            samples=tuple(name for group in groups for name in group),
        )
    ]
    if conflicts:
        first = ", ".join(f"{name} ({label_of[name]})" for name in conflicts[0])
        found.append(
            Issue(
                code="conflicting_copies",
                severity="severe",
                message=f"{_count(len(conflicts), 'group', 'groups')} of identical pictures "
                f"{'carries' if len(conflicts) == 1 else 'carry'} different labels, such as {first}.",
                advice="Ask whoever graded them; until then both labels are kept and count as noise.",
                samples=tuple(name for group in conflicts for name in group),
            )
        )
    return found


def check_patients(rule: PatientRule) -> list[Issue]:
    """What the inference of patients took for granted."""
    if rule.origin != "inferred":
        return []
    return [
        Issue(
            code="patients_inferred",
            severity="info",
            message=f"{rule.n} patients were inferred from file names ({rule.rule}).",
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
            message=f"{len(mixed)} of {len(several)} inferred patients with several pictures have several classes, "
            f"such as {shown}.",
            advice=f"Where numbers begin anew in each class these are different patients: give {HOW_TO_TELL}. Where "
            "one patient does show several classes, nothing.",
            samples=names,
        )
    ]


def check_splits(samples: Sequence[Sample]) -> list[Issue]:
    """Patients and identical pictures that occur in several of the data's own splits."""
    found = []
    untold = tuple(sample.name for sample in samples if not sample.split)
    if 0 < len(untold) < len(samples):
        found.append(
            Issue(
                code="split_untold",
                severity="warning",
                message=f"{len(untold)} of {len(samples)} pictures have no split where the others have one, such as "
                f"{untold[0]}.",
                advice="Write their split. Until then they are left out of training, validation and test.",
                samples=untold,
            )
        )
    for code, what, key in (
        ("patients_in_several_splits", "patients", "patient"),
        ("copies_in_several_splits", "identical pictures", "pixels_sha256"),
    ):
        splits: dict[str, set[str]] = defaultdict(set)
        for sample in samples:
            if sample.split:
                splits[getattr(sample, key)].add(sample.split)
        shared = {value: where for value, where in splits.items() if len(where) > 1}
        if shared:
            names = tuple(sample.name for sample in samples if getattr(sample, key) in shared)
            found.append(
                Issue(
                    code=code,
                    severity="warning",
                    message=f"{len(shared)} {what} occur in several of the data's own splits "
                    f"({_count_places(shared.values())}), such as {names[0]}.",
                    advice="Nothing to do: they stay in test before val before train; the others are left out and "
                    "listed in splits.csv with the reason.",
                    samples=names,
                )
            )
    return found


def _count_places(places: Iterable[set[str]]) -> str:
    """`2 in train and test, 1 in train and val`."""
    counts = Counter(" and ".join(sorted(where, key=SPLITS.index)) for where in places)
    return ", ".join(f"{count} in {where}" for where, count in counts.most_common())


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def check_classes(samples: Sequence[Sample], classes: Sequence[str]) -> list[Issue]:
    """Classes with few patients, whose numbers will be uncertain."""
    patients: Counter[str] = Counter()
    for _, label in {(sample.patient, sample.label) for sample in samples}:
        patients[label] += 1
    small = [name for name in classes if patients[name] < _SMALL_CLASS]
    if not small:
        return []
    listed = ", ".join(f"{reveal(name)} ({patients[name]})" for name in small)
    return [
        Issue(
            code="few_patients",
            severity="warning",
            message=f"Classes with fewer than {_SMALL_CLASS} patients: {listed}. Their intervals will be wide.",
            advice="Collect more patients of these classes.",
        )
    ]
