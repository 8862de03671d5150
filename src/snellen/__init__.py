"""Snellen: from a folder of labelled medical images to a classifier whose numbers can be believed.

    import snellen
    run = snellen.train("data/")
    model = snellen.load(run.bundle)
    model.predict(["picture.jpg"])

Names are loaded on first use: importing the package loads neither torch nor matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from snellen.core.errors import (
        BundleError,
        DataError,
        FetchError,
        InputError,
        InputTypeError,
        ParityError,
        PictureError,
        SnellenError,
        StorageError,
        UsageError,
        WeightsError,
    )
    from snellen.estimator import ImageClassifier
    from snellen.inference.predictor import Predictor
    from snellen.run_seeds import SeedRuns
    from snellen.runs import Run, open_run
    from snellen.workflow import (
        audit,
        compare,
        doctor,
        evaluate,
        fetch,
        load,
        pack,
        plan,
        predict,
        resume,
        train,
        tune,
    )

_HOMES = {
    **dict.fromkeys(
        ("audit", "compare", "doctor", "evaluate", "fetch", "load", "pack", "plan", "predict", "resume", "train",
         "tune"),
        "snellen.workflow",
    ),
    **dict.fromkeys(("Run", "open_run"), "snellen.runs"),
    "SeedRuns": "snellen.run_seeds",
    "ImageClassifier": "snellen.estimator",
    "Predictor": "snellen.inference.predictor",
    **dict.fromkeys(
        ("BundleError", "DataError", "FetchError", "InputError", "InputTypeError", "ParityError", "PictureError",
         "SnellenError", "StorageError", "UsageError", "WeightsError"),
        "snellen.core.errors",
    ),
}  # fmt: skip

__all__ = [
    "BundleError",
    "DataError",
    "FetchError",
    "ImageClassifier",
    "InputError",
    "InputTypeError",
    "ParityError",
    "PictureError",
    "Predictor",
    "Run",
    "SeedRuns",
    "SnellenError",
    "StorageError",
    "UsageError",
    "WeightsError",
    "__version__",
    "audit",
    "compare",
    "doctor",
    "evaluate",
    "fetch",
    "load",
    "open_run",
    "pack",
    "plan",
    "predict",
    "resume",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'snellen' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
