"""Patients: what a column, a pattern or the names tell; pictures of one patient never part, strangers never join."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from snellen.core.errors import UsageError
from snellen.ingest import patterns
from snellen.ingest.patients import RawSample, group_patients
from snellen.records.cohort import PatientRule

STAINED = (
    "18-162_PAS_5of6_64551cf0a1b2c3d4e5f60718.png",
    "18-162_PAS_6of6_0123456789abcdef01234567.png",
    "18-162_HE_1of2_fedcba9876543210fedcba98.png",
)
OTHER_CASE = "18-163_PAS_1of1_ffffffffffffffffffffffff.png"


def to_samples(names: Sequence[str], **facts: str) -> list[RawSample]:
    return [RawSample(name, name, "x", **facts) for name in names]


def group(names: Sequence[str], wish: str = "auto") -> list[str]:
    return [str(sample.patient) for sample in group_patients(to_samples(names), wish)[0]]


def describe(names: Sequence[str], wish: str = "auto") -> PatientRule:
    return group_patients(to_samples(names), wish)[1]


def list_codes(names: Sequence[str], wish: str = "auto") -> list[str]:
    return [issue.code for issue in group_patients(to_samples(names), wish)[2]]


def name_loosely(n_patients: int, n_each: int) -> list[str]:
    return [f"P{patient:03d}_{number}.png" for patient in range(n_patients) for number in range(1, n_each + 1)]


@pytest.mark.parametrize(
    "names",
    [
        ("1034_left.jpg", "1034_right.jpg"), ("1034_OD.jpg", "1034_OS.jpg"), ("1034-L.png", "1034-R.png"),
        ("1034 left.jpg", "1034 right.jpg"), ("1034_LEFT.jpg", "1034_Right.jpg"),
        ("1034_left_1.jpg", "1034_right_2.jpg"), ("normal/1034_left.jpg", "cataract/1034_right.jpg"),
        ("train/x/1034_left.jpg", "test/y/1034_left.jpg"), ("CNV-1016042-3.jpeg", "DRUSEN-1016042-1.jpeg"),
        ("CNV/CNV-1016042-3.jpeg", "NORMAL/NORMAL-1016042-12.jpeg"), STAINED,
    ],
)  # fmt: skip
def test_group_patients_joins_pictures_of_one_patient(names: Sequence[str]) -> None:
    assert len(set(group(names))) == 1


@pytest.mark.parametrize(
    "names",
    [
        ("1034_left.jpg", "1035_left.jpg"), ("1034_left.jpg", "1034_left.jpeg"), ("1034_left.jpg", "1034_right.png"),
        ("1034_left.jpg", "P1034_left.jpg"), ("CNV-1016042-3.jpeg", "CNV-1016043-3.jpeg"),
        ("CNV-1016042-3.jpeg", "1016042_left.jpeg"), ("007_left.jpg", "7_left.jpg"), (STAINED[0], OTHER_CASE),
        ("IMG_0001.png", "IMG_0002.png", "IMG_0003.png"), ("a.png", "b.png"),
    ],
)  # fmt: skip
def test_group_patients_keeps_strangers_apart(names: Sequence[str]) -> None:
    assert len(set(group(names))) == len(names)


def test_group_patients_keeps_leading_zeros() -> None:
    assert group(["007_left.jpg"])[0].startswith("007@")


@pytest.mark.parametrize(
    "names", [("1034_left.jpg", "1034_right.jpg"), ("CNV-1016042-3.jpeg", "DRUSEN-1016042-1.jpeg"), STAINED]
)
def test_group_patients_tells_that_it_inferred(names: Sequence[str]) -> None:
    assert describe(names).origin == "inferred"


def test_group_patients_shows_examples_of_what_it_joined() -> None:
    assert describe(["1034_left.jpg", "1034_right.jpg", "2_left.jpg"]).examples == (
        "1034@N_side.jpg: 1034_left.jpg, 1034_right.jpg",
    )


def test_group_patients_shows_few_names_of_a_large_patient() -> None:
    (example,) = describe([f"CNV-1016042-{number}.jpeg" for number in range(50)]).examples
    assert example.count(".jpeg,") == 2
    assert example.endswith("…")


def test_group_patients_counts_patients() -> None:
    assert describe(["1_left.jpg", "1_right.jpg", "2_left.jpg"]).n == 2


NUMBERED = [f"IMG_{number:04d}.png" for number in range(40)]


def test_group_patients_takes_plain_numbers_for_patients_of_their_own() -> None:
    assert group(NUMBERED) == NUMBERED


def test_group_patients_warns_where_names_tell_nothing() -> None:
    assert list_codes(NUMBERED) == ["patients_unknown"]


def test_group_patients_says_that_no_rule_fits() -> None:
    assert describe(NUMBERED).origin == "none"


def test_group_patients_names_those_that_one_source_leaves_alone() -> None:
    samples = to_samples(["1_left.jpg", "1_right.jpg", "scan.png"])
    (issue,) = group_patients(samples, "auto")[2]
    assert issue.samples == ("scan.png",)


def test_group_patients_drops_a_rule_that_one_name_of_the_source_breaks() -> None:
    names = ["CNV-1016042-3.jpeg", "CNV-1016042-4.jpeg", "CNV-12-5.jpeg"]  # 12 is no patient number
    assert len(set(group(names))) == len(names)


def test_loose_rule_joins_where_groups_are_real() -> None:
    assert len(set(group(name_loosely(12, 3)))) == 12


@pytest.mark.parametrize(
    "names",
    [
        [f"img2023_{number:03d}.png" for number in range(1, 401)],  # one folder, not one patient
        name_loosely(9, 3),  # too few groups to trust
        name_loosely(30, 1),  # nothing is joined
        [f"img2023_{number:03d}.png" for number in range(100)] + [f"img{n}_1.png" for n in range(1000, 1020)],
    ],
    ids=["one-group", "few-groups", "no-group", "giant-group"],
)
def test_loose_rule_is_dropped_where_groups_are_doubtful(names: list[str]) -> None:
    assert group(names) == names


def test_group_patients_does_not_depend_on_order() -> None:
    names = ["1_left.jpg", "CNV-1016042-3.jpeg", "1_right.jpg", *STAINED, *name_loosely(12, 2)]
    forward = dict(zip(names, group(names), strict=True))
    backward = dict(zip(names[::-1], group(names[::-1]), strict=True))
    assert forward == backward


def test_group_patients_keeps_order_of_samples() -> None:
    names = ["2_left.jpg", "1_left.jpg", "2_right.jpg"]
    assert [sample.name for sample in group_patients(to_samples(names), "auto")[0]] == names


def test_column_wins_over_names() -> None:
    samples = [RawSample("1_left.jpg", "1_left.jpg", "x", None, "A"), RawSample("1_right.jpg", "", "x", None, "B")]
    done, rule, issues = group_patients(samples, "auto")
    assert [sample.patient for sample in done] == ["A", "B"]
    assert (rule.origin, issues) == ("column", [])


def test_column_keeps_007_a_string() -> None:
    done, _, _ = group_patients(to_samples(["a.png"], patient="007"), "auto")
    assert done[0].patient == "007"


def test_none_takes_each_picture_for_a_patient() -> None:
    assert group(["1_left.jpg", "1_right.jpg"], "none") == ["1_left.jpg", "1_right.jpg"]


def test_none_warns() -> None:
    assert list_codes(["1_left.jpg", "1_right.jpg"], "none") == ["patients_unknown"]


@pytest.mark.parametrize("wish", [r"scan-(\d+)", r"scan-(?P<patient>\d+)", r"(s)can-(?P<patient>\d+)"])
def test_pattern_tells_the_patient(wish: str) -> None:
    assert group(["x/scan-007-a.png", "y/scan-007-b.png", "x/scan-8-a.png"], wish) == ["007", "007", "8"]


def test_pattern_sees_the_folder() -> None:
    assert group(["case1/a.png", "case1/b.png", "case2/a.png"], "^(case.)/") == ["case1", "case1", "case2"]


def test_pattern_wins_over_column() -> None:
    done, rule, _ = group_patients(to_samples(["1-a.png"], patient="other"), r"^(\d+)")
    assert (done[0].patient, rule.origin) == ("1", "pattern")


def test_pattern_names_those_that_it_does_not_fit() -> None:
    (issue,) = group_patients(to_samples(["1-a.png", "b.png"]), r"^(\d+)")[2]
    assert (issue.code, issue.samples) == ("patients_unknown", ("b.png",))


@pytest.mark.parametrize("wish", [r"^(\d*)", r"^(?:(\d+)-)?"])
def test_pattern_that_finds_an_empty_patient_counts_as_no_fit(wish: str) -> None:
    (issue,) = group_patients(to_samples(["1-a.png", "b.png", "c.png"]), wish)[2]
    assert issue.samples == ("b.png", "c.png")


@pytest.mark.parametrize(
    ("wish", "words"),
    [("(", "regular expression"), ("[", "regular expression"), (r"^\d+", "no group"), ("(Z)", "none")],
)
def test_pattern_that_cannot_work_is_refused(wish: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        group(["1-a.png"], wish)
    assert f"'{wish}'" in caught.value.message
    assert caught.value.hint


def test_pattern_that_fits_nothing_shows_a_name() -> None:
    with pytest.raises(UsageError, match=r"1-a\.png"):
        group(["1-a.png"], "(Z)")


def test_extensions_in_capitals_are_no_source_of_their_own() -> None:
    samples = [RawSample(name, name, "well") for name in ("12_left.JPG", "12_right.jpg", "13_left.jpg")]
    grouped, rule, _ = group_patients(samples, "auto")
    assert grouped[0].patient == grouped[1].patient != grouped[2].patient
    assert rule.n == 2


def test_rules_are_not_tried_on_names_that_are_too_long() -> None:
    names = [f"{'1-' * 20_000}{k}_left.jpg" for k in range(40)]
    assert group_patients([RawSample(name, name, "a") for name in names], "auto")[1].origin == "none"


@pytest.mark.parametrize("wish", [r"(left|right)_(?P<patient>[3-9])?", r"(?P<side>left|right)_(?P<patient>[3-9]?)"])
def test_named_group_that_is_empty_leaves_the_patient_unknown(wish: str) -> None:
    names = ["left_3.png", "right_3.png", "left_1.png", "left_2.png"]
    assert group(names, wish) == ["3", "3", "left_1.png", "left_2.png"]
    (issue,) = group_patients(to_samples(names), wish)[2]
    assert (issue.code, issue.samples) == ("patients_unknown", ("left_1.png", "left_2.png"))


@pytest.mark.parametrize("wish", [r"(P\d{1,99999999999})", "(" * 3000 + "a" + ")" * 3000], ids=["number", "nested"])
def test_pattern_beyond_the_limits_of_regular_expressions_is_refused(wish: str) -> None:
    with pytest.raises(UsageError, match="no regular expression") as caught:
        group(["P1.png"], wish)
    assert len(caught.value.message) < 300


def test_pattern_that_does_not_end_is_given_up_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "_LIMIT_S", 2.0)
    wish = r"^((?:[a-z_/]+)+)+\$$"
    with pytest.raises(UsageError, match="takes too long") as caught:
        group([f"normal/patient_{'abcdefgh' * 4}_{k}.png" for k in range(20)], wish)
    assert f"'{wish}'" in caught.value.message
    assert "repeat" in caught.value.hint


def test_pattern_reads_names_that_are_no_utf8() -> None:
    assert group(["é-1-\udcff.png", "é-2-\udcff.png"], r"é-(\d+-\udcff)") == ["1-\udcff", "2-\udcff"]


@pytest.mark.parametrize("wish", [r"(\d\d\d\d)x", r"\d+_"])
def test_expression_is_told_as_it_was_typed(wish: str) -> None:
    with pytest.raises(UsageError) as caught:
        group_patients([RawSample("a.png", "a.png", "x")], wish)
    assert f"'{wish}'" in caught.value.message
