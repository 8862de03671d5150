"""Which pictures `predict` takes: by name, by content, every frame of a DICOM; nothing is passed over in silence."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file

from pictures import draw_noise, encode, write_picture, write_pictures
from snellen.core.errors import UsageError
from snellen.picture_search import Named, find_pictures
from snellen.prediction import to_csv, to_json
from snellen.records.bundle import Prediction


def packaged(name: str) -> bytes:
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str)
    return Path(found).read_bytes()


def list_found(*patterns: str | Path) -> list[str]:
    return [item.location for item in find_pictures([str(pattern) for pattern in patterns])]


@pytest.fixture
def told() -> Iterator[io.StringIO]:
    """What a person reads on standard error."""
    stream, logger = io.StringIO(), logging.getLogger("snellen")
    handler, level = logging.StreamHandler(stream), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_folder_gives_pictures_whatever_they_are_called(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "IM0001").write_bytes(packaged("CT_small.dcm"))
    (tmp_path / "IM0002").write_bytes(encode(draw_noise(1), "JPEG"))
    (tmp_path / "notes.txt").write_text("BMI 21")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    found = [Path(name).name for name in list_found(tmp_path)]
    assert found == ["IM0001", "IM0002", "a.png"]


@pytest.mark.parametrize("name", ["volume.dcm", "volume"])
def test_dicom_gives_a_row_a_frame(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(packaged("SC_rgb_rle_2frame.dcm"))
    expected = [f"{tmp_path / name}::frame[{index}]" for index in (0, 1)]
    assert list_found(tmp_path) == expected
    assert list_found(tmp_path / name) == expected


def test_frame_that_was_named_stays_one(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(packaged("SC_rgb_rle_2frame.dcm"))
    assert list_found(f"{tmp_path / 'x.dcm'}::frame[1]") == [f"{tmp_path / 'x.dcm'}::frame[1]"]


def test_damaged_dicom_keeps_its_row(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(b"nothing")
    assert list_found(tmp_path) == [str(tmp_path / "x.dcm")]


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
        "abstain": True, "reason": "the picture cannot be read", "error": "it is empty", "set": None,
    }  # fmt: skip
    assert [row["abstain"] for row in table] == ["false", "true"]
    assert {table[1][name] for name in ("prediction", "probability_ill", "probability_well", "decision")} == {""}


def test_set_is_a_list_in_json_and_joined_in_csv() -> None:
    parts = {"prediction": "ill", "probabilities": {"ill": 0.75, "well": 0.25}, "decision": "ill"}
    rows = [Prediction(path="a", **parts, set=named) for named in (("ill", "well"), ("ill",), (), None)]
    assert [row["set"] for row in json.loads(to_json(rows, ["ill", "well"]))] == [["ill", "well"], ["ill"], [], None]
    table = list(csv.DictReader(io.StringIO(to_csv(rows, ["ill", "well"]))))
    assert [row["set"] for row in table] == ["ill | well", "ill", "", ""]


def test_empty_folder_costs_its_row_only(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "dir.png").mkdir()
    expected = [Named(str(tmp_path / "dir.png"), "the folder holds no picture"), Named(str(tmp_path / "a.png"))]
    assert find_pictures([str(tmp_path / "dir.png"), str(tmp_path / "a.png")]) == expected


def test_pattern_without_a_match_costs_its_row_only(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    expected = [Named(f"{tmp_path}/*.jpg", "the pattern matches no file"), Named(str(tmp_path / "a.png"))]
    assert find_pictures([f"{tmp_path}/*.jpg", f"{tmp_path}/*.png"]) == expected


def test_all_that_was_named_in_vain_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)a/\*: the pattern matches no file.*holds no picture"):
        find_pictures([str(tmp_path / "a" / "*"), str(tmp_path)])


def test_empty_path_is_refused_and_does_not_mean_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="empty path"):
        find_pictures(["a.png", ""])


def test_what_is_named_twice_comes_twice_in_order(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["a.png", "b.png"])
    a, b = str(tmp_path / "a.png"), str(tmp_path / "b.png")
    assert list_found(b, a, b) == [b, a, b]
    assert list_found(tmp_path, a) == [a, b, a]


@pytest.mark.parametrize("name", ["~no such user/x.png", "x" * 5000, "a/b.png"], ids=["user", "long", "absent"])
def test_name_that_leads_nowhere_keeps_its_row(name: str) -> None:
    assert find_pictures([name]) == [Named(name)]


@pytest.mark.parametrize("name", [".hid/h.png", "._a.png", "Thumbs.db", "well/@eaDir/a.png", "__MACOSX/a.png"])
@pytest.mark.parametrize("pattern", ["", "**", "**/*"])
def test_hidden_names_are_left_out_and_counted(tmp_path: Path, told: io.StringIO, name: str, pattern: str) -> None:
    write_pictures(tmp_path, ["well/a.png"])
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(encode(draw_noise(1)))
    assert list_found(tmp_path / pattern) == [str(tmp_path / "well" / "a.png")]
    assert "1 hidden or system name left out" in told.getvalue()


def test_system_names_that_a_star_matches_are_left_out_and_counted(tmp_path: Path, told: io.StringIO) -> None:
    write_pictures(tmp_path, ["a/1.png", "@eaDir/1.png"])
    assert list_found(tmp_path / "*" / "1.png") == [str(tmp_path / "a" / "1.png")]
    assert "1 hidden or system name left out" in told.getvalue()


def test_hidden_name_that_was_spelt_out_is_meant(tmp_path: Path) -> None:
    picture = str(write_picture(tmp_path / ".hid" / "h.png"))
    for pattern in (".hid", ".hid/h.png", ".hid/*.png", ".h*/*.png", ".hid/**"):
        assert list_found(tmp_path / pattern) == [picture]


def test_linked_folder_is_followed(tmp_path: Path) -> None:
    write_picture(tmp_path / "store" / "c.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to("../store")
    for pattern in ("data", "data/**", "data/*/*.png", "data/**/c.png"):
        assert list_found(tmp_path / pattern) == [str(tmp_path / "data" / "linked" / "c.png")]


@pytest.mark.parametrize("pattern", ["", "**", "**/*.png", "**/sub/**", "*/*.png"])
def test_folder_to_which_several_links_lead_comes_once(tmp_path: Path, told: io.StringIO, pattern: str) -> None:
    write_picture(tmp_path / "sub" / "c.png")
    (tmp_path / "zlink").symlink_to("sub")
    (tmp_path / "sub" / "loop").symlink_to("..")
    (tmp_path / "sub" / "again").symlink_to("..")
    assert list_found(tmp_path / pattern) == [str(tmp_path / "sub" / "c.png")]
    expected = (
        "" if pattern == "**/sub/**" else "lead again" if pattern else "1 link to folders that are searched anyway"
    )
    assert expected in told.getvalue()


def test_folders_that_link_each_other_are_searched_once(tmp_path: Path) -> None:
    # by every way through them there would be millions of paths
    write_pictures(tmp_path, [f"{name}/1.png" for name in "abcdefghij"])
    for one in "abcdefghij":
        for other in set("abcdefghij") - {one}:
            (tmp_path / one / f"to-{other}").symlink_to(f"../{other}")
    assert list_found(tmp_path) == [str(tmp_path / name / "1.png") for name in "abcdefghij"]


def test_linked_files_of_other_names_stay_rows(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    expected = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert list_found(tmp_path) == list_found(tmp_path / "*.png") == expected


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("pattern", ["", "**", "*", "**/*"])
def test_what_is_no_file_and_links_to_nothing_get_rows(tmp_path: Path, pattern: str) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "dang.png").symlink_to("nowhere")
    (tmp_path / "dicom").symlink_to("nowhere")  # a DICOM has no suffix as often as not
    os.mkfifo(tmp_path / "f.png")
    (tmp_path / "z.png").symlink_to("/dev/zero")
    names = [Path(location).name for location in list_found(tmp_path / pattern)]
    assert names == ["a.png", "dang.png", "dicom", "f.png", "z.png"]


def test_folder_that_cannot_be_entered_gets_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # refused by the system's call, since permissions do not bind the administrator
    write_pictures(tmp_path, ["well/1.png", "secret/2.png"])
    scan = os.scandir

    def refuse(path: Any) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    error = "the folder cannot be entered: Permission denied"
    expected = [Named(str(tmp_path / "well" / "1.png")), Named(str(tmp_path / "secret"), error)]
    assert find_pictures([str(tmp_path)]) == find_pictures([f"{tmp_path}/**"]) == expected


def test_folders_that_a_pattern_matches_are_told(tmp_path: Path, told: io.StringIO) -> None:
    write_pictures(tmp_path, ["1.png", "sub/2.png"])
    assert list_found(tmp_path / "*") == [str(tmp_path / "1.png")]
    assert "1 folder not searched" in told.getvalue()


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**", ["1.png", "a/2.png", "a/b/3.png", "a/notes.txt"]),
        ("**/*.png", ["1.png", "a/2.png", "a/b/3.png"]),
        ("*/**/*.png", ["a/2.png", "a/b/3.png"]),
        ("**/b/*", ["a/b/3.png"]),
        ("**/b/**", ["a/b/3.png"]),
        ("a/**/**/3.png", ["a/b/3.png"]),
        ("[a]/**/[!n]*", ["a/2.png", "a/b/3.png"]),
    ],
)
def test_pattern_of_any_depth_matches_as_the_shell_does(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    write_pictures(tmp_path, ["1.png", "a/2.png", "a/b/3.png"])
    (tmp_path / "a" / "notes.txt").write_text("Dear colleague")
    assert list_found(tmp_path / pattern) == [str(tmp_path / name) for name in expected]


def test_folder_with_brackets_is_no_pattern(tmp_path: Path) -> None:
    picture = str(write_picture(tmp_path / "data[1]" / "a.png"))
    assert list_found(tmp_path / "data[1]") == list_found(f"{tmp_path}/data[1]/**") == [picture]


def test_pattern_in_the_current_folder_gives_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path, ["a.png", "sub/b.png"])
    monkeypatch.chdir(tmp_path)
    assert list_found(".") == list_found("**") == list_found("**/*.png") == ["a.png", str(Path("sub/b.png"))]
