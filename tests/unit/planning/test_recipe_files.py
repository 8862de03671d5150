"""Recipes as people write them: every mistake is told at once, and what was read can be written again."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from snellen.core.errors import UsageError
from snellen.planning.recipe_files import list_recipes, load_recipe, read_recipe_text
from snellen.records.recipe import FinetuneWish, Recipe, StageWish


def write(folder: Path, text: str, name: str = "mine.toml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def set_values(*settings: str) -> Recipe:
    return load_recipe("auto", settings).recipe


def get_mistakes(folder: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_recipe(write(folder, text))
    return caught.value.message


def test_load_recipe_auto_is_the_default_recipe() -> None:
    found = load_recipe("auto").recipe
    # it spells out the space that the default refers to by name
    assert (found.tune.space, Recipe().tune.space) != ("auto", "auto")
    assert found == Recipe(description=found.description, tune=found.tune)
    spaces = {"space": "auto", "pixel_space": "auto"}
    assert found.tune.model_copy(update=spaces) == Recipe().tune


def test_load_recipe_takes_its_name_from_the_file(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, "", "my-eyes.toml")).recipe.name == "my-eyes"


def test_load_recipe_keeps_the_name_that_it_bears(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, 'name = "amd"')).recipe.name == "amd"


def test_load_recipe_keeps_what_the_file_says(tmp_path: Path) -> None:
    text = '[preprocess]\nsize = 128\n[model]\nhead = [{ type = "dense", units = 8 }]\nbackbone_args.pad_type = "same"'
    recipe = load_recipe(write(tmp_path, text)).recipe
    assert (recipe.preprocess.size, recipe.model.head[0].units) == (128, 8)  # type: ignore[union-attr]  # it is a Dense
    assert recipe.model.backbone_args == {"pad_type": "same"}


@pytest.mark.parametrize("text", ["", '[preprocess]\nsize = "auto"\n'])
def test_load_recipe_does_not_call_auto_asked(tmp_path: Path, text: str) -> None:
    assert "preprocess.size" not in load_recipe(write(tmp_path, text)).asked


def test_load_recipe_calls_values_of_the_file_asked(tmp_path: Path) -> None:
    text = "[preprocess]\nsize = 128\n[[training.stages]]\nepochs = 3\n"
    assert {"preprocess.size", "training.stages.0.epochs"} <= load_recipe(write(tmp_path, text)).asked


def test_load_recipe_calls_settings_asked() -> None:
    assert "preprocess.size" in load_recipe("auto", ["preprocess.size=64"]).asked


def test_settings_win_over_the_file(tmp_path: Path) -> None:
    name = write(tmp_path, "[preprocess]\nsize = 128\n")
    assert load_recipe(name, ["preprocess.size=64"]).recipe.preprocess.size == 64


def test_the_last_setting_wins() -> None:
    assert set_values("preprocess.size=64", "preprocess.size=96").preprocess.size == 96


@pytest.mark.parametrize(
    ("setting", "path", "expected"),
    [
        ("preprocess.size=64", "preprocess.size", 64), (" preprocess.size = 64 ", "preprocess.size", 64),
        ("preprocess.crop_border=true", "preprocess.crop_border", True),
        ("preprocess.clahe=2", "preprocess.clahe", 2.0),
        ("preprocess.fit=crop", "preprocess.fit", "crop"), ('preprocess.fit="crop"', "preprocess.fit", "crop"),
        ("preprocess.size=auto", "preprocess.size", "auto"),
        ("data.fractions=[0.6, 0.2, 0.2]", "data.fractions", (0.6, 0.2, 0.2)),
        ("data.positive=no_dr", "data.positive", "no_dr"), ("data.positive=wet AMD", "data.positive", "wet AMD"),
        ("data.positive=a=b", "data.positive", "a=b"),
        ("model.weights=/w/x.safetensors", "model.weights", "/w/x.safetensors"),
        ("model.backbone_args.pad_type=same", "model.backbone_args", {"pad_type": "same"}),
    ],
)  # fmt: skip
def test_setting_becomes_a_value(setting: str, path: str, expected: object) -> None:
    value: Any = set_values(setting)
    for part in path.split("."):
        value = getattr(value, part)
    assert value == expected


@pytest.mark.parametrize("value", ["1", "0", "007", "true", "2024-05-01", "1.0"])
def test_setting_of_a_class_name_may_look_like_something_else(value: str) -> None:
    # class folders 0 and 1 are common, and nobody types --set 'data.positive="1"'
    assert set_values(f"data.positive={value}").data.positive == value


@pytest.mark.parametrize(
    "settings", [["data.merge={ill=[2, '3']}"], ["data.merge.ill=[2, 3]"], ['data.merge={"ill"=["2","3"]}']]
)
def test_setting_of_labels_to_merge_takes_numbers_as_text(settings: list[str]) -> None:
    loaded = load_recipe("auto", settings)
    assert loaded.recipe.data.merge == {"ill": ("2", "3")}


@pytest.mark.parametrize("setting", ["data.merge={ill=[]}", "data.merge={ill='2'}", "data.merge={ill=[true]}"])
def test_setting_of_labels_to_merge_refuses_what_is_no_list_of_labels(setting: str) -> None:
    with pytest.raises(UsageError, match=r"data\.merge"):
        load_recipe("auto", [setting])


def test_setting_reaches_into_a_list() -> None:
    assert set_values("training.stages.0.epochs=3").training.stages[0].epochs == 3


def test_setting_leaves_its_neighbours_alone() -> None:
    changed = set_values("training.stages.0.epochs=3").training.stages[0]
    assert changed.model_copy(update={"epochs": "auto"}) == set_values().training.stages[0]


def test_setting_makes_a_list_where_there_is_none(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, ""), ["training.stages.0.epochs=3"]).recipe.training.stages[0].epochs == 3


def test_setting_takes_a_list_of_layers() -> None:
    head = set_values('model.head=[{type="global_avg_pool"},{type="dropout",p=0.5}]').model.head
    assert [layer.type for layer in head] == ["global_avg_pool", "dropout"]  # type: ignore[union-attr]  # not "auto"


@pytest.mark.parametrize(
    "setting",
    [
        "preprocess.size", "", "=3", "=", ".", "preprocess.size=", "preprocess=3", "preprocess.size.x=3",
        "preprocess.size.x.y=3", "training.stages.x.epochs=3", "training.stages.-1.epochs=3",
        "training.stages.7.epochs=3", "training.stages.2.epochs=3", "training.stages=3", "training.stages=[]",
        "training.stages.².epochs=3", "evaluation.level=nan", "training.stages.0.lr=inf", "training.stages.0.lr=-1",
        "preprocess.size=64.5", "preprocess.crop_border=1", "preprocess.crop_border=True", "a..b=2",
    ],
)  # fmt: skip
def test_setting_that_does_not_fit_is_refused_with_hint(setting: str) -> None:
    with pytest.raises(UsageError) as caught:
        set_values(setting)
    assert caught.value.hint


@pytest.mark.parametrize("setting", ["preprocess.size", "=3"])
def test_setting_without_key_or_value_shows_an_example(setting: str) -> None:
    with pytest.raises(UsageError, match="expected KEY=VALUE") as caught:
        set_values(setting)
    assert "training.stages.0.epochs=3" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[preprocess]\nsise = 3", "preprocess.sise: unknown key; did you mean preprocess.size?"),
        ("[preproces]\nsize = 64", "preproces: unknown key; did you mean preprocess?"),
        ("[[training.stages]]\nepoch = 3", "unknown key; did you mean training.stages.0.epochs?"),
        ("[augment]\nxyzzy = 3", "augment.xyzzy: unknown key"),
        ("size = 320", "size: unknown key; did you mean preprocess.size?"),
        ("units = 4", "units: unknown key; did you mean model.head.0.units?"),
    ],
)
def test_unknown_key_is_named_with_a_near_one(tmp_path: Path, text: str, words: str) -> None:
    assert get_mistakes(tmp_path, text).endswith(words)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    message = get_mistakes(tmp_path, '[preprocess]\nsise = 3\nfit = "squash"\n[evaluation]\nlevel = 2\n')
    assert [re.match(r"  • ([\w.]+)", line)[1] for line in message.splitlines()[1:]] == [  # type: ignore[index]  # must match
        "preprocess.fit", "preprocess.sise", "evaluation.level",
    ]  # fmt: skip


def test_wrong_value_is_shown(tmp_path: Path) -> None:
    message = get_mistakes(tmp_path, '[preprocess]\nfit = "squash"\n')
    assert 'given: "squash"' in message
    assert "'stretch', 'pad' or 'crop'" in message


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.fractions=[0.5,0.5]", "must be a longer list (given: [0.5, 0.5]); example: [0.7, 0.15, 0.15]"),
        ("data.fractions=[0.4,0.2,0.2,0.2]", "must be a list of at most 3 (given: [0.4, 0.2, 0.2, 0.2]);"),
        ("preprocess.window=[1]", "preprocess.window: must be a longer list or 'auto' (given: [1])"),
        ("preprocess.size=groß", "preprocess.size: must be a whole number or 'auto' (given: \"groß\")"),
        ("preprocess.size=8", "preprocess.size: must be at least 16 or 'auto' (given: 8)"),
        ("data.ordered=True", "data.ordered: must be true or false or 'auto' (given: \"True\"); write true"),
        ("data.merge={sick=[cnv,dme]}", "text inside needs quotes; example: {sick = [\"cnv\", \"dme\"]}"),
        ("training.stages=[{},{},{},{},{}]", "must be a list of at most 4 (given: [{}, {}, {}, {}, {}])"),
        ("training.stages=[{},{}]", "training.stages: each stage after the first says what learns"),
        ("training.stages.1.unfreeze=some", "unfreeze: must be 'auto', 'none', 'top' or 'all' (given: \"some\")"),
        ("training.stages.1.share=2", "training.stages.1.share: must be at most 1 or 'auto' (given: 2)"),
        ('model.head=[{type="dense"}]', "model.head.0: units is missing"),
    ],
)  # fmt: skip
def test_wrong_setting_is_told_in_plain_words(setting: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        set_values(setting)
    assert said in caught.value.message
    assert "Input should" not in caught.value.message


def test_long_value_ends_with_an_ellipsis() -> None:
    with pytest.raises(UsageError, match=r"aaa…\)"):
        set_values(f"preprocess.size={'a' * 100}")


def test_mistake_in_a_layer_is_named_by_its_place(tmp_path: Path) -> None:
    assert "model.head.1.p" in get_mistakes(tmp_path, '[model]\nhead = [{type="relu"}, {type="dropout", p=3}]\n')


def test_unknown_key_of_a_layer_is_told_with_the_keys_that_it_has(tmp_path: Path) -> None:
    told = get_mistakes(tmp_path, '[model]\nhead = [{type="dropout", pp=0.3}, {type="conv", channels=3, chanels=4}]\n')
    assert "model.head.0.pp: unknown key; did you mean model.head.0.p?; dropout has p" in told
    assert "conv has channels, kernel" in told


def test_mistake_in_a_stage_is_told_only_there(tmp_path: Path) -> None:
    message = get_mistakes(tmp_path, "[[training.stages]]\nepochs = 0\n")
    assert [line.split(":")[0] for line in message.splitlines()[1:]] == ["  • training.stages.0.epochs"]


def test_broken_toml_is_told_with_its_line(tmp_path: Path) -> None:
    assert "at line 2" in get_mistakes(tmp_path, "[preprocess]\nsize 64\n")


@pytest.mark.parametrize(
    "text", ["[" * 5000, f"a = {'[' * 5000}", f"a = {'9' * 5000}"], ids=["table", "list", "number"]
)
def test_recipe_beyond_what_can_be_read_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="no valid TOML"):
        load_recipe(write(tmp_path, text))
    with pytest.raises(UsageError, match="has mistakes"):
        load_recipe("auto", [f"preprocess.size={text.removeprefix('a = ')}"])


@pytest.mark.parametrize("name", ['""', '" "', '"\\t "'])
def test_class_without_a_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="a class needs a name"):
        load_recipe("auto", [f'data.merge={{{name}=["cysts"]}}'])


@pytest.mark.parametrize("content", [b"\xff\xfe[\0d\0", b"\x80"])
def test_recipe_that_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(UsageError, match="UTF-8"):
        load_recipe(str(tmp_path / "mine.toml"))


def test_recipe_saved_with_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf[preprocess]\r\nsize = 64\r\n")
    assert load_recipe(str(tmp_path / "mine.toml")).recipe.preprocess.size == 64


@pytest.mark.parametrize("name", ["aut", "Auto", "autoo"])
def test_unknown_recipe_is_refused_with_a_near_name(name: str) -> None:
    with pytest.raises(UsageError, match=f"There is no recipe '{name}'") as caught:
        load_recipe(name)
    assert caught.value.hint == "Did you mean auto?"


@pytest.mark.parametrize("name", ["", "xyzzy", "../auto", "/etc", "recipes/auto.toml"])
def test_unknown_recipe_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(name)
    assert "auto" in caught.value.hint


def test_shipped_recipe_wins_over_a_file_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "[preprocess]\nsize = 64\n", "auto")
    monkeypatch.chdir(tmp_path)
    assert load_recipe("auto").recipe.preprocess.size == "auto"


SETTINGS: dict[str, list[str]] = {
    "none": [],
    "values": ["preprocess.size=64", "preprocess.crop_border=true", "preprocess.clahe=1e-05"],
    "fractions": ["data.fractions=[0.6,0.2,0.2]"],
    "layers": ['model.head=[{type="global_avg_pool"},{type="dropout",p=0.5},{type="dense",units=3}]'],
    "no-second-stage": ["training.stages.1.unfreeze=none"],
    "second-stage": ["training.stages.1.unfreeze=top", "training.stages.1.views=2", "training.stages.1.cache=false"],
    "stage": ["training.stages.0.lr=1e-3", "training.stages.0.weight_decay=[0.0, 1e2]"],
    "arguments": ["model.backbone_args.pad_type=same", "model.backbone_args.drop_rate=0.1"],
    "text": ["description='He said \"µ < 3\"\\ and left'", "data.positive=a\tb", 'data.positive="a\\nb"'],
    "paths": ["model.weights=C:\\weights\\new.safetensors"],
    "odd-key": ["model.backbone_args.a b=1"],
    "delete-sign": ['description="\\u007f"'],
}  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_written_text_gives_the_same_recipe(tmp_path: Path, settings: list[str]) -> None:
    loaded = load_recipe("auto", settings)
    assert load_recipe(write(tmp_path, loaded.text, "recipe.toml")).recipe == loaded.recipe


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_written_text_remembers_what_was_asked(tmp_path: Path, settings: list[str]) -> None:
    loaded = load_recipe("auto", settings)
    assert load_recipe(write(tmp_path, loaded.text, "recipe.toml")).asked == loaded.asked


@pytest.mark.parametrize("text", ["description = 2024-05-01", "name = 2024-05-01\n", "[data]\npositive = 12:30:00"])
def test_date_in_a_recipe_is_refused_or_written_again(tmp_path: Path, text: str) -> None:
    try:
        loaded = load_recipe(write(tmp_path, text))
    except UsageError:
        return
    assert load_recipe(write(tmp_path, loaded.text, "recipe.toml")).recipe == loaded.recipe


def walk_fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted keys of all values: of the stage of the head, and of one that fine-tunes."""
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from walk_fields(inner, f"{prefix}{name}.")
        elif name == "stages":
            yield from walk_fields(StageWish, f"{prefix}stages.0.")
            yield from walk_fields(FinetuneWish, f"{prefix}stages.1.")
        else:
            yield prefix + name


