"""No test reads or writes the cache of whoever runs it."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    patch = pytest.MonkeyPatch()
    patch.setenv("SNELLEN_CACHE", str(tmp_path_factory.mktemp("user-cache")))
