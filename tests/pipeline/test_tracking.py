"""Progress of a run: its epochs on disk while they come, and trackers that follow it and cost it nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline_tools import run_snellen
from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.runs import open_run

TINY = ["--set", "preprocess.size=48", "--set", "augment.views=1", "--set", "evaluation.resamples=100"]
has_mlflow = importlib.util.find_spec("mlflow") is not None and importlib.util.find_spec("sqlalchemy") is not None
has_tensorboard = importlib.util.find_spec("tensorboard") is not None
needs_mlflow = pytest.mark.skipif(not has_mlflow, reason="needs mlflow: pip install 'snellen[track]'")
needs_tensorboard = pytest.mark.skipif(not has_tensorboard, reason="needs tensorboard: pip install 'snellen[track]'")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data`, the smallest cohort that trains, and `cache` with `run` of one undisturbed run without trackers."""
    folder = tmp_path_factory.mktemp("tracking")
    write_cohort(PhantomSpec(kind="oct", n_patients=30, size_px=48, classes=("normal", "cysts")), folder / "data")
    run_snellen("train", folder / "data", "--out", folder / "run", "--cache", folder / "cache", *TINY)
    return folder


def train(place: Path, out: Path, *more: str, **environment: str) -> str:
    words = ["train", str(place / "data"), "--out", str(out), "--cache", str(place / "cache"), *TINY, *more]
    done = subprocess.run(
        [sys.executable, "-m", "snellen", *words], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_killed_run_leaves_its_epochs_and_a_resumed_one_says_each_once(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    slow = ["training.stages.0.optimizer=adamw", "training.stages.0.patience=4000", "training.stages.0.epochs=4000"]
    slow += ["training.stages.0.weight_decay=0.1"]
    settings = [word for setting in slow for word in ("--set", setting)]
    words = ["train", str(place / "data"), "--out", str(run), "--cache", str(place / "cache"), *TINY, *settings]
    process = subprocess.Popen([sys.executable, "-m", "snellen", *words], stderr=subprocess.DEVNULL)
    tick = threading.Event()
    while process.poll() is None and not ((run / "metrics.jsonl").exists() and len(open_run(run).epochs) > 3):
        tick.wait(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert [epoch.epoch for epoch in open_run(run).epochs] == list(range(1, len(open_run(run).epochs) + 1))
    assert not (run / "bundle").exists()
    # going on from here with fewer epochs would be another run: what is asked is edited before it goes on
    text = (run / "run.json").read_text().replace("epochs=4000", "epochs=30")
    (run / "run.json").write_text(text)
    (run / "recipe.toml").unlink()  # it would say that it was edited
    run_snellen("train", "--resume", run)
    assert [epoch.epoch for epoch in open_run(run).epochs] == list(range(1, 31))


@needs_tensorboard
def test_tensorboard_holds_every_epoch_and_the_final_numbers(place: Path, tmp_path: Path) -> None:
    train(place, tmp_path / "run", "--track", "tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    run = open_run(tmp_path / "run")
    first = [epoch for epoch in run.epochs if epoch.candidate == 0]
    told = events.Scalars("stage-0/candidate-0/val_loss")
    assert [event.step for event in told] == [epoch.epoch for epoch in first]
    assert [event.value for event in told] == pytest.approx([epoch.val_loss for epoch in first])
    auc = run.evaluation.metrics["auc"]
    for name, value in (("auc", auc.value), ("auc_low", auc.low), ("auc_high", auc.high)):
        assert events.Scalars(f"test/{name}")[0].value == pytest.approx(value)
    assert (tmp_path / "run" / "scores-test.csv").read_bytes() == (place / "run" / "scores-test.csv").read_bytes()


@needs_mlflow
@pytest.mark.filterwarnings("ignore")  # of MLflow's own libraries
def test_mlflow_holds_plan_epochs_numbers_and_files(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mine"
    told = train(place, folder, "--track", "mlflow")
    assert f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}" in told
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    [found] = client.search_runs([client.get_experiment_by_name("snellen").experiment_id])
    run = open_run(folder)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "mine"
    assert found.data.params["preprocess.size"] == "48"
    assert found.data.tags["snellen.split_sha256"] == run.record.split_sha256
    assert found.data.tags["snellen.bundle_sha256"] == run.evaluation.bundle_sha256
    assert found.data.metrics["test/auc"] == pytest.approx(run.evaluation.metrics["auc"].value)
    assert found.data.metrics["test/auc_low"] == pytest.approx(run.evaluation.metrics["auc"].low)
    last = run.epochs[-1]
    history = client.get_metric_history(found.info.run_id, f"stage-0/candidate-{last.candidate}/val_loss")
    assert sorted(each.step for each in history) == list(range(1, last.epoch + 1))
    names = {item.path for item in client.list_artifacts(found.info.run_id)}
    assert names == {"report.html", "evaluation.json", "evaluation-val.json"}
    assert not (tmp_path / "mlruns").exists()


@needs_mlflow
def test_mlflow_server_that_is_gone_is_a_warning(place: Path, tmp_path: Path) -> None:
    told = train(place, tmp_path / "run", "--track", "mlflow", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert "Warning: mlflow no longer follows this run, which goes on" in told
    assert (tmp_path / "run" / "scores-test.csv").read_bytes() == (place / "run" / "scores-test.csv").read_bytes()


@needs_mlflow
def test_mlflow_database_that_vanishes_later_is_a_warning(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "mine"
    shutil.rmtree(place / "cache" / "features")
    words = ["train", str(place / "data"), "--out", str(out), "--cache", str(place / "cache"), *TINY]
    process = subprocess.Popen(
        [sys.executable, "-m", "snellen", *words, "--track", "mlflow"], stderr=subprocess.PIPE, text=True
    )
    tick = threading.Event()
    log = out / "run.log"
    while process.poll() is None and not (log.exists() and "MLflow: run" in log.read_text()):
        tick.wait(0.01)
    (tmp_path / "runs" / "mlflow.db").write_bytes(b"no database" * 1000)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert "Warning: mlflow no longer follows this run" in told
    assert (out / "scores-test.csv").read_bytes() == (place / "run" / "scores-test.csv").read_bytes()


def test_unknown_tracker_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    error = run_snellen("train", tmp_path, "--out", tmp_path / "run", "--track", "wandb", expect=2).stderr
    assert "--track wandb: there is no such tracker" in error
    assert not (tmp_path / "run").exists()


def test_what_is_tracked_is_part_of_the_command(place: Path) -> None:
    assert json.loads((place / "run" / "run.json").read_text())["request"]["track"] == []
