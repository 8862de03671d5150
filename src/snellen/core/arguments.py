"""What a caller of the Python API passes: names and kinds are checked before any work begins."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from snellen.core.errors import UsageError

# what the command line calls otherwise
_ELSEWHERE = {"no_test": "test=False", "set": "settings=['KEY=VALUE']"}


def require_known(options: Iterable[str], kind: type, *others: str) -> None:
    """Raise UsageError for the first option that is neither a key of the TypedDict `kind` nor one of `others`."""
    known = [*kind.__annotations__, *others]
    for option in options:
        if option not in known:
            near = _ELSEWHERE.get(option) or next(iter(difflib.get_close_matches(option, known, n=1)), "")
            meant = f"Did you mean {near}? " if near else ""
            raise UsageError(f"There is no option {option!r}.", f"{meant}Options are {', '.join(known)}.")