def walk_values(content: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from walk_values(value, f"{prefix}{key}.")
        elif key == "stages":
            for place, stage in enumerate(value):
                yield from walk_values(stage, f"{prefix}stages.{place}.")
        else:
            yield prefix + key


def test_auto_recipe_lists_every_key() -> None:
    found = set(walk_values(tomllib.loads(read_recipe_text("auto"))))
    spaces = {key for key in found if key.startswith(("tune.space.", "tune.pixel_space."))}
    # the name is the file's own, the spaces hold keys of the recipe itself
    assert found - spaces == set(walk_fields(Recipe)) - {"name", "tune.space", "tune.pixel_space"}
    assert {key.split(".")[1] for key in spaces} == {"space", "pixel_space"}


def test_auto_recipe_explains_its_values() -> None:
    lines = [line for line in read_recipe_text("auto").splitlines() if re.match(r"\w+ = ", line)]
    flips = ("description", "flip_", "epochs", "batch_size", "lr")  # their names say all
    assert [line for line in lines if "#" not in line and not line.startswith(flips)] == []


@pytest.mark.parametrize("name", list_recipes())
def test_shipped_recipe_loads(name: str) -> None:
    assert load_recipe(name).recipe.name == name


@pytest.mark.parametrize("name", list_recipes())
def test_shipped_recipe_says_what_it_is_for(name: str) -> None:
    assert len(list_recipes()[name]) > 20


@pytest.mark.parametrize("name", ["../../evil", "a/b", "..", "", "a\\b", "a\nb"])
def test_name_that_would_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        load_recipe("auto", [f"name={name}"])
