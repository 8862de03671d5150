"""Every published recipe trains end to end on phantoms, at reduced size; and what its page promises holds there."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from pipeline_tools import run_snellen
from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.runs import open_run

FEW = ("evaluation.resamples=100", "training.threads=1", "augment.views=1", "model.weights=none")
STAGES = ("training.stages.{0}.epochs=2", "training.stages.{0}.batch_size=8")


def words(*settings: str, n_stages: int = 1) -> list[str]:
    """Options that make a recipe small."""
    stages = [text.format(number) for number in range(n_stages) for text in STAGES]
    return [word for setting in (*FEW, *stages, *settings) for word in ("--set", setting)]


def draw(folder: Path, kind: str, classes: tuple[str, ...], n_patients: int = 24, size: int = 64) -> Path:
    write_cohort(PhantomSpec(kind=kind, n_patients=n_patients, size_px=size, classes=classes), folder)
    return folder


@pytest.fixture(scope="module")
def oct_scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("recipes") / "oct", "oct", ("normal", "cysts"))


@pytest.fixture(scope="module")
def fundus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("recipes") / "fundus", "fundus", ("grade_0", "grade_2", "grade_4"), 36)


@pytest.fixture(scope="module")
def glomeruli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("recipes") / "glomeruli", "glomeruli", ("non_sclerotic", "sclerotic"))


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def check(run: Path, stages: list[int]) -> None:
    """A finished run whose stages are recorded under their numbers, and whose bundle says what was measured."""
    record = open_run(run).record
    assert record.state == "finished"
    assert [outcome.stage for outcome in record.finetuned] == stages
    assert json.loads((run / "bundle" / "parity.json").read_text())["is_within"]
    assert len(read_rows(run / "scores-test.csv")) > 0
    assert "Fine-tuning, on the pictures that choose" in (run / "report.html").read_text(encoding="utf-8")


def train(data: Path, cache: Path, out: Path, recipe: str, *more: str, folds: int = 0) -> Path:
    options = ["--folds", str(folds)] if folds else []
    run_snellen("train", data, "--recipe", recipe, "--out", out, "--cache", cache, *more, *options)
    return out


def test_dr_mobilenetv2_learns_grades_in_three_stages(fundus: Path, cache: Path, tmp_path: Path) -> None:
    small = words("preprocess.size=32", "training.stages.1.views=1", n_stages=3)
    run = train(fundus, cache, tmp_path / "run", "dr-mobilenetv2", *small)
    check(run, [0, 1, 2])
    first, *later = open_run(run).record.finetuned
    assert (first.kept, first.share, first.blend) == (True, 0.0, 1.0)
    assert all(outcome.share > 0 for outcome in later)


def test_dr_vgg16_tells_disease_or_not_with_another_attention(fundus: Path, cache: Path, tmp_path: Path) -> None:
    merge = 'data.merge={ no_dr = ["grade_0"], dr = ["grade_2", "grade_4"] }'
    # a small network stands in: VGG16 itself learns in the test of kermany-vgg16
    small = words(
        "preprocess.size=64", "model.backbone=test_resnet", merge, "data.positive=dr", "model.head.0.kind=cbam",
        "training.stages.1.unfreeze=none", "training.stages.2.unfreeze=none",
    )  # fmt: skip
    run = train(fundus, cache, tmp_path / "run", "dr-vgg16", *small)
    check(run, [0])
    assert set(json.loads((run / "evaluation.json").read_text())["classes"]) == {"no_dr", "dr"}


def test_fundus_efficientnet_learns_the_head_and_then_everything(fundus: Path, cache: Path, tmp_path: Path) -> None:
    small = words("preprocess.size=64", "training.stages.1.views=1", n_stages=2)
    run = train(fundus, cache, tmp_path / "run", "fundus-efficientnet-b0", *small)
    check(run, [0, 1])
    assert open_run(run).record.finetuned[1].kept  # as the recipe says


def test_octmnist_cnn_learns_from_random_weights(oct_scans: Path, cache: Path, tmp_path: Path) -> None:
    run = train(oct_scans, cache, tmp_path / "run", "octmnist-cnn", *words())
    check(run, [0])
    manifest = json.loads((run / "bundle" / "manifest.json").read_text())
    assert (manifest["backbone"], manifest["input"]["channels"], manifest["tuned_share"]) == ("layers", 1, 1.0)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == {0}
    (resampled,) = open_run(run).record.resampled
    assert (resampled.method, resampled.on, resampled.fold) == ("smote", "pixels", None)
    assert set(resampled.after.values()) == {max(resampled.before.values())}
    first = read_rows(run / "scores-test.csv")[0]
    run_snellen("predict", run / "bundle", oct_scans / first["sample"], "--out", tmp_path / "rows.csv")
    (row,) = read_rows(tmp_path / "rows.csv")
    for name in (name for name in first if name.startswith("probability_")):
        assert float(row[name]) == pytest.approx(float(first[name]), abs=1e-5)


def test_octmnist_cnn_in_folds_gives_an_ensemble(oct_scans: Path, cache: Path, tmp_path: Path) -> None:
    run = train(oct_scans, cache, tmp_path / "run", "octmnist-cnn", *words(), folds=3)
    outcomes = open_run(run).record.finetuned
    assert [(outcome.stage, outcome.fold, outcome.kept) for outcome in outcomes] == [(0, f, True) for f in range(3)]
    assert [resampled.fold for resampled in open_run(run).record.resampled] == [0, 1, 2]
    predictor = open_run(run).load()
    assert predictor.manifest.n_members == 3
    pixels = np.stack([predictor.prepare(path) for path in sorted(oct_scans.rglob("*.png"))[:4]])
    together = predictor.score_pixels(pixels)
    alone = [predictor.score_pixels(pixels, np.full(4, member)).logits for member in range(3)]
    assert together.logits == pytest.approx(np.mean(alone, axis=0), abs=1e-4)
    assert not np.allclose(alone[0], alone[1])


def test_octmnist_cnn_is_tuned_on_folds(oct_scans: Path, cache: Path, tmp_path: Path) -> None:
    run_snellen(
        "tune", oct_scans, "--recipe", "octmnist-cnn", "--trials", "1", "--out", tmp_path / "tuned", "--cache", cache,
        *words("tune.folds=2", "training.stages.0.epochs=1"),
    )  # fmt: skip
    record = json.loads((tmp_path / "tuned" / "tune.json").read_text())
    assert record["n_trials"] == {"complete": 1}
    assert set(record["best"]["parameters"]) >= {"training.stages.0.lr", "model.head.3.p"}


def test_kermany_vgg16_learns_its_head_on_the_map_of_the_frozen_network(
    oct_scans: Path, cache: Path, tmp_path: Path
) -> None:
    run = train(oct_scans, cache, tmp_path / "run", "kermany-vgg16", *words("preprocess.size=64"))
    check(run, [0])
    manifest = json.loads((run / "bundle" / "manifest.json").read_text())
    assert manifest["tuned_share"] == 0.0
    # the frozen network's probe can still be asked of this bundle: its features are the same
    assert set(np.load(run / "bundle" / "baselines.npz").files) == {"prior", "weight", "bias"}
    done = run_snellen("predict", run / "bundle", oct_scans / "normal", "--json")
    assert len(json.loads(done.stdout)) > 3


def test_kermany_vgg16_is_planned_with_the_published_parameters(tmp_path: Path, cache: Path) -> None:
    data = draw(tmp_path / "oct", "oct", ("normal", "drusen", "cysts", "neovascular"), 24)
    done = run_snellen("plan", data, "--recipe", "kermany-vgg16", "--cache", cache, "--set", "model.weights=none")
    assert "15,800,924 parameters: 1,086,236 trained, 14,714,688 frozen" in done.stdout
    assert "head prelu" in done.stdout


def test_glomeruli_efficientnet_learns_its_top_at_a_lower_rate(glomeruli: Path, cache: Path, tmp_path: Path) -> None:
    small = words("preprocess.size=48", "training.stages.1.views=1", n_stages=2)
    run = train(glomeruli, cache, tmp_path / "run", "glomeruli-efficientnet-b3", *small)
    record = open_run(run).record
    assert [(outcome.stage, outcome.kept) for outcome in record.finetuned] == [(1, True)]
    assert (run / "checkpoints" / "stage-1.safetensors").is_file()


def test_run_on_the_map_that_was_killed_ends_as_if_it_had_not_been(
    oct_scans: Path, cache: Path, tmp_path: Path
) -> None:
    run = train(oct_scans, cache, tmp_path / "run", "octmnist-cnn", *words())
    before = (run / "scores-test.csv").read_bytes()
    record = json.loads((run / "run.json").read_text())
    # as a run leaves it that was killed after its last epoch
    (run / "run.json").write_text(json.dumps({**record, "state": "running", "finetuned": []}))
    done = run_snellen("train", "--resume", run)
    assert "Going on after epoch 2 of stage 0" in done.stderr
    assert (run / "scores-test.csv").read_bytes() == before


def test_shape_that_cannot_be_is_told_before_a_folder_is_made(oct_scans: Path, cache: Path, tmp_path: Path) -> None:
    small = words("preprocess.size=64", 'model.head=[{type="conv", channels=4}, {type="dense", units=3}]')
    done = run_snellen(
        "train", oct_scans, "--recipe", "kermany-vgg16", "--out", tmp_path / "run", "--cache", cache, *small, expect=2
    )
    assert "model.head.1 (dense) takes features, but its input is a map of 4×2×2" in done.stderr.replace("\n", " ")
    assert not (tmp_path / "run").exists()


def test_whole_recipe_of_the_page_on_own_recipes_trains(cache: Path, tmp_path: Path) -> None:
    data = draw(tmp_path / "oct", "oct", ("normal", "drusen", "cysts", "neovascular"), 24, 32)
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "own-recipe.md").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[-1])
    run = train(data, cache, tmp_path / "run", str(tmp_path / "mine.toml"), *words("preprocess.size=32"))
    check(run, [0])
    assert json.loads((run / "evaluation.json").read_text())["positive"] == "sick"
