"""A run goes on only with the data it was begun with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import snellen
from models import make_plan
from snellen.core.errors import DataError
from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.run_preparation import Prepared, require_same_data, save_prepared
from snellen.run_sets import fit_sets
from snellen.runs import Run
from snellen.workflow import build_data_request


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "oct"
    write_cohort(PhantomSpec(kind="oct", n_patients=30, size_px=48, classes=("normal", "cysts")), folder)
    return folder


def prepare(data: Path, *settings: str) -> Prepared:
    prepared: Prepared = snellen.plan(data, settings=["data.copies=exact", *settings], cache=data.parent / "cache")
    return prepared


def take_first(data: Path, kind: str) -> Path:
    return min((data / kind).iterdir())


CHANGES: dict[str, Callable[[Path], object]] = {
    "1 picture is gone, such as normal/": lambda data: take_first(data, "normal").unlink(),
    "1 picture is new, such as normal/one.png": lambda data: shutil.copy(
        take_first(data, "cysts"), data / "normal" / "one.png"
    ),
    "1 picture is of other pixels, such as cysts/": lambda data: shutil.copy(
        take_first(data, "normal"), take_first(data, "cysts")
    ),
}


@pytest.fixture
def begun(drawn: Path, tmp_path: Path) -> tuple[Path, Run]:
    """Data, and a run that was begun with them."""
    data, run = tmp_path / "oct", Run(tmp_path / "run")
    shutil.copytree(drawn, data)
    run.folder.mkdir()
    save_prepared(run, prepare(data), build_data_request(data, {}))
    return data, run


@pytest.mark.parametrize("told", CHANGES)
def test_data_that_changed_are_told(begun: tuple[Path, Run], told: str) -> None:
    data, run = begun
    CHANGES[told](data)
    with pytest.raises(DataError, match="was begun with other data") as caught:
        require_same_data(run, prepare(data))
    assert told in caught.value.message


def test_other_splits_are_told(begun: tuple[Path, Run]) -> None:
    data, run = begun
    with pytest.raises(DataError, match="of another label, patient or split"):
        require_same_data(run, prepare(data, "data.fractions=[0.5,0.25,0.25]"))


def test_same_data_go_on_also_where_nothing_was_written_yet(begun: tuple[Path, Run]) -> None:
    data, run = begun
    require_same_data(run, prepare(data))
    (run.folder / "plan.json").unlink()
    take_first(data, "normal").unlink()
    require_same_data(run, prepare(data))


def test_patients_who_share_a_picture_count_as_one(drawn: Path, tmp_path: Path) -> None:
    data = tmp_path / "oct"
    shutil.copytree(drawn, data)
    one, *_, other = sorted((data / "normal").iterdir())
    shutil.copy(one, data / "normal" / other.name)
    prepared = prepare(data)
    samples = prepared.cohort.samples
    units = dict(zip((sample.name for sample in samples), prepared.name_units(samples), strict=True))
    patient_of = {sample.name: sample.patient for sample in samples}
    assert patient_of[f"normal/{one.name}"] != patient_of[f"normal/{other.name}"]
    assert units[f"normal/{one.name}"] == units[f"normal/{other.name}"]
    assert len(set(units.values())) == len(set(patient_of.values())) - 1


def test_sets_count_patients_who_share_a_picture_once() -> None:
    labels, plan = np.repeat([0, 1], 12), make_plan(("a", "b"))
    probabilities = np.where(np.eye(2)[labels] > 0, 0.7, 0.3).astype(np.float32)
    learned: Any = SimpleNamespace(labels=labels, held_name="val")
    apart = fit_sets(learned, probabilities, [str(row) for row in range(24)], plan)
    joined = fit_sets(learned, probabilities, [str(row // 2) for row in range(24)], plan)
    assert (apart.n_patients, apart.pooled) == ({"a": 12, "b": 12}, ())
    assert (joined.n_patients, joined.pooled) == ({"a": 6, "b": 6}, ("a", "b"))  # a quantile at 0.9 takes nine
