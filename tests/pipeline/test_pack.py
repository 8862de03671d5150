"""A packed cohort trains to the scores of its source."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline_tools import SMALL, run_snellen


@pytest.fixture(scope="module")
def packed(cohort: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "cohort.h5"
    run_snellen("pack", cohort, "--out", path, "--views", "1", "--cache", cache, *SMALL)
    return path


@pytest.fixture(scope="module")
def packed_run(packed: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed-run") / "run"
    # the plan's size comes from the file; the others of SMALL are not of pixels
    run_snellen("train", packed, "--out", folder, "--cache", cache, *SMALL[2:])
    return folder


def test_packed_file_trains_to_the_scores_of_its_source(run: Path, packed_run: Path) -> None:
    for name in ("scores-val.csv", "scores-test.csv"):
        assert (packed_run / name).read_bytes() == (run / name).read_bytes()


def test_packed_file_gives_the_metrics_and_the_fingerprint_of_its_source(run: Path, packed_run: Path) -> None:
    before, after = (json.loads((folder / "evaluation.json").read_text()) for folder in (run, packed_run))
    for key in ("metrics", "baselines", "per_class", "operating_points", "n_failed", "patient_rule"):
        assert after[key] == before[key]
    assert (packed_run / "fingerprint.json").read_bytes() == (run / "fingerprint.json").read_bytes()


def test_plan_says_that_preprocessing_was_packed(run: Path, packed_run: Path) -> None:
    before, after = (json.loads((folder / "plan.json").read_text()) for folder in (run, packed_run))
    assert after["preprocess"] == before["preprocess"]
    decision = next(item for item in after["decisions"] if item["key"] == "preprocess.size")
    assert (decision["how"], decision["value"]) == ("measured", 96)
    assert "packed" in decision["reason"]


def test_views_are_of_training_pictures_only(packed: Path) -> None:
    with h5py.File(packed, "r") as file:
        splits = file["splits"].asstr()[:]
        source = file["views/source"][:]
        assert sorted(source) == np.flatnonzero(splits == "train").tolist()
        assert file["views/images"].shape == (len(source), *file["images"].shape[1:])
        assert not np.array_equal(file["views/images"][0], file["images"][source[0]])


def test_run_on_a_packed_file_is_evaluated_again(packed_run: Path) -> None:
    found = json.loads(run_snellen("evaluate", packed_run, "--split", "val", "--json").stdout)
    assert found["metrics"] == json.loads((packed_run / "evaluation-val.json").read_text())["metrics"]


def test_bundle_of_another_size_refuses_a_packed_file(
    packed_run: Path, cohort: Path, cache: Path, tmp_path: Path
) -> None:
    run_snellen("pack", cohort, "--out", tmp_path / "large.h5", "--cache", cache, "--set", "preprocess.size=112")
    before = (packed_run / "run.json").read_bytes()
    done = run_snellen("evaluate", packed_run / "bundle", tmp_path / "large.h5", "--cache", cache, expect=2)
    assert "size 112, not 96" in done.stderr
    assert (packed_run / "run.json").read_bytes() == before  # no opening of the test split was counted
    assert "snellen pack" in done.stderr


def test_contradicting_setting_names_pack(packed: Path, cache: Path) -> None:
    done = run_snellen("plan", packed, "--cache", cache, "--set", "preprocess.size=128", expect=2)
    assert "preprocess.size = 128, but the pictures were packed with 96" in done.stderr
    assert "snellen pack" in done.stderr


def test_labels_of_a_packed_file_cannot_be_merged_anew(packed: Path, cache: Path) -> None:
    done = run_snellen("plan", packed, "--cache", cache, "--set", "data.merge={ill=['cysts']}", expect=2)
    assert "data.merge cannot change" in done.stderr


def test_patients_of_a_packed_file_cannot_be_told_anew(packed: Path, cache: Path) -> None:
    assert "--patients" in run_snellen("audit", packed, "--cache", cache, "--patients", "none", expect=2).stderr


def test_existing_file_is_refused_and_only_ours_is_overwritten(cohort: Path, cache: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.h5"
    mine.write_text("thesis")
    for extra in ((), ("--overwrite",)):
        run_snellen("pack", cohort, "--out", mine, "--cache", cache, *extra, expect=2)
    assert mine.read_text() == "thesis"
