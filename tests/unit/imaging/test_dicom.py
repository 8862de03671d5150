"""Tags of DICOM files: what grouping needs, from files that pydicom carries and from files written here."""

from __future__ import annotations

import logging
import zlib
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from snellen.core.errors import PictureError
from snellen.imaging.dicom import count_frames, read_tags


def packaged(name: str) -> Path:
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str)
    return Path(found)


def write_dicom(path: Path, **tags: Any) -> Path:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1", "1.2.3.4"
    data.Rows = data.Columns = 4
    for name, value in tags.items():
        setattr(data, name, value)
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    return path


def test_read_tags_tells_patient_series_and_instance() -> None:
    found = read_tags(packaged("CT_small.dcm"))
    assert found.patient_id == "1CT1"
    assert found.series_uid == "1.3.6.1.4.1.5962.1.3.1.1.20040119072730.12322"
    assert found.sop_uid == "1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322"
    assert (found.laterality, found.n_frames, found.has_pixels) == (None, 1, True)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"ImageLaterality": "L"}, "L"),
        ({"Laterality": "R"}, "R"),
        ({"ImageLaterality": "L", "Laterality": "R"}, "L"),
        ({"ImageLaterality": "B"}, None),
        ({}, None),
    ],
)
def test_read_tags_tells_the_side(tmp_path: Path, tags: dict[str, str], expected: str | None) -> None:
    assert read_tags(write_dicom(tmp_path / "x.dcm", **tags)).laterality == expected


def test_read_tags_keeps_leading_zeros_of_the_patient(tmp_path: Path) -> None:
    assert read_tags(write_dicom(tmp_path / "x.dcm", PatientID="007")).patient_id == "007"


def test_count_frames_reads_the_header() -> None:
    assert count_frames(packaged("examples_ybr_color.dcm")) == 30
    assert count_frames(packaged("CT_small.dcm")) == 1


def test_read_tags_tells_files_without_pixels() -> None:
    found = read_tags(packaged("test-SR.dcm"))
    assert (found.has_pixels, found.n_frames) == (False, 1)


@pytest.mark.parametrize("name", ["ExplVR_LitEndNoMeta.dcm", "ExplVR_BigEndNoMeta.dcm"])
def test_read_tags_reads_headers_without_preamble(name: str) -> None:
    assert read_tags(packaged(name)).series_uid == "1.2.333.4444.5.6.7.8.99"


def test_read_tags_of_other_content_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(b"nothing like it" * 20)
    with pytest.raises(PictureError, match=r"no picture|damaged"):
        read_tags(tmp_path / "x.dcm")


def test_read_tags_of_absent_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="does not exist"):
        read_tags(tmp_path / "gone.dcm")


@pytest.mark.parametrize("syntax", [b"1.2.840.10008.1.9.9", b"1.2.840.10008.9.9\\1", b"1.2.3.4.5.6.7.8.9.1"])
def test_read_tags_of_an_unknown_transfer_syntax_counts_as_the_header_says(tmp_path: Path, syntax: bytes) -> None:
    path = write_dicom(tmp_path / "x.dcm", NumberOfFrames="7")
    content = path.read_bytes()
    told = b"1.2.840.10008.1.2.1\0"
    assert content.count(told) == 1
    assert read_tags(content.replace(told, syntax.ljust(len(told), b"\0"))).n_frames == 7


def test_read_tags_counts_frames_of_a_deflated_file(tmp_path: Path) -> None:
    tags = {"Rows": 64, "Columns": 64, "SamplesPerPixel": 1, "BitsAllocated": 8, "PixelData": bytes(64 * 64 * 9)}
    data = pydicom.dcmread(write_dicom(tmp_path / "x.dcm", NumberOfFrames="9", **tags))
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(tmp_path / "y.dcm", enforce_file_format=True)
    assert (tmp_path / "y.dcm").stat().st_size < 64 * 64
    assert read_tags(tmp_path / "y.dcm").n_frames == 9


def test_read_tags_refuses_a_deflated_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snellen.imaging.dicom.MAX_DICOM_BYTES", 3 << 20)  # a gigabyte would take seconds
    path = write_dicom(tmp_path / "x.dcm")
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)
    begin = path.read_bytes()
    start = begin.rindex(b"1.2.840.10008.1.2.1.99") + 22
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    with path.open("wb") as stream:
        stream.write(begin[:start])
        for _ in range(4):
            stream.write(packer.compress(bytes(1 << 20)))
        stream.write(packer.flush())
    with pytest.raises(PictureError, match="1 GB"):
        read_tags(path)


@pytest.mark.parametrize("name", ["badVR.dcm", "rtplan_truncated.dcm", "MR_truncated.dcm"])
def test_read_tags_of_odd_files_warns_and_logs_nothing(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        read_tags(packaged(name))
    assert caplog.records == []


def test_read_tags_never_tells_what_stands_in_a_damaged_file(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "x.dcm", PatientID="SECRET1", PatientName="SECRET^JANE")
    whole = path.read_bytes()
    told = []
    for end in range(140, len(whole), 7):
        path.write_bytes(whole[:end])
        try:
            read_tags(path)
        except PictureError as error:
            told.append(f"{error} {error.__cause__}")
    assert told
    assert not any("SECRET" in text for text in told)


def test_read_tags_of_what_cannot_be_opened_says_so(tmp_path: Path) -> None:
    # a folder by that name: permissions would not bind an administrator
    (tmp_path / "x.dcm").mkdir()
    with pytest.raises(PictureError, match=r"damaged|cannot be read"):
        read_tags(tmp_path / "x.dcm")


def test_read_tags_refuses_more_uncompressed_frames_than_the_file_holds(tmp_path: Path) -> None:
    tags = {"Rows": 16, "Columns": 16, "SamplesPerPixel": 1, "BitsAllocated": 8, "PixelData": bytes(256)}
    with pytest.raises(PictureError, match="claims 999 uncompressed frames"):
        read_tags(write_dicom(tmp_path / "x.dcm", NumberOfFrames="999", **tags))
