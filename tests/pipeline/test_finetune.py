"""`snellen train` with a second stage, end to end on phantoms."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from pipeline_tools import run_snellen
from snellen.records.bundle import MEMBER_OUTPUTS
from snellen.runs import open_run

STAGE = "training.stages.1"
# a random network has statistics of nothing: they stay, and higher rates than those of `auto` learn something
STAGE_SETTINGS = (
    "unfreeze=top", "epochs=6", "batch_size=8", "lr=3e-3", "head_lr=3e-4", "head_init=before", "layer_decay=0.9",
    "keep=always",
    "batch_norm=frozen", "dropout=0", "warmup=0", "ema=0",
    "views=1",
)  # fmt: skip
SETTINGS = (
    "preprocess.size=64", "augment.views=1", "evaluation.resamples=100", "training.threads=1", "data.copies=exact",
    "model.backbone=test_resnet", "model.weights=none", *(f"{STAGE}.{setting}" for setting in STAGE_SETTINGS),
)  # fmt: skip
TUNED = [word for setting in SETTINGS for word in ("--set", setting)]


@pytest.fixture(scope="module")
def tuned(cohort: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned") / "run"
    run_snellen("train", cohort, "--out", folder, "--cache", cache, *TUNED)
    return folder


@pytest.fixture(scope="module")
def tuned_folds(cohort: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned-folds") / "run"
    run_snellen("train", cohort, "--out", folder, "--cache", cache, "--folds", "3", *TUNED)
    return folder


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_outcome_is_in_the_record_and_its_epochs_in_the_metrics(tuned: Path) -> None:
    (outcome,) = open_run(tuned).record.finetuned
    assert (outcome.stage, outcome.fold, outcome.n_epochs) == (1, None, 6)
    assert outcome.kept
    assert [path.name for path in (tuned / "checkpoints").iterdir()] == ["stage-1.safetensors"]
    assert outcome.before_loss > 0
    assert outcome.standard_error > 0
    lines = [json.loads(line) for line in (tuned / "metrics.jsonl").read_text().splitlines()]
    learned = [line for line in lines if line["stage"] == 1]
    assert [line["epoch"] for line in learned] == [1, 2, 3, 4, 5, 6]
    # whether few validation patients gain too depends on the processor's rounding: the stage is kept whatever it does
    assert learned[-1]["train_loss"] < learned[0]["train_loss"] / 2
    # a blend with the weights before may be better than every epoch
    assert outcome.val_loss <= min(line["val_loss"] for line in learned) + 1e-4
    assert all(line["images_per_s"] > 0 for line in learned)


def test_checkpoint_is_left(tuned: Path) -> None:
    found = load_file(tuned / "checkpoints" / "stage-1.safetensors")
    assert {name.split("/")[0] for name in found} == {"now", "ema", "best", "final", "optimizer"}


def test_bundle_is_the_tuned_network(tuned: Path) -> None:
    manifest = json.loads((tuned / "bundle" / "manifest.json").read_text())
    assert 0 < manifest["tuned_share"] < 1
    assert json.loads((tuned / "bundle" / "parity.json").read_text())["is_within"]
    final = {
        name.removeprefix("final/upper."): value
        for name, value in load_file(tuned / "checkpoints" / "stage-1.safetensors").items()
        if name.startswith("final/upper.")
    }
    delivered = load_file(tuned / "bundle" / "weights.safetensors")
    pairs = [(value, delivered[f"frozen.{name}"]) for name, value in final.items() if f"frozen.{name}" in delivered]
    assert len(pairs) > 10
    assert all(torch.equal(one, other) for one, other in pairs if one.is_floating_point())


def test_recorded_validation_is_that_of_the_bundle(tuned: Path) -> None:
    (outcome,) = open_run(tuned).record.finetuned
    rows = read_rows(tuned / "scores-val.csv")
    positive = json.loads((tuned / "evaluation-val.json").read_text())["positive"]
    auc = roc_auc_score([row["label"] == positive for row in rows], [float(row[f"logit_{positive}"]) - sum(
        float(row[name]) for name in row if name.startswith("logit_") and name != f"logit_{positive}"
    ) for row in rows])  # fmt: skip
    # activations were kept as float16: two pictures may change places
    assert auc == pytest.approx(outcome.val_auc, abs=0.01)


def test_baselines_stay_those_of_the_frozen_network(tuned: Path) -> None:
    for name in ("evaluation-val.json", "evaluation.json"):
        assert set(json.loads((tuned / name).read_text())["baselines"]) == {"majority_class", "linear_probe"}


def test_evaluate_repeats_the_test_scores(tuned: Path, tmp_path: Path) -> None:
    run_snellen("evaluate", tuned, "--out", tmp_path / "again")
    assert (tmp_path / "again" / "scores.csv").read_bytes() == (tuned / "scores-test.csv").read_bytes()


def test_predict_says_what_the_run_said(tuned: Path, cohort: Path, tmp_path: Path) -> None:
    first = read_rows(tuned / "scores-test.csv")[0]
    run_snellen("predict", tuned / "bundle", cohort / first["sample"], "--out", tmp_path / "rows.csv")
    (row,) = read_rows(tmp_path / "rows.csv")
    for name in (name for name in first if name.startswith("probability_")):
        assert float(row[name]) == pytest.approx(float(first[name]), abs=1e-5)


def read_losses(folder: Path) -> list[float]:
    """Of training and validation, epoch by epoch of the second stage."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if line["stage"] == 1 for name in ("train_loss", "val_loss")]


