"""Ids of patients: called in many ways, written in many ways, or the name of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pictures import write_pictures, write_table
from snellen.ingest.cohort import read_cohort
from snellen.ingest.patients import RawSample, group_patients
from snellen.ingest.sources import read_source
from snellen.ingest.tables import read_table
from snellen.records.cohort import Cohort
from snellen.records.run import DataRequest

N = 24
NAMES = [f"{'abcdefghijklmnopqrstuvwx'[k]}.png" for k in range(N)]


def to_samples(*patients: str) -> list[RawSample]:
    return [RawSample(f"{k}.png", f"{k}.png", "x", patient=patient) for k, patient in enumerate(patients)]


def read(folder: Path, data: Path | None = None) -> Cohort:
    return read_cohort(DataRequest(data=str(data or folder)), threads=1, cache=folder / ".cache")


def write_folders(folder: Path, inner: Sequence[str], classes: Sequence[str] = ("amd", "normal")) -> Path:
    names = [f"{label}/{name}/{side}.png" for label in classes for name in inner for side in ("left", "right")]
    return write_pictures(folder / "in", names)


@pytest.mark.parametrize(
    "name", ["Patient_ID", "patient no", "Patient-Nr", "PatientNumber", "PID", "pat", "Pat ID", "Subject", "case_no",
             "Person ID", "MRN", "Patientennummer", "Patienten-ID", "patientid"],
)  # fmt: skip
def test_patients_are_found_by_the_name_of_their_column_or_array(tmp_path: Path, name: str) -> None:
    text = f"image,label,{name}\n" + "".join(f"{image},{'xy'[k % 2]},q{k // 2}\n" for k, image in enumerate(NAMES))
    assert read_table(write_table(tmp_path, text, NAMES), {}).samples[2].patient == "q1"
    arrays = {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.arange(4) % 2, name: np.array(["a", "a", "b", "b"])}
    np.savez(tmp_path / "a.npz", **arrays)
    assert [sample.patient for sample in read_source(str(tmp_path / "a.npz"), {}).samples] == ["a", "a", "b", "b"]


def test_an_id_alone_is_no_patient(tmp_path: Path) -> None:
    text = "image,label,id\n" + "".join(f"{image},{'xy'[k % 2]},q{k // 2}\n" for k, image in enumerate(NAMES))
    table = read_table(write_table(tmp_path, text, NAMES), {"label": "label"})
    assert {sample.patient for sample in table.samples} == {None}


def test_a_column_that_looks_like_patients_is_named(tmp_path: Path) -> None:
    text = "image,label,who,age\n" + "".join(
        f"{image},{'xy'[k % 2]},q{k // 2},{40 + k // 2}\n" for k, image in enumerate(NAMES)
    )
    issues = {issue.code: issue.advice for issue in read(tmp_path, write_table(tmp_path, text, NAMES)).audit.issues}
    assert "The column who looks like it: --columns patient=who" in issues["patients_unknown"]


def test_whole_numbers_with_decimals_are_one_patient() -> None:
    done, _, issues = group_patients(to_samples("12", "12.0", "13.0"), "auto")
    assert [sample.patient for sample in done] == ["12", "12", "13"]
    assert [issue.code for issue in issues] == ["patients_as_integers"]


@pytest.mark.parametrize("pair", [("P1", "p1"), ("P 1", "P1"), ("007", "007.0")])
def test_ids_that_differ_in_case_or_blanks_are_told(pair: tuple[str, str]) -> None:
    done, _, issues = group_patients(to_samples(*pair, "x"), "auto")
    assert len({sample.patient for sample in done}) == 3
    [issue] = issues
    assert (issue.code, issue.samples) == ("patients_alike", ("0.png", "1.png"))
    assert repr(pair[0]) in issue.message


@pytest.mark.parametrize("inner", [("patient1034", "patient1035"), ("1034", "1035"), ("P 1", "P 2")])
def test_folders_within_the_classes_are_patients(tmp_path: Path, inner: Sequence[str]) -> None:
    cohort = read(tmp_path, write_folders(tmp_path, inner))
    assert (cohort.patients.n, cohort.patients.origin) == (2, "inferred")
    assert len(cohort.patients.examples) == 2
    assert {sample.patient.split("@")[0] for sample in cohort.samples} == set(inner)


@pytest.mark.parametrize("inner", [("batch1", "batch2"), ("2019", "2020"), ("x", "y"), ("P1",)])
def test_other_folders_within_the_classes_are_no_patients(tmp_path: Path, inner: Sequence[str]) -> None:
    cohort = read(tmp_path, write_folders(tmp_path, inner))
    assert cohort.patients.n == len(cohort.samples)


def test_file_names_tell_patients_where_folders_do_not(tmp_path: Path) -> None:
    names = [
        f"{label}/batch{n % 2}/{k}{n}_{side}.png" for k, label in enumerate("ab") for n in range(3) for side in "lr"
    ]
    assert read(tmp_path, write_pictures(tmp_path / "in", names)).patients.n == 6


def test_a_row_without_a_picture_is_named_by_its_line(tmp_path: Path) -> None:
    text = "image,label\na.png,x\nb.png,y\n,x\nc.png,x\n"
    issues = {issue.code: issue.samples for issue in read_table(write_table(tmp_path, text, NAMES), {}).issues}
    assert issues["missing_picture"] == ("row 4",)
