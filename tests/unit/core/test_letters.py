"""Names as they may be shown: nothing unseen, nothing that a terminal obeys."""

from __future__ import annotations

import pytest

from snellen.core.letters import reveal, show_name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("evil\u202egpj.exe", "evil\\u202egpj.exe"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("half \ud800", "half \\ud800"),
        ("two\nlines\t", "two\nlines\t"),
        ("Übung 日本 עברית 👁", "Übung 日本 עברית 👁"),
    ],
)
def test_reveal_shows_unseen_letters_as_codes_and_keeps_all_others(text: str, shown: str) -> None:
    assert reveal(text) == shown


def test_show_name_keeps_to_one_line() -> None:
    assert show_name("a\nb\tc") == "a\\nb\\tc"
