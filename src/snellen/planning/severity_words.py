"""Words that grade: class names of one known scale, and the order they have in it. A proposal, no proof."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ABSENT = ("none", "normal", "healthy", "absent", "negative", "no", "not")
# from the lowest up; words of one step mean the same and never occur together
_SCALES: tuple[tuple[tuple[str, ...], ...], ...] = (
    (
        _ABSENT,
        ("minimal", "trace"),
        ("mild",),
        ("moderate",),
        ("severe",),
        ("proliferative", "proliferate", "pdr", "very severe", "end stage", "endstage"),
    ),
    (_ABSENT, ("very low",), ("low",), ("medium", "moderate", "intermediate"), ("high",), ("very high",)),
    (_ABSENT, ("small",), ("medium",), ("large",)),
    (_ABSENT, ("early",), ("intermediate",), ("late", "advanced")),
)
# what such names carry beside the word of the scale, as in `mild NPDR` and `proliferative DR`
_RETINOPATHY = re.compile(r"\b(?:nonproliferative|non proliferative|diabetic retinopathy|retinopathy|n?pdr|dr)\b")


def order_by_words(names: Sequence[str]) -> tuple[str, ...] | None:
    """The names from lowest to highest where all of them are different steps of one scale; else None.

    A scale's word comes first; what follows it must be the same in all (`mild amd`, `severe amd`) or nothing.
    """
    for scale in _SCALES:
        placed = [_place(name, scale) for name in names]
        steps = [step for step, _ in placed if step is not None]
        rests = {rest for step, rest in placed if step and rest}
        if len(steps) == len(names) and len(set(steps)) == len(names) and len(rests) <= 1:
            return tuple(name for _, name in sorted(zip(steps, names, strict=True)))
    return None


def _place(name: str, scale: Sequence[tuple[str, ...]]) -> tuple[int | None, str]:
    """Step of the scale (None: on none of them), and what stands beside its word."""
    words = " ".join(re.split(r"[\W_]+", name.casefold())).strip()
    known = [(word, step) for step, synonyms in enumerate(scale) for word in synonyms]
    for word, step in sorted(known, key=lambda item: -len(item[0])):
        if words == word or words.startswith(f"{word} "):
            return step, _RETINOPATHY.sub("", words[len(word) :]).strip()
    return None, ""
