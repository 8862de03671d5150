"""How each value of a plan came about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from snellen.records.plan import Decision, How

T = TypeVar("T")


@dataclass
class Ledger:
    """Collects decisions. A wish that is not "auto" wins and is recorded as asked."""

    asked: frozenset[str]
    decisions: list[Decision] = field(default_factory=list)

    def settle(self, key: str, wish: T | Literal["auto"], found: tuple[T, How, str]) -> T:
        value, how, reason = found
        is_asked = key in self.asked or any(asked.startswith(f"{key}.") for asked in self.asked)  # of a table: its keys
        if is_asked and wish != "auto":
            self.decisions.append(
                Decision(key=key, value=to_plain(wish), how="asked", reason="set in the recipe or with --set")
            )
            return wish
        self.decisions.append(Decision(key=key, value=to_plain(value), how=how, reason=reason))
        return value


def to_plain(value: Any) -> Any:
    """A value as JSON would hold it."""
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value
