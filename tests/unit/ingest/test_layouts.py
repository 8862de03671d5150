"""Every layout of one cohort gives the same pictures, labels and patients as its class folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from snellen.ingest.cohort import read_cohort
from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.ingest.phantom_layouts import LAYOUTS, write_layout
from snellen.records.cohort import Cohort
from snellen.records.run import DataRequest

TELLS_PATIENTS = ("csv", "csv_per_split", "npz", "hdf5_foreign", "dicom")
TELLS_SPLITS = ("split_folders", "csv_per_split", "npz")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("phantom") / "cohort"
    write_cohort(PhantomSpec(n_patients=12, size_px=32, classes=("normal", "cysts"), seed=3), place)
    return place


@pytest.fixture(scope="module")
def plain(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return read(folder, tmp_path_factory.mktemp("cache"))


def read(data: Path, cache: Path, **wishes: object) -> Cohort:
    return read_cohort(DataRequest.model_validate({"data": str(data), **wishes}), threads=2, cache=cache)


def to_labels(cohort: Cohort) -> dict[str, str]:
    return {sample.pixels_sha256: sample.label for sample in cohort.samples}


def to_groups(cohort: Cohort) -> set[frozenset[str]]:
    """Pictures of one patient, whatever the patient is called."""
    groups: dict[str, set[str]] = {}
    for sample in cohort.samples:
        groups.setdefault(sample.patient, set()).add(sample.pixels_sha256)
    return {frozenset(group) for group in groups.values()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_gives_the_pictures_and_labels_of_class_folders(
    layout: str, folder: Path, plain: Cohort, tmp_path: Path
) -> None:
    cohort = read(write_layout(folder, layout, tmp_path / "data"), tmp_path / "cache")
    found = to_labels(cohort)
    if layout == "npz":  # numbers stand for the classes there
        found = {key: plain.classes[int(label)] for key, label in found.items()}
    assert found == to_labels(plain)
    assert cohort.audit.n_set_aside == 0


@pytest.mark.parametrize("layout", TELLS_PATIENTS)
def test_layout_tells_the_patients(layout: str, folder: Path, plain: Cohort, tmp_path: Path) -> None:
    cohort = read(write_layout(folder, layout, tmp_path / "data"), tmp_path / "cache")
    assert cohort.patients.origin == "column"
    assert to_groups(cohort) == to_groups(plain)


@pytest.mark.parametrize("layout", TELLS_SPLITS)
def test_layout_tells_the_splits(layout: str, folder: Path, tmp_path: Path) -> None:
    cohort = read(write_layout(folder, layout, tmp_path / "data"), tmp_path / "cache")
    assert {sample.split for sample in cohort.samples} == {"train", "val", "test"}


def test_zip_gives_the_names_of_the_plain_folder(folder: Path, plain: Cohort, tmp_path: Path) -> None:
    cohort = read(write_layout(folder, "zip", tmp_path / "data"), tmp_path / "cache")
    assert [sample.name for sample in cohort.samples] == [sample.name for sample in plain.samples]


def test_dicom_layout_tells_eye_and_series(folder: Path, tmp_path: Path) -> None:
    cohort = read(write_layout(folder, "dicom", tmp_path / "data"), tmp_path / "cache")
    assert {sample.laterality for sample in cohort.samples} == {"L", "R"}
    assert all(sample.series for sample in cohort.samples)
    assert cohort.patients.rule == "DICOM tag PatientID"
