"""Grades end to end on phantoms: one rule says what a picture is called, in training, evaluation and prediction."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

import snellen
from pipeline_tools import run_snellen
from snellen import ImageClassifier
from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.planning.recipe_files import load_recipe, with_values
from snellen.records.evaluation import Evaluation
from snellen.records.run import TrainRequest
from snellen.run_features import encode_labels
from snellen.run_preparation import prepare
from snellen.run_tuning import Workbench, collect_development, read_machine
from snellen.runs import Run
from snellen.training.feature_table import FeatureTable
from snellen.training.head import HeadData, fit_head

GRADES = ("grade_0", "grade_1", "grade_2", "grade_3", "grade_4")
TINY = {
    "preprocess.size": 32, "augment.views": 0, "evaluation.resamples": 100, "model.weights": "none",
    "model.backbone": "test_resnet", "training.threads": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on five grades that a tiny random network can hardly tell apart, so that the two rules differ."""
    folder = tmp_path_factory.mktemp("grades")
    write_cohort(PhantomSpec(kind="fundus", n_patients=60, size_px=48, difficulty=0.5), folder / "fundus")
    settings = [f"{key}={value}" for key, value in TINY.items()]
    return snellen.train(folder / "fundus", out=folder / "run", settings=settings, cache=folder / "cache")


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def read_probabilities(rows: list[dict[str, str]]) -> NDArray[np.float64]:
    return np.array([[float(row[f"probability_{name}"]) for name in GRADES] for row in rows])


def call(probabilities: NDArray[np.float64]) -> list[str]:
    return [GRADES[grade] for grade in np.ceil(probabilities @ np.arange(5) - 0.5).astype(int)]


def test_scores_call_the_grade_nearest_to_the_expected_one(graded: Run) -> None:
    assert graded.plan.evaluation.decision == "expected_grade"
    for split in ("val", "test"):
        rows = read_rows(graded.folder / f"scores-{split}.csv")
        assert [row["prediction"] for row in rows] == call(read_probabilities(rows))
    probabilities = read_probabilities(rows)
    assert call(probabilities) != [GRADES[grade] for grade in probabilities.argmax(1)]


def test_reported_kappa_is_that_of_the_predictions(graded: Run) -> None:
    rows = read_rows(graded.folder / "scores-test.csv")
    labels, called = ([GRADES.index(row[name]) for row in rows] for name in ("label", "prediction"))
    found = graded.evaluation
    assert found.decision == "expected_grade"
    kappa = cohen_kappa_score(labels, called, weights="quadratic")
    assert found.metrics["kappa_quadratic"].value == pytest.approx(kappa, abs=1e-9)
    report = (graded.folder / "report.html").read_text(encoding="utf-8")
    assert "A picture is called the grade nearest to the expected grade" in report


def test_predict_says_what_the_scores_say(graded: Run, tmp_path: Path) -> None:
    rows = read_rows(graded.folder / "scores-test.csv")
    root = Path(graded.record.request.source.data)
    paths = [root / row["sample"] for row in rows]
    run_snellen("predict", graded.folder / "bundle", *paths, "--out", tmp_path / "rows.csv")
    found = {row["path"]: row for row in read_rows(tmp_path / "rows.csv")}
    said = [found[str(path)] for path in paths]
    assert [row["prediction"] for row in said] == [row["prediction"] for row in rows]
    assert [row["decision"] for row in said] == [row["prediction"] for row in said]
    assert [row["prediction"] for row in said] == call(read_probabilities(said))


def test_evaluation_anew_says_the_same(graded: Run) -> None:
    again: Evaluation = snellen.evaluate(graded.folder, split="val")
    assert again.confusion == graded.validation.confusion
    assert again.decision == "expected_grade"


def test_classifier_calls_what_its_bundle_calls(graded: Run, tmp_path: Path) -> None:
    root = Path(graded.record.request.source.data)
    paths = sorted(root.glob("*/*.jpg"))
    labels = [int(path.parent.name[-1]) for path in paths]
    patients = [path.stem.rsplit("_", 2)[0] for path in paths]
    settings = {**TINY, "data.ordered": True}
    fitted = ImageClassifier(settings=settings, cache=tmp_path).fit(paths, labels, groups=patients)
    probabilities = fitted.predict_proba(paths).astype(np.float64)
    called = np.ceil(probabilities @ np.arange(5) - 0.5 - 1e-6).astype(int)
    assert fitted.predict(paths).tolist() == called.tolist()
    assert (called != probabilities.argmax(1)).any()


def test_tune_scores_kappa_by_the_rule(graded: Run) -> None:
    source = graded.record.request.source
    metric = {"tune.metric": "kappa_quadratic"}
    by_rule = {}
    for rule in ("expected_grade", "most_probable"):
        loaded = with_values(load_recipe("auto"), {**TINY, **metric, "evaluation.decision": rule})
        prepared = prepare(TrainRequest(source=source), loaded)
        development = collect_development(prepared, 3, seed=0)
        bench = Workbench(prepared, development, read_machine(0))
        by_rule[rule] = list(bench.score_folds(loaded))
        features = bench.collect(prepared.plan).load()[0]
        labels = encode_labels(development.samples, prepared.plan)
        held = development.folds == 1
        data = HeadData(FeatureTable.hold(features[None, ~held]), labels[~held], features[held], labels[held])
        with torch.no_grad():
            logits = fit_head(data, prepared.plan).head(torch.from_numpy(features[held]))
        probabilities = torch.softmax(logits.double(), 1).numpy()
        called = probabilities.argmax(1) if rule == "most_probable" else [GRADES.index(x) for x in call(probabilities)]
        kappa = cohen_kappa_score(labels[held], called, weights="quadratic")
        assert by_rule[rule][1] == pytest.approx(kappa, abs=1e-9)
    assert by_rule["expected_grade"] != by_rule["most_probable"]
