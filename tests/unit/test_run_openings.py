"""Openings of one test split are counted over the runs that lie together."""

from __future__ import annotations

import json
from pathlib import Path

from snellen.run_openings import count_openings


def write_run(folder: Path, split: str | None, opened: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"split_sha256": split, "test_opened": opened}))
    return folder


def test_openings_of_the_same_split_add_up(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", "x", 2)
    write_run(tmp_path / "b", "x", 1)
    write_run(tmp_path / "shut", "x", 0)
    write_run(tmp_path / "other", "y", 5)
    write_run(tmp_path / "several" / "seed-0", "x", 1)
    found = count_openings(run, "x")
    assert (found.n_opened, found.n_runs, found.folder) == (4, 3, tmp_path.resolve())


def test_workspace_of_a_seed_is_the_folder_above_all_seeds(tmp_path: Path) -> None:
    run = write_run(tmp_path / "several" / "seed-0", "x", 1)
    (tmp_path / "several" / "seeds.json").write_text("{}")
    write_run(tmp_path / "several" / "seed-1", "x", 1)
    write_run(tmp_path / "alone", "x", 1)
    assert count_openings(run, "x").n_opened == 3


def test_damaged_records_and_unknown_splits_count_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", None, 1)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "run.json").write_text("{ torn")
    assert count_openings(run, None).n_opened == 0
    assert count_openings(run, "x").n_runs == 0
