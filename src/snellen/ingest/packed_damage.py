"""Which pictures of a packed file can still be read: all are, because what the file says of them tells nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from snellen.core.errors import DataError, PictureError
from snellen.core.progress import follow
from snellen.imaging.packed_pixels import read_packed_pixels
from snellen.records.cohort import Cohort, Issue, Sample, SetAside

_ADVICE = "`train` refuses the file: copy it again from where it was packed, or repeat `snellen pack`."


def set_damaged_aside(cohort: Cohort, threads: int) -> Cohort:
    """A packed cohort without the pictures that are damaged, which become a severe issue; any other as it is.

    Raises DataError where no picture is whole.
    """
    if cohort.packed is None:
        return cohort
    root = Path(cohort.root)

    def read(sample: Sample) -> str:
        try:
            read_packed_pixels(root, sample.location)
        except PictureError as error:
            return error.message
        return ""

    with ThreadPoolExecutor(threads) as pool:
        errors = list(follow(pool.map(read, cohort.samples), "Reading pictures", len(cohort.samples)))
    bad = [
        SetAside(name=sample.name, code="damaged_packed_picture", reason=error)
        for sample, error in zip(cohort.samples, errors, strict=True)
        if error
    ]
    return _leave_out(cohort, bad) if bad else cohort


def _leave_out(cohort: Cohort, bad: list[SetAside]) -> Cohort:
    names = {each.name for each in bad}
    samples = tuple(sample for sample in cohort.samples if sample.name not in names)
    file = cohort.packed.file if cohort.packed else ""
    if not samples:
        raise DataError(f"None of the {len(bad)} pictures of {file} is whole; the first: {bad[0].reason}", _ADVICE)
    shown = ", ".join(each.name for each in bad[:3]) + (" …" if len(bad) > 3 else "")
    issue = Issue(
        code="damaged_packed_picture",
        severity="severe",
        message=f"{len(bad):,} of {len(cohort.samples):,} pictures in {file} are damaged and were set aside: {shown}. "
        f"The first: {bad[0].reason}",
        advice=_ADVICE,
        samples=tuple(each.name for each in bad),
    )
    rule = cohort.patients.model_copy(update={"n": len({sample.patient for sample in samples})})
    audit = cohort.audit.with_issues([issue]).model_copy(
        update={
            "n_read": cohort.audit.n_read - len(bad),
            "n_set_aside": cohort.audit.n_set_aside + len(bad),
            "set_aside": (*cohort.audit.set_aside, *bad),
            "classes": {name: sum(sample.label == name for sample in samples) for name in cohort.classes},
            "patients": rule,
        }
    )
    return cohort.model_copy(update={"samples": samples, "patients": rule, "audit": audit})