def leave_as_killed(folder: Path) -> None:
    """After the last epoch."""
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "state": "running", "finetuned": []}))


def test_resumed_run_takes_up_the_checkpoint(tuned: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(tuned, tmp_path / "again"))
    leave_as_killed(again)
    done = run_snellen("train", "--resume", again)
    assert "Going on after epoch 6 of stage 1" in done.stderr
    assert (again / "run.log").read_text().startswith((tuned / "run.log").read_text())
    assert (again / "scores-test.csv").read_bytes() == (tuned / "scores-test.csv").read_bytes()
    assert read_losses(again) == read_losses(tuned)
    assert open_run(again).record.finetuned == open_run(tuned).record.finetuned
    assert "plan.json" not in done.stderr


def test_damaged_checkpoint_is_told_and_learned_anew(tuned: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(tuned, tmp_path / "again"))
    leave_as_killed(again)
    content = bytearray((again / "checkpoints" / "stage-1.safetensors").read_bytes())
    content[len(content) // 2] ^= 0x40
    (again / "checkpoints" / "stage-1.safetensors").write_bytes(content)
    (again / "plan.json").write_text((again / "plan.json").read_text().replace('"epochs": 6', '"epochs": 5'))
    done = run_snellen("train", "--resume", again)
    assert "checkpoints/stage-1.safetensors is damaged" in done.stderr
    assert "Going on after epoch" not in done.stderr
    assert "plan.json is not what the recipe gives" in done.stderr
    assert read_losses(again) == read_losses(tuned)
    assert (again / "plan.json").read_bytes() == (tuned / "plan.json").read_bytes()


def test_other_recipe_than_that_of_the_run_is_refused(tuned: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(tuned, tmp_path / "again"))
    leave_as_killed(again)
    (again / "recipe.toml").write_text((again / "recipe.toml").read_text() + "# edited\n")
    before = {path: path.read_bytes() for path in again.rglob("*") if path.is_file() and path.name != "run.log"}
    error = run_snellen("train", "--resume", again, expect=2).stderr
    assert "recipe.toml is not what the recipe auto gives now" in error
    assert {path: path.read_bytes() for path in before} == before


def test_folds_give_an_ensemble_of_networks(tuned_folds: Path, cohort: Path) -> None:
    outcomes = open_run(tuned_folds).record.finetuned
    assert [outcome.fold for outcome in outcomes] == [0, 1, 2]
    assert any(outcome.kept for outcome in outcomes)
    predictor = open_run(tuned_folds).load()
    assert predictor.manifest.n_members == 3
    assert set(MEMBER_OUTPUTS) <= set(predictor.manifest.outputs)
    pixels = np.stack([predictor.prepare(path) for path in sorted(cohort.rglob("*.png"))[:5]])
    together = predictor.score_pixels(pixels)
    alone = [predictor.score_pixels(pixels, np.full(5, member)).logits for member in range(3)]
    assert together.logits == pytest.approx(np.mean(alone, axis=0), abs=1e-4)
    assert not np.allclose(alone[0], alone[1])


@pytest.fixture(scope="module")
def averaged(cohort: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Too few patients to tell two models apart: a stage that learns next to nothing ends as the mean of both."""
    folder = tmp_path_factory.mktemp("averaged") / "run"
    weak = [word for setting in ("keep=better", "lr=1e-4", "head_lr=1e-4") for word in ("--set", f"{STAGE}.{setting}")]
    run_snellen("train", cohort, "--out", folder, "--cache", cache, *TUNED, *weak)
    return folder


def test_models_that_validation_cannot_tell_apart_are_averaged(averaged: Path) -> None:
    (outcome,) = open_run(averaged).record.finetuned
    assert outcome.kept
    assert outcome.averaged
    assert outcome.mean_loss is not None
    manifest = json.loads((averaged / "bundle" / "manifest.json").read_text())
    assert manifest["n_members"] == 1
    assert json.loads((averaged / "bundle" / "parity.json").read_text())["is_within"]
    weights = load_file(averaged / "bundle" / "weights.safetensors")
    assert {name.split(".")[1] for name in weights if name.startswith("uppers.")} == {"0", "1"}


def test_recorded_validation_of_an_average_is_that_of_the_bundle(averaged: Path) -> None:
    (outcome,) = open_run(averaged).record.finetuned
    found = json.loads((averaged / "evaluation-val.json").read_text())["metrics"]["auc"]["value"]
    assert found == pytest.approx(outcome.mean_auc, abs=1e-3)


def test_out_of_fold_scores_are_those_of_the_member_that_left_the_fold_out(tuned_folds: Path, tmp_path: Path) -> None:
    run_snellen("evaluate", tuned_folds, "--split", "oof", "--out", tmp_path / "oof")
    assert (tmp_path / "oof" / "scores.csv").read_bytes() == (tuned_folds / "scores-oof.csv").read_bytes()
    for name in ("evaluation-oof.json", "evaluation.json"):
        assert "linear_probe" in json.loads((tuned_folds / name).read_text())["baselines"]
