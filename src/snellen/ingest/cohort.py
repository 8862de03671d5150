"""From DATA to a cohort: list, read every picture once, group patients, note what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from snellen.core.errors import DataError, PictureError, StorageError, UsageError
from snellen.core.progress import follow
from snellen.core.storage import compute_digest, read_json, write_atomic
from snellen.imaging.readers import Picture, compute_pixels_sha256, is_grey, read_location
from snellen.ingest.audit import build_audit
from snellen.ingest.merging import Merge, describe_merge, keeps_order, merge_labels, order_classes
from snellen.ingest.patients import RawSample, group_patients
from snellen.ingest.picture_kinds import check_kinds
from snellen.ingest.samples import SET_ASIDE
from snellen.ingest.sources import SPLIT_NAMES, Source, read_source, sort_classes
from snellen.records.cohort import Cohort, Issue, Sample, SetAside
from snellen.records.run import DataRequest

FACTS_VERSION = "facts-2"
# at this side a JPEG of 12 megapixels is still read at half scale: eight times faster, and no two pictures look equal
_SCAN_SIDE_PX = 1024
_PIECE = 512


@dataclass(frozen=True)
class _Facts:
    """What reading one picture told; `error` is set where it could not be read."""

    width_px: int = 0
    height_px: int = 0
    channels: int = 0
    format: str = ""
    n_bytes: int = 0
    pixels_sha256: str = ""
    error: str = ""
    bits: int = 8
    notes: tuple[str, ...] = ()


def read_cohort(
    request: DataRequest, *, threads: int, cache: Path, merge: Merge | None = None, is_training: bool = True
) -> Cohort:
    """Read DATA whole. Bad pictures are set aside as issues; raises DataError where nothing can be learned from it.

    `merge` maps class names to the labels they take; only the data that are trained on must have all of them.
    """
    source, wish = _read_source(request, cache)
    if source.cohort is not None:
        _require_no_wishes(request)
        return source.cohort
    if not source.samples:
        raise DataError(
            f"{request.data} holds no labelled picture ({source.layout}).", "Check the path and the labels."
        )
    merge = merge or {}
    labels = sort_classes({sample.label for sample in source.samples})
    source.samples = merge_labels(source.samples, merge, is_complete=is_training)
    grouped, rule, patient_issues = group_patients(source.samples, wish, source.patient_title)
    facts = _read_facts(source.root, grouped, threads, cache)
    samples, unreadable = _join(grouped, facts)
    if not samples:
        raise DataError(
            f"None of the {len(grouped)} pictures of {request.data} can be read; the first: {grouped[0].name}: "
            f"{facts[0].error}",
            "Check the files.",
        )
    present = {sample.label for sample in samples}
    classes = tuple(name for name in order_classes(labels, merge) if name in present)
    notes = {raw.name: fact.notes for raw, fact in zip(grouped, facts, strict=True)}
    issues = [*source.issues, *_tell_unreadable(unreadable, len(grouped)), *patient_issues]
    issues += [*_tell_lost_classes({raw.label for raw in grouped} - present), *check_kinds(samples, notes)]
    audit = build_audit(samples, classes, rule, issues, [*_list_dropped(source), *unreadable])
    return Cohort(
        root=str(source.root),
        layout=source.layout,
        classes=classes,
        class_origin=source.class_origin + (f", merged: {describe_merge(merge)}" if merge else ""),
        is_ordered=source.is_ordered and keeps_order(labels, merge),
        samples=tuple(samples),
        patients=rule,
        audit=audit,
    )


def _read_source(request: DataRequest, cache: Path) -> tuple[Source, str]:
    source, wish = read_source(request.data, request.columns, cache), request.patients
    if wish in source.columns:  # --patients COLUMN
        source, wish = read_source(request.data, {**request.columns, "patient": wish}, cache), "auto"
    nameless = [sample for sample in source.samples if not _is_text(sample.location)]
    if nameless:
        source.samples = [sample for sample in source.samples if _is_text(sample.location)]
        shown = tuple(sample.name.encode("utf-8", "backslashreplace").decode() for sample in nameless)
        source.issues.append(
            Issue(
                code="unreadable_name",
                severity="warning",
                message=f"{len(shown)} pictures have names that are no UTF-8, such as {shown[0]}: set aside.",
                advice="Rename them, or unpack the archive again with the right encoding.",
                samples=shown,
            )
        )
    return source, wish


def _require_no_wishes(request: DataRequest) -> None:
    """Patients and splits of a packed file are settled."""
    asked = [*(["--patients"] if request.patients != "auto" else []), *(["--columns"] if request.columns else [])]
    if asked:
        raise UsageError(
            f"{' and '.join(asked)} cannot change {request.data}: patients and splits were fixed when it was packed.",
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


def _join(grouped: Sequence[RawSample], facts: Sequence[_Facts]) -> tuple[list[Sample], list[SetAside]]:
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
                series=raw.series,
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
        message=f"{len(bad)} of {n} pictures cannot be read and were set aside: {shown}",
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


def _read_facts(root: Path, samples: Sequence[RawSample], threads: int, cache: Path) -> list[_Facts]:
    """Facts of every picture; those of unchanged files come from the last time."""
    store = cache / "facts" / f"{compute_digest([FACTS_VERSION, str(root)])[:24]}.json"
    known = _load_facts(store)
    stamps = [_stamp(root, sample.location) for sample in samples]
    missing = [
        index
        for index, (sample, stamp) in enumerate(zip(samples, stamps, strict=True))
        if stamp is None or known.get(sample.location, [None])[0] != stamp
    ]
    fresh: dict[int, _Facts] = {}
    with ThreadPoolExecutor(threads) as pool:
        for index, fact in follow(_read_in_pieces(pool, root, samples, missing), "Reading pictures", len(missing)):
            fresh[index] = fact
    facts = []
    for index, (sample, stamp) in enumerate(zip(samples, stamps, strict=True)):
        fact = fresh.get(index) or _restore(known[sample.location][1])
        if not fact.error:  # what could not be read is tried again: a copy may keep size and date
            known[sample.location] = [stamp, list(fact.__dict__.values())]
        facts.append(fact)
    if fresh:
        _save_facts(store, known)
    return facts


def _read_in_pieces(
    pool: ThreadPoolExecutor, root: Path, samples: Sequence[RawSample], missing: Sequence[int]
) -> Iterator[tuple[int, _Facts]]:
    for start in range(0, len(missing), _PIECE):
        piece = missing[start : start + _PIECE]
        yield from zip(piece, pool.map(lambda index: _read_one(root, samples[index].location), piece), strict=True)


def _read_one(root: Path, location: str) -> _Facts:
    try:
        picture = read_location(root, location, min_side_px=_SCAN_SIDE_PX)
    except PictureError as error:
        return _Facts(error=error.message)
    return _Facts(
        width_px=picture.width_px,
        height_px=picture.height_px,
        channels=1 if is_grey(picture.pixels) else 3,
        format=picture.format,
        n_bytes=picture.n_bytes,
        pixels_sha256=_compute_hash(root, location, picture),
        bits=picture.bits,
        notes=picture.notes,
    )


def _compute_hash(root: Path, location: str, picture: Picture) -> str:
    """Of what is seen; with transparent parts of what is seen on white and on black, since a plan may choose either."""
    seen = compute_pixels_sha256(picture.pixels)
    if "transparent" not in picture.notes:
        return seen
    on_black = read_location(root, location, background="black", min_side_px=_SCAN_SIDE_PX)
    return compute_digest([seen, compute_pixels_sha256(on_black.pixels)])


def _restore(stored: list[Any]) -> _Facts:
    """Facts as JSON gives them back."""
    facts = _Facts(*stored)
    return replace(facts, notes=tuple(facts.notes))


def _stamp(root: Path, location: str) -> list[int] | None:
    try:
        found = (root / location.partition("::")[0]).stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def _load_facts(store: Path) -> dict[str, list]:  # type: ignore[type-arg]  # location → [stamp, facts], as JSON gives it
    if not store.is_file():
        return {}
    try:
        loaded = read_json(store)
    except StorageError:
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _save_facts(store: Path, known: dict[str, list]) -> None:  # type: ignore[type-arg]  # as above
    write_atomic(store, json.dumps(known))
