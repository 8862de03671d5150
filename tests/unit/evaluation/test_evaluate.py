"""An evaluation says of given scores what an independent library says of them, and tells what it cannot know."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from models import CALIBRATED, deliver_plain_bundle, draw_pixels, edit_manifest, make_pixel_cache, make_plan
from pictures import make_sample
from snellen.core.errors import DataError
from snellen.core.storage import compute_sha256
from snellen.evaluation.evaluate import (
    Question,
    Scored,
    choose_thresholds,
    doubt_thresholds,
    evaluate,
    format_scores,
    save_scores,
    score_samples,
)
from snellen.inference.load import load_bundle
from snellen.inference.predictor import Predictor
from snellen.records.cohort import PatientRule
from snellen.records.evaluation import Evaluation, Intervals
from snellen.terminal import show_evaluation

CLASSES = ("drusen", "normal", "oedema")
KNOWN = PatientRule(rule="patient column", origin="column", n=30)


def make_scored(classes: tuple[str, ...] = CLASSES, n: int = 60, *, seed: int = 0, n_abstained: int = 0) -> Scored:
    """Scores that are better than chance and far from perfect; two pictures a patient."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % len(classes)
    logits = random.normal(size=(n, len(classes))) + 1.2 * np.eye(len(classes))[labels]
    raised = np.exp(logits / 1.5)
    samples = [make_sample(f"{row}.png", classes[label], f"P{row // 2}") for row, label in enumerate(labels)]
    return Scored(
        samples=tuple(samples),
        labels=labels,
        probabilities=raised / raised.sum(1, keepdims=True),
        logits=logits,
        embedding=random.normal(0.5, 0.1, (n, 3)).astype(np.float32),
        n_abstained=n_abstained,
        classes=classes,
    )


def ask(**changes: Any) -> Question:
    """A question with few resamples: the intervals have tests of their own."""
    intervals = Intervals(n_resamples=100, unit="patient", seed=0)
    return Question(**{"split": "test", "data": "/data/eyes", "patients": KNOWN, "intervals": intervals, **changes})


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A bundle of three classes, of which half the training pictures showed the second."""
    folder: Path = tmp_path_factory.mktemp("three")
    baselines = {
        "prior": np.array([0.2, 0.5, 0.3], np.float32),
        "weight": np.diag([3.0, 2.0, 4.0]).astype(np.float32),
        "bias": np.array([0.1, 0.6, -0.4], np.float32),
    }
    deliver_plain_bundle(folder, CLASSES, calibration=CALIBRATED, baselines=baselines)
    return load_bundle(folder, threads=1)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A bundle of two classes whose first is positive, with its default threshold at 0.4."""
    folder: Path = tmp_path_factory.mktemp("two")
    deliver_plain_bundle(folder, ("ill", "well"), positive="ill")
    point = {"name": "balanced", "rule": "youden", "threshold": 0.4, "chosen_on": "val", "is_default": True}
    edit_manifest(folder, thresholds=[point])
    return load_bundle(folder, threads=1)


@pytest.fixture(scope="module")
def evaluated(three: Predictor) -> Evaluation:
    return evaluate(three, make_scored(), ask())


def compute_reference(scored: Scored) -> dict[str, float]:
    """The same numbers by scikit-learn."""
    y, p = scored.labels, scored.probabilities
    called = p.argmax(1)
    return {
        "accuracy": metrics.accuracy_score(y, called),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, called),
        "auc": metrics.roc_auc_score(y, p, multi_class="ovr"),
        "f1": metrics.f1_score(y, called, average="macro"),
        "precision": metrics.precision_score(y, called, average="macro"),
        "recall": metrics.recall_score(y, called, average="macro"),
        "mcc": metrics.matthews_corrcoef(y, called),
        "log_loss": metrics.log_loss(y, p),
    }


@pytest.mark.parametrize(
    "name", ["accuracy", "balanced_accuracy", "auc", "f1", "precision", "recall", "mcc", "log_loss"]
)
def test_metric_equals_sklearn(evaluated: Evaluation, name: str) -> None:
    # both count in float64
    assert evaluated.metrics[name].value == pytest.approx(compute_reference(make_scored())[name], rel=1e-9)


