"""What a person sees while waiting: steps and bars on standard error, silent when not a terminal."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from snellen.core.interrupts import stop_if_interrupted
from snellen.core.letters import reveal

T = TypeVar("T")
log = logging.getLogger("snellen")


class Plain(logging.Formatter):
    """A terminal obeys some letters: in file names they are shown as codes."""

    def format(self, record: logging.LogRecord) -> str:
        return reveal(super().format(record))


def follow(items: Iterable[T], what: str, total: int, unit: str = "pictures") -> Iterator[T]:
    """Pass `items` through while a bar shows how many of `total` are done, the speed and the time left."""
    with show_bar(what, unit) as advance:
        for done, item in enumerate(items, start=1):
            stop_if_interrupted()
            yield item
            advance(done, total)


@contextmanager
def show_bar(what: str, unit: str = "pictures") -> Iterator[Callable[[int, int], None]]:
    """A bar to be told `(done, total)`; nothing is shown where standard error is no terminal."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, rate="")
        begin = time.monotonic()

        def advance(done: int, total: int) -> None:
            rate = done / max(time.monotonic() - begin, 1e-9)
            bar.update(task, completed=done, total=total, rate=f"{rate:,.0f} {unit}/s")

        yield advance


@contextmanager
def show_line() -> Iterator[Callable[[str, int, int], None]]:
    """A line to be told `(text, done, total)`, with the time left; nothing where standard error is no terminal."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as line:
        task = line.add_task("", total=None)

        def tell(text: str, done: int, total: int) -> None:
            line.update(task, description=text, completed=done, total=total)

        yield tell


@contextmanager
def timed(durations_s: dict[str, float], step: str) -> Iterator[None]:
    """Add the seconds that the block takes to `durations_s[step]`, and log it. A lost Ctrl-C is heeded here."""
    stop_if_interrupted()
    begin = time.monotonic()
    try:
        yield
        stop_if_interrupted()
    finally:
        seconds = time.monotonic() - begin
        durations_s[step] = round(durations_s.get(step, 0.0) + seconds, 3)
    log.info("%s: %.1f s", step, seconds)


def say(message: str) -> None:
    """One line for the person who waits, also kept in the run's log."""
    log.info(message)
