"""What a person is told of an epoch fits a terminal; the plan becomes plain names and values."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from models import make_plan
from snellen.records.run import EpochRecord
from snellen.run_watch import Watch, describe_epoch, flatten
from snellen.runs import Run
from snellen.tracking.trackers import Trackers

EPOCH = EpochRecord(
    stage=0, candidate=1, weight_decay=3.0, epoch=12, lr=1.0, train_loss=0.4131, val_loss=0.52, val_auc=0.871,
    seconds=0.1,
)  # fmt: skip


class Terminal:
    """Takes what is written and says it is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return True


def test_epoch_is_told_in_a_line_that_fits() -> None:
    line = describe_epoch(EPOCH, 7)
    assert line == "candidate 2 of 7, epoch 12: loss 0.413, validation 0.520, AUC 0.871"
    assert len(line) + len(" 0:00:04") <= 80


@pytest.mark.parametrize("is_terminal", [True, False])
def test_epochs_are_shown_at_a_terminal_only_and_written_always(
    is_terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    if is_terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("COLUMNS", "80")
    run = Run(tmp_path)
    with Watch(run, Trackers()).follow_epochs(make_plan(("a", "b"), stage={"weight_decay": (1.0, 3.0)})) as note:
        note(EPOCH)
    assert ("candidate 2 of 2, epoch 12: loss 0.413, validation 0.520, AUC 0.871" in terminal.text) == is_terminal
    assert capfd.readouterr() == ("", "")
    assert run.epochs == [EPOCH]


def test_plan_becomes_dotted_keys() -> None:
    found = dict(flatten({"a": {"b": 1, "c": None}, "d": [1, 2], "e": [{"f": "x"}], "g": True}))
    assert found == {"a.b": "1", "a.c": "null", "d": "[1, 2]", "e.0.f": "x", "g": "true"}
