"""scikit-learn's checks give rows of numbers, which are no pictures: an ImageClassifier that draws each row as one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from snellen import ImageClassifier

TINY = (
    "preprocess.size=32", "augment.views=0", "evaluation.resamples=100", "model.weights=none",
    "model.backbone=test_resnet", "training.threads=1",
)  # fmt: skip
_SIDE_PX = 32
_ANY_SIZE = "pictures of any size are taken, before and after fitting: there is no number of features"
_NO_TABLE = "a row of a table is refused whatever it holds, and the message speaks of pictures"
EXPECTED_FAILURES = {
    "check_n_features_in": _ANY_SIZE,
    "check_n_features_in_after_fitting": _ANY_SIZE,
    "check_classifiers_train": f"its last step wants another number of features refused; {_ANY_SIZE}",
    "check_dtype_object": _NO_TABLE,
    "check_estimators_empty_data_messages": _NO_TABLE,
}


class RowClassifier(ImageClassifier):
    """Its tags say that it takes two-dimensional X: else scikit-learn runs none of its checks."""

    def __init__(
        self,
        recipe: str = "auto",
        settings: Iterable[str] = TINY,
        *,
        validation_fraction: float = 0.3,
        seed: int = 0,
        cache: str | Path | None = None,
        runs: str | Path | None = None,
    ) -> None:
        super().__init__(recipe, settings, validation_fraction=validation_fraction, seed=seed, cache=cache, runs=runs)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = False
        tags.input_tags.three_d_array = False
        tags.input_tags.string = False
        return tags

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        return super().fit(draw_rows(X), y, groups)

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        return super().predict_proba(draw_rows(X))

    def predict(self, X: Any) -> NDArray[Any]:
        return super().predict(draw_rows(X))


def draw_rows(X: Any) -> Any:
    """Rows `(N, F)` of finite numbers → pictures `(N, 32, 32)`, a stripe a number; all else stays as it is.

    The upper half shows the number, the lower its remainder of 8, so that rows far from 0 differ too.
    """
    if hasattr(X, "tocsr"):
        return X
    values = np.asarray(X)
    if values.dtype.kind not in "iuf" or values.ndim != 2 or not values.size or not np.isfinite(values).all():
        return X
    numbers = values.astype(float)
    halves = (127.5 + 127.5 * np.tanh(numbers / 8), np.mod(numbers, 8) * (255 / 8))
    column = np.arange(_SIDE_PX) * values.shape[1] // _SIDE_PX
    rows = [np.repeat(np.round(half)[:, None, column], _SIDE_PX // 2, axis=1) for half in halves]
    return np.concatenate(rows, axis=1).astype(np.uint8)
