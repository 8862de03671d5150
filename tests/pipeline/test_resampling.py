"""Resampling end to end: nothing made in training has a neighbour in validation, and every count is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline_tools import run_snellen
from snellen.imaging.cache import PixelCache
from snellen.ingest.phantom import draw_picture
from snellen.planning.recipe_files import load_recipe
from snellen.records.run import DataRequest, TrainRequest
from snellen.run_features import build_frozen, collect_features, collect_fold_features, encode_labels, export_backbone
from snellen.run_finetuning import Part, resample_part
from snellen.run_networks import Bench
from snellen.run_preparation import Prepared, prepare
from snellen.run_tuning import Workbench, collect_development, read_machine
from snellen.runs import open_run
from snellen.training.crossval import FoldData
from snellen.training.features import FeatureStore
from snellen.training.head import HeadData, TrainData, make_ready

SIDE, CORNER = 32, 8
PLAIN = (
    f"preprocess.size={SIDE}", "preprocess.fit=stretch", "preprocess.crop_border=false", "augment.views=1",
    "augment.flip_horizontal=false", "augment.rotation_deg=0.0", "augment.scale=0.0", "augment.translation=0.0",
    "augment.brightness=0.0", "model.backbone=test_resnet", "model.weights=none", "evaluation.resamples=100",
    "training.threads=1", "data.fractions=[0.6,0.2,0.2]",
)  # fmt: skip
MAKERS = ["smote", "smote_tomek"]


def write_pictures(folder: Path, marked: frozenset[str] = frozenset()) -> Path:
    """Three healthy patients to one with cysts, both eyes; one corner is black, of `marked` pictures white."""
    for label, patients in (("normal", range(60)), ("cysts", range(500, 520))):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for patient in patients:
            for eye in ("left", "right"):
                drawn = draw_picture("oct", label, patient_seed=patient, eye=eye, size_px=SIDE, difficulty=0.5)
                pixels = np.array(Image.fromarray(drawn).resize((SIDE, SIDE)))
                name = f"{label}/{patient:04}_{eye}.png"
                pixels[:CORNER, :CORNER] = 255 if name in marked else 0
                Image.fromarray(pixels).save(folder / name)
    return folder


def open_data(folder: Path, cache: Path, method: str, on: str, folds: int = 0) -> tuple[Prepared, FeatureStore]:
    settings = (*PLAIN, f"imbalance.method={method}", f"imbalance.on={on}", f"evaluation.folds={folds}")
    request = TrainRequest(source=DataRequest(data=str(folder), cache=str(cache)), settings=settings)
    prepared = prepare(request, load_recipe("auto", settings))
    plan = prepared.plan
    graph = export_backbone(build_frozen(plan), plan, prepared.cache)
    pixels = prepared.build_pixels(prepared.cohort.samples)
    return prepared, FeatureStore(graph, pixels, plan.augment, prepared.cache, 0, 1)


def plant(tmp_path: Path, cache: Path, method: str, on: str, part: str) -> tuple[Prepared, FeatureStore]:
    """The data with the marker in all pictures of a split, or of a fold called `fold K`."""
    is_fold = part.startswith("fold")
    folder = write_pictures(tmp_path / "oct")
    before, _ = open_data(folder, cache, method, on, 3 if is_fold else 0)
    rows = [row for row in before.splits if (f"fold {row.fold}" if is_fold else row.split) == part]
    write_pictures(folder, frozenset(row.sample for row in rows))
    after, store = open_data(folder, cache, method, on, 3 if is_fold else 0)
    assert after.splits == before.splits
    assert rows
    return after, store


def find_marker(pixels: PixelCache | None) -> int:
    """How many of new pictures have anything of the marker."""
    assert pixels is not None
    assert len(pixels.pixels) > 10
    return int((pixels.pixels[:, : CORNER - 1, : CORNER - 1].max((1, 2, 3)) > 0).sum())


def make_pictures(data: TrainData, prepared: Prepared) -> PixelCache | None:
    assert data.pictures is not None
    return data.pictures.resample(data.train_labels, prepared.plan.imbalance, 0).new


@pytest.mark.parametrize("method", MAKERS)
def test_marker_of_validation_is_in_no_new_picture(tmp_path: Path, cache: Path, method: str) -> None:
    prepared, store = plant(tmp_path, cache, method, "pixels", "val")
    assert find_marker(make_pictures(collect_features(prepared, store.pixels, store), prepared)) == 0


def test_marker_of_training_is_found(tmp_path: Path, cache: Path) -> None:
    """Else the test above would find nothing anywhere."""
    prepared, store = plant(tmp_path, cache, "smote", "pixels", "train")
    assert find_marker(make_pictures(collect_features(prepared, store.pixels, store), prepared)) > 10


@pytest.mark.parametrize("method", MAKERS)
def test_marker_of_a_fold_is_in_no_picture_made_without_it(tmp_path: Path, cache: Path, method: str) -> None:
    prepared, store = plant(tmp_path, cache, method, "pixels", "fold 1")
    data = collect_fold_features(prepared, store.pixels, store)
    for left_out in ((1,), (0, 1), (1, 2)):
        assert find_marker(make_pictures(data.leave_out(*left_out), prepared)) == 0
    assert find_marker(make_pictures(data.leave_out(0), prepared)) > 0


def get_training_rows(data: TrainData, prepared: Prepared) -> np.ndarray:
    return make_ready(data, prepared.plan).rebalanced.table.load()


@pytest.mark.parametrize("method", [*MAKERS, "random_over", "random_under", "augment"])
def test_marker_of_validation_changes_no_feature_that_is_learned_from(tmp_path: Path, cache: Path, method: str) -> None:
    found = []
    for part in ("test", "val"):  # test is not looked at here: the marker there is the same as none
        prepared, store = plant(tmp_path, cache, method, "features", part)
        data: HeadData = collect_features(prepared, store.pixels, store)
        found.append((get_training_rows(data, prepared), data.val))
    assert np.array_equal(found[0][0], found[1][0])
    assert not np.allclose(found[0][1], found[1][1])  # the network sees the marker


@pytest.mark.parametrize("method", [*MAKERS, "augment"])
def test_marker_of_a_fold_changes_no_feature_learned_without_it(tmp_path: Path, cache: Path, method: str) -> None:
    found = []
    for part in ("test", "fold 1"):
        if part == "test":
            prepared, store = open_data(write_pictures(tmp_path / "oct"), cache, method, "features", 3)
        else:
            prepared, store = plant(tmp_path, cache, method, "features", part)
        data: FoldData = collect_fold_features(prepared, store.pixels, store)
        found.append([get_training_rows(data.leave_out(*names), prepared) for names in ((1,), (0, 1), (0,))])
    assert np.array_equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], found[1][1])
    assert not np.array_equal(found[0][2], found[1][2])  # fold 1 is learned from there


@pytest.mark.parametrize("method", MAKERS)
def test_fine_tuning_learns_from_new_pictures_without_the_marker(tmp_path: Path, cache: Path, method: str) -> None:
    prepared, store = plant(tmp_path, cache, method, "pixels", "val")
    samples = [*prepared.members("train"), *prepared.members("val")]
    n_train, head = len(prepared.members("train")), torch.nn.Sequential()
    part = Part(
        None, store.pixels.select(samples), encode_labels(samples, prepared.plan), np.arange(n_train),
        np.arange(n_train, len(samples)), head, head, tuple(sample.patient for sample in samples),
    )  # fmt: skip
    bench = Bench(prepared, store.pixels, build_frozen(prepared.plan), tmp_path, torch.device("cpu"))
    train, made, new = resample_part(bench, part, 0)
    assert find_marker(new) == 0
    assert new is not None
    assert (train[: -len(new.pixels)] < n_train).all()
    assert train[-len(new.pixels) :].tolist() == [len(samples) + number for number in range(len(new.pixels))]
    assert len(train) == len(made.labels)
    counts = np.bincount(made.labels)
    assert abs(int(counts[0]) - int(counts[1])) <= (0 if method == "smote" else counts.max() // 4)


STAGE = [
    "--set", "training.stages.1.unfreeze=top", "--set", "training.stages.1.epochs=2", "--set",
    "training.stages.1.batch_norm=frozen", "--set", "training.stages.1.views=1", "--set",
    "training.stages.1.keep=always",
]  # fmt: skip


def train(folder: Path, out: Path, cache: Path, *words: str) -> str:
    settings = [word for setting in PLAIN for word in ("--set", setting)]
    return run_snellen("train", folder, "--out", out, "--cache", cache, *settings, *words).stderr


@pytest.mark.parametrize("live", [False, True], ids=["kept activations", "live pixels"])
def test_run_with_new_pictures_tells_counts_and_fine_tunes(tmp_path: Path, cache: Path, live: bool) -> None:
    folder = write_pictures(tmp_path / "oct")
    method = ["--set", "imbalance.method=smote", "--set", "imbalance.on=pixels"]
    more = ["--set", "training.stages.1.cache=false"] if live else ["--folds", "3"]
    told = train(folder, tmp_path / "run", cache, *method, *STAGE, *more)
    run = open_run(tmp_path / "run")
    resampled = run.record.resampled
    assert len(resampled) == (1 if live else 3)
    for each in resampled:
        assert (each.method, each.on) == ("smote", "pixels")
        assert each.after == dict.fromkeys(("cysts", "normal"), each.before["normal"])
        assert each.before["cysts"] < each.before["normal"]
        line = f"cysts {each.before['cysts']} → {each.after['cysts']}, normal {each.before['normal']} →"
        assert line in told
    assert all(outcome.kept for outcome in run.record.finetuned)
    assert told.count("Resampled (smote on pixels") == 2 * len(resampled)  # the head, then stage 2
    report = run.report.read_text(encoding="utf-8")
    first = resampled[0]
    assert f"{first.before['cysts']} → {first.after['cysts']}" in report
    assert "Training pictures before and after resampling (smote, on pixels)" in report
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert np.isfinite(evaluation["metrics"]["auc"]["value"])


@pytest.mark.parametrize("method", ["smote_tomek", "random_under", "augment"])
def test_run_tells_counts_of_every_method(tmp_path: Path, cache: Path, method: str) -> None:
    folder = write_pictures(tmp_path / "oct")
    words = ["--set", f"imbalance.method={method}", "--set", "training.stages.1.unfreeze=none", "--no-test"]
    told = train(folder, tmp_path / "run", cache, *words)
    (found,) = open_run(tmp_path / "run").record.resampled
    assert found.on == ("views" if method == "augment" else "features")
    assert f"Resampled ({method} on {found.on}): cysts {found.before['cysts']} → {found.after['cysts']}" in told
    size = found.before["cysts" if method == "random_under" else "normal"]
    assert found.after["cysts"] == pytest.approx(size, abs=20 if method == "smote_tomek" else 0)
    assert ("more views are computed" in told) == (method == "augment")
    shares = json.loads((tmp_path / "run" / "bundle" / "manifest.json").read_text())["prevalence"]
    assert shares["cysts"] == pytest.approx(0.25, abs=0.03)  # of the pictures themselves, not of what was made


def test_folds_are_shown_in_further_views(tmp_path: Path, cache: Path) -> None:
    folder = write_pictures(tmp_path / "oct")
    words = ["--set", "imbalance.method=augment", "--set", "training.stages.1.unfreeze=none", "--folds", "3"]
    train(folder, tmp_path / "run", cache, *words)
    resampled = open_run(tmp_path / "run").record.resampled
    assert [each.fold for each in resampled] == [0, 1, 2]
    assert all(each.after["cysts"] == each.after["normal"] == each.before["normal"] for each in resampled)


@pytest.mark.parametrize(("method", "on"), [("augment", "features"), ("smote_tomek", "pixels")])
def test_tuning_resamples_inside_its_folds(tmp_path: Path, cache: Path, method: str, on: str) -> None:
    folder = write_pictures(tmp_path / "oct")
    settings = (*PLAIN, f"imbalance.method={method}", f"imbalance.on={on}")
    loaded = load_recipe("auto", settings)
    prepared = prepare(TrainRequest(source=DataRequest(data=str(folder), cache=str(cache)), settings=settings), loaded)
    bench = Workbench(prepared, collect_development(prepared, 2, 0), read_machine(0))
    assert len([value for value in bench.score_folds(loaded) if 0 <= value <= 1]) == 2


def test_large_pictures_are_refused_before_anything_is_done(tmp_path: Path, cache: Path) -> None:
    folder = write_pictures(tmp_path / "oct")
    done = run_snellen(
        "train", folder, "--out", tmp_path / "run", "--cache", cache, "--set", "preprocess.size=96", "--set",
        "imbalance.method=smote", "--set", "imbalance.on=pixels", expect=2,
    )  # fmt: skip
    assert "at most 64 px" in done.stderr
    assert "preprocess.size=64" in done.stderr
    assert not (tmp_path / "run").exists()
