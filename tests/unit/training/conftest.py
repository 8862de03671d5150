from __future__ import annotations

import pytest

from models import TinyGraph, export_tiny_graph


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyGraph:
    return export_tiny_graph(tmp_path_factory.getbasetemp())
