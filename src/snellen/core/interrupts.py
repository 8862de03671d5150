"""Ctrl-C that nobody swallows: a library that catches everything while it is imported or while it exports would
otherwise let a stopped run go on to its end.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked = threading.Event()


@contextmanager
def heed_interrupts() -> Iterator[None]:
    """Within, Ctrl-C raises KeyboardInterrupt at once, and again at the next step where the first was swallowed."""
    _asked.clear()
    if threading.current_thread() is not threading.main_thread() or (
        signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield  # somebody else decides what Ctrl-C means, or it is ignored (nohup)
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _asked.clear()


@contextmanager
def prefer_interrupt() -> Iterator[None]:
    """An error after Ctrl-C is its consequence, such as half a module: KeyboardInterrupt is raised in its place."""
    try:
        yield
    except Exception as error:
        if _asked.is_set():
            raise KeyboardInterrupt from error
        raise


def stop_if_interrupted() -> None:
    """Raise KeyboardInterrupt where Ctrl-C was pressed and the exception of that moment got lost."""
    if _asked.is_set():
        raise KeyboardInterrupt


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    _asked.set()
    raise KeyboardInterrupt
