"""`snellen doctor` on data, on drawn pictures, and in an installation that can only predict."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline_tools import run_snellen
from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.records.doctor import Diagnosis
from snellen.run_doctor import EXTRAS

ROOT = Path(__file__).parents[2]
_BASE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
sys.argv = ["snellen", "doctor", "--json", "--cache", {cache!r}]
from snellen.cli import main
main()
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "oct"
    write_cohort(PhantomSpec(kind="oct", n_patients=20, size_px=48, classes=("normal", "cysts")), folder)
    return folder


def test_doctor_measures_a_run_on_data_and_leaves_nothing(data: Path, tmp_path: Path) -> None:
    words = ["doctor", data, "--cache", tmp_path / "cache", "--set", "preprocess.size=64", "--set", "augment.views=2"]
    found = Diagnosis.model_validate_json(run_snellen(*words, "--json").stdout)
    assert found.data == str(data)
    assert found.n_listed == len(list(data.rglob("*.png"))) == found.n_sampled
    assert found.work is not None
    assert (found.work.size, found.work.views) == (64, 2)
    assert found.work.n_train + found.work.n_val + found.work.n_test == found.n_listed
    assert found.work.need_bytes["pixels"] in [found.n_listed * 64 * 64 * channels for channels in (1, 3)]
    names = {speed.name for speed in found.speeds}
    assert names == {"write to the cache", "audit", "read and decode", "preprocess", "forward pass"}
    assert all(speed.per_second > 0 for speed in found.speeds)
    assert found.total_s == pytest.approx(sum(step.seconds for step in found.steps), abs=0.1)
    assert re.fullmatch(r".+: \d+% of .+ is .+\.", found.bound or "")
    assert [text for text in found.not_measured if "stage 2" not in text] == []
    assert len(found.not_measured) == 1
    assert list((tmp_path / "cache" / "doctor").iterdir()) == []


def test_doctor_without_training_libraries_measures_the_rest_and_says_how_to_install(tmp_path: Path) -> None:
    absent = {"torch", "torchvision", "timm", "sklearn", "matplotlib", "jinja2", "filelock", "h5py", "onnx", "scipy"}
    script = _BASE.format(absent=absent, cache=str(tmp_path / "cache"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"write to the cache", "read and decode", "preprocess"} <= {speed["name"] for speed in found["speeds"]}
    assert found["work"] is None
    assert "pip install 'snellen[train]'" in found["not_measured"][0]
    train = next(extra for extra in found["extras"] if extra["name"] == "train")
    assert not train["is_installed"]
    assert "torch" in train["missing"]


def test_doctor_of_no_data_is_told(tmp_path: Path) -> None:
    assert "does not exist" in run_snellen("doctor", tmp_path / "none", expect=2).stderr


def test_extras_are_those_that_can_be_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS) == set(project["optional-dependencies"]) - {"dev", "fuzz"}


def test_demo_without_training_libraries_draws_nothing(tmp_path: Path) -> None:
    script = _BASE.format(absent={"torch", "timm"}, cache=str(tmp_path)).replace(
        '"doctor", "--json", "--cache",', '"demo", "--out",'
    )
    out = tmp_path / "try"
    script = script.replace(repr(str(tmp_path)), repr(str(out)))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "torch is not installed: nothing was drawn" in done.stderr
    assert "pip install 'snellen[train]'" in done.stderr
    assert not out.exists()
