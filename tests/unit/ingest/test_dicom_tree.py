"""DICOM trees: patients, eyes, series and frames from tags; tables by file, SOPInstanceUID or patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from pictures import draw_noise, write_pictures
from snellen.core.errors import DataError, UsageError
from snellen.ingest.cohort import read_cohort
from snellen.ingest.phantom_layouts import write_dicom
from snellen.ingest.sources import Source, read_source
from snellen.records.cohort import Cohort
from snellen.records.run import DataRequest

FILES = {
    "well/P1_left_1.dcm": "P1", "well/P1_right_1.dcm": "P1", "well/P2_left_1.dcm": "P2", "sick/P3_left_1.dcm": "P3",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, (name, patient) in enumerate(FILES.items()):
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_dicom(path, draw_noise(seed, channels=1), patient=patient)
    return tmp_path / "scans"


def read(folder: Path, **columns: str) -> Source:
    return read_source(str(folder), columns)


def read_whole(folder: Path, **wishes: object) -> Cohort:
    request = DataRequest.model_validate({"data": str(folder), **wishes})
    return read_cohort(request, threads=2, cache=folder.parent / "cache")


def change(path: Path, **tags: object) -> None:
    found = pydicom.dcmread(path)
    for name, value in tags.items():
        setattr(found, name, value)
    found.save_as(path)


def store_frames(path: Path, n: int) -> None:
    pixels = np.stack([draw_noise(seed, channels=1) for seed in range(100, 100 + n)])
    change(path, NumberOfFrames=n, PixelData=pixels.tobytes())


def test_tags_tell_patients_eyes_and_series(folder: Path) -> None:
    samples = {sample.name: sample for sample in read(folder).samples}
    assert {name: sample.patient for name, sample in samples.items()} == FILES
    assert [samples[name].laterality for name in FILES] == ["L", "R", "L", "L"]
    assert samples["well/P1_left_1.dcm"].series == samples["well/P1_right_1.dcm"].series


def test_rule_names_the_tag(folder: Path) -> None:
    cohort = read_whole(folder)
    assert (cohort.patients.rule, cohort.patients.origin, cohort.patients.n) == ("DICOM tag PatientID", "column", 3)


@pytest.mark.parametrize(("wish", "n"), [("none", 4), (r"/(P\d_[a-z]+)_", 4)])
def test_patients_that_are_told_win_over_the_tag(folder: Path, wish: str, n: int) -> None:
    assert read_whole(folder, patients=wish).patients.n == n


def test_file_without_patient_is_a_patient_of_its_own_and_told(folder: Path) -> None:
    change(folder / "well/P2_left_1.dcm", PatientID="")
    cohort = read_whole(folder)
    (issue,) = [issue for issue in cohort.audit.issues if issue.code == "patients_unknown"]
    assert issue.samples == ("well/P2_left_1.dcm",)


def test_frame_is_a_sample(folder: Path) -> None:
    store_frames(folder / "well/P2_left_1.dcm", 3)
    cohort = read_whole(folder)
    frames = [sample for sample in cohort.samples if "::" in sample.location]
    assert [sample.location for sample in frames] == [f"well/P2_left_1.dcm::frame[{index}]" for index in range(3)]
    assert ({sample.patient for sample in frames}, len({sample.pixels_sha256 for sample in frames})) == ({"P2"}, 3)
    assert "multi_frame_files" in [issue.code for issue in cohort.audit.issues]


@pytest.mark.parametrize("wish", ["auto", "none"])
def test_frames_of_a_file_stay_together_without_a_patient(folder: Path, wish: str) -> None:
    store_frames(folder / "well/P2_left_1.dcm", 3)
    change(folder / "well/P2_left_1.dcm", PatientID="")
    patients = {sample.patient for sample in read_whole(folder, patients=wish).samples if "::" in sample.location}
    assert patients == {"well/P2_left_1.dcm"}


def test_absurd_number_of_frames_is_set_aside(folder: Path) -> None:
    change(folder / "well/P2_left_1.dcm", NumberOfFrames=2_000_000_000)
    cohort = read_whole(folder)
    assert (len(cohort.samples), cohort.audit.n_set_aside) == (3, 1)


def test_files_without_extension_are_found(folder: Path) -> None:
    for path in list(folder.rglob("*.dcm")):
        path.rename(path.with_suffix(""))
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    source = read(folder)
    assert len(source.samples) == 4
    assert all(sample.patient for sample in source.samples)
    assert [issue.code for issue in source.issues] == ["dicomdir_not_used"]


def test_damaged_file_is_set_aside(folder: Path) -> None:
    (folder / "well/P2_left_1.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    cohort = read_whole(folder)
    assert (len(cohort.samples), cohort.audit.n_set_aside) == (3, 1)


def test_pictures_of_other_formats_stay_beside_dicom(folder: Path) -> None:
    write_pictures(folder, ["sick/photo.png"])
    cohort = read_whole(folder)
    assert {sample.name: sample.patient for sample in cohort.samples}["sick/photo.png"] == "sick/photo.png"


def write_table(folder: Path, column: str, values: list[str]) -> Path:
    rows = [f"{value},{label}" for value, label in zip(values, ("well", "well", "well", "sick"), strict=False)]
    path = folder / "labels.csv"
    path.write_text("\n".join([f"{column},grade", *rows]) + "\n")
    return path


def test_table_may_name_the_sop_instance_uid(folder: Path) -> None:
    uids = [str(pydicom.dcmread(folder / name).SOPInstanceUID) for name in FILES]
    samples = read(write_table(folder, "SOPInstanceUID", uids)).samples
    assert {sample.location: (sample.label, sample.patient) for sample in samples} == {
        name: (name.split("/")[0], patient) for name, patient in FILES.items()
    }


def test_patient_column_of_a_table_wins_over_the_tag(folder: Path) -> None:
    rows = "\n".join(f"{Path(name).name},{name.split('/')[0]},X{index % 2}" for index, name in enumerate(FILES))
    (folder / "labels.csv").write_text(f"file,grade,patient\n{rows}\n")
    assert {sample.patient for sample in read(folder / "labels.csv").samples} == {"X0", "X1"}


def test_table_of_patients_is_read_where_each_has_one_picture(folder: Path) -> None:
    (folder / "well/P1_right_1.dcm").unlink()
    path = folder / "labels.csv"
    path.write_text("pid,grade\nP1,well\nP2,well\nP3,sick\n")
    assert len(read(path, image="pid", label="grade").samples) == 3


def test_table_of_patients_with_several_pictures_is_refused_without_their_ids(folder: Path) -> None:
    path = folder / "labels.csv"
    path.write_text("pid,grade\nP1,well\nP2,well\nP3,sick\n")
    with pytest.raises(DataError, match="names patients, and 1 of them have several pictures") as caught:
        read(path, image="pid", label="grade")
    assert "SOPInstanceUID" in caught.value.hint


def test_photographs_beside_dicom_files_keep_the_patients_of_their_names(folder: Path) -> None:
    # one DICOM file among photographs must not make each photograph a patient of its own
    write_pictures(folder, [f"well/{number}_{eye}.png" for number in range(20, 24) for eye in ("left", "right")])
    cohort = read_whole(folder)
    patients = {sample.name: sample.patient for sample in cohort.samples}
    assert patients["well/P1_left_1.dcm"] == patients["well/P1_right_1.dcm"] == "P1"
    assert patients["well/20_left.png"] == patients["well/20_right.png"] != patients["well/21_left.png"]
    assert (cohort.patients.origin, cohort.patients.n) == ("inferred", 3 + 4)
    assert cohort.patients.rule.startswith("DICOM tag PatientID: 4 pictures; patient number before the eye")
    assert "patients_unknown" not in {issue.code for issue in cohort.audit.issues}


def test_photographs_of_unknown_patients_beside_dicom_files_are_told(folder: Path) -> None:
    write_pictures(folder, ["well/a.png", "sick/b.png"])
    cohort = read_whole(folder)
    assert cohort.patients.rule.endswith("one patient a picture: no rule fits the names: 2 pictures")
    (issue,) = [issue for issue in cohort.audit.issues if issue.code == "patients_unknown"]
    assert set(issue.samples) == {"well/a.png", "sick/b.png"}
    assert issue.message.startswith("2 of 6 pictures carry no patient: ")


def test_unknown_patients_of_photographs_and_of_dicom_files_are_counted_together(folder: Path) -> None:
    change(folder / "well/P2_left_1.dcm", PatientID="")
    write_pictures(folder, ["well/a.png", "sick/b.png"])
    (issue,) = [issue for issue in read_whole(folder).audit.issues if issue.code == "patients_unknown"]
    assert set(issue.samples) == {"well/P2_left_1.dcm", "well/a.png", "sick/b.png"}
    assert issue.message.startswith("3 of 6 pictures carry no patient (1 of them in DICOM files without a PatientID): ")


def test_an_empty_cell_of_the_patient_column_is_filled_by_the_tag(folder: Path) -> None:
    rows = [f"{name},{name.split('/')[0]},{'P9' if number == 0 else ''}" for number, name in enumerate(FILES)]
    (folder / "labels.csv").write_text("file,label,patient\n" + "\n".join(rows) + "\n")
    cohort = read_whole(folder / "labels.csv")
    assert {sample.patient for sample in cohort.samples} == {"P9", "P1", "P2", "P3"}


@pytest.mark.parametrize(("age", "years"), [("045Y", "45"), ("018M", "1.5"), ("", None)])
def test_asked_tags_become_columns(folder: Path, age: str, years: str | None) -> None:
    change(folder / "well" / "P1_left_1.dcm", PatientAge=age, PatientSex="F", ManufacturerModelName="Spectralis")
    request = DataRequest(data=str(folder))
    wished = {"cache": folder.parent / "cache", "threads": 2, "by": ["PatientSex"] + ["PatientAge"] * bool(years)}
    samples = {sample.name: sample for sample in read_cohort(request, **wished).samples}
    wanted = {"PatientSex": "F"} | ({"PatientAge": years} if years else {})
    assert samples["well/P1_left_1.dcm"].attributes == wanted  # the model was not asked for
    assert set(samples["sick/P3_left_1.dcm"].attributes.values()) == {""}


def test_tag_that_no_file_has_is_no_column(folder: Path) -> None:
    with pytest.raises(UsageError, match="no column StationName"):
        read_cohort(DataRequest(data=str(folder)), threads=2, cache=folder.parent / "cache", by=["StationName"])
