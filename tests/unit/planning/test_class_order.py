"""The order of the classes: asked, read off names and labels, or refused. Never alphabetical in silence."""

from __future__ import annotations

from typing import Any

import pytest

from snellen.core.errors import UsageError
from snellen.planning.class_order import find_sure_order, plan_order, show_order, suggest_order
from snellen.planning.ledger import Ledger
from snellen.planning.recipe_files import load_recipe
from snellen.planning.severity_words import order_by_words
from snellen.records.cohort import Audit, Cohort, PatientRule
from snellen.run_audit import foresee_order

WORDS = ("mild", "moderate", "none", "proliferative", "severe")
IN_ORDER = ("none", "mild", "moderate", "severe", "proliferative")
RULE = PatientRule(rule="", origin="none", n=0)


def make(*classes: str, **facts: Any) -> Cohort:
    audit = Audit(n_samples=0, n_read=0, n_set_aside=0, classes=dict.fromkeys(classes, 1), patients=RULE)
    return Cohort(root="/data", layout="", classes=classes, samples=(), patients=RULE, audit=audit, **facts)


def merge(merged: dict[str, list[str]], origin: str = "column grade", **facts: Any) -> Cohort:
    labels = {label: name for name, joined in merged.items() for label in joined}
    classes = tuple(dict.fromkeys(labels[label] for label in sorted(labels)))
    return make(*classes, labels={label: labels[label] for label in sorted(labels)}, class_origin=origin, **facts)


def settle(cohort: Cohort, *settings: str) -> tuple[tuple[str, ...], bool, dict[str, Any]]:
    loaded = load_recipe("auto", list(settings))
    ledger = Ledger(loaded.asked)
    classes, ordered = plan_order(loaded.recipe.data, cohort, ledger)
    return classes, ordered, {decision.key: decision for decision in ledger.decisions}


def test_order_asked_is_the_classes_order_and_orders_them() -> None:
    classes, ordered, decided = settle(make("cnv", "amd", "normal"), 'data.order=["normal", "amd", "cnv"]')
    assert (classes, ordered) == (("normal", "amd", "cnv"), True)
    assert (decided["data.classes"].value, decided["data.classes"].how) == (["normal", "amd", "cnv"], "asked")
    assert decided["data.classes"].reason.startswith("normal < amd < cnv: ")


@pytest.mark.parametrize("setting", ["data.order=[2, 0, 1]", "data.order=['2', '0', '1']"])
def test_order_may_be_told_in_numbers(setting: str) -> None:
    assert settle(make("0", "1", "2"), setting)[0] == ("2", "0", "1")


def test_order_may_be_told_in_decimals() -> None:
    assert settle(make("-1", "0.25", "0.5"), "data.order=[0.5, 0.25, -1]")[0] == ("0.5", "0.25", "-1")


def test_order_that_does_not_name_every_class_once_is_refused_with_all_that_is_wrong() -> None:
    with pytest.raises(UsageError) as caught:
        settle(make(*WORDS), 'data.order=["none", "mild", "sever", "mild"]')
    for said in ("'mild' is listed more than once", "did you mean 'severe'?", "'moderate' is missing"):
        assert said in caught.value.message
    assert suggest_order(WORDS) in caught.value.hint


@pytest.mark.parametrize("setting", ["data.ordered=true", "data.task=ordinal"])
def test_order_asked_for_of_names_without_one_is_refused_with_an_example_to_copy(setting: str) -> None:
    with pytest.raises(UsageError, match="no order follows from the class names cnv, dme, drusen") as caught:
        settle(make("cnv", "dme", "drusen"), setting)
    assert """--set 'data.order=["cnv", "dme", "drusen"]'""" in caught.value.hint


def test_order_asked_for_of_a_known_scale_is_the_scales_with_the_reason() -> None:
    classes, ordered, decided = settle(make(*WORDS), "data.ordered=true")
    assert (classes, ordered) == (IN_ORDER, True)
    assert show_order(IN_ORDER) == "none < mild < moderate < severe < proliferative"
    assert decided["data.classes"].reason.startswith(f"{show_order(IN_ORDER)}: ")
    assert "known scale" in decided["data.classes"].reason


def test_known_scale_is_only_proposed_where_nobody_asks() -> None:
    classes, ordered, decided = settle(make(*WORDS))
    assert (classes, ordered) == (WORDS, False)
    assert "not ordered" in decided["data.classes"].reason
    proposal = decided["data.ordered"].reason.partition("set ")[2]
    assert settle(make(*WORDS), proposal)[:2] == (IN_ORDER, True)


def test_classes_listed_in_an_order_are_not_ordered_where_that_is_denied() -> None:
    classes, ordered, decided = settle(make("a", "b", "c"), 'data.order=["c", "a", "b"]', "data.ordered=false")
    assert (classes, ordered) == (("c", "a", "b"), False)
    assert "<" not in decided["data.classes"].reason


def test_two_classes_need_no_order_and_may_have_one() -> None:
    assert settle(make("drusen", "normal"))[1] is False
    assert settle(make("drusen", "normal"), "data.ordered=true")[:2] == (("drusen", "normal"), True)
    assert settle(make("drusen", "normal"), 'data.order=["normal", "drusen"]')[:2] == (("normal", "drusen"), True)


@pytest.mark.parametrize(
    ("classes", "origin", "ordered"),
    [
        (("0.25", "0.5", "1.25", "1.5"), "column grade", True), (("-2", "-1", "0", "1"), "column grade", True),
        (("0.25", "0.5", "1.5"), "column dose", False), (("Grade 9", "grade_9.5", "grade_10"), "folder names", True),
        (("0", "1", "a"), "column grade", False), (("grade 1", "stage 2", "stage 3"), "folder names", False),
    ],
)  # fmt: skip
def test_numbers_are_grades_where_their_column_or_name_says_so(
    classes: tuple[str, ...], origin: str, ordered: bool
) -> None:
    assert settle(make(*classes, class_origin=origin))[:2] == (classes, ordered)


