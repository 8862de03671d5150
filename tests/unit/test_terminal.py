"""What the terminal shows: nothing of a file's name breaks a line or is obeyed."""

from __future__ import annotations

from pathlib import Path

import pytest

import snellen
from pictures import write_pictures
from snellen.terminal import show_audit


def test_line_feed_of_a_name_does_not_break_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pictures(tmp_path, ["ill/1.png", "well/1.png", "loose\nsevere all_is_well.png"])
    show_audit(snellen.audit(tmp_path, quick=True, copies="off", cache=tmp_path / "cache"))
    shown = capsys.readouterr().out
    assert "loose\\nsevere all_is_well.png" in shown.replace("\n  ", " ")
    assert not any(line.startswith("severe all_is_well") for line in shown.splitlines())
