"""The Python API refuses what it does not know, before any data are read."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import snellen
from snellen.core.arguments import require_known
from snellen.core.errors import UsageError
from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.planning.recipe_files import load_recipe
from snellen.workflow import DataOptions, TrainOptions, build_train_request

STEPS: dict[str, Callable[..., Any]] = {
    "audit": snellen.audit, "plan": snellen.plan, "pack": snellen.pack, "train": snellen.train,
}  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_unknown_option_is_refused_by_name(step: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no option 'foo'") as caught:
        STEPS[step](tmp_path, foo=1)
    assert "patients" in caught.value.hint


@pytest.mark.parametrize(
    ("step", "option", "meant"),
    [
        ("train", "no_test", "test=False"), ("train", "sed", "seed"), ("plan", "sed", "seed"),
        ("audit", "patient", "patients"), ("audit", "overwite", "overwrite"), ("pack", "view", "views"),
    ],
)  # fmt: skip
def test_misspelt_option_gets_the_nearest(step: str, option: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        STEPS[step](tmp_path, **{option: True})
    assert caught.value.hint.startswith(f"Did you mean {meant}?")


@pytest.mark.parametrize(("given", "hint"), [("exakt", "Did you mean exact?"), ("foo", "Example: --copies all")])
def test_search_for_copies_that_is_none_is_told_in_words_of_the_command_line(
    tmp_path: Path, given: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=f"--copies {given}: give all, exact or off") as caught:
        snellen.audit(tmp_path, copies=given)
    assert caught.value.hint == hint


def test_unknown_option_of_evaluate_is_refused_also_without_data(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no option 'splitt'"):
        snellen.evaluate(tmp_path, splitt="test")  # type: ignore[call-arg]


def test_every_option_is_known(tmp_path: Path) -> None:
    require_known(dict.fromkeys(("columns", "patients", "cache")), DataOptions)
    require_known(dict.fromkeys(("cache", "recipe", "settings", "seed", "test", "out", "overwrite")), TrainOptions)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    write_cohort(PhantomSpec(kind="oct", n_patients=12, size_px=48, classes=("normal", "cysts")), tmp_path / "oct")
    return tmp_path / "oct"


def test_cache_and_recipe_may_be_paths(cohort: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[preprocess]\nsize = 32\n")
    snellen.audit(cohort, cache=tmp_path / "cache")
    assert (tmp_path / "cache" / "CACHEDIR.TAG").is_file()
    request = build_train_request(cohort, {"cache": tmp_path / "cache", "recipe": recipe})
    assert (request.source.cache, request.recipe) == (str(tmp_path / "cache"), str(recipe))
    assert load_recipe(request.recipe).recipe.preprocess.size == 32


def test_settings_that_can_be_read_once_reach_the_run(cohort: Path) -> None:
    request = build_train_request(cohort, {"settings": (setting for setting in ["preprocess.size=32"])})
    assert request.settings == ("preprocess.size=32",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": -1}, "seed"), ({"seed": 1.5}, "seed"), ({"seed": "x"}, "seed"), ({"seed": 2**32}, "seed"),
        ({"patients": None}, "patients"), ({"patients": re.compile("(a)")}, "patients"),
        ({"columns": "label=label"}, "columns"), ({"columns": {"label": 3}}, "columns"),
        ({"settings": [1]}, "settings"), ({"settings": "preprocess.size=32"}, "settings"),
        ({"settings": 5}, "settings"),
        ({"cache": 5}, "cache"), ({"recipe": None}, "recipe"), ({"test": "maybe"}, "test"), ({"out": 5}, "out"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [snellen.plan, snellen.train])
def test_option_of_another_kind_is_refused_by_name(
    step: Callable[..., Any], options: dict[str, Any], words: str, cohort: Path
) -> None:
    with pytest.raises(UsageError, match=f"^{words}") as caught:
        step(cohort, **options)
    assert caught.value.hint


@pytest.mark.parametrize("given", [None, 5, b"data", ["data"]])
@pytest.mark.parametrize(
    "step",
    [
        snellen.audit, snellen.plan, snellen.train, snellen.load, snellen.evaluate, snellen.resume, snellen.open_run,
        lambda given: snellen.predict(given, ["x.png"]),
    ],
)  # fmt: skip
def test_what_is_no_path_is_refused(step: Callable[..., Any], given: object) -> None:
    with pytest.raises(UsageError, match="is no path"):
        step(given)


@pytest.mark.parametrize("given", [None, 5, ["octmnist"]])
def test_fetch_takes_a_name(given: Any) -> None:
    with pytest.raises(UsageError, match="name"):
        snellen.fetch(given)


@pytest.mark.parametrize("step", [snellen.audit, snellen.plan, snellen.train])
def test_empty_path_does_not_mean_here(step: Callable[..., Any], cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cohort)
    with pytest.raises(UsageError, match="DATA is empty"):
        step("")


def test_home_of_an_unknown_user_is_told_by_its_path() -> None:
    with pytest.raises(UsageError, match="~nosuchuser/data"):
        snellen.audit("~nosuchuser/data")


@pytest.mark.parametrize("views", [-1, "3", 1.5, True])
def test_views_of_another_kind_are_refused(views: Any, cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^views"):
        snellen.pack(cohort, views=views, out=tmp_path / "cohort.h5")


def test_mistakes_of_the_recipe_are_told_before_the_data_are_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"preprocess\.size"):
        snellen.train(tmp_path / "nowhere", settings=iter(["preprocess.size=3"]))


@pytest.mark.parametrize("folds", [1, 2, -3, 100])
def test_folds_that_cannot_be_are_told_by_the_option(folds: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        build_train_request(tmp_path, {"folds": folds})
    assert caught.value.message.startswith(f"--folds {folds}: ")
    assert "recipe" not in str(caught.value)


def test_mistake_of_an_option_speaks_no_library_s_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        build_train_request(tmp_path, {"seed": -1, "patients": ""})
    assert "Value error" not in str(caught.value)
