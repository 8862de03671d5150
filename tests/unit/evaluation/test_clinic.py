"""The first page, the flow, the groups of errors and the checklists say what the records say."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import report_inputs
from snellen.evaluation import clinic, failures, flow
from snellen.evaluation.abstention_figures import build_sets, describe_reasons, describe_selective, describe_sets
from snellen.evaluation.checklists import fill_checklists, load_guidelines
from snellen.evaluation.report import ReportInputs, render_report
from snellen.evaluation.statements import STATEMENTS, state
from snellen.evaluation.tables import build_per_class
from snellen.records.evaluation import Estimate
from snellen.records.run import StageOutcome


@pytest.fixture(scope="module")
def binary() -> ReportInputs:
    return report_inputs.add_abstention(report_inputs.build_binary())


@pytest.fixture(scope="module")
def ordinal() -> ReportInputs:
    return report_inputs.build_ordinal()


def test_two_classes_are_told_at_the_operating_point(binary: ReportInputs) -> None:
    evaluation = binary.evaluation
    point = next(point for point in evaluation.operating_points if point.is_default)
    found, cleared = clinic.count_hundreds(evaluation)
    assert point.sensitivity is not None
    assert point.specificity is not None
    assert (found.of, found.right) == (evaluation.positive, round(100 * (point.sensitivity.value or 0)))
    assert cleared.right == round(100 * (point.specificity.value or 0))
    assert found.otherwise == f"{100 - found.right} missed: called “normal”"
    assert (found.low, found.high) == (
        round(100 * (point.sensitivity.low or 0)),
        round(100 * (point.sensitivity.high or 0)),
    )


def test_thousand_pictures_add_up(binary: ReportInputs) -> None:
    told = clinic.describe_thousand(binary.evaluation)
    numbers = [int(number) for number in re.findall(r"\d+", told.replace("1,000", ""))]
    sick, hits, missed, well, clear, alarms, called, of_which = numbers
    assert hits + missed == sick
    assert clear + alarms == well
    assert sick + well == 1000
    assert (called, of_which) == (hits + alarms, hits)


def test_grades_are_told_class_by_class_with_what_they_were_called(ordinal: ReportInputs) -> None:
    evaluation = ordinal.evaluation
    rows = clinic.count_hundreds(evaluation)
    assert [row.of for row in rows] == list(evaluation.classes)
    counts = np.array(evaluation.confusion)
    assert rows[0].right == round(100 * counts[0, 0] / counts[0].sum())
    assert "“" in rows[0].otherwise
    assert clinic.describe_thousand(evaluation) == ""


def test_what_a_class_was_called_is_named_where_it_is_one_class(ordinal: ReportInputs) -> None:
    evaluation = ordinal.evaluation
    called = np.diag(np.full(len(evaluation.classes), 96))
    called[0, 1:4] = (2, 1, 1)
    drawn = evaluation.model_copy(update={"confusion": tuple(map(tuple, called.tolist()))})
    assert clinic.count_hundreds(drawn)[0].otherwise == ", ".join(
        f"{n} “{name}”" for n, name in zip((2, 1, 1), evaluation.classes[1:4], strict=True)
    )


def test_class_of_few_patients_is_marked(binary: ReportInputs) -> None:
    few = {name: each.model_copy(update={"n_patients": 4}) for name, each in binary.evaluation.per_class.items()}
    rows = clinic.count_hundreds(binary.evaluation.model_copy(update={"per_class": few}))
    assert all(row.is_few for row in rows)


def test_silence_is_told_with_its_reasons(binary: ReportInputs) -> None:
    told = " ".join(clinic.describe_silence(binary))
    assert "8 of 420 pictures" in told
    assert "unlike those the model was trained on (5), too dark (3)" in told
    assert clinic.describe_silence(report_inputs.build_minimal()) == []


def test_flow_counts_what_stays_and_what_leaves(binary: ReportInputs) -> None:
    boxes = flow.list_boxes(binary)
    assert binary.audit is not None
    assert boxes[0].lines[1] == f"{binary.audit.n_samples:,} pictures"
    assert boxes[0].aside[0] == f"Set aside: {binary.audit.n_set_aside}"
    assert any("Training: " in line for line in boxes[1].aside)
    assert boxes[-2].aside[0] == "No answer by the gate: 8"
    right = sum(score.prediction == score.label for score in binary.scores)
    assert boxes[-1].lines[1].startswith(f"{right} of 420")


def test_flow_escapes_hostile_classes() -> None:
    hostile = report_inputs.build_minimal(("<script>alert(1)</script>", "b", "c"))
    assert "<script" not in flow.draw_flow(hostile).svg


def test_every_box_of_the_flow_lies_within_its_figure(binary: ReportInputs) -> None:
    svg = flow.draw_flow(binary).svg
    told = re.search(r'viewBox="([^"]+)"', svg)
    assert told is not None
    _, _, width, height = map(float, told[1].split())
    boxes = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', svg)
    assert len(boxes) >= 5
    for x, y, wide, tall in (map(float, box) for box in boxes):
        assert x + wide <= width
        assert y + tall <= height


def test_errors_that_look_alike_stand_together(ordinal: ReportInputs) -> None:
    wrong = [at for at, score in enumerate(ordinal.scores) if score.prediction != score.label]
    embedding = np.random.default_rng(0).normal(0, 0.01, (len(ordinal.scores), 4)).astype(np.float32)
    # two kinds of errors, far from each other
    embedding[wrong[::2]] += [5, 0, 0, 0]
    groups = failures.group_errors(ordinal.scores, ordinal.evaluation.classes, embedding)
    kinds = {ordinal.scores[at].sample: number % 2 for number, at in enumerate(wrong)}
    assert len(groups) > 1
    assert all(len({kinds[score.sample] for score in group.scores}) == 1 for group in groups)
    assert [len(group.scores) for group in groups] == sorted((len(group.scores) for group in groups), reverse=True)


def test_errors_without_embedding_are_one_group(ordinal: ReportInputs) -> None:
    (group,) = failures.group_errors(ordinal.scores, ordinal.evaluation.classes, None)
    assert len(group.scores) == failures.MOST_ERRORS
    assert len(group.shown) == failures.MOST_ALONE
    assert sum(int(word) for word in group.told.split() if word.isdigit()) == failures.MOST_ERRORS


def test_no_error_is_no_group(ordinal: ReportInputs) -> None:
    right = [score for score in ordinal.scores if score.prediction == score.label]
    assert failures.group_errors(right, ordinal.evaluation.classes, None) == []


@pytest.mark.parametrize(("name", "main", "rows"), [("TRIPOD+AI", 27, 52), ("STARD-AI", 40, 48), ("CLAIM", 44, 44)])
def test_guideline_has_every_item_once(name: str, main: int, rows: int) -> None:
    (guideline,) = [each for each in load_guidelines() if each.name == name]
    numbers = [item.number for item in guideline.items]
    assert len(numbers) == len(set(numbers)) == rows
    assert list(dict.fromkeys(int(number.rstrip("abcdefg")) for number in numbers)) == list(range(1, main + 1))


def test_every_statement_that_a_checklist_asks_for_exists_and_is_asked_for() -> None:
    asked = {key for guideline in load_guidelines() for item in guideline.items for key in item.statements}
    assert asked == set(STATEMENTS)


@pytest.mark.parametrize("key", STATEMENTS)
def test_statement_is_a_sentence_or_nothing(binary: ReportInputs, key: str) -> None:
    for inputs in (binary, report_inputs.build_ordinal(), report_inputs.build_minimal()):
        text = state(key, inputs)
        assert text == "" or (text[-1] == "." and "None" not in text)


@pytest.mark.parametrize(
    ("kept", "averaged", "taken"),
    [(True, True, "the mean of the models"), (True, False, "the fine-tuned model"), (False, False, "the model before")],
)
def test_one_choice_for_all_members_is_told_once(binary: ReportInputs, kept: bool, averaged: bool, taken: str) -> None:
    assert binary.run is not None
    outcomes = tuple(
        StageOutcome(
            stage=1, fold=fold, share=0.6, epoch=12, n_epochs=12, before_loss=0.5, before_auc=0.8, val_loss=0.4,
            val_auc=0.9, kept=kept, averaged=averaged,
        )
        for fold in range(3)
    )  # fmt: skip
    chosen = binary.run.chosen
    assert chosen is not None
    run = binary.run.model_copy(update={"chosen": None, "members": (chosen,) * 3, "finetuned": outcomes})
    inputs = replace(binary, run=run)
    told = state("selection", inputs)
    assert told.startswith("3 members, each chosen on folds of patients that it does not measure.")
    assert told.count(f"{taken}") == told.count("one choice of three") == 1
    assert "on the fold that each member left out; all of them chose together" in render_report(inputs)


def test_checklist_tells_what_a_person_must_write(binary: ReportInputs) -> None:
    whole, bare = fill_checklists(binary), fill_checklists(report_inputs.build_minimal())
    for full, less in zip(whole, bare, strict=True):
        assert full.count("to be written") < less.count("to be written")
    answers = {answer.item.number: answer for answer in whole[0].answers}
    assert answers["17"].filled == "to be written"
    assert answers["12a"].filled == "stated"
    assert "disjoint by patient" in answers["12a"].text
    assert answers["5a"].filled == "in part"


def test_abstention_is_told_in_words(binary: ReportInputs) -> None:
    evaluation = binary.evaluation
    assert evaluation.conformal is not None
    assert evaluation.selective is not None
    assert evaluation.abstentions is not None
    made, gave = describe_sets(evaluation)
    assert "too few patients for a limit of their own" in made
    assert f"One class was left for {evaluation.conformal.n_single} pictures" in gave
    table = build_sets(evaluation)
    assert table is not None
    assert table.rows[1][0] == "normal (shared quantile)"
    assert [row[-1] for row in table.rows] == ["–", "40", "40"]
    assert "of the surest half" in describe_selective(evaluation.selective)
    told = describe_reasons(evaluation.abstentions, 420)
    assert "no answer on 8 of 420 pictures" in told
    wrong = [score.prediction != score.label for score in binary.scores]
    assert f"Of these 8, {sum(wrong[:8])} would have been called wrongly; of the 412 others, {sum(wrong[8:])}" in told


def test_sets_say_what_the_pictures_behind_their_limits_chose(binary: ReportInputs) -> None:
    found = binary.evaluation.conformal
    assert found is not None
    for part, chose in (("val", "chose the model and its calibration."), ("calibration", "chose their calibration.")):
        fitted = binary.evaluation.model_copy(update={"conformal": found.model_copy(update={"fitted_on": part})})
        assert f"because the same pictures also {chose}" in describe_sets(fitted)[0]


def test_refusals_that_save_nothing_are_called_so(binary: ReportInputs) -> None:
    assert binary.evaluation.abstentions is not None
    idle = binary.evaluation.abstentions.model_copy(update={"error_abstained": 0.0})
    assert "the refusals took no error away" in describe_reasons(idle, 420)


def test_class_whose_sets_hold_it_least_often_is_named_first(binary: ReportInputs) -> None:
    sets = binary.evaluation.conformal
    assert sets is not None
    low = Estimate(value=0.57, low=0.14, high=0.86)
    parts = {**sets.per_class, "normal": sets.per_class["normal"].model_copy(update={"coverage": low, "n": 7})}
    evaluation = binary.evaluation.model_copy(update={"conformal": sets.model_copy(update={"per_class": parts})})
    assert "least often of “normal”: 57\u00a0% of 7 pictures" in " ".join(
        clinic.describe_silence(replace(binary, evaluation=evaluation))
    )
    assert "Below what was asked for: “normal” beyond chance" in describe_sets(evaluation)[1]


def test_unknown_patients_are_not_counted(binary: ReportInputs) -> None:
    alone = binary.evaluation.intervals.model_copy(update={"unit": "picture"})
    inputs = replace(binary, evaluation=binary.evaluation.model_copy(update={"intervals": alone}))
    assert {row.source.split(" of ")[0] for row in clinic.count_hundreds(inputs.evaluation)} == {
        f"{each.n} pictures" for each in inputs.evaluation.per_class.values()
    }
    assert not any("of" in row.source for row in clinic.count_hundreds(inputs.evaluation))
    assert "Patients" not in build_per_class(inputs.evaluation).head
    assert "not by patient" in state("disjoint", inputs)
    assert "patient" not in state("partition", inputs)


def test_patients_that_are_measured_are_counted_as_such(binary: ReportInputs) -> None:
    evaluation = binary.evaluation.model_copy(update={"unit": "patient", "n_pictures": 900})
    rows = clinic.count_hundreds(evaluation)
    assert [row.source for row in rows] == [f"{evaluation.per_class[row.of].n} patients" for row in rows]
    assert "Of 100 patients of" in render_report(replace(binary, evaluation=evaluation))


def test_own_test_split_is_no_external_test(binary: ReportInputs) -> None:
    assert state("external", binary) == ""
    abroad = binary.evaluation.model_copy(update={"split": "all"})
    assert state("external", replace(binary, evaluation=abroad)) != ""


def test_report_shows_its_three_layers(binary: ReportInputs) -> None:
    html = render_report(binary)
    layers = [
        html.index(f'class="layer">{name}') for name in ("For the clinician", "The full evaluation", "Provenance")
    ]
    assert layers == sorted(layers)
    assert html.index('id="clinic"') < html.index('id="summary"') < html.index('id="checklists"')


def test_evidence_maps_stand_beside_the_errors(binary: ReportInputs) -> None:
    html = render_report(replace(binary, load_map=lambda name, _class: report_inputs.load_thumbnail(name)))
    assert "Evidence map of" in html
    assert 'class="panels"' in html
    assert "Evidence map of" not in render_report(binary)


def test_bundle_without_a_gate_says_that_it_answers_everything(binary: ReportInputs) -> None:
    assert binary.manifest is not None
    bare = binary.manifest.model_copy(update={"files": {"model.onnx": "b" * 64}})
    assert not any("no gate" in text for text in clinic.describe_silence(binary))
    assert any("no gate" in text for text in clinic.describe_silence(replace(binary, manifest=bare)))
