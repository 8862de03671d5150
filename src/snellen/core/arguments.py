"""What a caller of the Python API passes: names and kinds are checked before any work begins."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from snellen.core.errors import UsageError

Choice = TypeVar("Choice", bound=str)

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


def to_path(given: object, name: str) -> Path:
    """The path that was given as `name`, with `~` put in full. Raises UsageError for what is none or empty.

    An empty path would mean the working directory, and is mostly a variable of a script that was never set.
    """
    if given == "":
        raise UsageError(f"{name} is empty.", "Give a path; . is the folder that you are in.")
    path = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(path, str):
        raise UsageError(f"{name}: {given!r} is no path.", "Give text or a pathlib.Path.")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"{name} {path}: there is no such home folder.", "Write full paths; what is itself called ~ is ./~."
        ) from error


def to_path_or_none(given: object, name: str) -> Path | None:
    """The same where nothing need be given."""
    return None if given is None else to_path(given, name)


def to_text(given: object, name: str) -> str:
    """What was given as `name`, a path as text. Raises UsageError where it is neither text nor path."""
    text = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(text, str):
        raise UsageError(f"{name}: {given!r} is no text.", "Put it in quotes.")
    return text


def require_whole(given: object, name: str, least: int, most: int) -> None:
    """Raise UsageError where what was given as `name` is no whole number from `least` to `most`."""
    if not isinstance(given, int) or isinstance(given, bool) or not least <= given <= most:
        raise UsageError(
            f"{name}: {given!r} is no whole number from {least} to {most}.", "Leave it out, or correct it."
        )


def to_choice(given: object, name: str, choices: Sequence[Choice]) -> Choice:
    """The one of `choices` that was given as `name`. Raises UsageError where it is none of them."""
    for choice in choices:
        if choice == given:
            return choice
    near = difflib.get_close_matches(str(given), choices, n=1)
    meant = f"Did you mean {near[0]}?" if near else f"Example: --{name} {choices[0]}"
    raise UsageError(f"--{name} {given}: give {', '.join(choices[:-1])} or {choices[-1]}.", meant)


def to_texts(given: object, name: str) -> tuple[str, ...]:
    """A list of texts as a tuple. Raises UsageError for one text, for no list, and for what is no text in it."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise UsageError(f"{name}: {given!r} is no list.", f"Write {name}=[…].")
    return tuple(to_text(item, name) for item in given)
