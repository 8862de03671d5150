"""Names and counts as they may be shown: file names are a stranger's text, and some letters are not seen or turn
others around.
"""

from __future__ import annotations

import re

from snellen.core.natural_order import is_number

# what turns the direction of the text around it, other control letters (terminals obey some), halves of letters
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def reveal(text: str) -> str:
    """`text` with such letters as their codes, `\\u202e`; newlines and tabs stay."""
    return _UNSEEN.sub(lambda found: _spell(found.group()), text)


def show_name(name: str) -> str:
    """A name on one line: a newline or tab in it is shown as its code too."""
    return reveal(re.sub("[\t\n]", lambda found: _spell(found.group()), name))


def show_class(name: str) -> str:
    """A class's name in running text: `class 2` where it is a number, which a reader would take for a count."""
    return f"class {name}" if is_number(name) else show_name(name)


def show_class_count(name: str, number: int) -> str:
    """`drusen 12`, `class 2: 136`."""
    return f"{show_class(name)}{':' if is_number(name) else ''} {number}"


def show_count(number: int, one: str, several: str = "") -> str:
    """`1 patient`, `2 patients`, `5,232 patients`."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def agree(number: int, verb: str) -> str:
    """A verb in the form that `number` things need: `are`, and `is` for one."""
    if number != 1:
        return verb
    irregular = {"are": "is", "have": "has", "were": "was", "carry": "carries"}
    return irregular.get(verb, f"{verb}s")


def _spell(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
