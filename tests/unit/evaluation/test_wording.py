"""Numbers as sentences say them."""

from __future__ import annotations

import pytest

from snellen.evaluation.wording import format_of_hundred


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (0.964, "96 of 100"),
        (1.0, "100 of 100"),
        (0.9951, "more than 99 of 100"),
        (0.004, "fewer than 1 of 100"),
        (0.0, "0 of 100"),
    ],
)
def test_nearly_all_is_not_called_all(share: float, told: str) -> None:
    assert format_of_hundred(share) == told
