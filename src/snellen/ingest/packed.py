"""Files of `snellen pack`: what they hold, and how they become a cohort without reading their pictures.

The facts of the original pictures, the patients, the splits, the audit and the fingerprint come from the file, so
that training on it gives what training on its source gives.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from snellen.core.errors import DataError
from snellen.core.storage import compute_digest
from snellen.imaging.packed_pixels import IMAGES
from snellen.ingest.patients import RawSample
from snellen.ingest.sources import Source
from snellen.records.cohort import PARTS, Audit, Cohort, Issue, Packed, PatientRule, Sample
from snellen.records.plan import Fingerprint, PreprocessPlan

SCHEMA_KEY = "snellen_schema"
SCHEMA = 1
TEXTS = ("names", "patients", "splits", "pixels_sha256", "formats")
NUMBERS = ("labels", "width_px", "height_px", "channels", "n_bytes")
VIEWS = "views"
# facts of a sample that have a dataset of their own, or follow from one; others, if any, go as JSON into records/more
OWN_FACTS = frozenset({"name", "location", "label", "patient", "split", "width_px", "height_px", "channels", "format",
                       "n_bytes", "pixels_sha256"})  # fmt: skip
RECORDS = "records"
DIGEST_KEY = "facts_sha256"
_RECORD_NAMES = ("audit", "fingerprint")
_ATTRIBUTES = ("classes", "preprocess", "cohort")
_PARTS = (*PARTS, "left_out")
_AGAIN = "Copy it again from where it was packed, or repeat `snellen pack`."
_MAX_SIZE_PX = 2048
_DAMAGED = (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError)


def is_packed(path: Path) -> bool:
    """Whether `path` is an HDF5 file of ours, of whatever version. Raises DataError where it is no HDF5 file."""
    import h5py

    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            return SCHEMA_KEY in file.attrs
    except _DAMAGED as error:
        raise DataError(f"{path} is no readable HDF5 file: {_shorten(error)}", "Copy or export it again.") from error


def read_packed(path: Path) -> Source:
    """The cohort in a packed file. Raises DataError naming what the file lacks."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            _require_schema(path, file)
            n = _require_datasets(path, file)
            cohort = _read_cohort(path, file, n)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{path} holds records of another version of Snellen: {place}: {first['msg']}",
            "Pack the data again with this version.",
        ) from error
    except _DAMAGED as error:
        raise DataError(f"{path} is damaged: {_shorten(error)}", _AGAIN) from error
    raw = [RawSample(item.name, item.location, item.label, item.split, item.patient) for item in cohort.samples]
    return Source(path.parent, cohort.layout, raw, cohort.class_origin, cohort.is_ordered, cohort=cohort)


def compute_facts_sha256(file: Any) -> str:
    """Digest of all that an open packed file says of its pictures: HDF5 itself guards their pixels only."""
    more = [f"{RECORDS}/more"] if f"{RECORDS}/more" in file else []
    texts = (str(value) for key in (*TEXTS, *more) for value in file[key].asstr()[:])
    numbers = (str(int(value)) for key in NUMBERS for value in file[key][:])
    records = (file[f"{RECORDS}/{key}"].asstr()[()] for key in _RECORD_NAMES)
    attributes = (str(file.attrs[key]) for key in _ATTRIBUTES)
    return compute_digest([*texts, *numbers, *records, *attributes])


def _require_schema(path: Path, file: Any) -> None:
    found = file.attrs.get(SCHEMA_KEY)
    if found is None:
        raise DataError(f"{path} was not written by `snellen pack`: it lacks {SCHEMA_KEY}.", "Give the packed file.")
    if int(found) > SCHEMA:
        raise DataError(
            f"{path} has schema {int(found)}; this version of Snellen reads up to {SCHEMA}.",
            "Use the version that packed it, or a newer one.",
        )


def _require_datasets(path: Path, file: Any) -> int:
    """The number of samples. All that is missing or of another length is told at once."""
    problems = [f"{key} is missing" for key in (IMAGES, *TEXTS, *NUMBERS) if not _has_own(file, key)]
    problems += [f"{RECORDS}/{key} is missing" for key in _RECORD_NAMES if not _has_own(file, f"{RECORDS}/{key}")]
    problems += [f"the attribute {key} is missing" for key in (*_ATTRIBUTES, DIGEST_KEY) if key not in file.attrs]
    if not problems:
        images = file[IMAGES]
        if images.ndim != 4 or images.dtype != np.uint8:
            problems.append(f"{IMAGES} is {images.dtype} of shape {images.shape}, not uint8 (N, size, size, C)")
        lengths = {key: file[key].shape[0] if file[key].ndim else 0 for key in (IMAGES, *TEXTS, *NUMBERS)}
        wrong = [f"{key} {n}" for key, n in lengths.items() if n != lengths["names"]]
        problems += [f"lengths differ: names {lengths['names']}, {', '.join(wrong)}"] if wrong else []
    if problems:
        raise DataError(f"{path} is damaged: {'; '.join(problems)}.", _AGAIN)
    return int(file[IMAGES].shape[0])


