"""A space says what is tried; every mistake in it is told at once, before any data are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from snellen.core.errors import UsageError
from snellen.planning.recipe_files import LoadedRecipe, list_recipes, load_recipe, with_values
from snellen.planning.tune_space import read_space
from snellen.records.recipe import Choices

DECAY = "training.stages.0.weight_decay"


def load(folder: Path, text: str) -> LoadedRecipe:
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    return load_recipe(str(folder / "mine.toml"))


def get_mistakes(folder: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        read_space(load(folder, text))
    return caught.value.message


@pytest.mark.parametrize("name", sorted(list_recipes()))
@pytest.mark.parametrize("pixels", [False, True])
def test_shipped_recipe_has_a_sound_space(name: str, pixels: bool) -> None:
    space = read_space(load_recipe(name, [f"tune.pixels={str(pixels).lower()}"]))
    is_pixel = {key.startswith("preprocess.") for key in space.dimensions}
    assert is_pixel == ({True, False} if pixels else {False})


def test_every_choice_of_the_shipped_space_makes_a_valid_recipe() -> None:
    loaded = load_recipe("auto", ["tune.pixels=true"])
    for key, dimension in read_space(loaded).dimensions.items():
        values = dimension.choices if isinstance(dimension, Choices) else (dimension.low, dimension.high)
        for value in values:
            assert key in with_values(loaded, {key: value}).asked


def test_recipe_without_a_space_takes_that_of_auto(tmp_path: Path) -> None:
    assert read_space(load(tmp_path, "[preprocess]\nsize = 64\n")) == read_space(load_recipe("auto"))


def test_space_is_kept_when_the_recipe_is_written_again(tmp_path: Path) -> None:
    loaded = load_recipe("auto")
    assert read_space(load(tmp_path, loaded.text)) == read_space(loaded)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    said = get_mistakes(
        tmp_path,
        f"""[tune.space]
"preprocess.sise" = {{ choices = [64] }}
"modle.head" = {{ choices = [1] }}
"{DECAY}" = {{ low = 1.0, high = 0.1, log = true }}
"training.stages.0.lr" = {{ low = 0.0, high = 0.1, log = true }}
"augment.views" = {{ choices = [] }}
"imbalance.method" = {{ choices = ["none", "magic"] }}
"data.fractions" = {{ choices = [[0.6, 0.2, 0.2]] }}
"augment.scale" = {{ low = 0.0, high = 0.2, when = {{ "imbalance.methud" = "none" }} }}
"augment.rotation_deg" = {{ low = 0.0, high = 9.0, when = {{ "imbalance.method" = "no" }} }}
""",
    )
    for part in (
        "tune.space.preprocess.sise: unknown key; did you mean preprocess.size?",
        "tune.space.modle.head: unknown key; did you mean model.head?",
        f"tune.space.{DECAY}: low = 1.0 is not below high = 0.1",
        "tune.space.training.stages.0.lr: low = 0.0 has no logarithm",
        "tune.space.augment.views: choices is empty",
        "tune.space.imbalance.method: ",
        "magic",
        "tune.space.data.fractions: may not be tuned",
        "did you mean imbalance.method?",
        "when: 'no' is none of the choices of imbalance.method",
    ):
        assert part in said
    assert said.count("•") == len(set(said.splitlines()[1:]))


def test_empty_space_is_told(tmp_path: Path) -> None:
    assert "tune.space is empty" in get_mistakes(tmp_path, "[tune]\nspace = {}\n")


def test_key_in_both_spaces_is_told(tmp_path: Path) -> None:
    text = '[tune]\npixels = true\nspace."preprocess.size" = { choices = [64] }\n'
    assert "tune.pixel_space.preprocess.size: the key is in tune.space already" in get_mistakes(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tune]\nmetrc = 'auc'\n", "did you mean tune.metric"),
        ("[tune]\nmetric = 'f1'\n", "tune.metric"),
        ("[tune]\nfolds = 1\n", "tune.folds"),
        ("[tune.space]\n'augment.views' = { lo = 1, high = 2 }\n", "did you mean tune.space.augment.views.low"),
        ("[tune.space]\n'augment.views' = 3\n", "tune.space.augment.views"),
    ],
)
def test_malformed_table_is_refused_when_the_recipe_is_read(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match="has mistakes") as caught:
        load(tmp_path, text)
    assert said in caught.value.message


def test_key_counts_only_when_the_other_has_the_value() -> None:
    space = read_space(load_recipe("auto"))
    assert space.is_active("training.stages.0.lr", {"training.stages.0.optimizer": "adamw"})
    assert not space.is_active("training.stages.0.lr", {"training.stages.0.optimizer": "lbfgs"})
    assert not space.is_active("training.stages.0.lr", {})
