"""Which samples belong to one patient: told by a column or pattern, else inferred from file names.

The inference works source by source: names of one shape and extension are one source, and equal
numbers of two sources stay two patients. A rule counts only where every name of its source fits it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from snellen.core.errors import UsageError
from snellen.core.letters import agree, show_count
from snellen.ingest.patterns import find_patients
from snellen.records.cohort import Issue, PatientRule

_SIDE = r"(?:left|right|od|os|ou|oi|l|r)"
_STAIN = r"(?:PAS|PASM|HE|H&E|TRI|TRICHROME|MASSON|JONES|SILVER|IHC)"
_PATIENT_FOLDER = re.compile(
    r"(?:patient|pat|pt|p|subject|subj|sub|s|case|person|id|pid|mrn)[ _-]?\d+\w*|(?!(?:19|20)\d\d$)\d{3,}",
    re.IGNORECASE,
)
_WHOLE = re.compile(r"(0|[1-9]\d*)(\.0+)?")
HOW_TO_TELL = "--patients REGEX, or of a table or array --columns patient=NAME"
_MIN_GROUPS = 10
_MAX_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class RawSample:
    """A sample as its source tells it, before it is read. What the source is silent of is None.

    `laterality` is L or R, `series` what a device took together; both come from DICOM tags.
    `folder` is the first folder within the class, `row` the cells of the table's row.
    """

    name: str
    location: str
    label: str
    split: str | None = None
    patient: str | None = None
    laterality: str | None = None
    series: str | None = None
    is_dicom: bool = False
    folder: str | None = None
    row: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class _Rule:
    title: str
    pattern: re.Pattern[str]
    source: str
    is_loose: bool = False


_RULES = (
    _Rule("patient number before the eye (1034_left.jpg)",
          re.compile(rf"^(?P<patient>.*\d.*?)[ _-]{_SIDE}(?:[ _-]\w+)?$", re.IGNORECASE), "{shape}_side{suffix}"),
    _Rule("patient number between class and picture number (CNV-1016042-3.jpeg)",
          re.compile(r"^[A-Za-z]+-(?P<patient>\d{3,})-\d+$"), "CLASS-{shape}-N{suffix}"),
    _Rule("case number before the stain (18-162_PAS_5of6_….png)",
          re.compile(rf"^(?P<patient>.*\d.*?)_{_STAIN}(?:_.*)?$"), "{shape}_STAIN{suffix}"),
    _Rule("patient number before a picture number (P012_3.png)",
          re.compile(r"^(?P<patient>.*\d.*?)[ _-](?:img|image|slice|scan|view|visit)?\d{1,3}$", re.IGNORECASE),
          "{shape}_N{suffix}", is_loose=True),
)  # fmt: skip

_FOLDER_TITLE = "a folder a patient within the class (patient1034/left.jpg)"


def group_patients(
    samples: Sequence[RawSample], wish: str, title: str = "patient column", *, is_whole: bool = True
) -> tuple[list[RawSample], PatientRule, list[Issue]]:
    """Give every sample its patient.

    `wish` is `auto`, `none` (each picture its own patient) or a regular expression whose group 1
    (or group `patient`) is the patient within the sample's name. Patients that the source tells win over inference;
    `title` says by what it tells them, `is_whole` whether it could have told all (a column) or only files of one kind
    (tags of DICOM files among photographs). Raises UsageError for an expression that is none, fits no name, takes too
    long or leaves open which group is the patient.
    """
    if wish == "none":
        done = [replace(sample, patient=get_own_patient(sample.name)) for sample in samples]
        return done, _describe(done, "one patient a picture, as asked", "none"), [_unknown(len(done), len(done))]
    if wish != "auto":
        return _by_pattern(samples, wish)
    if not is_whole and not all(sample.is_dicom for sample in samples):
        return _by_tags_and_names(samples, title)
    if any(sample.patient for sample in samples):
        # a row without patient is never inferred from its name: half the ids would be of another kind
        empty = tuple(sample.name for sample in samples if not sample.patient)
        told, issues = _settle_ids(samples)
        done = [replace(sample, patient=sample.patient or get_own_patient(sample.name)) for sample in told]
        issues += (
            [_unknown(len(empty), len(done), empty, advice=f"Their {title} is empty: fill it in.")] if empty else []
        )
        return done, _describe(done, title, "column"), issues
    return _by_inference(samples)


def is_patient_folder(name: str) -> bool:
    """Whether a folder within a class is called as patients are: `patient 3`, `P012`, `1034`; not a year or a grade."""
    return _PATIENT_FOLDER.fullmatch(name) is not None


def _settle_ids(samples: Sequence[RawSample]) -> tuple[list[RawSample], list[Issue]]:
    """Numbers that a program wrote as 12.0 become 12; ids that differ only in case, blanks or `.0` are told."""
    ids = sorted({sample.patient for sample in samples if sample.patient})
    issues: list[Issue] = []
    done = list(samples)
    if any("." in name for name in ids) and all(_WHOLE.fullmatch(name) for name in ids):
        done = [replace(sample, patient=(sample.patient or "").partition(".")[0] or None) for sample in samples]
        message = f"The patients are whole numbers, some written with decimals ({ids[0]} …): read as integers."
        issues.append(Issue(code="patients_as_integers", severity="info", message=message, advice="Nothing to do."))
        ids = sorted({sample.patient for sample in done if sample.patient})
    groups: dict[str, list[str]] = defaultdict(list)
    for name in ids:
        groups[re.sub(r"\.0+$", "", re.sub(r"\s", "", name.casefold()))].append(name)
    alike = [names for names in groups.values() if len(names) > 1]
    if alike:
        every = {name for names in alike for name in names}
        issues.append(
            Issue(
                code="patients_alike",
                severity="warning",
                message=f"{show_count(len(alike), 'group')} of patients {agree(len(alike), 'differ')} only in "
                f"case, blanks or decimals and {agree(len(alike), 'count')} as "
                f"different patients, such as {' and '.join(repr(name) for name in alike[0])}.",
                advice="If they are one patient, write the ids alike; otherwise that patient may be in train and test.",
                samples=tuple(sample.name for sample in done if sample.patient in every),
            )
        )
    return done, issues


def _by_tags_and_names(samples: Sequence[RawSample], title: str) -> tuple[list[RawSample], PatientRule, list[Issue]]:
    rest, rule, told_of_rest = _by_inference([sample for sample in samples if not sample.is_dicom])
    by_name = {sample.name: sample for sample in rest}
    done = [
        by_name.get(sample.name) or replace(sample, patient=sample.patient or get_own_patient(sample.name))
        for sample in samples
    ]
    # one count of all samples, not one of the photographs and one of the files with tags; no names stand for all
    nameless = {name for issue in told_of_rest for name in issue.samples or by_name}
    alone = [sample.name for sample in samples if (not sample.patient if sample.is_dicom else sample.name in nameless)]
    issues = [_unknown(len(alone), len(samples), tuple(alone), n_tags=len(alone) - len(nameless))] if alone else []
    told = f"{title}: {show_count(len(samples) - len(rest), 'picture')}; {rule.rule}"
    told += f": {show_count(len(rest), 'picture')}" if rule.origin == "none" else ""
    return done, _describe(done, told, "inferred"), issues


def get_own_patient(name: str) -> str:
    """The patient of a sample of whom nothing is known: itself; frames of one file are surely of one patient."""
    return name.partition("::frame[")[0]


def _by_pattern(samples: Sequence[RawSample], wish: str) -> tuple[list[RawSample], PatientRule, list[Issue]]:
    found = find_patients(wish, [sample.name for sample in samples])
    unmatched = [sample.name for sample, patient in zip(samples, found, strict=True) if not patient]
    done = [
        replace(sample, patient=patient or get_own_patient(sample.name))
        for sample, patient in zip(samples, found, strict=True)
    ]
    if len(unmatched) == len(samples):
        raise UsageError(
            f"--patients '{wish}' fits none of the {len(samples)} names, such as {samples[0].name!r}.",
            "The expression is searched in the sample's name (path below the data folder).",
        )
    issues = [_unknown(len(unmatched), len(samples), tuple(unmatched))] if unmatched else []
    return done, _describe(done, f"pattern {wish}", "pattern"), issues


def _by_inference(samples: Sequence[RawSample]) -> tuple[list[RawSample], PatientRule, list[Issue]]:
    sources: dict[str, list[RawSample]] = defaultdict(list)
    patient_of = _by_folders(samples)
    told: Counter[str] = Counter({_FOLDER_TITLE: len(patient_of)} if patient_of else {})
    for sample in samples:
        if sample.name not in patient_of:
            sources[_shape(sample.name)].append(sample)
    for members in sources.values():
        rule = next((rule for rule in _RULES if _fits(rule, members)), None)
        if rule is None:
            continue
        told[rule.title] += len(members)
        for sample in members:
            patient_of[sample.name] = _patient(rule, sample.name)
    done = [
        replace(sample, patient=sample.patient or patient_of.get(sample.name) or get_own_patient(sample.name))
        for sample in samples
    ]
    alone = [sample.name for sample in done if sample.name not in patient_of]
    if not told:
        return (
            done,
            _describe(done, "one patient a picture: no rule fits the names", "none"),
            [_unknown(len(alone), len(done))],
        )
    title = "; ".join(f"{title}: {show_count(count, 'picture')}" for title, count in told.most_common())
    if alone:
        title += f"; one patient a picture: {show_count(len(alone), 'picture')}"
    issues = [_unknown(len(alone), len(done), tuple(alone))] if alone else []
    return done, _describe(done, title, "inferred"), issues


def _by_folders(samples: Sequence[RawSample]) -> dict[str, str]:
    """Sample → patient where the folders within the classes are patients: all of one shape, several, with a number.

    A folder of the same name in several classes is one patient. Folders that are not called as patients are must be
    many, small, and of one class each: `batch1` is none.
    """
    sources: dict[str, list[tuple[str, RawSample]]] = defaultdict(list)
    for sample in samples:
        if sample.folder and re.search(r"\d", sample.folder):
            sources[re.sub(r"\d+", "N", sample.folder)].append((sample.folder, sample))
    patient_of: dict[str, str] = {}
    for shape, members in sources.items():
        counts = Counter(folder for folder, _ in members)
        n_places = len({(folder, sample.label) for folder, sample in members})
        is_grouping = len(counts) >= _MIN_GROUPS and max(counts.values()) <= _MAX_SHARE * len(members)
        is_named = all(is_patient_folder(folder) for folder in counts)
        if len(counts) > 1 and (is_named or (is_grouping and n_places == len(counts))):
            patient_of |= {sample.name: f"{folder}@{shape}/" for folder, sample in members}
    return patient_of


def _fits(rule: _Rule, members: Sequence[RawSample]) -> bool:
    if any(len(sample.name) > 1000 for sample in members):  # the rules take quadratic time
        return False
    matches = [rule.pattern.match(PurePosixPath(sample.name).stem) for sample in members]
    if not all(matches):
        return False
    if not rule.is_loose:
        return True
    # a loose rule must show real groups: `img2023_001` … `img2023_400` is one folder, not one patient
    groups = Counter(_patient(rule, sample.name) for sample in members)
    is_grouping = _MIN_GROUPS <= len(groups) < len(members)
    return is_grouping and max(groups.values()) <= _MAX_SHARE * len(members)


def _patient(rule: _Rule, name: str) -> str:
    path = PurePosixPath(name)
    match = rule.pattern.match(path.stem)
    patient = path.stem if match is None else match.group("patient")
    source = rule.source.format(shape=re.sub(r"\d+", "N", patient), suffix=path.suffix.lower())
    return f"{patient}@{source}"


def _shape(name: str) -> str:
    path = PurePosixPath(name)
    stem = re.sub(r"_[0-9a-f]{16,}$", "_HEX", path.stem)
    stem = re.sub(rf"(?<=[ _-]){_SIDE}(?=$|[ _-])", "side", stem, flags=re.IGNORECASE)
    return re.sub(r"\d+", "N", stem) + path.suffix.lower()


def _describe(samples: Sequence[RawSample], rule: str, origin: str) -> PatientRule:
    members: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        members[sample.patient or sample.name].append(sample.name)
    several = [item for item in members.items() if len(item[1]) > 1]
    largest = sorted(several, key=lambda item: (-len(item[1]), item[0]))[:3]
    examples = tuple(f"{patient}: {', '.join(names[:3])}{' …' if len(names) > 3 else ''}" for patient, names in largest)
    return PatientRule.model_validate({"rule": rule, "origin": origin, "n": len(members), "examples": examples})


def _unknown(n: int, total: int, names: tuple[str, ...] = (), advice: str = "", n_tags: int = 0) -> Issue:
    files = f" ({n_tags} of them in DICOM files without a PatientID)" if n_tags else ""
    return Issue(
        code="patients_unknown",
        severity="warning",
        message=f"{n:,} of {total:,} pictures {agree(n, 'carry')} no patient{files}: "
        "each is taken for a patient of its own.",
        advice=advice or f"If a patient has several pictures, say how to tell: {HOW_TO_TELL}.",
        samples=names,
    )
