"""What every reader of a layout gives: raw samples below a root, and what must be told. No file is opened here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from snellen.core.letters import show_name
from snellen.ingest.patients import RawSample
from snellen.records.cohort import Cohort, Issue, Severity

SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "calibration": "calibration", "test": "test", "testing": "test",
}  # fmt: skip
LAYOUTS = (
    "class folders, train/val/test folders of class folders, a CSV or one CSV a split, a zip of these, an .npz, "
    "an HDF5 file, or a folder of DICOM files"
)
# issues whose samples were named by the source and do not become samples: counted as set aside
# issues whose samples are set aside, and why in words that fit behind a name
SET_ASIDE = {
    "missing_picture": "the picture is not there",
    "ambiguous_picture": "several folders hold a picture of this name",
    "empty_label": "the row carries no label",
    "no_class_marked": "no class is marked in the row",
    "repeated_row": "the row repeats an earlier one",
    "conflicting_rows": "an earlier row gives the picture another label",
    "ragged_row": "the row has more or fewer cells than the header",
    "table_without_labels": "its table has no label column",
    "unreadable_name": "the name is no UTF-8",
    "picture_without_class": "it lies in no class folder",
    "special_file": "it is no file, or leads to none",
    "damaged_entry": "its entry in the archive is damaged",
    "too_many_frames": "the file holds more frames than are read",
}
# columns and keys that tell patients, in the order in which they are believed; compared without case and blanks
PATIENT_NAMES = (
    "patient", "patients", "patientid", "patientids", "patientno", "patientnr", "patientnumber", "patientennummer",
    "patientenid", "pid", "pat", "patid", "subject", "subjects", "subjectid", "case", "caseid", "caseno", "person",
    "personid", "mrn",
)  # fmt: skip
_SHOWN = 5


@dataclass
class Source:
    """Raw samples below `root` and how they were found.

    `is_ordered`: the source says that its classes are ordered. `patient_title`: what told the samples' patients,
    `patient_candidates` columns that might have. `tags` are DICOM tags that parts of the cohort can be made by.
    `cohort` is set where the source is a cohort already, read by an earlier step (a packed file).
    """

    root: Path
    layout: str
    samples: list[RawSample]
    class_origin: str = ""
    is_ordered: bool = False
    issues: list[Issue] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    patient_candidates: tuple[str, ...] = ()
    patient_title: str = "patient column"
    tags: tuple[str, ...] = ()
    cohort: Cohort | None = None


def guess_split(name: str) -> str | None:
    """train, val or test, where exactly one of the words in `name` says so: `trainLabels`, `b. Testing Set`."""
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None


def simplify_name(name: str) -> str:
    """A column's name without case, blanks, dots, `_` and `-`."""
    return re.sub(r"[\s._-]", "", name.casefold())


def make_issue(code: str, severity: Severity, message: str, advice: str, samples: Sequence[str] = ()) -> Issue:
    """An issue whose names can be written as text whatever the file system holds."""
    shown = tuple(to_text(name) for name in samples)
    return Issue(code=code, severity=severity, message=to_text(message), advice=advice, samples=shown)


def to_text(name: str) -> str:
    """`name` with bytes that are no UTF-8 written as codes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def show_names(names: Sequence[str]) -> str:
    """The first names, and how many follow."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(show_name(to_text(name)) for name in names[:_SHOWN]) + more
