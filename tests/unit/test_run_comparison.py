"""Two runs are compared picture by picture, on the same pictures or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score
from typer.testing import CliRunner

from report_inputs import build_binary, build_ordinal
from snellen.cli import app
from snellen.core.csv_text import format_csv
from snellen.core.errors import DataError, StorageError, UsageError
from snellen.core.storage import compute_sha256
from snellen.evaluation.evaluate import save_scores
from snellen.evaluation.report import ReportInputs
from snellen.records.comparison import Comparison
from snellen.records.evaluation import Evaluation, Score
from snellen.run_comparison import compare_runs
from snellen.runs import load_record

HASHES = "name,pixels_sha256"


def spread(inputs: ReportInputs, noise: float, *, per_patient: int = 2) -> list[Score]:
    """The scores of another model on the same pictures: logits moved by `noise`."""
    random = np.random.default_rng(1)
    found = []
    for number, score in enumerate(inputs.scores):
        logits = np.array(score.logits) + random.normal(0, noise, len(score.logits))
        probabilities = np.exp(logits) / np.exp(logits).sum()
        found.append(
            score.model_copy(
                update={
                    "logits": tuple(logits.tolist()), "probabilities": tuple(probabilities.tolist()),
                    "prediction": inputs.evaluation.classes[int(probabilities.argmax())],
                    "patient": f"P{number // per_patient}",
                }
            )
        )  # fmt: skip
    return found


def write_evaluated(folder: Path, inputs: ReportInputs, scores: list[Score]) -> Path:
    """What `evaluate --out` leaves."""
    folder.mkdir()
    settings = inputs.evaluation.intervals.model_copy(update={"n_resamples": 100})
    evaluation = inputs.evaluation.model_copy(update={"intervals": settings, "bundle_sha256": folder.name * 4})
    (folder / "evaluation.json").write_text(evaluation.to_json())
    save_scores(folder / "scores.csv", scores, inputs.evaluation.classes)
    return folder


def write_run(
    folder: Path, inputs: ReportInputs, scores: list[Score], *, rename: str = "", groups: dict[str, str] | None = None
) -> Path:
    """What `train` leaves, as far as `compare` reads it; `rename` goes before every name, as if data had moved.
    `groups` names the group of patients who share a picture.
    """
    assert inputs.run is not None
    renamed = [score.model_copy(update={"sample": rename + score.sample}) for score in scores]
    write_evaluated(folder, inputs, renamed)
    (folder / "scores.csv").rename(folder / "scores-test.csv")
    rows = [[rename + score.sample, f"hash-{score.sample}"] for score in scores]
    (folder / "cohort.csv").write_text(format_csv([HASHES.split(","), *rows]))
    splits = [
        [rename + score.sample, score.patient, (groups or {}).get(score.patient, score.patient), score.label, "test"]
        for score in scores
    ]
    (folder / "splits.csv").write_text(format_csv([["sample", "patient", "group", "label", "split"], *splits]))
    hashes = {name: compute_sha256(folder / name) for name in ("scores-test.csv", "evaluation.json", "cohort.csv")}
    (folder / "run.json").write_text(inputs.run.model_copy(update={"sha256": hashes}).to_json())
    return folder


@pytest.fixture
def binary() -> ReportInputs:
    return build_binary()


def test_differences_are_those_of_scikit_learn(tmp_path: Path, binary: ReportInputs) -> None:
    sides = [spread(binary, noise) for noise in (0.3, 1.0)]
    a, b = (write_run(tmp_path / name, binary, scores) for name, scores in zip("ab", sides, strict=True))
    found = compare_runs(a, b, None)
    truth = [score.label == "referable DR" for score in sides[0]]
    aucs = [roc_auc_score(truth, [score.probabilities[1] for score in scores]) for scores in sides]
    assert found.metrics["auc"].difference.value == pytest.approx(aucs[1] - aucs[0], abs=1e-6)
    hits = [accuracy_score([s.label for s in scores], [s.prediction for s in scores]) for scores in sides]
    assert found.metrics["accuracy"].difference.value == pytest.approx(hits[1] - hits[0])
    own = found.agreement
    assert own.both_right + own.only_a_right == round(hits[0] * len(truth))
    assert own.both_right + own.only_b_right == round(hits[1] * len(truth))


@pytest.mark.parametrize(("per_patient", "method"), [(1, "delong"), (2, "obuchowski")])
def test_interval_of_the_auc_is_by_the_number_of_pictures(
    tmp_path: Path, binary: ReportInputs, per_patient: int, method: str
) -> None:
    a, b = (
        write_run(tmp_path / name, binary, spread(binary, noise, per_patient=per_patient))
        for name, noise in (("a", 0.0), ("b", 1.5))
    )
    auc = compare_runs(a, b, None).metrics["auc"]
    assert auc.difference.method == method
    assert auc.better == "a"
    assert compare_runs(b, a, None).metrics["auc"].better == "b"


def test_patients_that_share_a_picture_are_drawn_together(tmp_path: Path, binary: ReportInputs) -> None:
    sides = [spread(binary, noise, per_patient=1) for noise in (0.3, 1.0)]
    pairs = {score.patient: f"P{int(score.patient[1:]) // 2}" for score in sides[0]}
    a, b = (
        write_run(tmp_path / name, binary, scores, groups=pairs if name == "b" else None)
        for name, scores in zip("ab", sides, strict=True)
    )
    named = [[score.model_copy(update={"patient": pairs[score.patient]}) for score in scores] for scores in sides]
    c, d = (write_run(tmp_path / name, binary, scores) for name, scores in zip("cd", named, strict=True))
    found, expected = compare_runs(a, b, None), compare_runs(c, d, None)
    assert found.metrics == expected.metrics
    assert found.metrics["auc"].difference.method == "obuchowski"
    assert found.n_patients == 2 * expected.n_patients
    assert [note for note in found.notes if f"{expected.n_patients} groups" in note]


def test_lower_loss_is_better(tmp_path: Path, binary: ReportInputs) -> None:
    a, b = (write_run(tmp_path / n, binary, spread(binary, noise)) for n, noise in (("a", 0.0), ("b", 2.0)))
    assert compare_runs(a, b, None).metrics["log_loss"].better == "a"


def test_grades_are_compared_by_resampling(tmp_path: Path) -> None:
    inputs = build_ordinal()
    a, b = (write_evaluated(tmp_path / n, inputs, spread(inputs, noise)) for n, noise in (("a", 0.1), ("b", 0.2)))
    found = compare_runs(a, b, None)
    assert found.metrics["auc"].difference.method == "bootstrap"
    assert found.metrics["kappa_quadratic"].a is not None
    assert found.matched_by == "name"
    assert any("matched by their names" in note for note in found.notes)


def test_small_set_says_what_it_could_find_and_how_many_it_would_take(tmp_path: Path, binary: ReportInputs) -> None:
    few = replace(binary, scores=binary.scores[:80])
    a, b = (write_run(tmp_path / n, few, spread(few, noise)) for n, noise in (("a", 0.1), ("b", 0.6)))
    found = compare_runs(a, b, None)
    auc = found.metrics["auc"]
    assert auc.better == "undecided"
    assert "cannot tell the two apart" in found.verdict
    assert auc.n_patients_needed is not None
    assert auc.n_patients_needed > found.n_patients
    # at so many patients the error would be smaller by the root, and the difference just found
    assert auc.difference.value is not None
    assert auc.detectable is not None
    shrunk = auc.detectable * (found.n_patients / auc.n_patients_needed) ** 0.5
    assert shrunk == pytest.approx(abs(auc.difference.value), rel=0.1)
    # Student's quantiles for few patients, as the interval has them
    half = (auc.difference.high - auc.difference.low) / 2
    assert auc.detectable > 1.4 * half > 1.4 * 1.96 * auc.standard_error


def test_fewer_than_ten_patients_of_a_class_are_no_comparison(tmp_path: Path, binary: ReportInputs) -> None:
    few = replace(binary, scores=binary.scores[:30])
    a, b = (write_run(tmp_path / n, few, spread(few, noise)) for n, noise in (("a", 0.1), ("b", 3.0)))
    found = compare_runs(a, b, None)
    assert {each.better for each in found.metrics.values()} <= {"undecided", "equal", "undefined"}
    assert {each.detectable for each in found.metrics.values()} == {None}
    assert "Too few patients to compare" in found.verdict


def test_changed_scores_of_an_evaluation_are_refused(tmp_path: Path, binary: ReportInputs) -> None:
    a, b = (write_evaluated(tmp_path / n, binary, spread(binary, noise)) for n, noise in (("a", 0.1), ("b", 0.2)))
    for folder in (a, b):
        known = load_record(folder / "evaluation.json", Evaluation)
        sha256 = compute_sha256(folder / "scores.csv")
        (folder / "evaluation.json").write_text(known.model_copy(update={"scores_sha256": sha256}).to_json())
    compare_runs(a, b, None)
    text = (b / "scores.csv").read_text()
    (b / "scores.csv").write_text(text.replace("0.", "1.", 1))
    with pytest.raises(DataError, match="was changed since"):
        compare_runs(a, b, None)


def test_empty_scores_are_damaged(tmp_path: Path, binary: ReportInputs) -> None:
    a, b = (write_evaluated(tmp_path / n, binary, spread(binary, noise)) for n, noise in (("a", 0.1), ("b", 0.2)))
    (b / "scores.csv").write_text("xx")
    with pytest.raises(StorageError, match="holds no scores"):
        compare_runs(a, b, None)


def test_a_side_measured_by_patient_is_told(tmp_path: Path, binary: ReportInputs) -> None:
    by_patient = replace(binary, evaluation=binary.evaluation.model_copy(update={"unit": "patient"}))
    a = write_evaluated(tmp_path / "a", binary, spread(binary, 0.1))
    b = write_evaluated(tmp_path / "b", by_patient, spread(binary, 0.2))
    assert any("although B by patient was measured" in note for note in compare_runs(a, b, None).notes)


def test_moved_data_are_matched_by_pixels(tmp_path: Path, binary: ReportInputs) -> None:
    a = write_run(tmp_path / "a", binary, spread(binary, 0.1))
    b = write_run(tmp_path / "b", binary, spread(binary, 0.4), rename="moved/")
    found = compare_runs(a, b, None)
    assert (found.n, found.matched_by) == (len(binary.scores), "pixels")


def test_other_test_sets_are_refused_and_common_ones_told(tmp_path: Path, binary: ReportInputs) -> None:
    scores = spread(binary, 0.1)
    a, b = write_run(tmp_path / "a", binary, scores[:-7]), write_run(tmp_path / "b", binary, scores[20:])
    with pytest.raises(UsageError) as caught:
        compare_runs(a, b, None)
    assert f"{len(scores) - 27} pictures are in both, 20 are only in" in caught.value.message
    assert "7 are only in" in caught.value.message
    found = compare_runs(a, b, None, is_common=True)
    assert (found.n, found.n_only_a, found.n_only_b) == (len(scores) - 27, 20, 7)
    assert "The test sets differ" in found.notes[0]


def test_nothing_in_common_cannot_be_asked_for(tmp_path: Path, binary: ReportInputs) -> None:
    scores = spread(binary, 0.1)
    a, b = write_run(tmp_path / "a", binary, scores[:50]), write_run(tmp_path / "b", binary, scores[50:])
    with pytest.raises(UsageError, match="0 pictures are in both"):
        compare_runs(a, b, None, is_common=True)


def test_other_classes_are_refused(tmp_path: Path, binary: ReportInputs) -> None:
    other = build_ordinal()
    a = write_evaluated(tmp_path / "a", binary, list(binary.scores))
    b = write_evaluated(tmp_path / "b", other, list(other.scores))
    with pytest.raises(UsageError, match="other classes apart"):
        compare_runs(a, b, None)


def test_changed_scores_are_refused(tmp_path: Path, binary: ReportInputs) -> None:
    a, b = (write_run(tmp_path / name, binary, spread(binary, 0.2)) for name in "ab")
    path = b / "scores-test.csv"
    path.write_text(path.read_text().replace("referable DR", "normal", 1))
    with pytest.raises(DataError, match="was changed"):
        compare_runs(a, b, None)


def test_other_labels_of_a_picture_are_refused(tmp_path: Path, binary: ReportInputs) -> None:
    scores = spread(binary, 0.2)
    other = [score.model_copy(update={"label": "normal"}) for score in scores]
    a, b = write_evaluated(tmp_path / "a", binary, scores), write_evaluated(tmp_path / "b", binary, other)
    with pytest.raises(DataError, match="another label"):
        compare_runs(a, b, None)


def test_run_without_test_scores_says_how_to_get_them(tmp_path: Path, binary: ReportInputs) -> None:
    a, b = (write_run(tmp_path / name, binary, spread(binary, 0.2)) for name in "ab")
    (b / "evaluation.json").unlink()
    with pytest.raises(UsageError) as caught:
        compare_runs(a, b, None)
    assert f"snellen evaluate {b} --out DIR" in caught.value.hint


def test_equal_models_are_equal(tmp_path: Path, binary: ReportInputs) -> None:
    a, b = (write_run(tmp_path / name, binary, spread(binary, 0.2)) for name in "ab")
    found = compare_runs(a, b, None)
    assert {each.better for each in found.metrics.values()} == {"equal"}
    assert found.verdict == "Both have the same AUC on these pictures."


def test_command_writes_page_and_record(tmp_path: Path, binary: ReportInputs) -> None:
    a, b = (write_run(tmp_path / n, binary, spread(binary, noise)) for n, noise in (("a", 0.2), ("b", 0.6)))
    done = CliRunner().invoke(app, ["compare", str(a), str(b), "--out", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0
    printed = Comparison.model_validate(json.loads(done.stdout))
    assert load_record(tmp_path / "out" / "comparison.json", Comparison) == printed
    page = (tmp_path / "out" / "compare.html").read_text()
    assert printed.verdict in page
    assert "https://" not in page
    again = CliRunner().invoke(app, ["compare", str(a), str(b), "--out", str(tmp_path / "out")])
    assert again.exit_code == 2
    shown = CliRunner().invoke(app, ["compare", str(a), str(b)])
    assert "cannot tell" in shown.stdout or "is better" in shown.stdout
