"""Who is in which part. A group is a patient with all copies of its pictures: it is never divided."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from snellen.core.errors import UsageError, require_no_problems
from snellen.core.letters import agree, show_count
from snellen.core.storage import compute_digest
from snellen.planning.folds import assign_folds
from snellen.records.cohort import PARTS, SPLITS, Cohort, Issue, Sample, Split

_CALIBRATION_SHARE = 2 / 3
_WAY_OUT = (
    "Collect more patients of these classes, remove the classes, or, if the patients were told wrongly, "
    "say how: --patients REGEX, in a table also --columns patient=NAME, or --patients none (then every number is "
    "picture-level)."
)


def choose_splits(
    cohort: Cohort,
    fractions: tuple[float, float, float],
    seed: int,
    *,
    n_folds: int = 0,
    calibration_patients: int = 0,
) -> tuple[Split, ...]:
    """A row a sample, in the cohort's order.

    The data's own splits are kept; what shares a patient or a picture, copied in whatever way, across them leaves the
    training side. A part that the data lack is cut from train by group. Without own splits all is
    drawn: groups stratified by class, the same for the same seed whatever the order of the files. From
    `calibration_patients` groups on (0: never) a part `calibration` is cut too, as `draw_splits` says. With
    folds, all but test are one pool dealt to them, and nothing is cut for calibration. Where the fraction of test is 0
    and the data bring no test, there is none.
    Raises DataError that lists every class which cannot fill the parts, UsageError for impossible fractions.
    """
    _require_fractions(fractions)
    splits = draw_splits(cohort, fractions, seed, 0 if n_folds else calibration_patients)
    has_test = fractions[2] > 0 or any(sample.split == "test" for sample in cohort.samples)
    parts = [part for part in SPLITS if part != "test" or has_test]
    if n_folds:
        splits = assign_folds(splits, n_folds, seed)
        parts.remove("val")
    require_no_problems(
        list_lacking(cohort, splits, parts),
        f"{cohort.name} cannot be split by patient so that {_list(parts)} see every class:",
        _find_way_out(cohort),
    )
    return splits


def _list(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _require_fractions(fractions: tuple[float, float, float]) -> None:
    if abs(sum(fractions) - 1) > 1e-6 or min(fractions[:2]) <= 0:
        raise UsageError(
            f"data.fractions = {list(fractions)} must be positive (that of test may be 0) and add up to 1.",
            "Example: [0.7, 0.15, 0.15]",
        )


def draw_splits(
    cohort: Cohort, fractions: tuple[float, float, float], seed: int, calibration_patients: int = 0
) -> tuple[Split, ...]:
    """As `choose_splits`, but parts may stay empty: the audit shows what is lacking.

    The part `calibration` is as large as val, and where val is drawn, too, each has two thirds of val's fraction. There
    is none where it would lack a class.
    """
    groups = join_groups(cohort)
    has_own = any(sample.split == "calibration" for sample in cohort.samples)
    if calibration_patients and not has_own and len(set(groups.values())) >= calibration_patients:
        splits = _draw(cohort, groups, _share_out(fractions), seed)
        if not list_lacking(cohort, splits, PARTS[1:3]):
            return splits
    return _draw(cohort, groups, dict(zip(SPLITS[1:], fractions[1:], strict=True)), seed)


def _share_out(fractions: tuple[float, float, float]) -> dict[str, float]:
    share = _CALIBRATION_SHARE * fractions[1]
    return {"val": share, "calibration": share, "test": fractions[2]}


def _draw(cohort: Cohort, groups: dict[str, str], shares: dict[str, float], seed: int) -> tuple[Split, ...]:
    """The data's own parts, and those of `shares` that they lack, cut from train."""
    own: dict[str, str] = {sample.name: sample.split for sample in cohort.samples if sample.split}
    part: dict[str, str] = {}
    reason: dict[str, str] = {}
    if own:
        part, reason = _keep_own(cohort.samples, groups, own)
        has = set(part.values())
    else:
        part = dict.fromkeys((sample.name for sample in cohort.samples), "train")
        has = {"train"}
    lacking = {name: share for name, share in shares.items() if name not in has and share > 0}
    if lacking:
        pool = [sample for sample in cohort.samples if part.get(sample.name) == "train"]
        part.update(_cut(pool, groups, lacking, seed))
    return tuple(
        Split.model_validate(
            {
                "sample": sample.name, "patient": sample.patient, "group": groups[sample.name], "label": sample.label,
                "split": part.get(sample.name, "left_out"), "reason": reason.get(sample.name, ""),
            }
        )
        for sample in cohort.samples
    )  # fmt: skip


def list_lacking(cohort: Cohort, splits: Sequence[Split], parts: Sequence[str] = SPLITS) -> list[str]:
    """A sentence for every class that one of `parts` does not hold; none where training is possible."""
    patients: dict[tuple[str, str], set[str]] = defaultdict(set)
    all_patients: dict[str, set[str]] = defaultdict(set)
    all_groups: dict[str, set[str]] = defaultdict(set)
    for row in splits:
        patients[row.split, row.label].add(row.patient)
        all_patients[row.label].add(row.patient)
        all_groups[row.label].add(row.group)
    counts = Counter(sample.label for sample in cohort.samples)
    problems = []
    if len(cohort.classes) < 2:
        problems.append(f"there is one class only: {', '.join(cohort.classes)}")
    for name in cohort.classes:
        empty = [part for part in parts if not patients[part, name]]
        if empty:
            n_patients, n_groups = len(all_patients[name]), len(all_groups[name])
            joined = f", {show_count(n_groups, 'group')} by shared pictures or copies," if n_groups < n_patients else ""
            problems.append(
                f"class {name}: {show_count(counts[name], 'picture')} of {show_count(n_patients, 'patient')}{joined} "
                f"{agree(counts[name], 'leave')} {' and '.join(empty)} without one"
            )
    return problems


