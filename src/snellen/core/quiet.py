"""Silence for libraries that warn where our own errors and issues speak."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_inside = 0
_outer: Any = None


@contextmanager
def hush_warnings() -> Iterator[None]:
    """No Python warning is shown or raised inside, whatever the number of threads.

    `warnings.catch_warnings` alone restores the filters of another thread, and may leave them off for good:
    here the first that enters switches off, the last that leaves switches on.
    """
    global _inside, _outer  # noqa: PLW0603  # the filters are global as well
    with _lock:
        if _inside == 0:
            _outer = warnings.catch_warnings()
            _outer.__enter__()
            warnings.simplefilter("ignore")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _outer.__exit__(None, None, None)
