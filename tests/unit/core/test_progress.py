"""Progress passes things through and keeps silent where nobody looks."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from snellen.core.progress import follow, say, timed


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_follow_passes_all_items_in_order() -> None:
    assert list(follow(iter("abc"), "Reading", 3)) == ["a", "b", "c"]


def test_follow_is_silent_without_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    list(follow(range(100), "Reading", 100))
    assert capfd.readouterr() == ("", "")


def test_follow_passes_all_items_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(follow(range(5), "Reading", 5)) == [0, 1, 2, 3, 4]


def test_follow_shows_what_is_done_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    list(follow(range(5), "Reading pictures", 5))
    assert "Reading pictures" in terminal.getvalue()


def test_timed_adds_up_repeated_steps() -> None:
    durations = {"decode": 1000.0}
    with timed(durations, "decode"):
        pass
    assert durations["decode"] >= 1000.0
    assert list(durations) == ["decode"]


def test_timed_records_steps_that_fail() -> None:
    durations: dict[str, float] = {}
    with pytest.raises(KeyError), timed(durations, "decode"):
        raise KeyError
    assert list(durations) == ["decode"]


def test_say_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="snellen"):
        say("3 pictures set aside")
    assert "3 pictures set aside" in caplog.text
