"""What the reference says of the published systems stands in their recipes, key by key."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from snellen.core.errors import UsageError
from snellen.modeling.blocks import build_head
from snellen.planning.recipe_files import list_recipes, load_recipe
from snellen.records.layers import Attention, Dense

ROOT = Path(__file__).parents[2]
FEATURES = tomllib.loads((ROOT / "docs" / "recipes.toml").read_text(encoding="utf-8"))
ROWS = [(name, row) for name, entry in FEATURES.items() for row in entry["features"]]
KEYS = [(name, key, value) for name, row in ROWS for key, value in row.get("keys", {}).items()]


def find(content: Any, key: str) -> Any:
    """The value at a dotted key; a key of a table may hold dots itself, as those of a search space do."""
    if not key:
        return content
    if isinstance(content, list):
        first, _, rest = key.partition(".")
        return find(content[int(first)], rest)
    for name in content:
        if key == name or key.startswith(f"{name}."):
            return find(content[name], key[len(name) + 1 :])
    raise AssertionError(f"there is no {key} below {list(content)}")


@pytest.mark.parametrize(("name", "key", "value"), KEYS, ids=lambda value: str(value)[:40])
def test_recipe_holds_the_key_with_the_value_that_the_page_tells(name: str, key: str, value: Any) -> None:
    assert find(load_recipe(name).recipe.to_dict(), key) == value


def test_every_published_recipe_has_its_table_and_no_other() -> None:
    assert set(FEATURES) == set(list_recipes()) - {"auto"}


def test_every_feature_is_held_by_a_key_a_setting_or_a_command() -> None:
    assert [row["feature"] for _, row in ROWS if not {"keys", "setting", "command"} & row.keys()] == []


@pytest.mark.parametrize(("name", "setting"), [(name, row["setting"]) for name, row in ROWS if "setting" in row])
def test_setting_of_the_page_is_taken(name: str, setting: str) -> None:
    assert load_recipe(name, [setting]).text != load_recipe(name).text


def test_page_names_every_recipe_and_feature() -> None:
    page = (ROOT / "docs" / "reference" / "recipes.md").read_text(encoding="utf-8")
    assert [name for name in FEATURES if f"## {name}" not in page] == []
    assert [row["feature"] for _, row in ROWS if row["feature"] not in page] == []


def test_generator_finds_the_same_features() -> None:
    spec = importlib.util.spec_from_file_location("docs_generate_recipes", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.read_recipe_features() == FEATURES


OWN = (ROOT / "docs" / "how-to" / "own-recipe.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```toml\n(.*?)^```", OWN, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block[:30])
def test_block_of_the_page_on_own_recipes_is_one(block: str, tmp_path: Path) -> None:
    # a block that begins with a key of a table stands in the table that the text names
    text = f"[model]\n{block}" if block.startswith("head") else block
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    assert load_recipe(str(tmp_path / "mine.toml")).asked


def test_messages_of_the_page_on_own_recipes_are_those_of_the_code() -> None:
    with pytest.raises(UsageError) as caught:
        build_head((Attention(), Dense(units=8)), (1280, 7, 7), 2)
    assert caught.value.message in OWN
    assert caught.value.hint in OWN