def check_lacking(cohort: Cohort, splits: Sequence[Split]) -> list[Issue]:
    """What makes training impossible, told by the audit before training is tried."""
    problems = list_lacking(cohort, splits)
    if not problems:
        return []
    return [
        Issue(
            code="splits_cannot_be_filled",
            severity="severe",
            message=f"Training would refuse these data: {'; '.join(problems)}.",
            advice=_find_way_out(cohort),
        )
    ]


def _find_way_out(cohort: Cohort) -> str:
    own = {sample.split for sample in cohort.samples if sample.split}
    if len(cohort.classes) < 2:
        merged = "data.merge puts all labels into one class; leave some out of it. " if cohort.labels else ""
        return f"{merged}A classifier needs pictures of at least two classes."
    if not own:
        return _WAY_OUT
    parts = ", ".join(part for part in PARTS if part in own)
    return (
        f"The data bring their own splits ({parts}), which are kept: there the classes are lacking. Put pictures of "
        "them into each, remove the classes, or give the data without splits to have them drawn by patient."
    )


def join_groups(cohort: Cohort) -> dict[str, str]:
    """Sample name → group: patients that share a picture become one group.

    Identical pixels are the same picture, and so is what the audit's `duplicate_groups` name. Splits, folds, and
    through them cross-validation and tuning, take their groups from here.
    """
    parent: dict[str, str] = {sample.patient: sample.patient for sample in cohort.samples}
    patient_of = {sample.name: sample.patient for sample in cohort.samples}

    def find(patient: str) -> str:
        while parent[patient] != patient:
            parent[patient] = parent[parent[patient]]
            patient = parent[patient]
        return patient

    identical: dict[str, list[str]] = defaultdict(list)
    if cohort.audit.copy_search != "off":
        for sample in cohort.samples:
            identical[sample.pixels_sha256].append(sample.name)
    for names in (*identical.values(), *cohort.audit.duplicate_groups):
        patients = [patient_of[name] for name in names if name in patient_of]
        for other in patients[1:]:
            a, b = find(patients[0]), find(other)
            if a != b:
                parent[max(a, b)] = min(a, b)
    return {name: find(patient) for name, patient in patient_of.items()}


def list_joined(groups: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Patient → group for those whose group goes by another patient's name, of pairs of patient and group."""
    return {patient: group for patient, group in groups if patient != group}


def compute_split_sha256(splits: Sequence[Split], part: str) -> str:
    """What names a test split: its samples, whatever their order."""
    return compute_digest(sorted(f"{row.sample}\0{row.label}" for row in splits if row.split == part))


def _keep_own(
    samples: Sequence[Sample], groups: dict[str, str], own: dict[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    places: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        if sample.name in own:
            places[groups[sample.name]].add(own[sample.name])
    part: dict[str, str] = {}
    reason: dict[str, str] = {}
    for sample in samples:
        where = own.get(sample.name)
        if where is None:
            reason[sample.name] = "no split is told for it"
            continue
        stays = max(places[groups[sample.name]], key=PARTS.index)
        if where == stays:
            part[sample.name] = where
        else:
            reason[sample.name] = f"its patient or a copy of it is in {stays} too"
    return part, reason


def _cut(pool: Sequence[Sample], groups: dict[str, str], shares: dict[str, float], seed: int) -> dict[str, str]:
    """Cut `shares` off `pool` by group, class by class, at least one group of each class a part where it has enough."""
    members: dict[str, list[Sample]] = defaultdict(list)
    for sample in pool:
        members[groups[sample.name]].append(sample)
    frequency = Counter(sample.label for sample in pool)
    strata: dict[str, list[str]] = defaultdict(list)
    for group in sorted(members):
        # a group of several labels counts where it matters most: with its rarest
        rarest = min({sample.label for sample in members[group]}, key=lambda label: (frequency[label], label))
        strata[rarest].append(group)
    part: dict[str, str] = {}
    targets = {**shares, "train": 1 - sum(shares.values())}
    for number, label in enumerate(sorted(strata)):
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, number])))
        stratum = [strata[label][index] for index in random.permutation(len(strata[label]))]
        sizes = [len(members[group]) for group in stratum]
        for group, where in zip(stratum, _allocate(sizes, targets), strict=True):
            part.update(dict.fromkeys((sample.name for sample in members[group]), where))
    return part


def _allocate(sizes: Sequence[int], targets: dict[str, float]) -> list[str]:
    """Groups in drawn order → part each: first one to every part, then to whichever lacks most pictures."""
    total = sum(sizes)
    lacks = {name: share * total for name, share in targets.items()}
    first = sorted(targets, key=lambda name: -targets[name])
    chosen = []
    for position, size in enumerate(sizes):
        where = first[position] if position < len(first) else max(lacks, key=lambda name: lacks[name])
        lacks[where] -= size
        chosen.append(where)
    return chosen
