"""What the tags of DICOM files tell of samples: patient, eye, series, and a sample a frame. Decodes no pixel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from snellen.core.errors import DataError, PictureError
from snellen.core.progress import follow
from snellen.core.runtime import count_threads
from snellen.imaging.dicom import DICOM_COLUMNS, DicomTags, read_tags, require_dicom
from snellen.imaging.kinds import DICOM_SUFFIXES, PICTURE_SUFFIXES, find_kind
from snellen.ingest.patients import RawSample
from snellen.ingest.samples import Source, make_issue, show_names
from snellen.ingest.tree import Tree
from snellen.records.cohort import Issue

PATIENT_TITLE = "DICOM tag PatientID"
_PIECE = 512
_MAX_FRAMES = 10_000


def describe_dicom(source: Source) -> Source:
    """Give samples that are DICOM files their patient, eye, series and columns; a sample a frame of multi-frame files.

    Where the source told patients already (a column), those stay. A file whose tags cannot be read stays as it is:
    reading its pixels says why. Raises UsageError where pydicom is missing.
    """
    places = [sample.location for sample in source.samples if is_dicom(source.root, sample.location)]
    if not places:
        return source
    tags = {place: found for place, found in _read_all(source.root, places) if found is not None}
    keeps_patients = any(sample.patient for sample in source.samples)
    samples = [
        part
        for sample in source.samples
        for part in ([sample] if sample.location not in tags
                     else _describe(sample, tags[sample.location]))
    ]  # fmt: skip
    has_patients = not keeps_patients and any(sample.patient for sample in samples)
    title = PATIENT_TITLE if has_patients else source.patient_title
    issues = [*source.issues, *_check_frames(tags)]
    columns = tuple(name for name in DICOM_COLUMNS if any(name in found.columns for found in tags.values()))
    return replace(source, samples=samples, patient_title=title, issues=issues, tags=columns)


def is_dicom(root: Path, location: str) -> bool:
    """By its suffix, else by the mark in its first bytes."""
    suffix = Path(location).suffix.lower()
    if suffix in DICOM_SUFFIXES:
        return True
    if suffix in PICTURE_SUFFIXES or "::" in location:
        return False
    try:
        with (root / location).open("rb") as stream:
            return find_kind(stream.read(132)) == "DICOM"
    except OSError:
        return False


def index_tags(
    tree: Tree, pictures: Sequence[str], *, by_patient: bool, values: Sequence[str] | None
) -> Iterator[tuple[str, str]]:
    """`(SOPInstanceUID, file)` of every DICOM file, and with `by_patient` `(PatientID, file)`.

    Raises DataError where the cells are patients of several pictures: which of them the label is for is not told.
    """
    places = [name for name in pictures if is_dicom(tree.root, name)]
    if not places:
        return
    tags = {place: found for place, found in _read_all(tree.root, places) if found is not None}
    for place, found in tags.items():
        yield found.sop_uid, place
    if not by_patient or any(found.sop_uid in (values or ()) for found in tags.values()):
        return
    files = Counter(found.patient_id for found in tags.values())
    wanted = {value for value in values or () if value}
    several = [place for place, found in tags.items() if found.patient_id in wanted and files[found.patient_id] > 1]
    if several:
        raise DataError(
            f"The column names patients, and {len({tags[place].patient_id for place in several})} of them have several "
            f"pictures, such as {show_names(several[:2])}: which of them a label is for is not told.",
            "Give the table a row a picture, with the file's name or its SOPInstanceUID.",
        )
    for place, found in tags.items():
        yield found.patient_id, place


def _read_all(root: Path, places: Sequence[str]) -> Iterator[tuple[str, DicomTags | None]]:
    require_dicom()

    def read(place: str) -> DicomTags | None:
        try:
            return read_tags(root / place)
        except PictureError:
            return None

    with ThreadPoolExecutor(count_threads()) as pool:
        yield from follow(_in_pieces(pool, read, places), "Reading DICOM tags", len(places), "files")


def _in_pieces(
    pool: ThreadPoolExecutor, read: Callable[[str], DicomTags | None], places: Sequence[str]
) -> Iterator[tuple[str, DicomTags | None]]:
    for start in range(0, len(places), _PIECE):  # so that Ctrl-C does not wait for all
        piece = places[start : start + _PIECE]
        yield from zip(piece, pool.map(read, piece), strict=True)


def _describe(sample: RawSample, tags: DicomTags) -> list[RawSample]:
    # a cell that is empty is filled by the tag: without it each picture would be a patient of its own
    patient = sample.patient or tags.patient_id or None
    row = {**tags.columns, **sample.row}  # of one name the table's
    done = replace(sample, patient=patient, laterality=tags.laterality, series=tags.series_uid or None, is_dicom=True,
                   row=row)  # fmt: skip
    if tags.n_frames == 1:
        return [done]
    if tags.n_frames > _MAX_FRAMES:
        return []
    frames = [f"{sample.location}::frame[{number}]" for number in range(tags.n_frames)]
    return [replace(done, name=frame, location=frame) for frame in frames]


def _check_frames(tags: dict[str, DicomTags]) -> list[Issue]:
    absurd = [place for place, found in tags.items() if found.n_frames > _MAX_FRAMES]
    several = [place for place, found in tags.items() if 1 < found.n_frames <= _MAX_FRAMES]
    issues = []
    if absurd:
        message = f"{len(absurd)} DICOM files claim more than {_MAX_FRAMES:,} frames, such as {absurd[0]}: set aside."
        issues.append(make_issue("too_many_frames", "warning", message, "Export them again.", absurd))
    if not several:
        return issues
    n_frames = sum(tags[place].n_frames for place in several)
    message = f"{len(several)} DICOM files hold several pictures, {n_frames} in all: each frame is a sample."
    advice = "Nothing to do: frames of a patient stay together."
    return [*issues, make_issue("multi_frame_files", "info", message, advice, several)]
