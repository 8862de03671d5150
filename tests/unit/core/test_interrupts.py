"""Ctrl-C that a library swallows still ends the command at the next step."""

from __future__ import annotations

import contextlib
import signal
import threading

import pytest
import typer

from snellen.console import told
from snellen.core.interrupts import heed_interrupts, stop_if_interrupted
from snellen.core.progress import follow, timed


def press_and_swallow() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_interrupt_is_raised_at_once() -> None:
    with heed_interrupts(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_swallowed_interrupt_is_raised_at_the_next_item() -> None:
    seen: list[int] = []

    def count() -> None:
        for item in follow(range(10), "Counting", 10):
            seen.append(item)
            if item == 3:
                press_and_swallow()

    with heed_interrupts(), pytest.raises(KeyboardInterrupt):
        count()
    assert seen == [0, 1, 2, 3]


def test_swallowed_interrupt_ends_a_timed_step() -> None:
    durations: dict[str, float] = {}
    with heed_interrupts(), pytest.raises(KeyboardInterrupt), timed(durations, "export"):
        press_and_swallow()
    assert "export" in durations


def test_what_breaks_of_a_swallowed_interrupt_counts_as_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    @told()
    def break_late() -> None:
        press_and_swallow()
        raise ImportError("half a module")

    with pytest.raises(typer.Exit) as stopped:
        break_late()
    assert stopped.value.exit_code == 130
    assert "Stopped. What is computed is kept." in capsys.readouterr().err


def test_an_interrupt_does_not_outlive_its_command() -> None:
    with heed_interrupts():
        press_and_swallow()
    stop_if_interrupted()
    with heed_interrupts():
        stop_if_interrupted()


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with heed_interrupts():
            signal.raise_signal(signal.SIGINT)
            stop_if_interrupted()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_thread_leaves_the_handler_alone() -> None:
    found = []

    def work() -> None:
        with heed_interrupts():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
