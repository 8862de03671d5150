"""Names as they may be shown: file names are a stranger's text, and some letters are not seen or turn others around."""

from __future__ import annotations

import re

# what turns the direction of the text around it, other control letters (terminals obey some), halves of letters
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def reveal(text: str) -> str:
    """`text` with such letters as their codes, `\\u202e`; newlines and tabs stay."""
    return _UNSEEN.sub(lambda found: _spell(found.group()), text)


def show_name(name: str) -> str:
    """A name on one line: a newline or tab in it is shown as its code too."""
    return reveal(re.sub("[\t\n]", lambda found: _spell(found.group()), name))


def _spell(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
