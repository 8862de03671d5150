"""`snellen train --folds K --distill` end to end on phantoms: one network in place of the ensemble."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import kill
import numpy as np
import pytest

from pipeline_tools import run_snellen
from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.records.bundle import MEMBER_OUTPUTS
from snellen.records.evaluation import Evaluation
from snellen.records.run import DistilledRecord
from snellen.run_distillation import LONGER
from snellen.runs import open_run

STAGE = "training.stages.1"
EPOCHS = 3
# a random network has statistics of nothing: they stay. The head begins at zero: all that it says it has learned
STAGE_SETTINGS = (
    "unfreeze=top", f"epochs={EPOCHS}", "batch_size=8", "lr=3e-4", "head_lr=3e-3", "head_init=new", "layer_decay=0.9",
    "keep=always", "batch_norm=frozen", "dropout=0", "warmup=0", "ema=0", "views=1",
)  # fmt: skip
PLAIN = (
    "preprocess.size=64", "augment.views=1", "evaluation.resamples=100", "training.threads=1",
    "model.backbone=test_resnet", "model.weights=none",
)  # fmt: skip
FOLDS = ["--folds", "3", *(word for setting in PLAIN for word in ("--set", setting))]
FROZEN = [*FOLDS, "--set", f"{STAGE}.unfreeze=none"]
ASKED = [*FOLDS, "--distill", *(word for setting in STAGE_SETTINGS for word in ("--set", f"{STAGE}.{setting}"))]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that also a random network tells apart: there is something to agree on."""
    folder = tmp_path_factory.mktemp("cohort") / "glomeruli"
    write_cohort(PhantomSpec(kind="glomeruli", n_patients=60, size_px=64, difficulty=0.5), folder)
    return folder


