"""One walk finds everything, whatever people and systems leave in folders."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pictures import draw_noise, encode, write_picture, write_pictures
from snellen.core.errors import DataError
from snellen.ingest.sources import read_source
from snellen.ingest.tree import check_tree, read_tree


def list_codes(folder: Path) -> list[str]:
    return [issue.code for issue in check_tree(read_tree(folder))]


@pytest.mark.parametrize("name", ["well/1", "well/scan.dat", "well/1.2.840.113"])
def test_picture_without_a_known_extension_is_recognised_by_content(tmp_path: Path, name: str) -> None:
    (tmp_path / "well").mkdir()
    (tmp_path / name).write_bytes(encode(draw_noise(1)))
    assert read_tree(tmp_path).pictures == (name,)


@pytest.mark.parametrize("name", ["notes.txt", "well/Thumbs.dat", "empty"])
def test_other_content_is_no_picture(tmp_path: Path, name: str) -> None:
    (tmp_path / "well").mkdir()
    (tmp_path / name).write_bytes(b"" if name == "empty" else b"Dear colleague")
    assert read_tree(tmp_path).others == (name,)


@pytest.mark.parametrize("name", [".hidden/1.png", "__MACOSX/1.png", "well/@eaDir/1.png", "well/._1.png"])
def test_hidden_pictures_are_not_listed(tmp_path: Path, name: str) -> None:
    assert read_tree(write_pictures(tmp_path, [name])).pictures == ()


def test_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    write_picture(tmp_path / "store" / "1.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "well").symlink_to(tmp_path / "store")
    assert read_tree(tmp_path / "data").pictures == ("well/1.png",)


@pytest.mark.parametrize("target", [".", ".."])
def test_link_in_a_circle_ends_and_is_told(tmp_path: Path, target: str) -> None:
    write_picture(tmp_path / "well" / "1.png")
    (tmp_path / "well" / "again").symlink_to(target)
    tree = read_tree(tmp_path)
    assert (tree.pictures, tree.circular) == (("well/1.png",), ("well/again",))
    assert list_codes(tmp_path) == ["circular_link"]


def test_link_to_nothing_stays_a_picture_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "1.png").symlink_to("nowhere.png")
    assert read_tree(tmp_path).pictures == ("1.png",)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize(("kind", "is_link"), [("a pipe", True), ("a pipe", False), ("a device", True)])
def test_what_is_no_file_is_told_and_not_opened(tmp_path: Path, kind: str, is_link: bool) -> None:
    write_picture(tmp_path / "data" / "well" / "1.png")
    place = tmp_path / "data" / "well" / "2.png"
    if kind == "a pipe":
        os.mkfifo(tmp_path / "pipe" if is_link else place)
    if is_link:
        place.symlink_to(tmp_path / "pipe" if kind == "a pipe" else "/dev/zero")
    tree = read_tree(tmp_path / "data")
    assert (tree.pictures, tree.others, tree.special) == (("well/1.png",), (), (("well/2.png", kind),))
    issue = check_tree(tree)[0]
    assert (issue.code, issue.severity, issue.samples) == ("special_file", "warning", ("well/2.png",))


@pytest.fixture
def shut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may enter folders called secret: the system's call refuses, since permissions do not bind root."""
    scan = os.scandir

    def refuse(path: Any) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)


@pytest.mark.usefixtures("shut")
def test_folder_that_may_not_be_entered_is_told(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["well/1.png", "secret/2.png"])
    tree = read_tree(tmp_path)
    assert (tree.pictures, tree.unreadable) == (("well/1.png",), (("secret", "Permission denied"),))
    assert list_codes(tmp_path) == ["unreadable_folder"]


@pytest.mark.usefixtures("shut")
@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["ill/1.png", "well/1.png", "secret/1.png"], "unreadable_class"),
        (["ill/1.png", "well/1.png", "well/secret/1.png"], "unreadable_folder"),
        (["all/ill/1.png", "all/well/1.png", "all/secret/1.png"], "unreadable_class"),
        (["train/ill/1.png", "train/well/1.png", "train/secret/1.png", "test/ill/1.png"], "unreadable_class"),
    ],
)
def test_whole_class_that_may_not_be_entered_is_severe(tmp_path: Path, names: list[str], code: str) -> None:
    issues = read_source(str(write_pictures(tmp_path, names)), {}).issues
    found = [(issue.code, issue.severity) for issue in issues if issue.code.startswith("unreadable")]
    assert found == [(code, "severe" if code == "unreadable_class" else "warning")]


@pytest.mark.usefixtures("shut")
def test_missing_permission_is_named_where_no_class_is_left(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_source(str(write_pictures(tmp_path, ["well/1.png", "secret/1.png"])), {})
    assert "secret cannot be entered (Permission denied)" in caught.value.hint


def test_nested_archive_is_told(tmp_path: Path) -> None:
    write_picture(tmp_path / "well" / "1.png")
    shutil.make_archive(str(tmp_path / "more"), "zip", tmp_path / "well")
    assert list_codes(tmp_path) == ["archive_not_opened"]


def test_dicomdir_is_no_picture_and_told(tmp_path: Path) -> None:
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(8))
    assert read_tree(tmp_path).pictures == ()
    assert list_codes(tmp_path) == ["dicomdir_not_used"]
