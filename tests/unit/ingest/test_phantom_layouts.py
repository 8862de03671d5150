"""Every layout of a phantom cohort holds the pictures, labels and patients of its class folders."""

from __future__ import annotations

import csv
import zipfile
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from snellen.core.errors import UsageError
from snellen.imaging.readers import read_picture
from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.ingest.phantom_layouts import LAYOUTS, choose_parts, list_files, read_patient, write_layout

PARTS = {"train", "val", "test"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "oct"
    write_cohort(PhantomSpec(n_patients=8, size_px=24, classes=("normal", "cysts")), folder)
    return folder


def test_parts_divide_no_patient_and_leave_no_class_out(folders: Path) -> None:
    files = list_files(folders)
    part_of = choose_parts(files)
    assert {(file.label, part_of[file.path.name]) for file in files} == {
        (label, part) for label in ("normal", "cysts") for part in PARTS
    }
    assert set(Counter(dict({(file.patient, part_of[file.path.name]): 1 for file in files})).values()) == {1}
    assert len({(file.patient, part_of[file.path.name]) for file in files}) == 8


@pytest.mark.parametrize("layout", ["split_folders", "csv", "csv_per_split"])
def test_files_are_copied_byte_for_byte(folders: Path, tmp_path: Path, layout: str) -> None:
    write_layout(folders, layout, tmp_path)
    copies = {path.name: path.read_bytes() for path in tmp_path.rglob("*.png")}
    assert copies == {file.path.name: file.path.read_bytes() for file in list_files(folders)}


def test_csv_names_label_and_patient_of_every_picture(folders: Path, tmp_path: Path) -> None:
    table = write_layout(folders, "csv", tmp_path)
    with table.open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows == [
        ["file", "label", "patient"],
        *([file.path.name, file.label, file.patient] for file in list_files(folders)),
    ]


def test_csv_tells_the_splits_that_were_given(folders: Path, tmp_path: Path) -> None:
    parts = choose_parts(list_files(folders))
    with write_layout(folders, "csv", tmp_path, splits=parts).open(newline="") as stream:
        assert {row["file"]: row["split"] for row in csv.DictReader(stream)} == parts


def test_csv_per_split_writes_ids_without_extension_beside_their_folder(folders: Path, tmp_path: Path) -> None:
    write_layout(folders, "csv_per_split", tmp_path)
    for part in PARTS:
        with (tmp_path / f"{part}.csv").open(newline="") as stream:
            ids = {row["id_code"] for row in csv.DictReader(stream)}
        assert ids == {path.stem for path in (tmp_path / f"{part}_images").iterdir()}


def test_zip_holds_the_class_folders(folders: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(write_layout(folders, "zip", tmp_path)) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    assert held == {f"cohort/{file.label}/{file.path.name}": file.path.read_bytes() for file in list_files(folders)}


def test_npz_has_medmnists_layout_and_the_pixels(folders: Path, tmp_path: Path) -> None:
    files = list_files(folders)
    parts = choose_parts(files)
    with np.load(write_layout(folders, "npz", tmp_path)) as arrays:
        for part in PARTS:
            members = [file for file in files if parts[file.path.name] == part]
            assert np.array_equal(arrays[f"{part}_images"], [read_picture(file.path).pixels for file in members])
            assert arrays[f"{part}_labels"].tolist() == [[int(file.label == "normal")] for file in members]


def test_foreign_hdf5_holds_pixels_labels_and_patients(folders: Path, tmp_path: Path) -> None:
    files = list_files(folders)
    with h5py.File(write_layout(folders, "hdf5_foreign", tmp_path), "r") as file:
        assert np.array_equal(file["images"], [read_picture(item.path).pixels for item in files])
        assert list(file["labels"].asstr()) == [item.label for item in files]
        assert list(file["patients"].asstr()) == [item.patient for item in files]
        assert "snellen_schema" not in file.attrs


@pytest.mark.parametrize("kind", ["oct", "fundus"])
def test_dicom_keeps_pixels_and_patient(tmp_path: Path, kind: str) -> None:
    pydicom = pytest.importorskip("pydicom", reason="needs the extra dicom")
    write_cohort(PhantomSpec(kind=kind, n_patients=5, size_px=25), tmp_path / "folders")
    write_layout(tmp_path / "folders", "dicom", tmp_path / "dicom")
    for file in list_files(tmp_path / "folders"):
        found = pydicom.dcmread(tmp_path / "dicom" / file.label / f"{file.path.stem}.dcm")
        assert found.PatientID == file.patient
        assert np.array_equal(found.pixel_array, read_picture(file.path).pixels)


# npz and HDF5 keep the date of writing; their arrays are compared above
@pytest.mark.parametrize("layout", sorted({*LAYOUTS} - {"hdf5_foreign", "npz"}))
def test_layout_is_written_twice_alike(folders: Path, tmp_path: Path, layout: str) -> None:
    written = []
    for name in "ab":
        write_layout(folders, layout, tmp_path / name)
        paths = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        written.append([(path.relative_to(tmp_path / name), path.read_bytes()) for path in paths])
    assert written[0] == written[1]


def test_pictures_of_several_sizes_fit_no_array(tmp_path: Path) -> None:
    write_cohort(PhantomSpec(kind="glomeruli", n_patients=8, size_px=32), tmp_path / "folders")
    with pytest.raises(UsageError, match="differ in size"):
        write_layout(tmp_path / "folders", "npz", tmp_path / "npz")


def test_unknown_layout_names_the_known_ones(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="parquet") as caught:
        write_layout(folders, "parquet", tmp_path)
    assert "csv_per_split" in caught.value.hint


def test_read_patient_finds_it_in_every_kind_of_name() -> None:
    names = ("synthetic_oct_P0012_left_1.png", "synthetic_P7_PAS_1of3_ab12.png")
    assert [read_patient(Path(name)) for name in names] == ["P0012", "P7"]