def _has_own(file: Any, key: str) -> bool:
    """Whether the file itself holds the dataset: what links or maps to other files was not written by us."""
    import h5py

    node = file
    for part in key.split("/"):
        if not isinstance(node.get(part, getlink=True), h5py.HardLink):
            return False
        node = node[part]
    return isinstance(node, h5py.Dataset) and not node.is_virtual and not node.external


def _read_cohort(path: Path, file: Any, n: int) -> Cohort:
    classes = tuple(str(name) for name in json.loads(file.attrs["classes"]))
    facts = json.loads(file.attrs["cohort"])
    plan = PreprocessPlan.model_validate_json(file.attrs["preprocess"])
    texts = {key: [str(value) for value in file[key].asstr()[:]] for key in TEXTS}
    numbers = {key: [int(value) for value in file[key][:]] for key in NUMBERS}
    _require_sound(path, classes, texts, numbers)
    shape = (plan.size, plan.size, plan.channels)
    if not 0 < plan.size <= _MAX_SIZE_PX or file[IMAGES].chunks != (1, *shape):
        # the memory for one chunk is taken before its content is seen
        raise DataError(f"{path} was not written by `snellen pack`: {IMAGES} lies in chunks of {file[IMAGES].chunks}.",
                        _AGAIN)  # fmt: skip
    if tuple(file[IMAGES].shape[1:]) != shape:
        raise DataError(f"{path}: {IMAGES} has the shape {file[IMAGES].shape}, the plan says {shape}.", _AGAIN)
    if compute_facts_sha256(file) != file.attrs[DIGEST_KEY]:
        raise DataError(f"{path} was altered after it was packed: what it says of its pictures fits no more.", _AGAIN)
    more = _read_more(file, n)
    samples = tuple(
        Sample(
            name=texts["names"][row],
            location=f"{path.name}::{IMAGES}[{row}]",
            label=classes[numbers["labels"][row]],
            patient=texts["patients"][row],
            split=None if texts["splits"][row] == "left_out" else texts["splits"][row],
            width_px=numbers["width_px"][row],
            height_px=numbers["height_px"][row],
            channels=numbers["channels"][row],
            format=texts["formats"][row],
            n_bytes=numbers["n_bytes"][row],
            pixels_sha256=texts["pixels_sha256"][row],
            **more[row],
        )
        for row in range(n)
    )
    audit = Audit.model_validate_json(file[f"{RECORDS}/audit"].asstr()[()])
    issues = [issue for issue in audit.issues if issue.code != "packed_data"]  # where it was packed from a packed file
    fingerprint = Fingerprint.model_validate_json(file[f"{RECORDS}/fingerprint"].asstr()[()])
    return Cohort(
        root=str(path.parent),
        layout=f"packed file {path.name} ({facts['layout']})",
        classes=classes,
        class_origin=facts["class_origin"],
        is_ordered=facts["is_ordered"],
        has_settled_order=facts.get("has_settled_order", False),  # files of earlier versions do not say
        samples=samples,
        patients=PatientRule.model_validate_json(json.dumps(facts["patients"])),
        audit=audit.model_copy(update={"issues": (*issues, _tell(path, plan, VIEWS in file))}),
        packed=Packed(file=path.name, preprocess=plan, fingerprint=fingerprint),
    )


def _read_more(file: Any, n: int) -> list[dict[str, Any]]:
    if f"{RECORDS}/more" not in file:
        return [{}] * n
    found = [json.loads(text) for text in file[f"{RECORDS}/more"].asstr()[:]]
    if len(found) != n:
        raise ValueError(f"{RECORDS}/more has {len(found)} rows for {n} samples")
    return found


def _require_sound(
    path: Path, classes: tuple[str, ...], texts: dict[str, list[str]], numbers: dict[str, list[int]]
) -> None:
    problems = []
    if strange := sorted({value for value in texts["splits"] if value not in _PARTS}):
        problems.append(f"splits holds {strange[0]!r}; known are {', '.join(_PARTS)}")
    if beyond := [value for value in numbers["labels"] if not 0 <= value < len(classes)]:
        problems.append(f"labels holds {beyond[0]}, but there are {len(classes)} classes")
    if len(set(texts["names"])) < len(texts["names"]):
        problems.append("two samples have one name")
    if problems:
        raise DataError(f"{path} is damaged: {'; '.join(problems)}.", _AGAIN)


def _tell(path: Path, plan: PreprocessPlan, has_views: bool) -> Issue:
    views = " The views in it are not used: training draws its own." if has_views else ""
    return Issue(
        code="packed_data",
        severity="info",
        message=f"{path.name} was packed: its pictures are preprocessed to {plan.size} px already and taken as "
        f"they are. Splits and the other issues here are those of the data it was packed from.{views}",
        advice="To change preprocessing, patients or splits, repeat `snellen pack` on the original data.",
    )


def _shorten(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
