"""Names in the order a person would count them: `grade_9` before `grade_10`, -1 before 0.25 before 0.5."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

# a sign only where it stands apart, as in `-1` and `grade_-1`, not in `grade-1` and `18-30`;
# a fraction only where it is the only one, so that versions such as `1.10.2` stay whole numbers
_NUMBER = re.compile(r"(?:(?<![^\s_=])[-+−])?(?:(?<!\d[.,])\d+[.,]\d+(?![.,]?\d)|\d+)")


def sort_naturally(names: Iterable[str]) -> tuple[str, ...]:
    """By the numbers in the names, whose signs and fractions count, and by letters whatever their case."""
    return tuple(sorted(names, key=lambda name: (_split(name), name)))


def read_numbers(names: Sequence[str]) -> tuple[Decimal, ...] | None:
    """The first number of each name, where names differ by it and begin alike up to it; else None.

    So for `0`, `grade_1` or `2 - moderate`; not for `T1` beside `N1`, nor for `1a` beside `1b`.
    """
    found = [_NUMBER.search(name) for name in names]
    if not names or any(match is None for match in found):
        return None
    matches = [match for match in found if match is not None]
    stems = {re.sub(r"[\s_=-]+$", "", match.string[: match.start()].casefold().strip()) for match in matches}
    numbers = tuple(_to_number(match.group()) for match in matches)
    return numbers if len(stems) == 1 and len(set(numbers)) == len(numbers) else None


def is_number(name: str) -> bool:
    """Whether the whole name is a number."""
    return _NUMBER.fullmatch(name) is not None


def _split(name: str) -> list[tuple[int, Decimal, str]]:
    """Numbers sort before letters."""
    parts: list[tuple[int, Decimal, str]] = []
    begin = 0
    for match in _NUMBER.finditer(name):
        if match.start() > begin:
            parts.append((1, Decimal(0), name[begin : match.start()].casefold()))
        parts.append((0, _to_number(match.group()), ""))
        begin = match.end()
    if begin < len(name):
        parts.append((1, Decimal(0), name[begin:].casefold()))
    return parts


def _to_number(text: str) -> Decimal:
    return Decimal(text.replace(",", ".").replace("−", "-"))
