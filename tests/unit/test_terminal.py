"""What the terminal shows: nothing of a file's name breaks a line or is obeyed."""

from __future__ import annotations

from pathlib import Path

import pytest

import report_inputs
import snellen
from pictures import write_pictures
from snellen.records.evaluation import Estimate, Subgroup
from snellen.terminal import show_audit, show_evaluation


def test_line_feed_of_a_name_does_not_break_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pictures(tmp_path, ["ill/1.png", "well/1.png", "loose\nsevere all_is_well.png"])
    show_audit(snellen.audit(tmp_path, quick=True, copies="off", cache=tmp_path / "cache"))
    shown = capsys.readouterr().out
    assert "loose\\nsevere all_is_well.png" in shown.replace("\n  ", " ")
    assert not any(line.startswith("severe all_is_well") for line in shown.splitlines())


def test_parts_are_shown_with_those_too_small_marked(capsys: pytest.CaptureFixture[str]) -> None:
    whole = {"accuracy": Estimate(value=0.8, low=0.7, high=0.9)}
    parts = tuple(
        Subgroup(
            column="camera", value=name, n=1200, n_patients=n_patients, n_by_class={}, is_small=n_patients < 20,
            metrics=whole, differences={}, differs=("accuracy",) * (n_patients > 20), n_compared=2,
        )
        for name, n_patients in (("old [x]", 600), ("", 3))
    )  # fmt: skip
    show_evaluation(report_inputs.build_minimal().evaluation.model_copy(update={"subgroups": parts}))
    shown = capsys.readouterr().out
    assert "Parts by camera" in shown
    old, none = (next(line for line in shown.splitlines() if line.startswith(start)) for start in ("old", "(none)*"))
    assert old.split() == ["old", "[x]", "1,200", "600", "0.800", "[0.700,", "0.900]", "accuracy"]
    assert none.split()[-1] == "–"