@pytest.mark.parametrize("name", ["brier", "ece", "precision_weighted", "recall_weighted", "f1_weighted"])
def test_metrics_of_the_contract_are_there(evaluated: Evaluation, name: str) -> None:
    assert evaluated.metrics[name].value is not None


def test_every_metric_lies_in_its_interval(evaluated: Evaluation) -> None:
    # not the calibration errors: they have no interval, because resamples push them up
    outside = [
        name
        for name, found in evaluated.metrics.items()
        if not name.startswith("ece") and not (found.low or 0) <= (found.value or 0) <= (found.high or 0)
    ]
    assert outside == []


def test_kappa_is_there_only_for_ordered_classes(evaluated: Evaluation, tmp_path: Path) -> None:
    deliver_plain_bundle(tmp_path, CLASSES)
    edit_manifest(tmp_path, ordered=True, task="ordinal")
    ordered = evaluate(load_bundle(tmp_path), make_scored(), ask())
    assert ("kappa_quadratic" in evaluated.metrics, "kappa_quadratic" in ordered.metrics) == (False, True)


def test_confusion_equals_sklearn(evaluated: Evaluation) -> None:
    scored = make_scored()
    expected = metrics.confusion_matrix(scored.labels, scored.probabilities.argmax(1))
    assert np.array_equal(evaluated.confusion, expected)


@pytest.mark.parametrize("name", CLASSES)
def test_recall_of_a_class_equals_sklearn(evaluated: Evaluation, name: str) -> None:
    scored = make_scored()
    recalls = metrics.recall_score(scored.labels, scored.probabilities.argmax(1), average=None)
    assert evaluated.per_class[name].recall.value == pytest.approx(recalls[CLASSES.index(name)], rel=1e-9)


def test_evaluation_counts_pictures_and_patients(evaluated: Evaluation) -> None:
    assert (evaluated.n, evaluated.n_patients) == (60, 30)


def test_evaluation_repeats_what_was_asked(three: Predictor) -> None:
    question = ask(split="val", data="/data/other", test_opened=3, n_failed=2, snellen_version="1.2", notes=("told",))
    found = evaluate(three, make_scored(), question)
    repeated = (found.split, found.data, found.test_opened, found.n_failed, found.snellen_version, found.patient_rule)
    assert repeated == ("val", "/data/other", 3, 2, "1.2", "patient column")
    assert found.notes == ("told",)


def test_evaluation_names_the_bundle_by_its_hash(three: Predictor, evaluated: Evaluation) -> None:
    assert evaluated.bundle_sha256 == compute_sha256(three.folder / "manifest.json")


def test_evaluation_can_be_written(evaluated: Evaluation) -> None:
    assert Evaluation.model_validate_json(evaluated.to_json()) == evaluated


def test_majority_class_has_an_auc_of_one_half(evaluated: Evaluation) -> None:
    assert evaluated.baselines["majority_class"]["auc"].value == 0.5


def test_majority_class_calls_every_picture_the_commonest_of_training(three: Predictor) -> None:
    scored = keep(make_scored(), np.flatnonzero(make_scored().labels != 0))
    # "normal" was the commonest of training: half of the pictures left show it
    assert evaluate(three, scored, ask()).baselines["majority_class"]["accuracy"].value == 0.5


def test_majority_class_is_as_sure_as_training_was(three: Predictor) -> None:
    scored = keep(make_scored(), np.flatnonzero(make_scored().labels == 2))
    found = evaluate(three, scored, ask()).baselines["majority_class"]["log_loss"].value
    assert found == pytest.approx(-np.log(0.3), rel=1e-6)  # the share is stored as float32


def test_linear_probe_is_scored_on_the_embedding(three: Predictor) -> None:
    scored = make_scored()
    with np.load(three.folder / "baselines.npz") as stored:
        called = (scored.embedding @ stored["weight"] + stored["bias"]).argmax(1)
    found = evaluate(three, scored, ask()).baselines["linear_probe"]
    assert found["accuracy"].value == pytest.approx((called == scored.labels).mean(), rel=1e-9)


