"""Which files look like pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from pictures import draw_noise, encode
from snellen.imaging.kinds import find_kind
from snellen.imaging.readers import looks_like_picture


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.png", "a.tif", "a.bmp", "a.webp", "a.gif", "a.dcm", "a.DICOM"])
def test_looks_like_picture_believes_known_suffixes(tmp_path: Path, name: str) -> None:
    assert looks_like_picture(tmp_path / name)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF"])
@pytest.mark.parametrize("name", ["IM00001", "scan.001"])
def test_looks_like_picture_recognises_content_without_suffix(tmp_path: Path, form: str, name: str) -> None:
    (tmp_path / name).write_bytes(encode(draw_noise(1), form))
    assert looks_like_picture(tmp_path / name)
    assert find_kind((tmp_path / name).read_bytes()) == form


def test_looks_like_picture_recognises_dicom_without_suffix(tmp_path: Path) -> None:
    (tmp_path / "IM1").write_bytes(b"\0" * 128 + b"DICM\2\0")
    assert looks_like_picture(tmp_path / "IM1")


@pytest.mark.parametrize("content", [b"", b"BMI, age\n21, 60\n", b"hello", b"RIFF1234WAVE", b"\0" * 200])
def test_looks_like_picture_takes_other_content_for_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes").write_bytes(content)
    assert not looks_like_picture(tmp_path / "notes")


def test_looks_like_picture_takes_a_dicom_directory_for_none(tmp_path: Path) -> None:
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    assert not looks_like_picture(tmp_path / "DICOMDIR")


def test_looks_like_picture_of_absent_file_or_folder_is_false(tmp_path: Path) -> None:
    assert not looks_like_picture(tmp_path)
    assert not looks_like_picture(tmp_path / "gone")
