"""A part of the patients that chose nothing calibrates, where a cohort is large enough."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax

from pipeline_tools import SMALL, run_snellen
from snellen.inference.load import load_bundle
from snellen.metrics.calibrators import fit_calibration
from snellen.metrics.operating_point import choose_threshold
from snellen.records.evaluation import Evaluation
from snellen.runs import open_run

LARGE = ("--set", "data.calibration_patients=50")


@pytest.fixture(scope="module")
def reserved(cohort: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reserved") / "run"
    run_snellen("train", cohort, "--out", folder, "--cache", cache, *SMALL, *LARGE)
    return folder


@pytest.fixture(scope="module")
def scores(reserved: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Scores of the part, as the bundle gives them."""
    out = tmp_path_factory.mktemp("part") / "out"
    run_snellen("evaluate", reserved, "--split", "calibration", "--out", out)
    with (out / "scores.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_part_stands_in_the_splits_with_patients_of_its_own(reserved: Path) -> None:
    patients: dict[str, set[str]] = {}
    for row in open_run(reserved).splits:
        patients.setdefault(row.split, set()).add(row.patient)
    assert set(patients) == {"train", "val", "calibration", "test"}
    assert sum(map(len, patients.values())) == len(set.union(*patients.values()))


def test_all_that_is_fitted_behind_the_model_is_fitted_on_the_part(reserved: Path) -> None:
    manifest = json.loads((reserved / "bundle" / "manifest.json").read_text())
    n = sum(row.split == "calibration" for row in open_run(reserved).splits)
    assert (manifest["calibration"]["fitted_on"], manifest["calibration"]["n"]) == ("calibration", n)
    assert manifest["conformal"]["fitted_on"] == "calibration"
    chosen = {point["name"]: point["chosen_on"] for point in manifest["thresholds"]}
    assert chosen == {
        "balanced": "calibration", "screening": "calibration", "confirming": "calibration", "most-likely": "fixed",
    }  # fmt: skip


def test_threshold_is_that_of_the_part_s_scores(reserved: Path, scores: list[dict[str, str]]) -> None:
    manifest = load_bundle(reserved / "bundle").manifest
    positive = manifest.positive
    values = np.array([float(row[f"probability_{positive}"]) for row in scores])
    is_positive = np.array([row["label"] == positive for row in scores])
    chosen = [point for point in manifest.thresholds if point.chosen_on == "calibration"]
    for point in chosen:
        assert choose_threshold(is_positive.astype(np.int64), values, point.rule) == pytest.approx(point.threshold)


def test_probabilities_are_as_calibrated_on_the_part_alone(reserved: Path, scores: list[dict[str, str]]) -> None:
    """Fitted anew on the graph's own logits of the part, nothing is left to mend."""
    classes = load_bundle(reserved / "bundle").classes
    probabilities = np.array([[float(row[f"probability_{name}"]) for name in classes] for row in scores])
    labels = np.array([classes.index(row["label"]) for row in scores])
    again = fit_calibration(np.log(probabilities), labels, [row["patient"] for row in scores])
    before = -log_softmax(np.log(probabilities), axis=1)[np.arange(len(labels)), labels].mean()
    logits = np.log(probabilities) / again.calibrator.temperature + again.calibrator.bias
    after = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean()
    assert after == pytest.approx(before, abs=2e-3)


def test_evaluation_of_the_part_says_what_it_is(reserved: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_snellen("evaluate", reserved, "--split", "calibration", "--out", out)
    found = Evaluation.model_validate_json((out / "evaluation.json").read_text())
    assert found.split == "calibration"
    assert any("kept for it" in note for note in found.notes)
    assert "fitted on" in (out / "report.html").read_text()


def test_small_cohort_calibrates_on_validation(run: Path) -> None:
    assert json.loads((run / "bundle" / "manifest.json").read_text())["calibration"]["fitted_on"] == "val"


def test_packed_file_keeps_the_part(cohort: Path, cache: Path, tmp_path: Path) -> None:
    run_snellen("pack", cohort, "--out", tmp_path / "c.h5", "--cache", cache, *SMALL, *LARGE)
    done = run_snellen("plan", tmp_path / "c.h5", "--cache", cache, *SMALL[2:])
    assert "calibration" in next(line for line in done.stderr.splitlines() if line.startswith("Splits:"))
