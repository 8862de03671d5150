"""What pictures are like is told in sentences that fit their number."""

from __future__ import annotations

import re

import pytest

from snellen.ingest.picture_kinds import check_kinds
from snellen.records.cohort import Sample

NOTES = ("blank", "animated", "multi_page", "transparent", "icc", "icc_ignored", "dicom_window", "dicom_window_ignored")


def make_samples(n: int, bits: int = 8) -> list[Sample]:
    names = [f"a/{at}.png" for at in range(n)]
    return [Sample(name=name, location=name, label="a", patient=name, bits=bits) for name in names]


@pytest.mark.parametrize("note", NOTES)
def test_one_picture_and_two_have_their_verbs(note: str) -> None:
    samples = make_samples(5)
    (one,) = check_kinds(samples, {"a/0.png": [note]})
    (two,) = check_kinds(samples, {"a/0.png": [note], "a/3.png": [note]})
    assert re.match(r"1 of 5 pictures (is|has|carries|holds) ", one.message)
    assert re.match(r"2 of 5 pictures (are|have|carry|hold) ", two.message)
    assert not re.search("[{}]", one.message + two.message)
    assert two.samples == ("a/0.png", "a/3.png")


def test_deep_pictures_among_others_are_told_twice() -> None:
    found = check_kinds([*make_samples(1, bits=16), *make_samples(4)[1:]], {})
    assert [issue.code for issue in found] == ["high_bit_depth", "mixed_bit_depth"]
    assert found[0].message.startswith("1 of 4 pictures has more than 8 bits")
    assert "1 picture with more than 8" in found[1].message
