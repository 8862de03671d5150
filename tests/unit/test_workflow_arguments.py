"""The Python API refuses what it does not know, before any data are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import snellen
from snellen.core.arguments import require_known
from snellen.core.errors import UsageError
from snellen.workflow import DataOptions, TrainOptions

STEPS: dict[str, Callable[..., Any]] = {
    "audit": snellen.audit, "plan": snellen.plan, "pack": snellen.pack, "train": snellen.train,
}  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_unknown_option_is_refused_by_name(step: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no option 'foo'") as caught:
        STEPS[step](tmp_path, foo=1)
    assert "patients" in caught.value.hint


@pytest.mark.parametrize(
    ("step", "option", "meant"),
    [
        ("train", "no_test", "test=False"), ("train", "sed", "seed"), ("plan", "sed", "seed"),
        ("audit", "patient", "patients"), ("audit", "overwite", "overwrite"), ("pack", "view", "views"),
    ],
)  # fmt: skip
def test_misspelt_option_gets_the_nearest(step: str, option: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        STEPS[step](tmp_path, **{option: True})
    assert caught.value.hint.startswith(f"Did you mean {meant}?")


def test_unknown_option_of_evaluate_is_refused_also_without_data(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no option 'splitt'"):
        snellen.evaluate(tmp_path, splitt="test")  # type: ignore[call-arg]


def test_every_option_is_known(tmp_path: Path) -> None:
    from snellen.core.arguments import require_known

    require_known(dict.fromkeys(("columns", "patients", "cache")), DataOptions)
    require_known(dict.fromkeys(("cache", "recipe", "settings", "seed", "test", "out", "overwrite")), TrainOptions)
