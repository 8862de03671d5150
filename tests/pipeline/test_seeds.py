"""`snellen train --seeds` end to end: ordinary runs, a record that is theirs, killed and resumed."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import snellen
from pipeline_tools import run_snellen
from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.runs import open_run

SETTINGS = ["preprocess.size=48", "augment.views=0", "evaluation.resamples=100", "data.copies=exact"]
TINY = [word for setting in SETTINGS for word in ("--set", setting)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "oct"
    write_cohort(PhantomSpec(kind="oct", n_patients=30, size_px=48, classes=("normal", "cysts")), folder)
    return folder


@pytest.fixture(scope="module")
def place(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `cache` and `both`: two seeds, killed in the second, and resumed."""
    place = tmp_path_factory.mktemp("seeds")
    words = ["train", str(tiny), "--seeds", "2", "--seed", "3", "--out", str(place / "both")]
    words += ["--cache", str(place / "cache"), *TINY]
    process = subprocess.Popen([sys.executable, "-m", "snellen", *words], stderr=subprocess.DEVNULL)
    tick = threading.Event()
    while process.poll() is None and not (place / "both" / "seed-4" / "metrics.jsonl").exists():
        tick.wait(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the runs ended before they could be killed"
    assert "--resume" in run_snellen(*words, expect=2).stderr
    first = (place / "both" / "seed-3" / "run.json").stat().st_mtime_ns
    told = run_snellen("train", "--resume", place / "both")
    assert (place / "both" / "seed-3" / "run.json").stat().st_mtime_ns == first
    assert "Test, over seeds" in told.stdout
    assert "draws its own split" in told.stdout.replace("\n", " ")
    return place


def test_record_is_that_of_its_runs(place: Path) -> None:
    record = json.loads((place / "both" / "seeds.json").read_text())
    runs = [open_run(place / "both" / f"seed-{seed}") for seed in (3, 4)]
    aucs = [run.evaluation.metrics["auc"].value for run in runs]
    assert record["spreads"]["test"]["auc"] == {
        "mean": pytest.approx(statistics.fmean(aucs)), "sd": pytest.approx(statistics.stdev(aucs)),
        "smallest": min(aucs), "largest": max(aucs), "n": 2,
    }  # fmt: skip
    losses = {run.record.request.seed: run.validation.metrics["log_loss"].value for run in runs}
    assert record["recommended"] == min(losses, key=lambda seed: losses[seed])
    assert [run.record.test_opened for run in runs] == [1, 1]
    assert (record["state"], record["held"], record["split_varies"]) == ("finished", "val", "whole")
    assert runs[0].splits != runs[1].splits


def test_each_is_an_ordinary_run(tiny: Path, place: Path, tmp_path: Path) -> None:
    run = place / "both" / "seed-4"
    run_snellen("evaluate", run, "--split", "val", "--out", tmp_path / "val")
    assert (tmp_path / "val" / "scores.csv").read_bytes() == (run / "scores-val.csv").read_bytes()
    told = run_snellen("predict", run, next(tiny.rglob("*.png"))).stdout
    assert "probability_cysts" in told
    assert "several seeds" in run_snellen("predict", place / "both", tiny, expect=2).stderr
    assert "finished" in run_snellen("train", "--resume", place / "both", expect=2).stderr


def test_refused_data_leave_no_folder(tiny: Path, tmp_path: Path) -> None:
    words = ["train", tiny, "--seeds", "2", "--out", tmp_path / "none", "--cache", tmp_path / "cache"]
    error = run_snellen(*words, "--set", "data.fractions=[0.9,0.1,0]", expect=2).stderr
    assert "--no-test" in error
    assert not (tmp_path / "none").exists()


def test_seed_of_the_split_keeps_it_while_seeds_vary(tiny: Path, place: Path, tmp_path: Path) -> None:
    found = snellen.train(
        tiny, seeds=2, split_seed=3, test=False, out=tmp_path / "same", cache=place / "cache", settings=SETTINGS
    )
    record = found.record
    assert record.split_varies == "none"
    assert [run.splits for run in found.runs] == [open_run(place / "both" / "seed-3").splits] * 2
    assert [run.plan.training.seed for run in found.runs] == [0, 1]
    assert set(record.spreads) == {"val"}
    assert found.recommended.bundle.is_dir()
    assert [run.record.test_opened for run in found.runs] == [0, 0]
