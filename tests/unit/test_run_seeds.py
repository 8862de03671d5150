"""Mean and spread are those of the runs, folders of seeds are told from runs, and what cannot be is refused."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

import snellen
from snellen.core.errors import BundleError, UsageError
from snellen.evaluation.seeds_page import render_seeds
from snellen.outputs import RUN, make_output
from snellen.records.run import DataRequest, TrainRequest
from snellen.records.seeds import SeedOutcome, SeedsRecord
from snellen.run_seeds import SeedRuns, begin_seeds, compute_spreads, drop_empty_seeds, explain
from snellen.workflow import describe_command

REQUEST = TrainRequest(source=DataRequest(data="/data/eyes"), seed=7)
HOSTILE = "<script>alert(1)</script>"


def test_spread_is_that_of_the_values() -> None:
    values = [0.7, 0.8, 0.95]
    found = compute_spreads([{"val": {"auc": value}} for value in values])["val"]["auc"]
    # (0.7 + 0.8 + 0.95) / 3; squared distances 0.0136, 0.0003, 0.0178 over n − 1 = 2
    assert found.mean == pytest.approx(0.816667, abs=1e-6)
    assert found.sd == pytest.approx(0.125831, abs=1e-6)
    assert found.sd == pytest.approx(statistics.stdev(values))
    assert (found.smallest, found.largest, found.n) == (0.7, 0.95, 3)


def test_undefined_values_are_left_out_and_counted() -> None:
    found = compute_spreads([{"test": {"auc": None, "f1": None}}, {"test": {"auc": 0.5, "f1": None}}])["test"]
    assert set(found) == {"auc"}
    assert (found["auc"].n, found["auc"].sd, found["auc"].mean) == (1, None, 0.5)


def test_notes_say_whether_the_split_varied() -> None:
    assert "draws its own split" in explain("whole", "val", 3)[0]
    assert "share one split" in explain("none", "val", 3)[0]
    assert "luck" in explain("whole", "val", 3)[-1]
    assert "luck" not in explain("none", "val", 3)[-1]
    assert "out-of-fold" in explain("none", "oof", 3)[-1]


def test_seeds_count_up_from_the_first_and_end_where_seeds_end(tmp_path: Path) -> None:
    whole = begin_seeds(tmp_path / "a", REQUEST, 3, "snellen train …")
    assert whole.record.seeds == (7, 8, 9)
    assert [run.folder.name for run in whole.runs] == ["seed-7", "seed-8", "seed-9"]
    with pytest.raises(UsageError, match="no room"):
        begin_seeds(tmp_path / "b", REQUEST.model_copy(update={"seed": 2**32 - 1}), 2, "")
    assert not (tmp_path / "b").exists()


def test_beginning_anew_clears_earlier_runs_and_leaves_other_files(tmp_path: Path) -> None:
    whole = begin_seeds(tmp_path / "a", REQUEST, 2, "")
    for run in whole.runs:
        (run.folder / "checkpoints").mkdir(parents=True)
        (run.folder / "run.json").write_text("{}")
    (whole.runs[0].folder / "mine.txt").write_text("mine")
    begin_seeds(tmp_path / "a", REQUEST, 3, "")
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == [
        "a", "a/seed-7", "a/seed-7/mine.txt", "a/seeds.json",
    ]  # fmt: skip


def test_folder_in_which_no_run_began_is_taken_back(tmp_path: Path) -> None:
    whole = begin_seeds(tmp_path / "a", REQUEST, 2, "")
    (whole.runs[1].folder).mkdir()
    drop_empty_seeds(whole)
    assert whole.folder.exists()
    whole.runs[1].folder.rmdir()
    drop_empty_seeds(whole)
    assert not whole.folder.exists()


def test_folder_of_seeds_is_no_run_and_no_bundle(tmp_path: Path) -> None:
    begin_seeds(tmp_path / "a", REQUEST, 2, "")
    with pytest.raises(UsageError, match="several seeds"):
        snellen.open_run(tmp_path / "a")
    with pytest.raises(BundleError, match="several seeds"):
        snellen.load(tmp_path / "a")
    with pytest.raises(UsageError, match="not finished"):
        _ = SeedRuns(tmp_path / "a").recommended


@pytest.mark.parametrize("seeds", [0, 1, 101, 1.5, "3", True])
def test_number_of_seeds_of_another_kind_is_refused(seeds: object, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^seeds"):
        snellen.train(tmp_path, seeds=seeds)  # type: ignore[call-overload]


def test_command_repeats_the_seed_of_the_split() -> None:
    asked = REQUEST.model_copy(update={"split_seed": 3})
    assert "--seed 7 --split-seed 3 --out r" in describe_command(asked, Path("r"))
    assert "--split-seed" not in describe_command(REQUEST, Path("r"))


def test_page_names_the_recommended_run_and_lets_no_name_become_markup() -> None:
    values = {"val": {"auc": 0.91, "log_loss": 0.4}, "test": {"auc": 0.83, "log_loss": 0.5}}
    outcome = SeedOutcome(
        seed=7, folder="seed-7", values=dict(values), splits_sha256="0", test_opened=1, bundle_sha256="0"
    )
    record = SeedsRecord(
        state="finished", request=REQUEST, seeds=(7,), command=f"snellen train {HOSTILE}", started="", held="val",
        classes=(HOSTILE,), spreads=compute_spreads([values]), runs=(outcome,), recommended=7, notes=(HOSTILE,),
    )  # fmt: skip
    page = render_seeds(record, HOSTILE, "1.0")
    assert "seed-7 (recommended)" in page
    assert "0.910" in page
    assert "0.830" in page
    assert "<script" not in page


def test_what_a_killed_run_had_half_written_goes_and_its_mark_stays(tmp_path: Path) -> None:
    for name in ("run.json", ".run.json.ab12cd_3", "plan.json", ".plan.json.bak", "notes.txt"):
        (tmp_path / name).write_text("x")
    make_output(tmp_path, RUN, keep=RUN.mark)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".plan.json.bak", "notes.txt", "run.json"]
