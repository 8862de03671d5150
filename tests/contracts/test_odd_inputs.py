"""Bad and odd inputs, given to the command: told, accounted for, no traceback. The page about them names each."""

from __future__ import annotations

from pathlib import Path

import accidents
import pytest
from odd_cases import Case

CASES = [case for cases in accidents.SUITES.values() for case in cases]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.given)
def test_odd_input_keeps_its_promise(case: Case, tmp_path: Path) -> None:
    assert accidents.try_case(case, tmp_path, in_process=True).problems == ()


def test_no_two_odd_inputs_are_described_alike() -> None:
    given = [case.given for case in CASES]
    assert len(given) == len(set(given)) >= 60


def test_page_of_odd_inputs_names_every_one() -> None:
    page = accidents.PAGE.read_text(encoding="utf-8")
    assert [case.given for case in CASES if f"\n| {case.given} | " not in page] == []
    assert f"each of {len(CASES)} inputs" in page
