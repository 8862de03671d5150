"""What the audit finds: copies in any dress, contradictions, patients across splits, small classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pictures import draw_noise, encode, make_sample
from snellen.ingest.audit import (
    build_audit,
    check_classes,
    check_mixed_patients,
    check_patient_labels,
    check_patients,
    check_splits,
)
from snellen.ingest.cohort import read_cohort
from snellen.records.cohort import Issue, PatientRule
from snellen.records.run import DataRequest

RULE = PatientRule(rule="patient column", origin="column", n=2)
INFERRED = PatientRule(rule="number before the eye", origin="inferred", n=2, examples=("1@N: 1_left, 1_right",))


def codes(issues: list[Issue]) -> list[str]:
    return [issue.code for issue in issues]


def duplicates_of(tmp_path: Path, first: bytes, second: bytes, names: tuple[str, str]) -> tuple[tuple[str, ...], ...]:
    for name, content in zip((*names, "y/z.png"), (first, second, encode(draw_noise(99))), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    cohort = read_cohort(DataRequest(data=str(tmp_path)), threads=1, cache=tmp_path / ".cache")
    return cohort.audit.duplicate_groups


RGB, GREY = draw_noise(1), draw_noise(2, channels=1)
GREY_AS_RGB = np.repeat(GREY[..., None], 3, axis=2)
JPEG = encode(RGB, "JPEG")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (encode(RGB), encode(RGB)),
        (encode(RGB), encode(RGB, compress_level=0)),
        (encode(RGB), encode(RGB, "TIFF")),
        (encode(GREY), encode(GREY_AS_RGB)),
        (encode(GREY), encode(GREY, mode="RGBA")),
        (JPEG, JPEG + b"trailing bytes"),
    ],
    ids=["bytes", "compression", "format", "grey-as-rgb", "grey-as-rgba", "trailing-bytes"],
)
def test_copies_are_found_in_another_dress(tmp_path: Path, first: bytes, second: bytes) -> None:
    assert duplicates_of(tmp_path, first, second, ("x/a.png", "y/b.png")) == (("x/a.png", "y/b.png"),)


def test_jpeg_saved_as_png_is_found_as_copy(tmp_path: Path) -> None:
    from io import BytesIO

    from PIL import Image

    with Image.open(BytesIO(JPEG)) as image:
        png = encode(np.asarray(image))
    assert duplicates_of(tmp_path, JPEG, png, ("x/a.jpg", "y/b.png")) == (("x/a.jpg", "y/b.png"),)


def test_one_changed_pixel_is_no_copy(tmp_path: Path) -> None:
    changed = RGB.copy()
    changed[3, 4, 1] ^= 1
    assert duplicates_of(tmp_path, encode(RGB), encode(changed), ("x/a.png", "y/b.png")) == ()


@pytest.mark.parametrize(
    ("facts", "code"),
    [({"patient": "7"}, "patients_in_several_splits"), ({"pixels_sha256": "same"}, "copies_in_several_splits")],
)
def test_audit_names_what_occurs_in_several_splits(facts: dict[str, str], code: str) -> None:
    samples = [make_sample("a.png", "x", split="train", **facts), make_sample("b.png", "x", split="test", **facts)]
    audit = build_audit([*samples, make_sample("c.png", "x", split="val")], ("x",), RULE, [])
    assert [(i.code, i.samples) for i in audit.issues if i.code.endswith("splits")] == [(code, ("a.png", "b.png"))]


def test_check_splits_within_one_split_is_quiet() -> None:
    samples = [make_sample(name, "x", "7", split="train", pixels_sha256="same") for name in ("a.png", "b.png")]
    assert check_splits(samples) == []


def test_check_splits_without_own_splits_is_quiet() -> None:
    assert check_splits([make_sample(name, "x", "7") for name in ("a.png", "b.png")]) == []


def test_check_classes_counts_patients_not_pictures() -> None:
    samples = [make_sample(f"{number}.png", "x", str(number % 29)) for number in range(100)]
    assert "x (29)" in check_classes(samples, ("x",))[0].message


def test_check_classes_with_enough_patients_is_quiet() -> None:
    assert check_classes([make_sample(f"{number}.png", "x") for number in range(30)], ("x",)) == []


def test_build_audit_says_that_patients_were_inferred() -> None:
    audit = build_audit([make_sample("a.png", "x")], ("x",), INFERRED, [])
    (issue,) = [issue for issue in audit.issues if issue.code == "patients_inferred"]
    assert INFERRED.examples[0] in issue.advice


def test_build_audit_does_not_call_a_column_inferred() -> None:
    assert "patients_inferred" not in codes([*build_audit([make_sample("a", "x")], ("x",), RULE, []).issues])


def test_build_audit_shows_severe_issues_first() -> None:
    given = [Issue(code=s, severity=s, message="m", advice="a") for s in ("info", "severe", "warning")]  # type: ignore[arg-type]  # the three
    audit = build_audit([make_sample("a.png", "x")], ("x",), RULE, given)
    severities = [issue.severity for issue in audit.issues]
    assert severities == sorted(severities, key=["severe", "warning", "info"].index)


def test_build_audit_counts_class_that_lost_all_pictures_as_zero() -> None:
    assert build_audit([make_sample("a.png", "x")], ("x", "y"), RULE, []).classes == {"x": 1, "y": 0}


def test_inferred_patients_without_examples_show_none() -> None:
    [issue] = check_patients(INFERRED.model_copy(update={"examples": ()}))
    assert "examples" not in issue.advice


def test_pictures_without_a_split_are_told_where_others_have_one() -> None:
    samples = [make_sample("a.png", "x", "1", split="train"), make_sample("b.png", "x", "2")]
    assert [(issue.code, issue.samples) for issue in check_splits(samples)] == [("split_untold", ("b.png",))]
    assert check_splits(samples[1:]) == []


@pytest.mark.parametrize(
    ("origin", "n_mixed", "is_told"), [("inferred", 4, True), ("inferred", 2, False), ("column", 5, False)]
)
def test_inferred_patients_of_several_classes_are_told(origin: str, n_mixed: int, is_told: bool) -> None:
    samples = [
        make_sample(f"{k}_{eye}", "b" if eye and k < n_mixed else "a", f"P{k}") for k in range(5) for eye in (0, 1)
    ]
    rule = PatientRule.model_validate({"rule": "r", "origin": origin, "n": 5})
    found = check_mixed_patients(samples, rule)
    assert codes(found) == ["patients_of_several_classes"] * is_told
    assert not is_told or "such as 0_0, 0_1." in found[0].message


def test_patient_with_several_labels_is_told_with_count_and_example() -> None:
    own = [make_sample("a.png", "0", "P7"), make_sample("b.png", "2", "P7"), make_sample("c.png", "2", "P7")]
    alike = [make_sample("d.png", "0", "P8"), make_sample("e.png", "0", "P8"), make_sample("f.png", "0", "P9")]
    [issue] = check_patient_labels([*own, *alike])
    assert (issue.code, issue.severity) == ("patients_labelled_differently", "info")
    assert issue.message == (
        "1 of 2 patients with several pictures has pictures of different classes, such as P7: a.png (class 0), b.png "
        "(class 2)."
    )
    assert "Two eyes of a person can differ" in issue.advice
    assert issue.samples == ("a.png", "b.png", "c.png")
    assert check_patient_labels(alike) == []


def test_build_audit_tells_patients_of_several_classes_once() -> None:
    samples = [make_sample(f"{k}_{eye}", "b" if eye else "a", f"P{k}") for k in range(5) for eye in (0, 1)]
    told = [codes([*build_audit(samples, ("a", "b"), rule, []).issues]) for rule in (RULE, INFERRED)]
    assert ["patients_labelled_differently" in each for each in told] == [True, False]
    assert ["patients_of_several_classes" in each for each in told] == [False, True]


def test_numeric_class_is_no_count_in_running_text() -> None:
    assert (
        "class 1 (1), amd (1)"
        in check_classes([make_sample("a", "1"), make_sample("b", "amd")], ("1", "amd"))[0].message
    )


def test_one_patient_in_two_splits_is_told_in_the_singular() -> None:
    samples = [make_sample("a", "x", "1", split="train"), make_sample("b", "x", "1", split="test")]
    assert check_splits(samples)[0].message.startswith("1 patient occurs in several")
