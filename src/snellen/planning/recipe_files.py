"""Recipe files: TOML plus `--set` → a validated Recipe. All mistakes are told at once, with near names."""

from __future__ import annotations

import difflib
import importlib.resources
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from snellen.core.errors import UsageError
from snellen.planning.recipe_mistakes import explain_mistakes
from snellen.records.recipe import Recipe

_TEXT_KEYS = ("name", "description", "data.positive", "model.backbone", "model.weights")
_HINT = "`snellen recipes auto` prints every key with its meaning."


@dataclass(frozen=True)
class LoadedRecipe:
    """`asked` holds the dotted keys whose value differs from the default.

    `text` is the TOML that reproduces the recipe.
    """

    recipe: Recipe
    asked: frozenset[str]
    text: str


def list_recipes() -> dict[str, str]:
    """Name → description of the recipes that come with Snellen."""
    found = {}
    for item in sorted(importlib.resources.files("snellen.planning.recipes").iterdir(), key=lambda item: item.name):
        if item.name.endswith(".toml"):
            content = tomllib.loads(item.read_text(encoding="utf-8"))
            found[item.name.removesuffix(".toml")] = str(content.get("description", ""))
    return found


def read_recipe_text(name: str) -> str:
    """The TOML of a shipped recipe, or of the file at `name`. Raises UsageError with near names."""
    shipped = importlib.resources.files("snellen.planning.recipes").joinpath(f"{name}.toml")
    if "/" not in name and "\\" not in name and shipped.is_file():
        return shipped.read_text(encoding="utf-8")
    path = Path(name).expanduser()
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"The recipe {path} cannot be read: {error}", "A recipe is TOML in UTF-8.") from error
    known = list(list_recipes())
    if name and path.is_dir():
        raise UsageError(f"{path} is a folder, no recipe.", f"Give a TOML file, or one of {', '.join(known)}.")
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise UsageError(f"There is no file {path}.", f"Check the path, or name a shipped recipe: {', '.join(known)}.")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Shipped recipes: {', '.join(known)}; or give a file."
    raise UsageError(f"There is no recipe {name!r}.", hint)


def load_recipe(name: str, settings: Sequence[str] = ()) -> LoadedRecipe:
    """Recipe `name` (shipped or file) with `KEY=VALUE` settings on top. Raises UsageError listing every mistake."""
    try:
        content = tomllib.loads(read_recipe_text(name))
    except (ValueError, RecursionError) as error:  # a number too long to read is another ValueError than wrong TOML
        raise UsageError(f"The recipe {name} is no valid TOML: {error}", _HINT) from error
    for setting in settings:
        _apply(content, setting)
    content.setdefault("name", Path(name).stem)
    return _build(content, name)


def with_values(loaded: LoadedRecipe, values: Mapping[str, Any]) -> LoadedRecipe:
    """The recipe with dotted keys set to plain values. Raises UsageError listing every mistake."""
    content = tomllib.loads(loaded.text)
    for key, value in values.items():
        _insert(content, key, value, key)
    return _build(content, loaded.recipe.name)


def list_mistakes(loaded: LoadedRecipe, key: str, value: Any) -> list[str]:
    """What is wrong with setting a dotted key to a plain value; none where the recipe stays valid."""
    content = tomllib.loads(loaded.text)
    try:
        _insert(content, key, value, key)
    except UsageError as error:
        return [error.message]
    try:
        Recipe.model_validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        return explain_mistakes(error, content)
    return []


def _build(content: dict[str, Any], name: str) -> LoadedRecipe:
    content = json.loads(json.dumps(content, default=str))  # dates become text
    try:
        recipe = Recipe.model_validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        listed = "\n".join(f"  • {line}" for line in explain_mistakes(error, content))
        raise UsageError(f"The recipe {name} has mistakes:\n{listed}", _HINT) from error
    return LoadedRecipe(recipe, _find_asked(content), _to_toml(content))


def _find_asked(content: dict[str, Any]) -> frozenset[str]:
    """Keys whose value differs from the default: shipped recipes spell out defaults that nobody asked for."""
    defaults = dict(_flatten(Recipe().to_dict()))
    return frozenset(key for key, value in _flatten(content) if key not in defaults or defaults[key] != value)


def _apply(content: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {setting}: expected KEY=VALUE.", "Example: --set training.stages.0.epochs=3")
    value = _parse(text.strip())
    if key.strip() in _TEXT_KEYS and not isinstance(value, str):
        value = text.strip()  # a class may be called 1
    _insert(content, key.strip(), value, f"--set {setting}")


def _insert(content: dict[str, Any], key: str, value: Any, told: str) -> None:
    """Put `value` at a dotted key, making tables and places in lists on the way; `told` names it in errors."""
    parts = key.split(".")
    place: Any = content
    for position, part in enumerate(parts[:-1]):
        is_list_next = parts[position + 1].isdecimal()
        place = _step(place, part, [] if is_list_next else {}, told)
    _put(place, parts[-1], value, told)


def _step(place: Any, part: str, empty: Any, told: str) -> Any:
    if isinstance(place, list):
        if not part.isdecimal() or int(part) > len(place):
            raise UsageError(f"{told}: {part!r} is no place in a list of {len(place)}.", _HINT)
        if int(part) == len(place):
            place.append(empty)
        return place[int(part)]
    if not isinstance(place, dict):
        raise UsageError(f"{told}: nothing lies below {part!r}.", _HINT)
    return place.setdefault(part, empty)


def _put(place: Any, part: str, value: Any, told: str) -> None:
    if isinstance(place, dict):
        place[part] = value
    elif isinstance(place, list) and part.isdecimal() and int(part) <= len(place):
        place[int(part) : int(part) + 1] = [value]
    else:
        raise UsageError(f"{told}: there is no such place.", _HINT)


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _flatten(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of all that are not `"auto"`."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _flatten(value, f"{prefix}{key}.")
    elif isinstance(content, list) and content and isinstance(content[0], dict):
        yield prefix[:-1], content
        for index, value in enumerate(content):
            yield from _flatten(value, f"{prefix}{index}.")
    elif content != "auto":
        yield prefix[:-1], content


def _to_toml(content: dict[str, Any]) -> str:
    """The recipe as TOML: JSON's scalars and arrays are TOML's too; inline tables keep lists of layers short."""
    lines: list[str] = []

    def name(key: str) -> str:
        return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else value(key)

    def value(item: Any) -> str:
        if isinstance(item, dict):
            return "{ " + ", ".join(f"{json.dumps(key)} = {value(inner)}" for key, inner in item.items()) + " }"
        if isinstance(item, list):
            return "[" + ", ".join(value(inner) for inner in item) + "]"
        return json.dumps(item, ensure_ascii=False).replace("\x7f", "\\u007f")

    def table(items: dict[str, Any], path: str) -> None:
        lines.extend(f"{name(key)} = {value(item)}" for key, item in items.items() if not isinstance(item, dict))
        for key, item in items.items():
            if isinstance(item, dict):
                lines.extend(["", f"[{path}{name(key)}]"])
                table(item, f"{path}{name(key)}.")

    table(content, "")
    return "\n".join(lines) + "\n"
