"""The space of `snellen tune`: which recipe keys are tried with which values. All mistakes are told at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from snellen.core.errors import UsageError
from snellen.planning.recipe_files import LoadedRecipe, list_mistakes, load_recipe
from snellen.records.layers import takes_map
from snellen.records.recipe import Auto, Choices, Range, Recipe, StageWish

_TABLES = ("preprocess", "augment", "imbalance", "model", "training")
_FIXED = ("training.threads",)
_ON_FEATURES = ("training.stages.0.optimizer", "model.head")
_HINT = "`snellen recipes auto` shows a space: see its [tune]."


@dataclass(frozen=True)
class Space:
    """Dotted recipe keys with what may be chosen, in the order of choosing."""

    dimensions: dict[str, Range | Choices]

    def is_active(self, key: str, chosen: Mapping[str, Any]) -> bool:
        """Whether `key` counts once the keys before it have the values `chosen`."""
        when = self.dimensions[key].when
        return all(other in chosen and chosen[other] in _list_values(wanted) for other, wanted in when.items())


def read_space(loaded: LoadedRecipe) -> Space:
    """The space that a recipe asks for. Raises UsageError that lists every mistake."""
    wish = loaded.recipe.tune
    parts = {"tune.space": _resolve(loaded, "space"), "tune.pixel_space": _resolve(loaded, "pixel_space")}
    if not wish.pixels:
        del parts["tune.pixel_space"]
    dimensions: dict[str, Range | Choices] = {}
    problems: list[str] = []
    for part, found in parts.items():
        for key, dimension in found.items():
            told = f"{part}.{key}"
            if key in dimensions:
                problems.append(f"{told}: the key is in tune.space already")
                continue
            problems += (f"{told}: {problem}" for problem in _check(key, dimension, dimensions, loaded))
            dimensions[key] = dimension
    if not dimensions:
        problems.append("tune.space is empty: there is nothing to try")
    if problems:
        listed = "\n".join(f"  • {problem}" for problem in dict.fromkeys(problems))
        raise UsageError(f"The space of the recipe {loaded.recipe.name} has mistakes:\n{listed}", _HINT)
    return Space(dimensions)


def _resolve(loaded: LoadedRecipe, part: str) -> dict[str, Range | Choices]:
    found: dict[str, Range | Choices] | Auto = getattr(loaded.recipe.tune, part)
    if found != "auto":
        return found
    shipped: dict[str, Range | Choices] | Auto = getattr(load_recipe("auto").recipe.tune, part)
    if shipped == "auto":
        return {}
    return _fit_to_maps(shipped) if _learns_on_maps(loaded.recipe) else shipped


def _learns_on_maps(recipe: Recipe) -> bool:
    head = recipe.model.head
    return not isinstance(recipe.training.stages[0], StageWish) or (head != "auto" and takes_map(head))


def _fit_to_maps(space: dict[str, Range | Choices]) -> dict[str, Range | Choices]:
    """Without what learning on the feature map does not know: another optimizer, and the heads on pooled features."""
    kept = {key: dimension for key, dimension in space.items() if key not in _ON_FEATURES}
    return {key: dimension.model_copy(update={"when": {}}) for key, dimension in kept.items()}


def _check(
    key: str, dimension: Range | Choices, before: Mapping[str, Range | Choices], loaded: LoadedRecipe
) -> Iterator[str]:
    table = key.split(".", maxsplit=1)[0]
    if table not in _TABLES or key in _FIXED:
        yield _explain_table(table, key)
        return
    if isinstance(dimension, Choices):
        values = list(dimension.choices)
        if not values:
            yield "choices is empty"
    else:
        values = [dimension.low, dimension.high]
        if dimension.low >= dimension.high:
            yield f"low = {dimension.low} is not below high = {dimension.high}"
        if dimension.log and dimension.low <= 0:
            yield f"low = {dimension.low} has no logarithm"
    for value in values:
        yield from (mistake.removeprefix(f"{key}: ") for mistake in list_mistakes(loaded, key, value))
    for other, wanted in dimension.when.items():
        yield from _check_when(other, wanted, before)


def _explain_table(table: str, key: str) -> str:
    if key in _FIXED or table in Recipe.model_fields:
        return "may not be tuned: it changes what is measured, or how fast, and not the model"
    near = difflib.get_close_matches(table, _TABLES, n=1)
    return "unknown key" + (f"; did you mean {near[0]}{key[len(table) :]}?" if near else "")


def _check_when(other: str, wanted: Any, before: Mapping[str, Range | Choices]) -> Iterator[str]:
    if other not in before:
        near = difflib.get_close_matches(other, list(before), n=1)
        yield f"when: {other} does not stand before it in the space" + (f"; did you mean {near[0]}?" if near else "")
        return
    known = before[other]
    if isinstance(known, Range):
        yield f"when: {other} is a range; only choices can be waited for"
        return
    for value in _list_values(wanted):
        if value not in known.choices:
            yield f"when: {value!r} is none of the choices of {other}"


def _list_values(wanted: Any) -> list[Any]:
    return wanted if isinstance(wanted, list) else [wanted]
