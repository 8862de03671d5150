"""No test reads or writes the cache of whoever runs it, and Ctrl-C reaches what tests start."""

from __future__ import annotations

import signal

import pytest

# whoever starts the tests in the background of a shell has them ignore SIGINT, and all that they start
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    patch = pytest.MonkeyPatch()
    patch.setenv("SNELLEN_CACHE", str(tmp_path_factory.mktemp("user-cache")))