@pytest.mark.parametrize("unit", ["patient", "picture"])
def test_patients_that_share_a_picture_are_drawn_together(three: Predictor, unit: str) -> None:
    scored = make_scored()
    groups = {f"P{number}": f"P{number - number % 3}" for number in range(30) if number % 3}
    named = [groups.get(sample.patient, sample.patient) for sample in scored.samples]
    renamed = [sample.model_copy(update={"patient": name}) for sample, name in zip(scored.samples, named, strict=True)]
    told = Intervals(n_resamples=100, unit=unit, seed=0)
    found = evaluate(three, scored, ask(groups=groups, intervals=told))
    expected = evaluate(three, replace(scored, samples=tuple(renamed)), ask())
    alone = evaluate(three, scored, ask(intervals=told))
    assert found.metrics == expected.metrics != alone.metrics
    for name, each in found.per_class.items():  # drawn as groups, counted as patients
        assert each.n_patients == 20
        assert each.model_copy(update={"n_patients": 0}) == expected.per_class[name].model_copy(
            update={"n_patients": 0}
        )
    assert found.calibration == expected.calibration
    assert (found.n_patients, found.intervals) == (30, told)
    assert [note for note in found.notes if "10 groups" in note and f"30 {unit}s" in note]


def test_absent_class_is_noted(three: Predictor) -> None:
    scored = keep(make_scored(), np.flatnonzero(make_scored().labels != 1))
    (note,) = [note for note in evaluate(three, scored, ask()).notes if note.startswith("No picture of class normal: ")]
    assert "what is a mean over all classes is undefined" in note


def test_means_over_classes_are_undefined_where_a_class_is_absent(three: Predictor) -> None:
    scored = keep(make_scored(), np.flatnonzero(make_scored().labels != 1))
    found = evaluate(three, scored, ask(split="all"))
    for name in ("auc", "balanced_accuracy", "f1", "precision", "recall", "mcc"):
        assert (found.metrics[name].value, found.metrics[name].method) == (None, "none")
    expected = metrics.accuracy_score(scored.labels, scored.probabilities.argmax(1))
    assert found.metrics["accuracy"].value == pytest.approx(expected)
    assert found.per_class["drusen"].recall.value is not None


def test_recall_of_an_absent_class_is_undefined(three: Predictor) -> None:
    scored = keep(make_scored(), np.flatnonzero(make_scored().labels != 1))
    found = evaluate(three, scored, ask()).per_class["normal"]
    assert (found.n, found.recall.value, found.auc.value) == (0, None, None)


def test_auc_with_one_class_only_is_undefined(two: Predictor) -> None:
    scored = make_scored(("ill", "well"))
    found = evaluate(two, keep(scored, np.flatnonzero(scored.labels == 0)), ask())
    assert found.metrics["auc"].value is None


def test_unknown_patients_are_noted(three: Predictor) -> None:
    question = ask(patients=PatientRule(rule="each picture its own", origin="none", n=60))
    assert any(note.startswith("Picture-level") for note in evaluate(three, make_scored(), question).notes)


def test_abstained_pictures_are_noted(three: Predictor) -> None:
    found = evaluate(three, make_scored(n_abstained=7), ask())
    assert any("abstain on 7 of 60" in note for note in found.notes)


def test_nothing_to_tell_gives_no_notes(evaluated: Evaluation) -> None:
    assert evaluated.notes == ()


def test_auc_of_two_classes_is_that_of_the_positive(two: Predictor) -> None:
    scored = make_scored(("ill", "well"))
    expected = metrics.roc_auc_score(scored.labels == 0, scored.probabilities[:, 0])
    assert evaluate(two, scored, ask()).metrics["auc"].value == pytest.approx(expected, rel=1e-9)


def test_operating_point_is_measured_at_the_stored_threshold(two: Predictor) -> None:
    scored = make_scored(("ill", "well"))
    is_ill, is_called = scored.labels == 0, scored.probabilities[:, 0] >= 0.4
    (point,) = evaluate(two, scored, ask()).operating_points
    assert point.sensitivity is not None
    assert point.specificity is not None
    assert point.sensitivity.value == pytest.approx((is_ill & is_called).sum() / is_ill.sum(), rel=1e-9)
    assert point.specificity.value == pytest.approx((~is_ill & ~is_called).sum() / (~is_ill).sum(), rel=1e-9)


