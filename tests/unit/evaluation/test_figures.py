"""Figures are inline SVG: named, deterministic, in the page's colours, and true to the records."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import matplotlib
import numpy as np
import pytest

import report_inputs
from snellen.evaluation import curves, figures, run_figures, tables
from snellen.evaluation.report import ReportInputs
from snellen.evaluation.svg import Drawing
from snellen.records.evaluation import Evaluation, Score


def _draw_all(inputs: ReportInputs) -> list[Drawing]:
    lines = curves.compute_curves(inputs.evaluation, inputs.scores)
    chosen = inputs.run.chosen if inputs.run is not None else None
    drawn = (
        figures.draw_baselines(inputs.evaluation),
        figures.draw_confusion(inputs.evaluation),
        figures.draw_reliability(inputs.evaluation),
        curves.draw_roc(inputs.evaluation, lines),
        curves.draw_precision_recall(lines),
        run_figures.draw_learning(inputs.epochs, chosen),
        run_figures.draw_class_counts(inputs.splits, inputs.evaluation.classes),
    )
    return [drawing for drawing in drawn if drawing is not None]


def _parse(drawing: Drawing) -> ET.Element:
    return ET.fromstring(str(drawing.svg))  # noqa: S314 (our own drawing)


def _texts(drawing: Drawing) -> list[str]:
    root = _parse(drawing)
    return [element.text or "" for element in root.iter() if element.tag == "text"]


@pytest.fixture(scope="module")
def inputs() -> ReportInputs:
    return report_inputs.build_ordinal()


@pytest.fixture(scope="module")
def drawings(inputs: ReportInputs) -> list[Drawing]:
    return _draw_all(inputs)


def test_figures_of_a_full_run_are_all_drawn(drawings: list[Drawing]) -> None:
    keys = [drawing.key for drawing in drawings]

    assert keys == ["baselines", "confusion", "reliability", "roc", "pr", "learning", "counts"]


def test_figures_are_well_formed_and_have_a_role_a_title_and_a_description(drawings: list[Drawing]) -> None:
    for drawing in drawings:
        root = _parse(drawing)
        assert root.get("role") == "img"
        assert [child.tag for child in root][:2] == ["title", "desc"]
        assert root[0].text == drawing.title
        assert root[1].text == drawing.description


def test_figures_share_no_id_on_one_page(drawings: list[Drawing]) -> None:
    ids = [name for drawing in drawings for name in re.findall(r' id="([^"]+)"', drawing.svg)]

    assert len(ids) == len(set(ids))


def test_figures_refer_only_to_ids_of_their_own(drawings: list[Drawing]) -> None:
    for drawing in drawings:
        ids = set(re.findall(r' id="([^"]+)"', drawing.svg))
        used = re.findall(r'href="([^"]*)"|url\(([^)]*)\)', drawing.svg)
        assert {name.removeprefix("#") for pair in used for name in pair if name} <= ids


def test_figures_are_equal_for_equal_inputs(drawings: list[Drawing], inputs: ReportInputs) -> None:
    assert _draw_all(inputs) == drawings


def test_figures_draw_every_colour_as_a_variable_of_the_page(drawings: list[Drawing]) -> None:
    for drawing in drawings:
        body = re.sub(r"<(title|desc).*?</\1>", "", drawing.svg, flags=re.DOTALL)
        assert re.findall(r": #[0-9a-f]{6}", body) == []
        assert "var(--" in body


def test_figures_leave_matplotlib_settings_alone(inputs: ReportInputs) -> None:
    before = dict(matplotlib.rcParams)

    figures.draw_confusion(inputs.evaluation)

    assert dict(matplotlib.rcParams) == before


def test_confusion_shows_every_count_and_row_share(inputs: ReportInputs) -> None:
    shown = _texts(figures.draw_confusion(inputs.evaluation))

    for counts in inputs.evaluation.confusion:
        for count in counts:
            assert str(count) in shown
            assert f"{100 * count / sum(counts):.0f} %" in shown


def test_confusion_of_a_class_without_pictures_is_drawn(inputs: ReportInputs) -> None:
    empty = ((0,) * 5, *inputs.evaluation.confusion[1:])

    drawing = figures.draw_confusion(inputs.evaluation.model_copy(update={"confusion": empty}))

    assert "No DR: 0 of 0 right" in drawing.description


def test_class_name_with_markup_and_dollars_is_text() -> None:
    names = ("<script>alert(1)</script>", "$x$ & co", "正常")
    hostile = report_inputs.build_minimal(names)

    drawn = _draw_all(hostile)

    assert all("<script" not in drawing.svg for drawing in drawn)
    assert "$x$ & co" in _texts(figures.draw_confusion(hostile.evaluation))


def test_roc_of_a_binary_task_has_the_positive_class_and_the_operating_points() -> None:
    binary = report_inputs.build_binary()
    lines = curves.compute_curves(binary.evaluation, binary.scores)

    drawing = curves.draw_roc(binary.evaluation, lines)

    assert [line.name for line in lines] == ["referable DR"]
    assert drawing is not None
    shown = _texts(drawing)
    assert "balanced: threshold 0.470, default" in shown
    assert "screening: threshold 0.310" in shown
    assert "Sensitivity for “referable DR”" in shown


def test_curves_leave_out_a_class_without_pictures() -> None:
    inputs = report_inputs.build_minimal()
    without = [score for score in inputs.scores if score.label != "dog"]

    assert [line.name for line in curves.compute_curves(inputs.evaluation, without)] == ["cat", "bird"]


def test_curve_reads_sensitivity_and_precision_at_hand_worked_points() -> None:
    # Ranked + − + −: at specificity 1/2 both positives are found, at 1 only the first.
    scores = [_score(label, p) for label, p in (("b", 0.9), ("a", 0.8), ("b", 0.7), ("a", 0.1))]
    (line,) = curves.compute_curves(_binary_evaluation(), scores)

    assert line.sensitivity_at(1.0) == 0.5
    assert line.sensitivity_at(0.5) == 1.0
    assert line.precision_at(0.5) == 1.0
    assert line.precision_at(1.0) == pytest.approx(2 / 3)
    assert line.area == pytest.approx(0.75)


def test_curves_of_many_classes_highlight_the_hardest() -> None:
    many = report_inputs.build_minimal(tuple(f"class {k}" for k in range(12)))
    lines = curves.compute_curves(many.evaluation, many.scores)

    shown = curves.choose_highlights(lines)

    assert len(shown) == curves.N_HARDEST
    assert max(line.area for line in shown) <= min(line.area for line in lines if line not in shown)
    assert "in grey the other 7" in curves.explain_highlights(lines)


def test_curves_stay_small_for_a_large_cohort() -> None:
    random = np.random.default_rng(0)
    scores = [_score("b" if p > random.random() else "a", float(p)) for p in random.random(20_000)]
    lines = curves.compute_curves(_binary_evaluation(), scores)

    drawing = curves.draw_precision_recall(lines)

    assert drawing is not None
    assert len(drawing.svg) < 40_000


def test_learning_follows_the_chosen_candidate(inputs: ReportInputs) -> None:
    assert inputs.run is not None
    own = run_figures.select_candidate(inputs.epochs, inputs.run.chosen)

    assert {each.weight_decay for each in own} == {0.01}
    assert len(own) == 25


def test_learning_without_a_recorded_choice_takes_the_lowest_validation_loss(inputs: ReportInputs) -> None:
    own = run_figures.select_candidate(inputs.epochs, None)

    lowest = min(each.val_loss for each in inputs.epochs if each.val_loss is not None)
    assert lowest in [each.val_loss for each in own]


def test_figures_without_their_inputs_are_not_drawn() -> None:
    bare = report_inputs.build_minimal()
    calibration = bare.evaluation.calibration.model_copy(update={"bins": ()})
    evaluation = bare.evaluation.model_copy(update={"baselines": {}, "calibration": calibration})

    drawn = _draw_all(replace(bare, evaluation=evaluation, scores=()))

    assert [drawing.key for drawing in drawn] == ["confusion"]


def _score(label: str, probability: float) -> Score:
    return Score(
        sample="s",
        patient="p",
        label=label,
        probabilities=(1 - probability, probability),
        logits=(0.0, 0.0),
        prediction="b" if probability >= 0.5 else "a",
    )


def _binary_evaluation() -> Evaluation:
    evaluation = report_inputs.build_minimal(("a", "b")).evaluation
    return evaluation.model_copy(update={"task": "binary", "positive": "b"})


def test_reliability_shows_before_and_after_calibration(inputs: ReportInputs) -> None:
    both = figures.draw_reliability(inputs.evaluation)
    assert both is not None
    assert {"before", "after calibration"} <= set(_texts(both))
    assert "Before calibration:" in both.description
    alone = inputs.evaluation.calibration.model_copy(update={"bins_before": (), "method": "none"})
    single = figures.draw_reliability(inputs.evaluation.model_copy(update={"calibration": alone}))
    assert single is not None
    assert "before" not in _texts(single)
    table = tables.build_reliability(inputs.evaluation)
    firsts = [str(row[0]).partition(",")[0] for row in table.rows]
    assert set(firsts) == {"before", "after"}
    assert firsts.count("before") == sum(each.n > 0 for each in inputs.evaluation.calibration.bins_before)
