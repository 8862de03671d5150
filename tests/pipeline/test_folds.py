"""`snellen train --folds` end to end on phantoms."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipeline_tools import SMALL, run_snellen
from snellen.records.bundle import MEMBER_OUTPUTS
from snellen.runs import open_run

FOLDS = ["--folds", "3"]


@pytest.fixture(scope="module")
def folded(cohort: Path, cache: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in three folds; `run` has filled the cache with the same pixels and graph."""
    assert run.exists()
    folder = tmp_path_factory.mktemp("folded") / "run"
    run_snellen("train", cohort, "--out", folder, "--cache", cache, *FOLDS, *SMALL)
    return folder


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_every_picture_to_learn_from_is_scored_once_out_of_fold(folded: Path) -> None:
    splits = read_rows(folded / "splits.csv")
    assert {row["sample"] for row in splits if row["split"] == "train"} == {
        row["sample"] for row in read_rows(folded / "scores-oof.csv")
    }
    folds: dict[str, set[str]] = {}
    for row in splits:
        folds.setdefault(row["patient"], set()).add(row["fold"])
    assert all(len(found) == 1 for found in folds.values())


def test_test_split_is_that_of_a_run_without_folds(folded: Path, run: Path) -> None:
    for name in ("sample", "label"):
        assert [row[name] for row in read_rows(folded / "scores-test.csv")] == [
            row[name] for row in read_rows(run / "scores-test.csv")
        ]


@pytest.mark.parametrize(("scores", "evaluation"), [("oof", "evaluation-oof.json"), ("test", "evaluation.json")])
def test_reported_auc_is_that_of_the_scores(folded: Path, scores: str, evaluation: str) -> None:
    found = json.loads((folded / evaluation).read_text())
    rows = read_rows(folded / f"scores-{scores}.csv")
    truth = [row["label"] == found["positive"] for row in rows]
    said = [float(row[f"probability_{found['positive']}"]) for row in rows]
    assert roc_auc_score(truth, said) == pytest.approx(found["metrics"]["auc"]["value"], abs=1e-6)
    assert found["metrics"]["auc"]["value"] > 0.75  # chance is 0.5
    assert found["baselines"]["linear_probe"]["auc"]["value"] < 1


def test_ensemble_is_the_mean_of_its_members(folded: Path, cohort: Path) -> None:
    predictor = open_run(folded).load()
    assert predictor.manifest.n_members == 3
    pixels = np.stack([predictor.prepare(path) for path in sorted(cohort.rglob("*.png"))[:5]])
    together = predictor.score_pixels(pixels)
    alone = [predictor.score_pixels(pixels, np.full(5, member)) for member in range(3)]
    assert together.logits == pytest.approx(np.mean([each.logits for each in alone], axis=0), abs=1e-4)
    temperature = predictor.manifest.calibration.temperature
    raised = np.exp(together.logits / temperature)
    assert together.probabilities == pytest.approx(raised / raised.sum(1, keepdims=True), abs=1e-5)
    assert set(MEMBER_OUTPUTS) <= set(predictor.manifest.outputs)


def test_evaluate_repeats_the_out_of_fold_scores(folded: Path, tmp_path: Path) -> None:
    run_snellen("evaluate", folded, "--split", "oof", "--out", tmp_path / "oof")
    assert (tmp_path / "oof" / "scores.csv").read_bytes() == (folded / "scores-oof.csv").read_bytes()
    assert open_run(folded).record.test_opened == 1


def test_split_that_folds_do_not_have_is_refused(folded: Path) -> None:
    assert "It has oof, test, train" in run_snellen("evaluate", folded, "--split", "val", expect=2).stderr


def test_report_tells_the_members(folded: Path) -> None:
    page = (folded / "report.html").read_text()
    assert "Out of fold" in page
    assert "Members" in page


def test_all_pictures_in_folds_leave_no_test_split(cohort: Path, cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    done = run_snellen(
        "train", cohort, "--out", folder, "--cache", cache, *FOLDS, "--set", "data.fractions=[0.8,0.2,0]", *SMALL
    )
    assert "oof:" in done.stderr
    assert not (folder / "evaluation.json").exists()
    assert open_run(folder).record.test_opened == 0
    assert len(read_rows(folder / "scores-oof.csv")) == len(read_rows(folder / "splits.csv"))