def test_operating_point_keeps_where_it_was_chosen(two: Predictor) -> None:
    (point,) = evaluate(two, make_scored(("ill", "well")), ask()).operating_points
    assert (point.name, point.rule, point.threshold, point.chosen_on) == ("balanced", "youden", 0.4, "val")
    assert point.is_default


def test_three_classes_have_no_operating_point(evaluated: Evaluation) -> None:
    assert evaluated.operating_points == ()


def test_calibration_compares_with_uncalibrated_logits(evaluated: Evaluation) -> None:
    scored = make_scored()
    raised = np.exp(scored.logits)
    found = evaluated.calibration
    expected = metrics.log_loss(scored.labels, raised / raised.sum(1, keepdims=True))
    assert found.log_loss_before == pytest.approx(expected, rel=1e-9)
    assert found.log_loss_after == pytest.approx(metrics.log_loss(scored.labels, scored.probabilities), rel=1e-9)


def test_calibration_is_that_of_the_bundle(evaluated: Evaluation) -> None:
    found = evaluated.calibration
    assert (found.method, found.temperature, found.fitted_on, found.n_fitted) == ("temperature", 1.5, "val", 40)


def test_calibration_bins_hold_every_picture(evaluated: Evaluation) -> None:
    assert sum(part.n for part in evaluated.calibration.bins) == 60


def test_bins_before_are_those_of_the_logits_themselves(evaluated: Evaluation) -> None:
    logits = make_scored().logits
    raised = np.exp(logits)
    confidence = (raised / raised.sum(1, keepdims=True)).max(1)
    found = evaluated.calibration.bins_before
    assert sum(part.n for part in found) == 60
    for part in found:
        inside = (confidence > part.low) & (confidence <= part.high)
        assert part.n == inside.sum()
        assert part.confidence == pytest.approx(confidence[inside].mean())
    assert found != evaluated.calibration.bins


def test_same_scores_give_the_same_evaluation(three: Predictor, evaluated: Evaluation) -> None:
    assert evaluate(three, make_scored(), ask()) == evaluated


def test_order_of_pictures_changes_no_value(three: Predictor, evaluated: Evaluation) -> None:
    shuffled = keep(make_scored(), np.random.default_rng(5).permutation(60))
    found = evaluate(three, shuffled, ask()).metrics
    values = {name: estimate.value for name, estimate in evaluated.metrics.items()}
    # float64 sums in another order
    assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(values, rel=1e-9)


def keep(scored: Scored, rows: np.ndarray) -> Scored:
    """Only these rows."""
    return replace(
        scored,
        samples=tuple(scored.samples[row] for row in rows),
        labels=scored.labels[rows],
        probabilities=scored.probabilities[rows],
        logits=scored.logits[rows],
        embedding=scored.embedding[rows],
    )


def test_score_samples_gives_what_the_predictor_says(tmp_path: Path) -> None:
    deliver_plain_bundle(tmp_path)
    predictor = load_bundle(tmp_path)
    pixels = draw_pixels(70, 8)  # more than the 64 of one step
    cache, samples = make_pixel_cache(pixels, tmp_path)
    scored = score_samples(predictor, samples, cache)
    # P(second class) = sigmoid of mean red over 255; float32
    expected = 1 / (1 + np.exp(-pixels[..., 0].mean((1, 2)) / 255))
    np.testing.assert_allclose(scored.probabilities[:, 1], expected, atol=1e-6)


def test_score_samples_keeps_the_order_of_the_samples(tmp_path: Path) -> None:
    deliver_plain_bundle(tmp_path)
    predictor = load_bundle(tmp_path)
    cache, samples = make_pixel_cache(draw_pixels(10, 8), tmp_path)
    forth, back = (score_samples(predictor, order, cache) for order in (samples, samples[::-1]))
    assert np.array_equal(forth.probabilities, back.probabilities[::-1])
    assert forth.labels.tolist() == back.labels.tolist()[::-1] == [0, 1] * 5


