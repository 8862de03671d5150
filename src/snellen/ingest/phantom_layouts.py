"""A synthetic cohort in class folders, written again in every other layout that Snellen reads.

For tests and documentation: the decoded pixels, labels and patients are those of the class folders, so that
what is read from one layout can be held against another. Knows files only, no plan and no reader of layouts.
"""

from __future__ import annotations

import csv
import shutil
import zipfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import UsageError
from snellen.imaging.readers import read_picture

PARTS = ("train", "val", "test")
# the first three patients of a class fill the three parts, so that no class is missing anywhere
_PATTERN = ("train", "val", "test", "train", "train", "train")
_ZIP_DATE = (2020, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class PhantomFile:
    """One picture of the class folders. `part` is None where the layout tells no splits."""

    path: Path
    label: str
    patient: str
    part: str | None


def write_layout(cohort_folder: Path, layout: str, target: Path, *, splits: dict[str, str] | None = None) -> Path:
    """Write the class folders at `cohort_folder` as `layout` into the new folder `target`; return what to give as DATA.

    `split_folders`, `csv` (with column `split` if told), `csv_per_split`, `zip` (of class folders; of split folders if
    told), `npz` (MedMNIST's), `hdf5_foreign`, `dicom` (class folders, patients in PatientID). `splits` maps file names
    to train, val or test; layouts that cannot do without cut by patient. Arrays need pictures of one size.
    Raises UsageError.
    """
    if layout not in _WRITERS:
        raise UsageError(f"Unknown layout {layout!r}.", f"Layouts: {', '.join(_WRITERS)}.")
    write, needs_parts = _WRITERS[layout]
    files = list_files(cohort_folder, splits)
    if needs_parts and splits is None:
        files = list_files(cohort_folder, choose_parts(files))
    target.mkdir(parents=True, exist_ok=True)
    return write(files, target)


def list_files(cohort_folder: Path, splits: dict[str, str] | None = None) -> list[PhantomFile]:
    """The pictures of a cohort that `write_cohort` wrote, in the order of their labels and names."""
    paths = sorted(path for path in cohort_folder.glob("*/synthetic_*") if path.is_file())
    if not paths:
        raise UsageError(f"{cohort_folder} holds no synthetic pictures.", "Write them with write_cohort first.")
    return [
        PhantomFile(path, path.parent.name, read_patient(path), splits[path.name] if splits else None) for path in paths
    ]


def read_patient(path: Path) -> str:
    """The patient in a synthetic picture's name: `P0012` of `synthetic_oct_P0012_left_1.png`."""
    return next(part for part in path.stem.split("_") if part[:1] == "P" and part[1:].isdigit())


def choose_parts(files: Sequence[PhantomFile]) -> dict[str, str]:
    """File name → train, val or test: by patient, every class in every part from three patients on."""
    patients: dict[str, list[str]] = defaultdict(list)
    for file in files:
        if file.patient not in patients[file.label]:
            patients[file.label].append(file.patient)
    part_of = {
        (label, patient): _PATTERN[number % len(_PATTERN)]
        for label, members in patients.items()
        for number, patient in enumerate(members)
    }
    return {file.path.name: part_of[file.label, file.patient] for file in files}


def _write_split_folders(files: Sequence[PhantomFile], target: Path) -> Path:
    for file in files:
        _copy(file.path, target / (file.part or "train") / file.label / file.path.name)
    return target


def _write_csv(files: Sequence[PhantomFile], target: Path) -> Path:
    with_split = files[0].part is not None
    rows = [["file", "label", "patient", *(["split"] if with_split else [])]]
    for file in files:
        _copy(file.path, target / "images" / file.path.name)
        rows.append([file.path.name, file.label, file.patient, *([file.part or ""] if with_split else [])])
    return _write_rows(target / "labels.csv", rows)


def _write_csv_per_split(files: Sequence[PhantomFile], target: Path) -> Path:
    """As challenges publish them: `train.csv` beside `train_images/`, ids without extension."""
    for part in PARTS:
        members = [file for file in files if file.part == part]
        for file in members:
            _copy(file.path, target / f"{part}_images" / file.path.name)
        rows = [[file.path.stem, file.label, file.patient] for file in members]
        _write_rows(target / f"{part}.csv", [["id_code", "diagnosis", "patient_id"], *rows])
    return target


def _write_zip(files: Sequence[PhantomFile], target: Path) -> Path:
    path = target / "cohort.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # pictures are compressed already
        for file in files:
            folders = [file.part] if file.part else []
            entry = zipfile.ZipInfo("/".join(["cohort", *folders, file.label, file.path.name]), _ZIP_DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.path.read_bytes())
    return path


def _write_npz(files: Sequence[PhantomFile], target: Path) -> Path:
    numbers = {label: number for number, label in enumerate(sorted({file.label for file in files}))}
    arrays: dict[str, NDArray[Any]] = {}
    for part in PARTS:
        members = [file for file in files if file.part == part]
        arrays[f"{part}_images"] = _stack(members)
        arrays[f"{part}_labels"] = np.array([[numbers[file.label]] for file in members], np.uint8)
        arrays[f"{part}_patients"] = np.array([file.patient for file in members])
    path = target / "cohort.npz"
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # NumPy's stub takes the arrays for `allow_pickle`
    return path


def _write_hdf5_foreign(files: Sequence[PhantomFile], target: Path) -> Path:
    import h5py

    path = target / "cohort.h5"
    text = h5py.string_dtype("utf-8")
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=_stack(files), chunks=True, compression="gzip")
        file.create_dataset("labels", data=[item.label for item in files], dtype=text)
        file.create_dataset("patients", data=[item.patient for item in files], dtype=text)
        if files[0].part is not None:
            file.create_dataset("splits", data=[item.part for item in files], dtype=text)
    return path


