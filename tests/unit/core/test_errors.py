"""Errors tell what is wrong and what to do."""

from __future__ import annotations

import pytest

from snellen.core import errors
from snellen.core.errors import DataError, SnellenError, UsageError, require_no_problems

BRANCHES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SnellenError)]


def test_error_text_shows_message_and_hint() -> None:
    assert str(UsageError("size = 3 is too small.", "Take 16.")) == "size = 3 is too small.\n  → Take 16."


def test_error_text_without_hint_is_the_message() -> None:
    assert str(DataError("no pictures")) == "no pictures"


def test_error_code_can_be_told_apart_by_case() -> None:
    assert DataError("x", code="one_class").code == "one_class"


def test_error_code_of_one_case_leaves_its_branch_alone() -> None:
    DataError("x", code="one_class")
    assert DataError("y").code == "data"


def test_error_codes_are_distinct() -> None:
    assert len({kind.code for kind in BRANCHES}) == len(BRANCHES)


@pytest.mark.parametrize("kind", BRANCHES, ids=lambda kind: kind.__name__)
def test_error_tree_is_drawn_in_the_docstring(kind: type[SnellenError]) -> None:
    assert kind.__name__ in (errors.__doc__ or "")


def test_require_no_problems_lists_all() -> None:
    with pytest.raises(DataError) as caught:
        require_no_problems(["class a: 1 patient", "class b: 2 patients"], "Too few:", "Collect more.")
    assert str(caught.value) == "Too few:\n  • class a: 1 patient\n  • class b: 2 patients\n  → Collect more."


def test_require_no_problems_without_any_is_quiet() -> None:
    require_no_problems([], "Too few:")
