from __future__ import annotations

import pytest

from models import Delivered, deliver_bundle
from snellen.inference.load import load_bundle
from snellen.inference.predictor import Predictor


@pytest.fixture(scope="session")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    return deliver_bundle(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def predictor(delivered: Delivered) -> Predictor:
    return load_bundle(delivered.folder, threads=1)
