"""Grades called by words: one order from the plan to the scores, and a kappa that counts in it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

import snellen
from pipeline_tools import run_snellen
from snellen import ImageClassifier
from snellen.ingest.phantom import PhantomSpec, write_cohort

WORDS = ("none", "mild", "moderate", "severe")
ORDER = f"data.order={json.dumps(WORDS)}"
SETTINGS = [
    "preprocess.size=32", "augment.views=0", "evaluation.resamples=100", "model.weights=none",
    "model.backbone=test_resnet", "training.threads=1",
]  # fmt: skip


def read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grades") / "eyes"
    grades = tuple(f"grade_{grade}" for grade in range(len(WORDS)))
    write_cohort(PhantomSpec(kind="fundus", n_patients=60, size_px=32, classes=grades, difficulty=0.0), folder)
    for grade, word in zip(grades, WORDS, strict=True):
        (folder / grade).rename(folder / word)
    return folder


@pytest.fixture(scope="module")
def run(data: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ordered") / "run"
    snellen.train(str(data), out=folder, cache=str(cache), settings=[*SETTINGS, ORDER])
    return folder


def test_order_is_the_same_in_plan_manifest_audit_and_scores(run: Path) -> None:
    with (run / "scores-test.csv").open(encoding="utf-8", newline="") as stream:
        columns = [name.removeprefix("probability_") for name in next(csv.reader(stream)) if "probability_" in name]
    found = (
        read_json(run / "plan.json")["data"]["classes"], read_json(run / "bundle" / "manifest.json")["classes"],
        read_json(run / "evaluation.json")["classes"], columns, list(read_json(run / "audit.json")["classes"]),
    )  # fmt: skip
    assert found == (list(WORDS),) * len(found)
    assert read_json(run / "evaluation.json")["task"] == "ordinal"


def test_kappa_counts_in_the_order(run: Path) -> None:
    with (run / "scores-test.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    pairs = [[WORDS.index(row[key]) for row in rows] for key in ("label", "prediction")]
    kappa = read_json(run / "evaluation.json")["metrics"]["kappa_quadratic"]["value"]
    assert kappa == pytest.approx(cohen_kappa_score(*pairs, weights="quadratic"), abs=1e-9)


def test_report_and_card_show_the_order(run: Path) -> None:
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "Ordered classes: none &lt; mild &lt; moderate &lt; severe" in report
    assert "none &lt; mild &lt; moderate &lt; severe" in (run / "audit.html").read_text(encoding="utf-8")
    assert "Order: none < mild < moderate < severe" in (run / "bundle" / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_other_data_are_mapped_by_name(run: Path, data: Path, cache: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for word in ("mild", "severe"):  # in alphabetical order these would be the first and the last of four
        shutil.copytree(data / word, other / word)
    alone = shutil.copytree(run / "bundle", tmp_path / "bundle")
    done = run_snellen("evaluate", alone, other, "--cache", cache)
    assert "Order of the classes: none < mild < moderate < severe" in done.stdout
    found = json.loads(run_snellen("evaluate", alone, other, "--cache", cache, "--json").stdout)
    assert np.sum(found["confusion"], axis=1).astype(bool).tolist() == [False, True, False, True]
    assert found["metrics"]["kappa_quadratic"]["value"] is not None


def test_packed_file_keeps_the_order(data: Path, cache: Path, tmp_path: Path) -> None:
    packed = snellen.pack(str(data), out=tmp_path / "eyes.h5", cache=str(cache), settings=[*SETTINGS, ORDER])
    plan = snellen.plan(str(packed), cache=str(cache), settings=SETTINGS[1:]).plan
    assert (plan.data.classes, plan.data.ordered) == (WORDS, True)


def test_plan_shows_the_order_and_refuses_what_has_none(data: Path, cache: Path) -> None:
    arguments = ["plan", data, "--cache", cache, *(word for text in SETTINGS for word in ("--set", text))]
    assert "none < mild < moderate < severe" in run_snellen(*arguments, "--set", "data.ordered=true").stdout
    refused = run_snellen(*arguments, "--set", 'data.order=["none", "mild", "severe"]', expect=2)
    assert "'moderate' is missing" in refused.stderr


def test_classifier_keeps_its_columns_and_orders_the_bundle(data: Path, tmp_path: Path) -> None:
    paths = sorted(data.glob("*/*.png")) + sorted(data.glob("*/*.jpg"))
    labels = np.array([path.parent.name for path in paths])
    patients = [path.stem.rsplit("_", 1)[0] for path in paths]
    settings = {**dict(text.split("=", 1) for text in SETTINGS), "data.order": list(WORDS)}
    model = ImageClassifier(settings=settings, runs=tmp_path).fit(paths, labels, groups=patients)
    assert model.predictor_.classes == WORDS
    assert model.classes_.tolist() == sorted(WORDS)
    expected = model.predictor_.predict([str(paths[0])])[0].probabilities
    np.testing.assert_allclose(model.predict_proba(paths[:1])[0], [expected[name] for name in sorted(WORDS)], atol=1e-6)
