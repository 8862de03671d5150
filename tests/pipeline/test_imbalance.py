"""Rare disease end to end: honest probabilities after every method, and predictions for another population."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline_tools import run_snellen
from snellen.ingest.phantom import draw_picture
from snellen.metrics.calibrators import fit_calibration
from snellen.modeling.architectures import FrozenBackbone
from snellen.modeling.weights import load_weights
from snellen.planning.recipe_files import load_recipe
from snellen.records.plan import Plan
from snellen.records.run import DataRequest, TrainRequest
from snellen.run_features import collect_features, export_backbone
from snellen.run_preparation import prepare
from snellen.training.features import FeatureStore
from snellen.training.head import HeadData, fit_head

METHODS = [
    "none", "class_weights", "balanced_sampling", "focal", "logit_adjustment", "smote", "smote_tomek", "random_over",
    "random_under",
]  # fmt: skip
SETTINGS = (
    "preprocess.size=64", "augment.views=0", "evaluation.resamples=100", "data.fractions=[0.55,0.35,0.1]",
    "data.copies=exact",
)  # fmt: skip


@pytest.fixture(scope="module")
def rare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten healthy patients to one with early cysts, both eyes each."""
    folder = tmp_path_factory.mktemp("rare") / "oct"
    for label, patients in (("normal", range(200)), ("cysts", range(500, 520))):
        (folder / label).mkdir(parents=True)
        for patient in patients:
            for eye in ("left", "right"):
                pixels = draw_picture("oct", label, patient_seed=patient, eye=eye, size_px=64, difficulty=1.0)
                Image.fromarray(pixels).save(folder / label / f"{patient:04}_{eye}.png")
    return folder


@pytest.fixture(scope="module")
def collected(rare: Path, cache: Path) -> tuple[Plan, HeadData, list[str]]:
    """Plan, cached features, and the patients of validation."""
    request = TrainRequest(source=DataRequest(data=str(rare), cache=str(cache)), settings=SETTINGS)
    prepared = prepare(request, load_recipe("auto", SETTINGS))
    plan = prepared.plan
    pixels = prepared.build_pixels([*prepared.members("train"), *prepared.members("val")])
    frozen = FrozenBackbone(plan.model)
    load_weights(frozen.backbone, plan.model.backbone, plan.model.weights)
    graph = export_backbone(frozen, plan, prepared.cache)
    store = FeatureStore(graph, pixels, plan.augment, prepared.cache, 0, plan.training.threads)
    return plan, collect_features(prepared, pixels, store), [sample.patient for sample in prepared.members("val")]


@pytest.mark.parametrize(
    ("method", "optimizer"), [*((method, "lbfgs") for method in METHODS), ("balanced_sampling", "adamw")]
)
def test_calibrated_probabilities_average_to_the_prevalence(
    collected: tuple[Plan, HeadData, list[str]], method: str, optimizer: str
) -> None:
    plan, data, patients = collected
    stage = plan.training.stages[0].model_copy(update={"optimizer": optimizer, "lr": 1.0})
    if optimizer == "adamw":
        stage = stage.model_copy(update={"lr": 1e-3, "weight_decay": (0.1,), "epochs": 20, "batch_size": 32})
    plan = plan.model_copy(
        update={
            "imbalance": plan.imbalance.model_copy(update={"method": method}),
            "training": plan.training.model_copy(update={"stages": (stage,)}),
        }
    )
    head = fit_head(data, plan).head
    with torch.no_grad():
        logits = head(torch.from_numpy(data.val)).double().numpy()
    fit = fit_calibration(logits, data.val_labels, patients)
    found = fit.calibrator.apply(logits).mean(0)
    expected = np.bincount(data.val_labels) / len(data.val_labels)
    # 14 pictures of the rare class: its share of 0.09 is known to 0.02; uncorrected weights would say 0.2 and more
    np.testing.assert_allclose(found, expected, atol=0.03)


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_oversampled_run_tells_prevalence_and_bias(rare: Path, cache: Path, tmp_path: Path) -> None:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    method = ["--set", "imbalance.method=oversample_features"]
    run_snellen("train", rare, "--out", tmp_path / "run", "--cache", cache, "--no-test", *settings, *method)
    manifest = json.loads((tmp_path / "run" / "bundle" / "manifest.json").read_text())
    assert manifest["prevalence"]["cysts"] == pytest.approx(1 / 11, abs=0.01)
    assert len(manifest["calibration"]["bias"]) == 2
    scores = read_csv((tmp_path / "run" / "scores-val.csv").read_text())
    mean = np.mean([float(row["probability_cysts"]) for row in scores])
    assert mean == pytest.approx(np.mean([row["label"] == "cysts" for row in scores]), abs=0.03)  # as above


def test_predict_reweights_and_keeps_decisions(run: Path, cohort: Path) -> None:
    plain = run_snellen("predict", run, cohort / "cysts")
    rarer = run_snellen("predict", run, cohort / "cysts", "--prevalence", "0.01")
    before, after = read_csv(plain.stdout), read_csv(rarer.stdout)
    assert list(before[0]) == list(after[0])
    assert [row["decision"] for row in before] == [row["decision"] for row in after]
    prevalence = json.loads((run / "bundle" / "manifest.json").read_text())
    assumed = (prevalence["calibration"]["prevalence"] or prevalence["prevalence"])["cysts"]
    # six digits in the file, and near 1 the odds of 0.01 raise their rounding fiftyfold
    for old, new in zip(before, after, strict=True):
        one = float(old["probability_cysts"])
        raised = one * 0.01 / assumed
        expected = raised / (raised + (1 - one) * 0.99 / (1 - assumed))
        assert float(new["probability_cysts"]) == pytest.approx(expected, abs=5e-5)
    assert "cysts 0.01" in rarer.stderr
    assert "threshold moved from" in rarer.stderr


def test_predict_estimates_the_prevalence_of_what_it_is_given(run: Path, cohort: Path) -> None:
    shares = []
    for folder in ("cysts", "normal"):
        done = run_snellen("predict", run, cohort / folder, "--prevalence", "auto", "--json")
        rows = json.loads(done.stdout)
        shares.append(np.mean([row["probability_cysts"] for row in rows]))
        assert "Prevalence estimated from" in done.stderr
    # every picture of the first folder has cysts, none of the second
    assert shares[0] > 0.8
    assert shares[1] < 0.2


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--prevalence", "1.2"], "between 0 and 1"), (["--prevalence", "cysts=0.5,normal=0.4"], "add up to 0.9")],
)
def test_predict_refuses_what_is_no_prevalence(run: Path, cohort: Path, words: list[str], told: str) -> None:
    done = run_snellen("predict", run, cohort / "cysts", *words, expect=2)
    assert told in done.stderr
    assert done.stdout == ""


def test_predict_auto_refuses_few_pictures(run: Path, cohort: Path) -> None:
    pictures = sorted((cohort / "cysts").iterdir())[:10]
    done = run_snellen("predict", run, *pictures, "--prevalence", "auto", expect=2)
    assert "at least 50 are needed" in done.stderr
