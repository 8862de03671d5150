"""Names of classes: one form, and a warning where two look like one."""

from __future__ import annotations

import unicodedata

import pytest

from snellen.ingest.classes import check_alike, check_vague, normalise_labels
from snellen.ingest.patients import RawSample


def make(*labels: str) -> list[RawSample]:
    return [RawSample(str(index), str(index), label) for index, label in enumerate(labels)]


NFC, NFD = (unicodedata.normalize(form, "Ödem") for form in ("NFC", "NFD"))


def test_two_unicode_forms_of_a_name_are_one_class() -> None:
    samples, issues = normalise_labels(make(NFC, NFD))
    assert {sample.label for sample in samples} == {NFC}
    assert [issue.code for issue in issues] == ["class_names_normalised"]


def test_name_over_two_lines_is_brought_on_one() -> None:
    samples, issues = normalise_labels(make("macular\r\nhole", "normal"))
    assert [sample.label for sample in samples] == ["macular hole", "normal"]
    assert [issue.code for issue in issues] == ["class_names_normalised"]


@pytest.mark.parametrize("other", ["Normal", "NORMAL", " normal", "normal ", "nor mal "])
def test_names_that_differ_in_case_or_blanks_are_told_and_not_merged(other: str) -> None:
    samples, _ = normalise_labels(make("normal", "normal", other, "amd"))
    assert {sample.label for sample in samples} == {"normal", other, "amd"}
    assert [issue.severity for issue in check_alike(samples)] == ([] if other == "nor mal " else ["severe"])


def test_names_that_look_alike_are_named_with_the_way_out() -> None:
    (issue,) = check_alike(make("normal", "normal", "Normal"))
    assert (issue.code, issue.samples) == ("class_names_alike", ("0", "1", "2"))
    assert "'normal' (2)" in issue.message
    assert "'Normal' (1)" in issue.message
    assert """--set 'data.merge={ "normal" = ["Normal", "normal"] }'""" in issue.advice


@pytest.mark.parametrize(
    "name", ["unknown", "Ungradable", "n/a", "OTHER", "not gradable", "?", "Un-classified", "-1", "-9.0"]
)
def test_class_named_like_no_finding_is_told(name: str) -> None:
    (issue,) = check_vague(make("normal", name, "amd"))
    assert (issue.code, issue.severity, issue.samples) == ("class_names_vague", "info", ("1",))
    assert name in issue.message


@pytest.mark.parametrize("name", ["normal", "none", "no_dr", "other_lesions", "NAION", "0", "-0.5"])
def test_class_with_a_name_of_its_own_is_not(name: str) -> None:
    assert check_vague(make("amd", name)) == []
