"""ONNX Runtime tells nobody that it runs: no file of its telemetry, no address looked up, whoever loads it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models import write_plain_graph
from snellen.core.onnx_runtime import TELEMETRY_OFF, switch_off_telemetry

RUN_A_GRAPH = """
import sys, numpy, pathlib
from snellen.inference.session import GraphSession
session = GraphSession(pathlib.Path(sys.argv[1]), threads=1)
session.run(numpy.zeros((1, 8, 8, 3), numpy.uint8), ["probabilities"])
"""
EXPORT_A_GRAPH = """
import sys, pathlib, torch, snellen.modeling.graph as graph
net = torch.nn.Sequential()
class Net(torch.nn.Module):
    def forward(self, pixels):
        return pixels.float().mean((1, 2))
graph.export_graph(Net(), pathlib.Path(sys.argv[1]), shape=(8, 8, 3), outputs=("embedding",))
import onnxruntime
onnxruntime.InferenceSession(sys.argv[1])
"""


def run_at_home(code: str, model: Path, home: Path, *before: str) -> str:
    """What a fresh interpreter said on standard error, with `home` as the only home."""
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if key not in (TELEMETRY_OFF, "XDG_CACHE_HOME", "TMPDIR")}
    done = subprocess.run(
        [*before, sys.executable, "-c", code, str(model)],
        env={**kept, "HOME": str(home)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stderr


def list_telemetry(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if "onnxruntime" in str(path.relative_to(home)).lower()]


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_plain_graph(tmp_path / "plain.onnx", np.eye(3, 2, 1, dtype=np.float32), np.zeros(2, np.float32))


def test_a_graph_that_runs_leaves_nothing_in_the_home(tmp_path: Path, graph: Path) -> None:
    assert run_at_home(RUN_A_GRAPH, graph, tmp_path / "home") == ""
    assert list_telemetry(tmp_path / "home") == []


def test_an_export_before_leaves_nothing_in_the_home(tmp_path: Path) -> None:
    run_at_home(EXPORT_A_GRAPH, tmp_path / "out.onnx", tmp_path / "home")
    assert list_telemetry(tmp_path / "home") == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: it shows what a process asks for")
def test_a_graph_that_runs_asks_for_no_address(tmp_path: Path, graph: Path) -> None:
    log = tmp_path / "calls"
    run_at_home(RUN_A_GRAPH, graph, tmp_path / "home", "strace", "-f", "-e", "trace=connect,openat", "-o", str(log))
    calls = log.read_text(errors="replace").splitlines()
    assert any(str(graph) in line for line in calls)  # it did see the process
    assert [line for line in calls if "AF_INET" in line or "resolv.conf" in line] == []


def test_the_user_s_own_word_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TELEMETRY_OFF, "0")
    assert not switch_off_telemetry()
    assert os.environ[TELEMETRY_OFF] == "0"