@pytest.fixture(scope="module")
def learned(cohort: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose members were fine-tuned, so that the network has to learn."""
    folder = tmp_path_factory.mktemp("distilled") / "run"
    run_snellen("train", cohort, "--out", folder, "--cache", cache, *ASKED)
    return folder


@pytest.fixture(scope="module")
def exact(cohort: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose members share the frozen backbone."""
    folder = tmp_path_factory.mktemp("exact") / "run"
    run_snellen("train", cohort, "--out", folder, "--cache", cache, "--distill", *FROZEN)
    return folder


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def read_column(folder: Path, part: str, name: str) -> np.ndarray:
    return np.array([float(row[name]) for row in read_rows(folder / f"scores-{part}.csv")])


def read_record(folder: Path) -> DistilledRecord:
    found = open_run(folder).record.distilled
    assert found is not None
    return found


def read_evaluation(folder: Path, name: str) -> Evaluation:
    return Evaluation.model_validate_json((folder / name).read_text())


def test_bundle_is_a_single_network(learned: Path) -> None:
    bundles = [json.loads((learned / name / "manifest.json").read_text()) for name in ("bundle", "distilled")]
    assert [bundle["n_members"] for bundle in bundles] == [3, 1]
    assert not set(MEMBER_OUTPUTS) & set(bundles[1]["outputs"])
    assert bundles[1]["files"].keys() == bundles[0]["files"].keys()
    assert json.loads((learned / "distilled" / "parity.json").read_text())["is_within"]


def test_bundle_says_where_it_comes_from(learned: Path) -> None:
    predictor = open_run(learned).load()
    manifest = json.loads((learned / "distilled" / "manifest.json").read_text())
    assert manifest["distilled_from"] == predictor.sha256
    card = (learned / "distilled" / "MODEL_CARD.md").read_text()
    assert predictor.sha256 in card
    assert "evaluation-distilled.json" in card
    assert (manifest["calibration"]["method"], manifest["calibration"]["temperature"]) == ("none", 1.0)
    assert "none is left" in manifest["calibration"]["reason"]
    origins = {point["name"]: point["chosen_on"] for point in manifest["thresholds"]}
    assert origins == {
        "balanced": "ensemble-oof",
        "screening": "ensemble-oof",
        "confirming": "ensemble-oof",
        "most-likely": "fixed",
    }


def test_network_agrees_with_the_ensemble_on_pictures_that_neither_has_seen(learned: Path) -> None:
    positive = read_evaluation(learned, "evaluation.json").positive
    ensemble, network = (read_column(learned, part, f"probability_{positive}") for part in ("test", "distilled"))
    assert np.corrcoef(ensemble, network)[0, 1] > 0.8  # chance is 0
    record = read_record(learned)
    assert record.same_prediction is not None
    assert record.same_prediction == pytest.approx(np.mean((ensemble > 0.5) == (network > 0.5)))
    assert record.same_prediction > 0.75  # chance is 0.5


def test_network_has_learned_what_the_record_says(learned: Path) -> None:
    record = read_record(learned)
    assert (record.is_exact, record.n_members, record.n_views) == (False, 3, 1)
    assert record.n_pictures == len(read_rows(learned / "scores-oof.csv"))
    ((stage, epochs),) = [(each.stage, each.epochs) for each in record.stages]
    assert (stage, epochs) == (1, LONGER * EPOCHS)
    lines = [json.loads(line) for line in (learned / "metrics.jsonl").read_text().splitlines()]
    own = [line for line in lines if line["model"] == "distilled"]
    assert [line["epoch"] for line in own] == list(range(1, LONGER * EPOCHS + 1))
    assert {line["val_loss"] for line in own} == {None}
    assert own[-1]["train_loss"] == record.stages[0].train_loss < own[0]["train_loss"]
    assert record.multiplications is not None
    assert record.ensemble_multiplications is not None
    assert record.multiplications < record.ensemble_multiplications < 3 * record.multiplications


def test_differences_are_those_of_both_evaluations(learned: Path) -> None:
    ensemble, network = (read_evaluation(learned, name) for name in ("evaluation.json", "evaluation-distilled.json"))
    record = read_record(learned)
    assert record.differences.keys() == ensemble.metrics.keys()
    for name, found in record.differences.items():
        pair = ensemble.metrics[name].value, network.metrics[name].value
        assert None not in pair
        assert found.value == pytest.approx(pair[1] - pair[0])  # type: ignore[operator]  # no None
    loss = record.differences["log_loss"]
    assert loss.value is not None
    assert loss.low is not None
    assert loss.high is not None
    assert loss.low < loss.value < loss.high
    assert (network.test_opened, network.bundle_sha256 != ensemble.bundle_sha256) == (1, True)
    assert open_run(learned).record.test_opened == 1


def test_predict_opens_the_bundle_and_says_what_the_run_said(learned: Path, cohort: Path, tmp_path: Path) -> None:
    first = read_rows(learned / "scores-distilled.csv")[0]
    run_snellen("predict", learned / "distilled", cohort / first["sample"], "--out", tmp_path / "rows.csv")
    (row,) = read_rows(tmp_path / "rows.csv")
    for name in (name for name in first if name.startswith("probability_")):
        assert float(row[name]) == pytest.approx(float(first[name]), abs=1e-5)


def test_altered_bundle_is_refused_by_its_run(learned: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(learned, tmp_path / "again"))
    path = again / "distilled" / "manifest.json"
    path.write_text(path.read_text().replace('"oct', '"not-oct').replace("-distilled", "-other"))
    assert "was altered" in run_snellen("predict", again / "distilled", path, expect=2).stderr


def test_report_shows_both_and_the_difference(learned: Path) -> None:
    page = (learned / "report.html").read_text()
    assert 'href="#distilled"' in page
    for words in ("Ensemble of 3", "Distilled network", "Difference", "its thresholds are the ensemble"):
        assert words in page


def test_what_only_learning_needed_is_gone(learned: Path) -> None:
    left = sorted(path.name for path in (learned / "checkpoints").iterdir())
    assert left == ["stage-1-distilled.safetensors", *(f"stage-1-fold-{fold}.safetensors" for fold in range(3))]


def test_run_killed_between_ensemble_and_network_ends_as_the_undisturbed_one(
    learned: Path, cohort: Path, cache: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    words = [sys.executable, "-m", "snellen", "train", str(cohort), "--out", str(folder), "--cache", str(cache), *ASKED]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    tick = threading.Event()
    checkpoint = folder / "checkpoints" / "stage-1-distilled.safetensors"
    while process.poll() is None and not checkpoint.exists():
        tick.wait(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the process ended before it could be killed"
    assert (folder / "bundle" / "manifest.json").exists()
    assert not (folder / "distilled").exists()
    done = run_snellen("train", "--resume", folder)
    assert done.stderr.count("of stage 1") >= 4
    assert kill.compare_runs(learned, folder) == []


def test_mean_of_linear_heads_is_made_and_not_learned(exact: Path) -> None:
    record = read_record(exact)
    assert (record.is_exact, record.stages, record.n_pictures) == (True, (), 0)
    assert record.multiplications == record.ensemble_multiplications
    classes = read_evaluation(exact, "evaluation.json").classes
    for name in (f"logit_{label}" for label in classes):
        ensemble, network = (read_column(exact, part, name) for part in ("test", "distilled"))
        assert network == pytest.approx(ensemble, abs=1e-4)
    for name in (f"probability_{label}" for label in classes):
        ensemble, network = (read_column(exact, part, name) for part in ("test", "distilled"))
        assert network == pytest.approx(ensemble, abs=1e-4)
    assert record.same_prediction == 1


def test_network_in_another_form_keeps_the_calibration(exact: Path) -> None:
    bundles = [json.loads((exact / name / "manifest.json").read_text()) for name in ("bundle", "distilled")]
    assert bundles[0]["calibration"] == bundles[1]["calibration"]
    assert [bundle["tuned_share"] for bundle in bundles] == [0, 0]
    assert "differs by rounding alone" in (exact / "report.html").read_text()


def test_without_a_test_split_the_loss_is_said_to_be_unknown(cohort: Path, cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    done = run_snellen("train", cohort, "--out", folder, "--cache", cache, "--distill", "--no-test", *FROZEN)
    assert "how much accuracy it loses is not known" in done.stderr
    record = read_record(folder)
    assert (record.differences, record.same_prediction) == ({}, None)
    assert "snellen evaluate RUN/distilled DATA" in record.reason
    assert not (folder / "evaluation-distilled.json").exists()
    assert "How much accuracy it loses is not known" in (folder / "report.html").read_text()
    assert open_run(folder).record.test_opened == 0


def test_without_folds_there_is_nothing_to_distil(cohort: Path, cache: Path, tmp_path: Path) -> None:
    done = run_snellen("train", cohort, "--out", tmp_path / "run", "--cache", cache, "--distill", expect=2)
    assert "without folds there is one network already" in done.stderr
    assert not (tmp_path / "run").exists()
