"""A study proposes what its seed and its past say, forgets nothing, and gives away no password."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snellen.core.errors import SnellenError, StorageError, UsageError
from snellen.planning.recipe_files import load_recipe
from snellen.planning.tune_space import Space, read_space
from snellen.records.recipe import Choices, Range
from snellen.records.tuning import TrialRecord
from snellen.training.tuning import (
    Place,
    Question,
    TuneStudy,
    choose_direction,
    compute_spread,
    keep_in_file,
    read_place,
    require_some_success,
)

SPACE = Space({"x": Range(low=-1.0, high=1.0), "n": Range(low=1, high=4), "head": Choices(choices=([{"p": 1}], [2]))})


def open_study(
    folder: Path, *, seed: int = 0, metric: Any = "log_loss", prune: bool = True, space: Space = SPACE
) -> TuneStudy:
    return TuneStudy(keep_in_file(folder / "study.db"), Question("q", metric, seed, prune), space)


def compute_folds(values: dict[str, Any]) -> list[float]:
    """Three folds of a bowl with its bottom at x = 0.3; the lower the better."""
    return [(values["x"] - 0.3) ** 2 + 0.01 * fold for fold in range(3)]


def go_on(study: TuneStudy, n_trials: int) -> None:
    while study.count() < n_trials:
        trial, values = study.ask()
        folds = compute_folds(values)
        n_done = next((k for k in range(1, 3) if study.report(trial, folds[:k])), 3)
        if n_done == 3:
            study.report(trial, folds)
        study.end(trial, "complete" if n_done == 3 else "pruned", float(np.mean(folds)), 0.1)


def list_asked(study: TuneStudy) -> list[tuple[str, dict[str, Any]]]:
    return [(trial.state, trial.parameters) for trial in study.list_trials() if not trial.is_stopped]


def test_study_finds_the_bottom_and_prunes(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    go_on(study, 40)
    best = study.choose_best()
    assert best is not None
    assert abs(best.parameters["x"] - 0.3) < 0.15
    assert best.value == pytest.approx(np.mean(compute_folds(best.parameters)))
    assert best.spread == pytest.approx(0.01)
    assert any(trial.state == "pruned" and len(trial.fold_values) < 3 for trial in study.list_trials())
    assert study.compute_importances()["x"] > 0.5


def test_nothing_is_pruned_where_it_is_switched_off(tmp_path: Path) -> None:
    study = open_study(tmp_path, prune=False)
    go_on(study, 20)
    assert {state for state, _ in list_asked(study)} == {"complete"}


def test_stopped_and_resumed_study_goes_the_way_of_one_that_was_not(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    go_on(open_study(tmp_path / "a"), 18)
    study = open_study(tmp_path / "b")
    go_on(study, 7)
    study.ask()  # as a killed process leaves it
    study = open_study(tmp_path / "b")
    assert study.fail_killed() == 1
    go_on(study, 13)
    trial, _ = study.ask()
    study.report(trial, [0.5])
    study.stop(trial)  # as Ctrl-C leaves it
    go_on(open_study(tmp_path / "b"), 18)
    assert list_asked(open_study(tmp_path / "b")) == list_asked(open_study(tmp_path / "a"))
    assert [t.state for t in study.list_trials() if t.is_stopped] == ["failed", "failed"]
    assert len(study.list_trials()) == 20


def test_seed_decides_what_is_asked(tmp_path: Path) -> None:
    asked = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        asked.append(open_study(tmp_path / name, seed=seed).ask()[1])
    assert asked[0] == asked[1] != asked[2]


def test_values_come_back_as_they_stand_in_the_recipe(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    go_on(study, 12)
    asked = [trial.parameters for trial in study.list_trials()]
    assert {str(values["head"]) for values in asked} == {"[{'p': 1}]", "[2]"}
    assert {type(values["n"]) for values in asked} == {int}
    assert {values["n"] for values in asked} <= {1, 2, 3, 4}


def test_key_that_does_not_count_is_not_asked(tmp_path: Path) -> None:
    study = open_study(tmp_path, metric="auc", space=read_space(load_recipe("auto")))
    for _ in range(12):
        trial, values = study.ask()
        is_adamw = values["training.stages.0.optimizer"] == "adamw"
        assert ("training.stages.0.lr" in values) == ("model.head" in values) == is_adamw
        study.end(trial, "failed", None, 0.0, "tried")


def test_best_of_equal_trials_is_the_first_and_larger_is_better_but_for_losses(tmp_path: Path) -> None:
    study = open_study(tmp_path, metric="auc", prune=False)
    for value in (0.6, 0.8, 0.8):
        trial, _ = study.ask()
        study.report(trial, [value])
        study.end(trial, "complete", value, 0.0)
    best = study.choose_best()
    assert best is not None
    assert (best.number, best.value) == (1, 0.8)
    assert {choose_direction(metric) for metric in ("auc", "balanced_accuracy", "kappa_quadratic")} == {"maximize"}
    assert choose_direction("log_loss") == "minimize"


def test_ten_failures_without_success_end_the_search_with_the_reason() -> None:
    failed = [TrialRecord(number=k, state="failed", value=None, spread=None, reason="lr too large") for k in range(10)]
    require_some_success(failed[:9])
    require_some_success([*failed, TrialRecord(number=10, state="pruned", value=0.5, spread=None)])
    with pytest.raises(SnellenError, match="10 trials failed and none succeeded; the first: lr too large"):
        require_some_success(failed)


def test_damaged_study_is_told(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("this is no database, it is a text of some length" * 40)
    with pytest.raises(StorageError, match=r"study\.db cannot be used: .*database") as caught:
        open_study(tmp_path)
    assert "--overwrite" in caught.value.hint


@pytest.mark.parametrize("name", ["with space", "a?b", "c#d", "e%20f", "g{SCHEMA_VERSION}h", "ünï"])
def test_study_may_lie_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    open_study(folder).ask()
    assert (folder / "study.db").stat().st_size > 0


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("nonsense", "no address of a database"),
        ("mysql://me:hunter2@host/db", "mysql"),
        ("posgresql://me:hunter2@host/db", "no such kind of database"),
        ("postgresql://me:hunter2@host:port/db", "no address"),
    ],
)
def test_wrong_address_is_refused_without_its_password(storage: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_place(storage)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_password_is_neither_shown_nor_told() -> None:
    pytest.importorskip("psycopg", reason="needs psycopg (the extra postgres)")
    place = read_place("postgresql://me:hunter2@127.0.0.1:1/db?password=s3cret&connect_timeout=2")
    assert place.shown == "postgresql://me@127.0.0.1:1/db"
    assert place.is_shared
    with pytest.raises(StorageError) as caught:
        TuneStudy(place, Question("q", "auc", 0, True), SPACE)
    assert "postgresql://me@127.0.0.1:1/db" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_trial_of_another_machine_is_left_alone_until_it_is_stale(tmp_path: Path) -> None:
    place = Place(keep_in_file(tmp_path / "study.db").url, "shared", is_shared=True)
    study = TuneStudy(place, Question("q", "auc", 0, True), SPACE)
    trial, _ = study.ask()
    assert study.fail_killed() == 0
    assert (study.count(), study.count_begun()) == (0, 1)
    trial.set_user_attr("seen", 0.0)
    assert study.fail_killed() == 1
    assert (study.count(), study.count_begun()) == (0, 0)
    study.end(trial, "complete", 0.5, 1.0)  # the machine was only slow: what is decided stays
    assert [found.state for found in study.list_trials()] == ["failed"]


def test_spread_is_the_standard_deviation_of_the_sample() -> None:
    assert compute_spread([1.0, 2.0, 3.0]) == pytest.approx(1.0)
    assert compute_spread([1.0]) is None
