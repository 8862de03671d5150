"""Labels that mean one class: every label is found, none is listed twice, and grades stay in order."""

from __future__ import annotations

import unicodedata

import pytest

from snellen.core.errors import DataError, UsageError
from snellen.ingest.merging import describe_merge, find_joined, invert, map_labels, merge_labels, order_classes
from snellen.ingest.patients import RawSample

GRADES = ("0", "1", "2", "3", "4")
REFERABLE = {"positive": ("2", "3", "4"), "negative": ("0", "1")}


def make_samples(*labels: str) -> list[RawSample]:
    return [RawSample(f"{index}.png", f"{index}.png", label) for index, label in enumerate(labels)]


def test_merge_labels_names_classes() -> None:
    merged = merge_labels(make_samples(*GRADES), REFERABLE)
    assert [sample.label for sample in merged] == ["negative", "negative", "positive", "positive", "positive"]


def test_merge_labels_keeps_what_is_not_listed() -> None:
    merged = merge_labels(make_samples("a", "b", "c"), {"ab": ("a", "b")})
    assert [sample.label for sample in merged] == ["ab", "ab", "c"]


def test_merge_labels_may_join_an_existing_class() -> None:
    assert {s.label for s in merge_labels(make_samples("normal", "healthy"), {"normal": ("healthy",)})} == {"normal"}


def test_classes_that_join_a_label_nobody_lists_are_found() -> None:
    assert find_joined(["0", "1", "2"], {"0": ("1",), "1": ("2",)}) == ["0"]
    assert find_joined(["0", "1", "2"], {"0": ("0", "1"), "1": ("2",)}) == []
    assert find_joined(GRADES, REFERABLE) == []


def test_merge_labels_tells_every_label_that_is_not_there() -> None:
    with pytest.raises(DataError) as caught:
        merge_labels(make_samples("mild", "severe"), {"ill": ("midl", "severe"), "well": ("none",)})
    assert "did you mean 'mild'?" in str(caught.value)
    assert "'none'" in str(caught.value)


def test_merge_labels_of_other_data_may_lack_some() -> None:
    merged = merge_labels(make_samples("2", "positive"), REFERABLE, is_complete=False)
    assert [sample.label for sample in merged] == ["positive", "positive"]


def test_invert_refuses_a_label_of_two_classes() -> None:
    with pytest.raises(UsageError, match="'2' more than once"):
        invert({"mild": ("1", "2"), "severe": ("2", "3")})


def test_invert_finds_labels_in_either_unicode_form() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Ödem") for form in ("NFC", "NFD"))
    assert invert({"oedema": (decomposed,)}) == {composed: "oedema"}


def test_order_classes_follows_their_first_label() -> None:
    assert order_classes(GRADES, {"none": ("0",), "mild": ("1", "2"), "bad": ("3", "4")}) == ("none", "mild", "bad")


def test_order_classes_counts_numbered_names_whatever_their_labels() -> None:
    words = ("mild", "moderate", "none", "severe")
    merge = {"grade_1": ("mild",), "grade_10": ("severe",), "grade_0": ("none",), "grade_2": ("moderate",)}
    assert order_classes(words, merge) == ("grade_0", "grade_1", "grade_2", "grade_10")


def test_order_classes_keeps_an_order_that_merging_does_not_touch() -> None:
    assert order_classes(("2", "0", "1"), {"0": ("0",)}) == ("2", "0", "1")


def test_map_labels_keeps_the_order_of_the_labels() -> None:
    assert list(map_labels(GRADES, {"bad": ("3", "4")}).items()) == [
        ("0", "0"), ("1", "1"), ("2", "2"), ("3", "bad"), ("4", "bad"),
    ]  # fmt: skip


def test_describe_merge_reads_well() -> None:
    assert describe_merge(REFERABLE) == "positive = 2, 3, 4; negative = 0, 1"
