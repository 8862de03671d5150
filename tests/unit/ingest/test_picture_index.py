"""Which picture a cell means."""

from __future__ import annotations

import unicodedata

import pytest

from snellen.ingest.picture_index import Found, PictureIndex, look_like_uids, restrict_to_split


def locate(value: str, *pictures: str, root: str = "data") -> Found:
    return PictureIndex(pictures, root).locate("image", [value])


@pytest.mark.parametrize(
    ("value", "picture"),
    [
        ("x", "images/x.jpg"),
        ("x.jpg", "images/x.jpg"),
        ("x.jpg", "images/x.jpg.jpg"),
        ("x.jpg.jpg", "images/x.jpg"),
        ("x.jpeg", "images/x.jpg"),
        ("x.JPG", "images/x.jpg"),
        ("x.jpg", "images/x.JPG"),
        ("X", "images/x.png"),
        ("images/x.jpg", "images/x.jpg"),
        ("images/x", "images/x.jpg"),
        ("IMAGES/x", "images/x.jpg"),
        ("./images/x.jpg", "images/x.jpg"),
        ("images\\x.jpg", "images/x.jpg"),
        ("data/x.jpg", "x.jpg"),
        ("/home/anna/study/images/x.jpg", "images/x.jpg"),
        ("C:\\study\\images\\x.jpg", "images/x.jpg"),
        ("1.2.840.113", "1.2.840.113.png"),
        (unicodedata.normalize("NFC", "Ödem.png"), unicodedata.normalize("NFD", "Ödem.png")),
    ],
)
def test_cell_means_the_picture(value: str, picture: str) -> None:
    assert locate(value, picture, "other/y.jpg").location_of == {value: picture}


@pytest.mark.parametrize(
    ("value", "picture"),
    [("x.jpg", "images/xx.jpg"), ("left/x.jpg", "right/x.jpg"), ("../x.jpg", "x.jpg"), ("/etc/x.jpg", "images/x.jpg")],
)
def test_cell_does_not_mean_another_picture(value: str, picture: str) -> None:
    assert locate(value, picture).location_of == {}


@pytest.mark.parametrize(("value", "is_loose"), [("x", False), ("x.jpg", False), ("x.jpeg", True), ("X.jpg", True)])
def test_overlooked_case_or_extension_is_told(value: str, is_loose: bool) -> None:
    assert (locate(value, "x.jpg").loose == (value,)) is is_loose


def test_exact_name_wins_over_a_loose_one() -> None:
    assert locate("x.png", "x.png", "x.jpg", "X.png").location_of == {"x.png": "x.png"}


def test_two_pictures_of_one_id_are_ambiguous() -> None:
    assert locate("x", "x.png", "x.jpg").ambiguous == ("x",)


def test_folder_called_images_is_preferred_and_told() -> None:
    found = PictureIndex(["Images/a.png", "Masks/a.png", "Images/b.png", "Masks/b.png"]).locate("image", ["a", "b"])
    assert found.location_of == {"a": "Images/a.png", "b": "Images/b.png"}
    assert (found.chosen, found.passed) == ("Images", ("Masks",))


def test_pictures_of_another_split_are_left_out() -> None:
    index = PictureIndex(["train_images/1.png", "test_images/1.png", "extra/2.png"])
    assert restrict_to_split(index, "train").pictures == ("train_images/1.png", "extra/2.png")


@pytest.mark.parametrize(
    ("values", "expected"),
    [(["1.2.840.10008.5.1", "1.3.6.1.4.1.9590"], True), (["1.2.3"], False), (["a.png"], False), ([""], False)],
)
def test_uids_are_recognised(values: list[str], expected: bool) -> None:
    assert look_like_uids(values) is expected