def test_score_samples_counts_what_the_gate_would_refuse(tmp_path: Path) -> None:
    # the gate knows embeddings about one half: black and white pictures are foreign
    deliver_plain_bundle(tmp_path)
    pixels = draw_pixels(5, 8)
    pixels[:2] = [[[[0]]], [[[255]]]]
    cache, samples = make_pixel_cache(pixels, tmp_path)
    assert score_samples(load_bundle(tmp_path), samples, cache).n_abstained == 2


def test_score_samples_refuses_a_class_that_the_bundle_does_not_know(tmp_path: Path) -> None:
    deliver_plain_bundle(tmp_path)
    cache, samples = make_pixel_cache(draw_pixels(3, 8), tmp_path)
    samples[1] = samples[1].model_copy(update={"label": "glaucoma"})
    with pytest.raises(DataError, match=r"(?s)does not know: glaucoma.*healthy, sick"):
        score_samples(load_bundle(tmp_path), samples, cache)


def test_score_samples_of_no_pictures_is_told_in_words(tmp_path: Path) -> None:
    deliver_plain_bundle(tmp_path)
    cache, _ = make_pixel_cache(draw_pixels(3, 8), tmp_path)
    with pytest.raises(DataError):
        score_samples(load_bundle(tmp_path), [], cache)


def read_rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_scores_csv_has_the_columns_of_the_contract() -> None:
    head = read_rows(format_scores(make_scored().to_scores(), CLASSES))[0]
    assert head == [
        "sample", "patient", "label", "probability_drusen", "probability_normal", "probability_oedema",
        "logit_drusen", "logit_normal", "logit_oedema", "prediction",
    ]  # fmt: skip


def test_scores_csv_has_a_row_a_sample() -> None:
    scored = make_scored()
    rows = read_rows(format_scores(scored.to_scores(), CLASSES))[1:]
    assert [row[:3] for row in rows] == [[s.name, s.patient, s.label] for s in scored.samples]


def test_scores_csv_keeps_seven_digits() -> None:
    scored = make_scored()
    rows = read_rows(format_scores(scored.to_scores(), CLASSES))[1:]
    found = np.array([[float(value) for value in row[3:9]] for row in rows])
    np.testing.assert_allclose(found, np.hstack([scored.probabilities, scored.logits]), rtol=1e-6)


def test_scores_csv_predicts_the_most_probable_class() -> None:
    scored = make_scored()
    rows = read_rows(format_scores(scored.to_scores(), CLASSES))[1:]
    assert [row[-1] for row in rows] == [CLASSES[index] for index in scored.probabilities.argmax(1)]


def test_scores_csv_quotes_names_with_commas() -> None:
    scored = make_scored()
    named = replace(scored, samples=(make_sample('odd, "name".png', "drusen", "P,0"), *scored.samples[1:]))
    assert read_rows(format_scores(named.to_scores(), CLASSES))[1][:2] == ['odd, "name".png', "P,0"]


def test_save_scores_writes_what_it_formats(tmp_path: Path) -> None:
    scores = make_scored().to_scores()
    save_scores(tmp_path / "scores.csv", scores, CLASSES)
    assert (tmp_path / "scores.csv").read_text(encoding="utf-8") == format_scores(scores, CLASSES)


# four ill with 0.9, 0.8, 0.6, 0.3 and four well with 0.7, 0.5, 0.4, 0.1 for "ill"
ILL = np.array([0.9, 0.8, 0.6, 0.3, 0.7, 0.5, 0.4, 0.1], np.float32)
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
BOTH = np.column_stack([ILL, 1 - ILL])


