"""Samples, patients, issues: what is known of the data before anything is learned."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from snellen.records.audit import LabelCheck, Needs, Shortcuts
from snellen.records.base import Record
from snellen.records.issue_texts import explain_code, rank_code
from snellen.records.plan import Fingerprint, PreprocessPlan
from snellen.records.recipe import CopyScope

Severity = Literal["info", "warning", "severe"]
SPLITS = ("train", "val", "test")  # what every training needs
PARTS = ("train", "val", "calibration", "test")  # in the order in which a patient of two parts moves up
MERGED = ", merged: "
# what is known of every picture, to measure parts of a cohort by
FACTS = ("eye", "format", "size", "channels", "bits", "series")


class Sample(Record):
    """One picture that gets one prediction.

    `location` is relative to the cohort's root, with `/` (absolute where Python gave paths); a picture inside an array
    file is `file.npz::train_images[12]`, one of several in a DICOM `file.dcm::frame[3]`. `pixels_sha256` is
    taken over the decoded pixels, so that a copied or renamed file is recognised. `bits` a channel are
    8 where the pixels are uint8. `laterality` (L or R) and `series` come from DICOM tags. `attributes` are the columns
    of the data that were asked for, to measure parts of the cohort by.
    """

    name: str
    location: str
    label: str
    patient: str
    split: str | None = None
    width_px: int = 0
    height_px: int = 0
    channels: int = 0
    format: str = ""
    n_bytes: int = 0
    pixels_sha256: str = ""
    bits: int = 8
    laterality: str | None = None
    series: str | None = None
    attributes: dict[str, str] = {}


class PatientRule(Record):
    """How samples were grouped into patients."""

    rule: str
    origin: Literal["column", "pattern", "inferred", "none"]
    n: int
    examples: tuple[str, ...] = ()


class Issue(Record):
    """A problem that the audit found in the data.

    What it does to results (`effect`), what Snellen does about it (`action`) and how to have it otherwise (`overrule`)
    follow from the code, see `records/issue_texts.py`.
    """

    code: str
    severity: Severity
    message: str
    advice: str
    samples: tuple[str, ...] = ()
    effect: str = ""
    action: str = ""
    overrule: str = ""


class SetAside(Record):
    """A picture or row that the source named and that cannot be used; `code` is that of its issue."""

    name: str
    code: str
    reason: str


class CopyLink(Record):
    """Two samples of different pixels that show one picture: the second as seen from the first.

    It is `is_mirrored` left to right, then turned by `rotation_deg` clockwise and `scale` times as large in its frame.
    `overlap` is the common part as a share of the smaller one, `correlation` that of the details in it, `coarse` that
    of the largest details alone. `found_by` local features, or by whole rings where there are hardly any.
    """

    first: str
    second: str
    correlation: float
    coarse: float
    is_mirrored: bool = False
    rotation_deg: float = 0.0
    scale: float = 1.0
    overlap: float = 1.0
    found_by: Literal["features", "rings"] = "features"

    def describe(self) -> str:
        """How the second picture differs from the first: `mirrored, turned by 37°, 97 % alike`."""
        words = ["mirrored"] if self.is_mirrored else []
        if abs(self.rotation_deg) >= 1:
            words.append(f"turned by {abs(self.rotation_deg):.0f}°")
        if abs(self.scale - 1) >= 0.03:
            words.append(f"scaled by {self.scale:.2f}")
        return ", ".join([*words, f"{100 * self.correlation:.0f} % alike"])


class Audit(Record):
    """The content of `audit.json`. `shortcuts`, `labels` and `needs` are null where they were not looked for.

    `duplicate_groups` are samples that show one picture, exact or transformed; `copies` are the transformed pairs.
    """

    schema_version: int = 1
    n_samples: int
    n_read: int
    n_set_aside: int
    classes: dict[str, int]
    patients: PatientRule
    duplicate_groups: tuple[tuple[str, ...], ...] = ()
    copies: tuple[CopyLink, ...] = ()
    copy_search: CopyScope = "exact"
    shortcuts: Shortcuts | None = None
    labels: LabelCheck | None = None
    needs: Needs | None = None
    issues: tuple[Issue, ...] = ()
    set_aside: tuple[SetAside, ...] = ()

    def with_issues(self, issues: Iterable[Issue]) -> Audit:
        """The same audit with more issues, the gravest first."""
        order = {"severe": 0, "warning": 1, "info": 2}
        told = [issue.model_copy(update=explain_code(issue.code)) for issue in [*self.issues, *issues]]
        found = sorted(told, key=lambda issue: (order[issue.severity], rank_code(issue.code)))
        return self.model_copy(update={"issues": tuple(found)})

    def list_worst(self, at_most: int = 3) -> list[Issue]:
        """The gravest issues that are no mere information."""
        return [issue for issue in self.issues if issue.severity != "info"][:at_most]


class Packed(Record):
    """What a file of `snellen pack` fixes: how its pictures were preprocessed, and its training part as measured."""

    file: str
    preprocess: PreprocessPlan
    fingerprint: Fingerprint


class Cohort(Record):
    """All readable samples with labels, patients and provenance.

    `labels` maps the labels of the data, in natural order, to their classes where `data.merge` joined some; else empty.
    `is_ordered` is what the source says, until a plan has settled the order: then what the plan says.
    """

    root: str
    layout: str
    classes: tuple[str, ...]
    class_origin: str = ""
    labels: dict[str, str] = {}
    is_ordered: bool = False
    has_settled_order: bool = False
    samples: tuple[Sample, ...]
    patients: PatientRule
    audit: Audit
    packed: Packed | None = Field(default=None, description="set where the pictures are preprocessed already")

    @property
    def is_merged(self) -> bool:
        """Whether a class goes by another name than its labels."""
        return any(label != name for label, name in self.labels.items())

    @property
    def label_origin(self) -> str:
        """Where the labels came from, without what was merged."""
        return self.class_origin.partition(MERGED)[0]

    def with_order(self, classes: tuple[str, ...], *, is_ordered: bool) -> Cohort:
        """The same cohort with its classes as a plan lists them."""
        counts = {name: self.audit.classes[name] for name in classes}
        audit = self.audit.model_copy(update={"classes": counts})
        settled = {"classes": classes, "is_ordered": is_ordered, "has_settled_order": True, "labels": {}}
        return self.model_copy(update={**settled, "audit": audit})

    @property
    def name(self) -> str:
        """A short name for files and titles: that of the folder, or of the one file that holds all pictures."""
        holders = {sample.location.partition("::")[0] if "::" in sample.location else "" for sample in self.samples}
        if len(holders) == 1 and (holder := holders.pop()):
            return PurePosixPath(holder.replace("\\", "/")).stem
        parts = [part for part in self.root.replace("\\", "/").split("/") if part]
        last = parts[-1] if parts else "cohort"
        return last.rsplit(".", 1)[0] if last.endswith((".npz", ".csv", ".tsv")) else last


class Split(Record):
    """Which sample belongs where. `group` joins a patient with all copies of its pictures.

    With folds, `fold` counts those of the pictures to learn from, all of split `train`, from 0.
    """

    sample: str
    patient: str
    group: str
    label: str
    split: Literal["train", "val", "calibration", "test", "left_out"]
    reason: str = ""
    fold: Annotated[int | None, BeforeValidator(lambda value: None if value == "" else value)] = None
