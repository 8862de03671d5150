"""Which files `predict` takes: by name, by content, and every frame of a DICOM."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from pictures import draw_noise, encode, write_picture
from snellen.core.errors import UsageError
from snellen.prediction import find_pictures, to_csv, to_json
from snellen.records.bundle import Prediction


def packaged(name: str) -> bytes:
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str)
    return Path(found).read_bytes()


def test_folder_gives_pictures_whatever_they_are_called(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "IM0001").write_bytes(packaged("CT_small.dcm"))
    (tmp_path / "IM0002").write_bytes(encode(draw_noise(1), "JPEG"))
    (tmp_path / "notes.txt").write_text("BMI 21")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    found = [Path(name).name for name in find_pictures([str(tmp_path)])]
    assert found == ["IM0001", "IM0002", "a.png"]


@pytest.mark.parametrize("name", ["volume.dcm", "volume"])
def test_dicom_gives_a_row_a_frame(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(packaged("SC_rgb_rle_2frame.dcm"))
    expected = [f"{tmp_path / name}::frame[{index}]" for index in (0, 1)]
    assert find_pictures([str(tmp_path)]) == expected
    assert find_pictures([str(tmp_path / name)]) == expected


def test_frame_that_was_named_stays_one(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(packaged("SC_rgb_rle_2frame.dcm"))
    assert find_pictures([f"{tmp_path / 'x.dcm'}::frame[1]"]) == [f"{tmp_path / 'x.dcm'}::frame[1]"]


def test_damaged_dicom_keeps_its_row(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(b"nothing")
    assert find_pictures([str(tmp_path)]) == [str(tmp_path / "x.dcm")]


def test_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(UsageError, match="holds no picture"):
        find_pictures([str(tmp_path)])


def test_unreadable_picture_says_the_same_in_csv_and_json() -> None:
    good = Prediction(path="a.png", prediction="ill", probabilities={"ill": 0.75, "well": 0.25}, decision="ill")
    bad = Prediction(path="b.png", abstain=True, reason="the picture cannot be read", error="it is empty")
    rows = json.loads(to_json([good, bad], ["ill", "well"]))
    table = list(csv.DictReader(io.StringIO(to_csv([good, bad], ["ill", "well"]))))
    assert [list(row) for row in rows] == [list(row) for row in table]
    assert rows[1] == {
        "path": "b.png", "prediction": None, "probability_ill": None, "probability_well": None, "decision": None,
        "abstain": True, "reason": "the picture cannot be read", "error": "it is empty",
    }  # fmt: skip
    assert [row["abstain"] for row in table] == ["false", "true"]
    assert {table[1][name] for name in ("prediction", "probability_ill", "probability_well", "decision")} == {""}
