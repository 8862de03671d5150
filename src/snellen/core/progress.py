"""What a person sees while waiting: steps and bars on standard error, silent when not a terminal."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger("snellen")


def follow(items: Iterable[T], what: str, total: int, unit: str = "pictures") -> Iterator[T]:
    """Pass `items` through while a bar shows how many of `total` are done, the speed and the time left."""
    if not sys.stderr.isatty() or total == 0:
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:>10}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total, rate="")
        begin = time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            rate = done / max(time.monotonic() - begin, 1e-9)
            bar.update(task, completed=done, rate=f"{rate:,.0f}/s {unit[:1]}" if done > 1 else "")


@contextmanager
def timed(durations_s: dict[str, float], step: str) -> Iterator[None]:
    """Add the seconds that the block takes to `durations_s[step]`, and log it."""
    begin = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - begin
        durations_s[step] = round(durations_s.get(step, 0.0) + seconds, 3)
        log.info("%s: %.1f s", step, seconds)


def say(message: str) -> None:
    """One line for the person who waits, also kept in the run's log."""
    log.info(message)
