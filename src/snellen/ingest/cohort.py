"""From DATA to a cohort: list, read every picture once, group patients, note what is wrong."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from snellen.core.errors import DataError, UsageError
from snellen.core.letters import agree, show_count
from snellen.imaging.sketch import SketchStore
from snellen.ingest.audit import build_audit
from snellen.ingest.classes import check_alike, check_vague, sort_classes
from snellen.ingest.copies import choose_search, find_copies
from snellen.ingest.dicom_tree import PATIENT_TITLE
from snellen.ingest.facts import Facts, read_facts
from snellen.ingest.merging import Merge, describe_merge, find_joined, map_labels, merge_labels, order_classes
from snellen.ingest.patients import HOW_TO_TELL, RawSample, group_patients
from snellen.ingest.picture_kinds import check_kinds
from snellen.ingest.samples import SET_ASIDE, make_issue, show_names
from snellen.ingest.sources import SPLIT_NAMES, Source, read_source
from snellen.records.cohort import FACTS, MERGED, Cohort, Issue, PatientRule, Sample, SetAside
from snellen.records.recipe import CopySearchWish
from snellen.records.run import DataRequest

Pick = Callable[[Path, list[RawSample]], list[RawSample]]


def read_cohort(
    request: DataRequest,
    *,
    threads: int,
    cache: Path,
    merge: Merge | None = None,
    is_training: bool = True,
    pick: Pick | None = None,
    by: Sequence[str] = (),
    copies: CopySearchWish | None = None,
) -> Cohort:
    """Read DATA whole, or what `pick` takes of its samples, given their root. `by` names columns that go with them.

    Bad pictures are set aside as issues; raises DataError where nothing can be learned from it.

    `merge` maps class names to the labels they take; only the data that are trained on must have all of them.
    `copies` says which are looked for: `all`, transformed ones too, `exact`, `off`, or what suits their number
    (`auto`). Where nobody said it, those of identical pixels.
    """
    source, wish = _read_source(request, cache, min_classes=2 if is_training else 1)
    if source.cohort is not None:
        _require_no_wishes(request, source.cohort.classes, merge or {})
        return _keep_columns(source.cohort, by)
    if not source.samples:
        raise DataError(
            f"{request.data} holds no labelled picture ({source.layout}).", "Check the path and the labels."
        )
    merge = merge or {}
    labels = sort_classes({sample.label for sample in source.samples})
    joined = find_joined({sample.label for sample in source.samples}, merge) if is_training else []
    source.samples = merge_labels(source.samples, merge, is_complete=is_training)
    if joined:
        source.issues.append(_tell_joined(joined))
    grouped, rule, patient_issues = group_patients(
        source.samples, wish, source.patient_title, is_whole=source.patient_title != PATIENT_TITLE
    )
    # one Unicode form, as for labels: the same name typed on two systems is one patient
    grouped = [
        replace(sample, patient=unicodedata.normalize("NFC", sample.patient or sample.name)) for sample in grouped
    ]
    patient_issues = _name_candidates(patient_issues, rule, source.patient_candidates)
    if pick is not None:
        grouped = pick(source.root, grouped)
    search = choose_search(copies, len(grouped))
    sketches = SketchStore(cache) if search == "all" else None
    facts = read_facts(source.root, grouped, threads, cache, sketches)
    samples, unreadable = _join(grouped, facts, _require_columns(source, by))
    if not samples:
        raise DataError(
            f"None of the {len(grouped)} pictures of {request.data} can be read; the first: {grouped[0].name}: "
            f"{facts[0].error}",
            "Check the files.",
        )
    rule = rule.model_copy(update={"n": len({sample.patient for sample in samples})})  # of what can be read
    present = {sample.label for sample in samples}
    classes = tuple(name for name in order_classes(labels, merge) if name in present)
    notes = {raw.name: fact.notes for raw, fact in zip(grouped, facts, strict=True)}
    issues = [
        *source.issues,
        *check_alike(source.samples),
        *check_vague(source.samples),
        *_tell_unreadable(unreadable, len(grouped)),
        *patient_issues,
    ]
    issues += [*_tell_lost_classes({raw.label for raw in grouped} - present), *check_kinds(samples, notes)]
    links = () if sketches is None else find_copies(samples, sketches, cache, threads)
    aside = [*_list_dropped(source), *unreadable]
    audit = build_audit(samples, classes, rule, issues, aside, links=links, copies=search)
    audit = audit.model_copy(update={"issues": tuple(_fit_advice(issue, source, request) for issue in audit.issues)})
    return Cohort(
        root=str(source.root),
        layout=source.layout,
        classes=classes,
        class_origin=source.class_origin + (f"{MERGED}{describe_merge(merge)}" if merge else ""),
        labels=map_labels(labels, merge) if merge else {},
        is_ordered=source.is_ordered,
        samples=tuple(samples),
        patients=rule,
        audit=audit,
    )


def _tell_joined(names: Sequence[str]) -> Issue:
    message = (
        f"data.merge adds labels to {show_names(names)}, which the data have as a label of its own: they are one now."
    )
    return make_issue("labels_joined", "warning", message, "List that label in another class if it is not meant.")


def _read_source(request: DataRequest, cache: Path, min_classes: int) -> tuple[Source, str]:
    source, wish = read_source(request.data, request.columns, cache, min_classes=min_classes), request.patients
    if wish in source.columns:  # --patients COLUMN
        label = {"label": "+".join(source.label)} if source.label else {}  # as it was just read without the wish
        columns = {**label, **request.columns, "patient": wish}
        source, wish = read_source(request.data, columns, cache, min_classes=min_classes), "auto"
    nameless = [sample for sample in source.samples if not _is_text(sample.location)]
    if nameless:
        source.samples = [sample for sample in source.samples if _is_text(sample.location)]
        shown = tuple(sample.name.encode("utf-8", "backslashreplace").decode() for sample in nameless)
        source.issues.append(
            Issue(
                code="unreadable_name",
                severity="warning",
                message=f"{show_count(len(shown), 'picture has a name', 'pictures have names')} that "
                f"{agree(len(shown), 'are')} no UTF-8, such as {shown[0]}: set aside.",
                advice="Rename them, or unpack the archive again with the right encoding.",
                samples=shown,
            )
        )
    return source, wish


def _name_candidates(issues: list[Issue], rule: PatientRule, candidates: Sequence[str]) -> list[Issue]:
    """Where nobody told patients: the columns that look as if they could."""
    if not candidates or rule.origin not in ("none", "inferred"):
        return issues
    advice = f" The column {' or '.join(candidates[:3])} looks like it: --columns patient={candidates[0]}"
    return [
        issue.model_copy(update={"advice": issue.advice + advice}) if issue.code == "patients_unknown" else issue
        for issue in issues
    ]


def _fit_advice(issue: Issue, source: Source, request: DataRequest) -> Issue:
    """The ways to tell patients that these data have: a column needs a table, and one that was named is empty."""
    column = request.columns.get("patient") or (request.patients if request.patients in source.columns else "")
    if column:
        way = f"fill in the column {column}, whose cells are empty, or give --patients REGEX"
    elif not source.columns:
        way = "--patients REGEX, or a table with a column patient as DATA"
    else:
        return issue
    return issue.model_copy(update={"advice": issue.advice.replace(HOW_TO_TELL, way)})


def _require_no_wishes(request: DataRequest, classes: Sequence[str], merge: Merge) -> None:
    """Labels, patients and splits of a packed file are settled; a merge made before packing says nothing new."""
    asked = ["--patients"] if request.patients != "auto" else []
    asked += ["--columns"] if request.columns else []
    asked += ["data.merge"] if order_classes(classes, merge) != tuple(classes) else []
    if asked:
        raise UsageError(
            f"{' and '.join(asked)} cannot change {request.data}: labels, patients and splits were fixed when it was "
            "packed.",
            "Repeat `snellen pack` on the original data with these options.",
        )


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _list_dropped(source: Source) -> list[SetAside]:
    """What the source itself set aside, with its reason."""
    return [
        SetAside(name=name, code=issue.code, reason=SET_ASIDE[issue.code])
        for issue in source.issues
        if issue.code in SET_ASIDE
        for name in issue.samples
    ]


def _require_columns(source: Source, asked: Sequence[str]) -> list[str]:
    """The columns of the table, and DICOM tags, among those asked for. What is known of every picture is asked for by
    name, too.
    """
    known = [*filter(None, source.columns), *(tag for tag in source.tags if tag not in source.columns)]
    unknown = [name for name in asked if name not in known and name not in FACTS]
    if unknown:
        raise UsageError(
            f"The data have no column {unknown[0]} to make parts by.",
            f"Give a column of the table, or one of {', '.join([*known, *FACTS])}.",
        )
    return [name for name in asked if name in known]


def _keep_columns(cohort: Cohort, asked: Sequence[str]) -> Cohort:
    """A packed cohort with those of its columns that are asked for."""
    known = sorted({name for sample in cohort.samples for name in sample.attributes})
    unknown = [name for name in asked if name not in known and name not in FACTS]
    if unknown:
        raise UsageError(
            f"No column {unknown[0]} was packed to make parts by.",
            f"Give one of {', '.join([*known, *FACTS])}, or pack the original data again with --by {unknown[0]}.",
        )
    kept = tuple(
        sample.model_copy(update={"attributes": {key: sample.attributes[key] for key in asked if key in known}})
        for sample in cohort.samples
    )
    return cohort.model_copy(update={"samples": kept})


def _join(
    grouped: Sequence[RawSample], facts: Sequence[Facts], columns: Sequence[str]
) -> tuple[list[Sample], list[SetAside]]:
    samples: list[Sample] = []
    bad: list[SetAside] = []
    for raw, fact in zip(grouped, facts, strict=True):
        if fact.error:
            bad.append(SetAside(name=raw.name, code="unreadable_picture", reason=fact.error))
            continue
        split = SPLIT_NAMES.get(raw.split.lower()) if raw.split else None
        samples.append(
            Sample(
                name=raw.name, location=raw.location, label=raw.label, patient=raw.patient or raw.name, split=split,
                width_px=fact.width_px, height_px=fact.height_px, channels=fact.channels, format=fact.format,
                n_bytes=fact.n_bytes, pixels_sha256=fact.pixels_sha256, bits=fact.bits, laterality=raw.laterality,
                series=raw.series, attributes={name: raw.row.get(name, "") for name in columns},
            )
        )  # fmt: skip
    return samples, bad


def _tell_unreadable(bad: Sequence[SetAside], n: int) -> list[Issue]:
    if not bad:
        return []
    shown = "; ".join(f"{each.name}: {each.reason}" for each in bad[:3]) + (" …" if len(bad) > 3 else "")
    issue = Issue(
        code="unreadable_picture",
        severity="warning",
        message=f"{len(bad):,} of {n:,} pictures cannot be read and {agree(len(bad), 'were')} set aside: {shown}.",
        advice="Copy or export them again, then repeat the step.",
        samples=tuple(each.name for each in bad),
    )
    return [issue]


def _tell_lost_classes(lost: set[str]) -> list[Issue]:
    if not lost:
        return []
    issue = Issue(
        code="class_lost",
        severity="severe",
        message=f"No picture can be read of: {', '.join(sort_classes(lost))}. Without one they are no classes.",
        advice="Copy or export their pictures again, then repeat the step.",
    )
    return [issue]
