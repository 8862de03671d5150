"""What is wrong with a recipe, in the words of whoever wrote it: the key, what belongs there, what was given."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from snellen.records.layers import LAYER_KEYS
from snellen.records.recipe import Recipe

_SHOWN = 60
_EXAMPLES = {
    "data.fractions": "[0.7, 0.15, 0.15]",
    "data.order": '["none", "mild", "severe"]',
    "data.merge": '{sick = ["cnv", "dme"]}',
    "preprocess.window": "[0, 4095]",
    "model.backbone_args": '{pad_type = "same"}',
    "model.head": '[{type = "global_avg_pool"}, {type = "dense", units = 64}]',
    "training.stages": '[{epochs = 30}, {unfreeze = "top"}]',
    "training.stages.0.weight_decay": "[0.1, 1.0]",
}
_WORDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "literal_error": "{expected}",
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "less than {lt:g}",
    "too_long": "a list of at most {max_length}",
    "too_short": "a list of at least {min_length}",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_BOOLS = {"true": "true", "yes": "true", "1": "true", "false": "false", "no": "false", "0": "false"}


def explain_mistakes(error: ValidationError, content: dict[str, Any]) -> list[str]:
    """A line a key of the recipe `content`, such as `preprocess.size: must be at least 16 or 'auto' (given: 8)`."""
    found: dict[str, list[Any]] = {}
    for item in error.errors():
        found.setdefault(_locate(item["loc"], content), []).append(item)
    # a list whose items have mistakes counts for pydantic as too short as well
    inner = [key for key in found if not any(other.startswith(f"{key}.") for other in found)]
    return [f"{key}: {_say(key, found[key])}" for key in inner]


def _locate(location: Sequence[str | int], content: Any) -> str:
    """The key as the user wrote it, without the names of union branches that pydantic adds."""
    parts = []
    place = content
    for part in location:
        is_key = isinstance(place, dict) and part in place
        is_index = isinstance(place, list) and isinstance(part, int) and part < len(place)
        if not is_key and not is_index:
            continue
        place = place[part]
        parts.append(str(part))
    return ".".join(parts) or ".".join(str(part) for part in location)


def _say(key: str, items: Sequence[Mapping[str, Any]]) -> str:
    if any(item["type"] == "extra_forbidden" for item in items):
        near, known = _find_near(key), _list_layer_keys(items)
        if near == key:
            return f"this layer has no such key{known}"
        return "unknown key" + (f"; did you mean {near}?" if near else "") + known
    wanted = [want for item in items if (want := _want(item))]
    said = [f"must be {' or '.join(dict.fromkeys(wanted))}"] if wanted else [_state(item) for item in items]
    # where a value is missing, pydantic shows the table or list that lacks it
    given = items[0]["input"]
    return f"{' or '.join(dict.fromkeys(said))} (given: {_shorten(given)}){_advise(key, given, wanted)}"


def _list_layer_keys(items: Sequence[Mapping[str, Any]]) -> str:
    """The keys of the layer whose type pydantic names before the key."""
    kind = next((item["loc"][-2] for item in items if len(item["loc"]) > 1), "")
    keys = LAYER_KEYS.get(str(kind))
    return "" if keys is None else f"; {kind} has {', '.join(keys) or 'none'}"


def _want(item: Mapping[str, Any]) -> str:
    if item["type"] == "missing" and isinstance(item["loc"][-1], int):
        return "a longer list"
    return _WORDS.get(item["type"], "").format(**item.get("ctx", {}))


def _state(item: Mapping[str, Any]) -> str:
    if item["type"] == "missing":
        return f"{item['loc'][-1]} is missing"
    if item["type"] == "union_tag_not_found":
        return "type is missing"
    if item["type"] == "union_tag_invalid":
        return f"type must be one of {item['ctx']['expected_tags']}"
    return str(item["msg"]).removeprefix("Value error, ")


def _shorten(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _advise(key: str, given: Any, wanted: Sequence[str]) -> str:
    if "true or false" in wanted and str(given).lower() in _BOOLS:
        return f"; write {_BOOLS[str(given).lower()]}"
    place = re.sub(r"\d+", "0", key)
    owner = next((name for name in (place, place.rpartition(".")[0]) if name in _EXAMPLES), None)
    example = f"; example: {_EXAMPLES[owner]}" if owner else ""
    if isinstance(given, str) and given[:1] in ("[", "{"):
        # what is no TOML was taken as text
        return f"; text inside needs quotes{example}"
    return example


def _find_near(key: str) -> str | None:
    """The key that was meant: one of a near name in the same table, else one of that name anywhere."""
    parent, _, last = key.rpartition(".")
    known = list(dict.fromkeys(_list_keys(Recipe)))
    # the keys of a search space are those of the recipe, each with the same fields
    place = re.sub(r"^(tune\.(?:pixel_)?space)\..+$", r"\1", re.sub(r"\d+", "0", parent))
    beside = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == place]
    if near := difflib.get_close_matches(last, beside, n=1):
        return f"{parent}.{near[0]}" if parent else near[0]
    names = {name.rpartition(".")[2]: name for name in reversed(known)}
    close = difflib.get_close_matches(last, names, n=1)
    return names[close[0]] if close else None


def _list_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted keys, with 0 for a place in a list."""
    for name, info in model.model_fields.items():
        yield f"{prefix}{name}"
        is_list = "tuple" in str(info.annotation)
        for inner in _models(info.annotation):
            yield from _list_keys(inner, f"{prefix}{name}.0." if is_list else f"{prefix}{name}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)