@pytest.mark.parametrize(
    ("name", "rule", "threshold"),
    [
        # sensitivity + specificity: 2/4 + 4/4 at 0.8, 3/4 + 3/4 at 0.6, 4/4 + 1/4 at 0.3; of equals the more sensitive
        ("balanced", "youden", 0.6),
        # nine in ten of four ill are four: 0.3 is the highest that catches all
        ("screening", "sensitivity>=0.90", 0.3),
        ("most-likely", "argmax", 0.5),
    ],
)
def test_threshold_is_as_worked_out_by_hand(name: str, rule: str, threshold: float) -> None:
    points = {
        point.name: point
        for point in choose_thresholds(LABELS, BOTH, make_plan(("ill", "well"), positive="ill"), "val")
    }
    assert points[name].rule == rule
    # float32 probabilities carry 7 digits
    assert points[name].threshold == pytest.approx(threshold, abs=1e-7)


def test_thresholds_are_on_the_positive_class_wherever_it_stands() -> None:
    first = choose_thresholds(LABELS, BOTH, make_plan(("ill", "well"), positive="ill"), "val")
    second = choose_thresholds(1 - LABELS, BOTH[:, ::-1], make_plan(("well", "ill"), positive="ill"), "val")
    assert first == second


def test_threshold_counts_its_own_picture_as_positive() -> None:
    # stored as float64 of the graph's float32: the picture that it was chosen on stays on its side
    points = choose_thresholds(LABELS, BOTH, make_plan(("ill", "well"), positive="ill"), "val")
    assert points[0].threshold == float(ILL[2])


def test_one_threshold_is_the_default() -> None:
    points = choose_thresholds(LABELS, BOTH, make_plan(("ill", "well"), positive="ill"), "val")
    assert [point.name for point in points if point.is_default] == ["balanced"]


@pytest.mark.parametrize("name", ["screening", "confirming", "most-likely"])
def test_recipe_names_the_point_that_decides(name: str) -> None:
    plan = make_plan(("ill", "well"), positive="ill")
    plan = plan.model_copy(update={"evaluation": plan.evaluation.model_copy(update={"operating_point": name})})
    points = choose_thresholds(LABELS, BOTH, plan, "val")
    assert [point.name for point in points if point.is_default] == [name]


def test_thresholds_say_what_chose_them() -> None:
    points = choose_thresholds(LABELS, BOTH, make_plan(("ill", "well"), positive="ill"), "val")
    chosen_on = {point.name: point.chosen_on for point in points}
    assert chosen_on == {"balanced": "val", "screening": "val", "confirming": "val", "most-likely": "fixed"}
    behind = {point.name: (point.n_positive, point.n_negative) for point in points}
    n_ill = int((LABELS == 0).sum())
    assert behind["balanced"] == behind["confirming"] == (n_ill, len(LABELS) - n_ill)
    assert behind["most-likely"] == (None, None)


def test_no_positive_class_gives_no_thresholds() -> None:
    assert choose_thresholds(np.arange(6) % 3, np.full((6, 3), 1 / 3, np.float32), make_plan(CLASSES), "val") == ()