def _write_dicom(files: Sequence[PhantomFile], target: Path) -> Path:
    for file in files:
        folders = [file.part] if file.part else []
        path = target.joinpath(*folders, file.label, f"{file.path.stem}.dcm")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_dicom(path, np.asarray(read_picture(file.path).pixels, np.uint8), patient=file.patient)
    return target


def write_dicom(path: Path, pixels: NDArray[np.uint8], *, patient: str, is_inverted: bool = False) -> None:
    """An uncompressed secondary capture of 8 bits: `(H, W)` grey or `(H, W, 3)` RGB, without VOI.

    `is_inverted` stores grey as MONOCHROME1, so that a reader must turn it back. Needs the extra `dicom`.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["snellen", patient, path.stem])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    picture = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    picture.SOPClassUID = meta.MediaStorageSOPClassUID
    picture.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    picture.StudyInstanceUID = generate_uid(entropy_srcs=["snellen", "study", patient])
    picture.SeriesInstanceUID = generate_uid(entropy_srcs=["snellen", "series", patient])
    picture.Modality = "OT"
    picture.ConversionType = "SYN"
    picture.PatientID = patient
    picture.PatientName = "synthetic"
    if side := next((side for side in ("left", "right") if f"_{side}_" in path.stem), None):
        picture.ImageLaterality = side[0].upper()
    is_grey = pixels.ndim == 2
    picture.Rows, picture.Columns = pixels.shape[:2]
    picture.SamplesPerPixel = 1 if is_grey else 3
    picture.PhotometricInterpretation = ("MONOCHROME1" if is_inverted else "MONOCHROME2") if is_grey else "RGB"
    if not is_grey:
        picture.PlanarConfiguration = 0
    picture.BitsAllocated = picture.BitsStored = 8
    picture.HighBit, picture.PixelRepresentation = 7, 0
    stored = (255 - pixels if is_inverted and is_grey else pixels).tobytes()
    picture.PixelData = stored + b"\0" * (len(stored) % 2)  # DICOM wants even lengths
    picture.save_as(path, enforce_file_format=True)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _write_rows(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
    return path


def _stack(files: Sequence[PhantomFile]) -> NDArray[np.uint8]:
    """Decoded pictures as `(N, H, W)` or `(N, H, W, 3)`."""
    pictures = [read_picture(file.path).pixels for file in files]
    if len({picture.shape for picture in pictures}) > 1:
        raise UsageError("The pictures differ in size: one array cannot hold them.", "Arrays are for the kind oct.")
    return np.stack(pictures)


_WRITERS: dict[str, tuple[Callable[[Sequence[PhantomFile], Path], Path], bool]] = {
    "split_folders": (_write_split_folders, True),
    "csv": (_write_csv, False),
    "csv_per_split": (_write_csv_per_split, True),
    "zip": (_write_zip, False),
    "npz": (_write_npz, True),
    "hdf5_foreign": (_write_hdf5_foreign, False),
    "dicom": (_write_dicom, False),
}
LAYOUTS = tuple(_WRITERS)
