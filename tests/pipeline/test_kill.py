"""A run with fine-tuning, killed in it and in the export, ends as the run that nothing happened to.

`bench/kill.py` does the same at random moments.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import kill
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.runs import open_run

STAGE = {"unfreeze": "top", "epochs": 2, "lr": 0.0001, "batch_norm": "frozen", "dropout": 0, "views": 1, "share": 0.3}
SETTINGS = [
    "preprocess.size=48", "augment.views=0", "evaluation.resamples=100",
    *(f"training.stages.1.{key}={value}" for key, value in STAGE.items()),
]  # fmt: skip


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> kill.Asked:
    """The words of the run, and the folder with `undisturbed/run`."""
    folder = tmp_path_factory.mktemp("kill")
    spec = PhantomSpec(kind="oct", n_patients=30, size_px=48, classes=("normal", "cysts"), difficulty=0.1)
    write_cohort(spec, folder / "oct")
    words = [str(folder / "oct"), *(word for setting in SETTINGS for word in ("--set", setting))]
    asked = kill.Asked(words, folder)
    kill.train_undisturbed(asked)
    return asked


def stop_when(process: subprocess.Popen[bytes], has_begun: Callable[[], bool]) -> None:
    tick = threading.Event()
    while process.poll() is None and not has_begun():
        tick.wait(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the process ended before it could be killed"


def test_run_killed_in_fine_tuning_and_export_ends_equal(asked: kill.Asked) -> None:
    place, undisturbed = asked.folder / "killed", asked.folder / "undisturbed"
    run = place / "run"
    # exporting takes longest and is not the point here
    shutil.copytree(undisturbed / "cache" / "graphs", place / "cache" / "graphs")
    shutil.copy(undisturbed / "cache" / "CACHEDIR.TAG", place / "cache")
    stop_when(asked.start(place), lambda: any(epoch["stage"] for epoch in kill.read_epochs(run)))
    assert kill.tell_stage(run, 0).startswith("fine-tune, after epoch")
    stop_when(asked.start(place), (run / "bundle" / "model.onnx").exists)
    assert kill.tell_stage(run, 0) == "write bundle"
    assert asked.start(place).wait() == 0, (place / "told.txt").read_text()
    assert kill.compare_runs(undisturbed / "run", run) == []
    assert [(outcome.stage, outcome.n_epochs) for outcome in open_run(run).record.finetuned] == [(1, 2)]


def test_comparison_names_what_differs(asked: kill.Asked, tmp_path: Path) -> None:
    run = asked.folder / "undisturbed" / "run"
    other = tmp_path / "run"
    shutil.copytree(run, other)
    assert kill.compare_runs(run, other) == []
    path = other / "checkpoints" / "stage-1.safetensors"
    tensors = load_file(path)
    moment = next(name for name in tensors if name.endswith("exp_avg"))
    tensors[moment] = np.nextafter(tensors[moment], np.float32(1))
    save_file(tensors, path)
    for name in ("metrics.jsonl", "scores-test.csv", "evaluation.json"):
        (other / name).write_text((run / name).read_text().replace("0.1", "0.2"))
    (other / "bundle" / "gate.npz").unlink()
    assert kill.compare_runs(run, other) == [
        "bundle/gate.npz", "checkpoints/stage-1.safetensors", "evaluation.json", "metrics.jsonl", "scores-test.csv",
    ]  # fmt: skip