def test_thresholds_need_both_classes() -> None:
    with pytest.raises(DataError, match="4 positives, 0 negatives"):
        choose_thresholds(LABELS[:4], BOTH[:4], make_plan(("ill", "well"), positive="ill"), "val")


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A bundle of three grades that is decided by the expected grade; half the training pictures were of the lowest."""
    folder: Path = tmp_path_factory.mktemp("graded")
    baselines = {
        "prior": np.array([0.5, 0.1, 0.4], np.float32),
        "weight": np.diag([3.0, 2.0, 4.0]).astype(np.float32),
        "bias": np.array([0.1, 0.6, -0.4], np.float32),
    }
    deliver_plain_bundle(folder, CLASSES, calibration=CALIBRATED, baselines=baselines)
    edit_manifest(folder, ordered=True, task="ordinal", decision="expected_grade")
    return load_bundle(folder, threads=1)


def call_grades(probabilities: np.ndarray) -> np.ndarray:
    return np.rint(probabilities @ np.arange(3)).astype(int)


def test_grades_are_evaluated_by_the_rule_of_the_bundle(graded: Predictor) -> None:
    scored = replace(make_scored(), rule="expected_grade")
    called = call_grades(scored.probabilities)
    assert (called != scored.probabilities.argmax(1)).any()
    found = evaluate(graded, scored, ask())
    assert found.decision == "expected_grade"
    kappa = metrics.cohen_kappa_score(scored.labels, called, weights="quadratic")
    assert found.metrics["kappa_quadratic"].value == pytest.approx(kappa, rel=1e-9)
    assert found.metrics["accuracy"].value == pytest.approx((called == scored.labels).mean(), rel=1e-9)
    assert np.array_equal(found.confusion, metrics.confusion_matrix(scored.labels, called))
    recalls = metrics.recall_score(scored.labels, called, average=None)
    assert [each.recall.value for each in found.per_class.values()] == pytest.approx(list(recalls))
    rows = read_rows(format_scores(scored.to_scores(), CLASSES))[1:]
    assert [row[-1] for row in rows] == [CLASSES[grade] for grade in called]


def test_grade_cuts_equal_sklearn(graded: Predictor) -> None:
    scored = replace(make_scored(), rule="expected_grade")
    called = call_grades(scored.probabilities)
    cuts = evaluate(graded, scored, ask()).grade_cuts
    assert [cut.grade for cut in cuts] == list(CLASSES[1:])
    for at, cut in enumerate(cuts, 1):
        is_from, is_called = scored.labels >= at, called >= at
        assert cut.n == is_from.sum()
        assert cut.sensitivity.value == pytest.approx(metrics.recall_score(is_from, is_called))
        assert cut.specificity.value == pytest.approx(metrics.recall_score(~is_from, ~is_called))
        assert cut.ppv.value == pytest.approx(metrics.precision_score(is_from, is_called))
        assert cut.npv.value == pytest.approx(metrics.precision_score(~is_from, ~is_called))
        assert cut.auc.value == pytest.approx(metrics.roc_auc_score(is_from, scored.probabilities[:, at:].sum(1)))
        assert (cut.auc.low or 0) < (cut.auc.value or 0) < (cut.auc.high or 0)


def test_classes_without_order_have_no_grade_cuts(evaluated: Evaluation) -> None:
    assert evaluated.grade_cuts == ()


def test_model_minus_linear_probe_is_paired(evaluated: Evaluation) -> None:
    found = evaluated.baseline_differences
    assert list(found) == ["linear_probe"]  # the majority class needs no interval to be beaten
    for name, difference in found["linear_probe"].items():
        own, other = evaluated.metrics[name].value, evaluated.baselines["linear_probe"][name].value
        assert difference.value == pytest.approx((own or 0) - (other or 0))
        assert difference.low is not None


def test_linear_probe_is_decided_by_the_same_rule(graded: Predictor) -> None:
    scored = make_scored()
    with np.load(graded.folder / "baselines.npz") as stored:
        raised = np.exp(scored.embedding @ stored["weight"] + stored["bias"])
    called = call_grades(raised / raised.sum(1, keepdims=True))
    found = evaluate(graded, scored, ask()).baselines["linear_probe"]
    assert found["accuracy"].value == pytest.approx((called == scored.labels).mean(), rel=1e-9)


def test_majority_class_of_grades_stays_the_most_frequent(graded: Predictor) -> None:
    # its expected grade would be 0.9, a grade of which a tenth of the training pictures were
    scored = keep(make_scored(), np.flatnonzero(make_scored().labels != 1))
    found = evaluate(graded, scored, ask()).baselines["majority_class"]
    assert found["accuracy"].value == 0.5


def test_screen_says_how_grades_are_decided(graded: Predictor, capsys: pytest.CaptureFixture[str]) -> None:
    show_evaluation(evaluate(graded, make_scored(), ask()))
    assert "columns: the grade nearest to the expected grade" in capsys.readouterr().out


def test_thresholds_are_doubted_only_where_validation_parts_both_classes_wholly() -> None:
    plan = make_plan(("ill", "well"), positive="ill")
    ill = np.array([0.9, 0.6, 0.3, 0.2], np.float32)
    apart, mixed = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert "from 0.300 to 0.600" in doubt_thresholds(apart, np.column_stack([ill, 1 - ill]), plan, "val")
    assert doubt_thresholds(mixed, np.column_stack([ill, 1 - ill]), plan, "val") == ""
    assert doubt_thresholds(apart, np.column_stack([ill, 1 - ill]), make_plan(CLASSES), "val") == ""