def test_numbers_are_ordered_by_number_whatever_stands_beside_them() -> None:
    assert settle(make("Grade 10", "grade 9", "grade_2"))[0] == ("grade_2", "grade 9", "Grade 10")


def test_grade_below_zero_is_told() -> None:
    assert (
        "-1 counts as the lowest" in settle(make("-1", "0", "1", class_origin="column grade"))[2]["data.classes"].reason
    )


def test_merge_of_neighbours_keeps_the_order_of_the_grades_whatever_their_names() -> None:
    classes, ordered, decided = settle(merge({"none": ["0"], "mild": ["1"], "worse": ["2", "3", "4"]}))
    assert (classes, ordered) == (("none", "mild", "worse"), True)
    assert "column grade" in decided["data.classes"].reason


def test_merge_of_grades_that_are_no_neighbours_has_no_order_and_says_so() -> None:
    cohort = merge({"ends": ["0", "4"], "middle": ["1", "2"], "high": ["3"]})
    assert settle(cohort)[1] is False
    assert "no neighbours (ends = 0, 4)" in settle(cohort)[2]["data.ordered"].reason
    with pytest.raises(UsageError, match="no order follows"):
        settle(cohort, "data.ordered=true")


def test_merge_of_grades_that_are_no_neighbours_has_no_order_though_its_names_count() -> None:
    assert settle(merge({"0": ["0", "4"], "1": ["1", "2"], "2": ["3"]}))[1] is False


def test_merge_into_numbered_grades_orders_words() -> None:
    cohort = merge({f"grade_{grade}": [word] for grade, word in enumerate(IN_ORDER)}, "column diagnosis")
    assert settle(cohort)[:2] == (("grade_0", "grade_1", "grade_2", "grade_3", "grade_4"), True)


def test_merge_of_labels_that_are_no_grades_is_ordered_only_when_asked() -> None:
    cohort = merge({"none": ["0"], "mild": ["1"], "worse": ["2", "3"]}, "column code")
    _, ordered, decided = settle(cohort)
    assert not ordered
    assert 'data.order=["none", "mild", "worse"]' in decided["data.ordered"].reason
    assert settle(cohort, "data.ordered=true")[:2] == (("none", "mild", "worse"), True)


def test_column_is_a_grade_by_its_own_name_and_not_by_what_was_merged() -> None:
    cohort = merge({"0": ["a"], "1": ["b"], "2": ["c"]}, "column site, merged: 0 = a (grade)")
    assert settle(cohort)[1] is False


def test_orders_that_contradict_each_other_are_no_order() -> None:
    cohort = merge({"mild": ["0"], "none": ["1"], "severe": ["2"]})  # numbered alphabetically
    assert settle(cohort)[1] is False
    assert "contradict" in settle(cohort)[2]["data.ordered"].reason
    with pytest.raises(UsageError, match=r"mild < none < severe.* and none < mild < severe") as caught:
        settle(cohort, "data.ordered=true")
    assert 'data.order=["none", "mild", "severe"]' in caught.value.hint


def test_order_that_runs_the_other_way_is_no_contradiction() -> None:
    assert settle(merge({"high": ["0"], "medium": ["1"], "low": ["2"]}))[:2] == (("high", "medium", "low"), True)


@pytest.mark.parametrize("ordered", [True, False])
def test_order_that_a_plan_settled_holds_where_it_is_planned_again(ordered: bool) -> None:
    settled = make("0", "1", "2", class_origin="column grade").with_order(("2", "0", "1"), is_ordered=ordered)
    assert settle(settled)[:2] == (("2", "0", "1"), ordered)
    assert tuple(settled.audit.classes) == settled.classes


def test_find_sure_order_gives_the_reason_where_there_is_none() -> None:
    assert find_sure_order(make("a", "b")) == "two classes need no order"
    assert "data.ordered=true: 0 < 1 < 2" in str(find_sure_order(make("0", "1", "2")))


def test_audit_lists_classes_as_training_would_order_them() -> None:
    found = foresee_order(make("Grade 10", "grade 9", "grade_2"))
    assert (found.classes, found.is_ordered) == (("grade_2", "grade 9", "Grade 10"), True)
    assert foresee_order(make(*WORDS)) == make(*WORDS)


@pytest.mark.parametrize(
    "names",
    [
        ("No_DR", "Mild", "Moderate", "Severe", "Proliferate_DR"), ("none", "minimal", "mild", "end-stage"),
        ("normal", "mild NPDR", "moderate NPDR", "severe NPDR", "PDR"), ("severe", "very severe"),
        ("low", "medium", "high"), ("low risk", "intermediate risk", "high risk"), ("small", "medium", "large"),
        ("no AMD", "early AMD", "intermediate AMD", "late AMD"), ("early", "advanced"),
    ],
)  # fmt: skip
def test_order_by_words_knows_scales(names: tuple[str, ...]) -> None:
    assert order_by_words(names[::-1]) == names


@pytest.mark.parametrize(
    "names",
    [
        ("cnv", "dme"), ("none", "small", "severe"), ("normal", "none", "mild"), ("normal", "mild x", "severe y"),
        ("mildew", "severe"), ("mild", "severe", "ungradable"),
    ],
)  # fmt: skip
def test_order_by_words_asks_for_one_whole_scale(names: tuple[str, ...]) -> None:
    assert order_by_words(names) is None
