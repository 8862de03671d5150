"""Pictures unlike the rest are named, each by its fault; what all pictures have is no fault."""

from __future__ import annotations

import cv2
import numpy as np
import picture_checks as bench
import pytest

from pictures import make_sample
from snellen.imaging.looks import LOOKS, measure_looks
from snellen.ingest.picture_checks import check_pictures
from snellen.ingest.picture_looks import HEADER, Looks
from snellen.records.cohort import Issue

CLEAN = [bench.draw("fundus", number, 160) for number in range(30)]
SEEN = [measure_looks(picture) for picture in CLEAN]


@pytest.mark.parametrize("fault", [fault for fault in bench.FAULTS if fault != "text_in_pictures"])
def test_fault_of_three_pictures_is_told_by_its_name(fault: str) -> None:
    found = bench.measure(CLEAN, SEEN, fault, bench.FAULTS[fault])
    assert found["n"] == 3
    assert found["recall"] == 1
    assert found["precision"] == 1


@pytest.mark.parametrize("sigma", [8, 12])
def test_strong_blur_is_told_as_well_as_a_slight_one(sigma: int) -> None:
    def blur(pixels: bench.Pixels, _: np.random.Generator) -> bench.Pixels:
        return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), np.uint8)

    found = bench.measure(CLEAN, SEEN, "blurred_pictures", blur)
    assert (found["recall"], found["precision"]) == (1, 1)


def test_clean_pictures_have_no_fault() -> None:
    assert bench.name_all(CLEAN, SEEN) == {}


def check_values(label: str = "a", **columns: list[float]) -> list[Issue]:
    """Issues of pictures whose looks are usual but for `columns`."""
    n = len(next(iter(columns.values())))
    usual = {"contrast": 100.0, "brightness": 120.0, "saturation": 0.5, "sharpness": -0.5}
    values = np.zeros((n, len(HEADER) + len(LOOKS)), np.float32)
    names = (*HEADER, *LOOKS)
    for name, value in usual.items():
        values[:, names.index(name)] = value
    for name, column in columns.items():
        values[:, names.index(name)] = column
    facts = {"width_px": 300, "height_px": 300, "channels": 3}
    samples = [make_sample(str(at), label, **facts) for at in range(n)]
    return check_pictures(samples, Looks(names, values))


def test_what_half_of_the_cohort_has_is_no_fault() -> None:
    assert check_values(sharpness=[-0.5, -2.0] * 20) == []
    assert check_values(band=[0.0, 0.4] * 20) == []


def test_letters_are_told_however_many_have_them() -> None:
    issues = check_values(letters=[8.0] * 40)
    assert [issue.code for issue in issues] == ["text_in_pictures"]
    assert len(issues[0].samples) == 40
    assert check_values(letters=[3.0] * 40) == []


def test_limit_follows_the_cohort() -> None:
    wide = list(np.linspace(-2.2, 0.2, 39))
    assert check_values(sharpness=[*wide, -2.3]) == []
    narrow = list(np.linspace(-0.6, -0.4, 39))
    assert [issue.samples for issue in check_values(sharpness=[*narrow, -2.3])] == [("39",)]


def test_what_no_one_could_grade_is_told_though_others_of_the_cohort_are_hazy() -> None:
    hazy = [*np.linspace(-1.4, -0.2, 39)]
    assert [issue.samples for issue in check_values(sharpness=[*hazy, -1.9])] == [("39",)]
    dim = [*np.geomspace(30, 230, 39)]
    assert [(issue.code, issue.samples) for issue in check_values(brightness=[*dim, 15.0])] == [
        ("underexposed_pictures", ("39",))
    ]


def test_few_pictures_have_no_usual_look() -> None:
    assert check_values(sharpness=[-0.5] * 9 + [-3.0]) == []


def test_one_picture_and_a_numeric_class_are_told_in_good_grammar() -> None:
    [issue] = check_values(sharpness=[*np.linspace(-0.6, -0.4, 39), -2.3], label="2")
    assert "1 of 40 pictures is far less sharp than the rest (class 2: 1), such as 39." in issue.message
