"""One small cohort and one run of the real command, made once for all pipeline tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_tools import SMALL, run_snellen
from snellen.ingest.phantom import PhantomSpec, write_cohort


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of synthetic OCT, two classes, several pictures a patient."""
    folder = tmp_path_factory.mktemp("cohort") / "oct"
    spec = PhantomSpec(kind="oct", n_patients=100, size_px=96, classes=("normal", "cysts"), difficulty=0.3)
    write_cohort(spec, folder)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def run(cohort: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    run_snellen("train", cohort, "--out", folder, "--cache", cache, *SMALL)
    return folder
