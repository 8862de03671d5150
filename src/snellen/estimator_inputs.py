"""X, y and groups as scikit-learn's users give them → pictures, class codes and patients. Reads no file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import InputError, InputTypeError, PictureError
from snellen.imaging.arrays import to_pixels
from snellen.ingest.given import Given

_SHAPES = "(N, H, W), (N, H, W, 1) or (N, H, W, 3)"
_WANTED = f"X is a sequence of paths, a uint8 array of shape {_SHAPES}, or a list of uint8 arrays of any sizes."


@dataclass(frozen=True)
class Labels:
    """`classes` `(C,)` as scikit-learn sorts them, `names` the same as texts, `codes` `(N,)` positions in them."""

    classes: NDArray[Any]
    names: tuple[str, ...]
    codes: NDArray[np.intp]


def read_pictures(X: Any) -> list[Given]:
    """Paths as texts, arrays as uint8 `(H, W)` or `(H, W, 3)`. Raises InputError or InputTypeError."""
    if hasattr(X, "tocsr") or hasattr(X, "tocoo"):
        raise InputTypeError("X is a sparse matrix, which holds no pictures.", _WANTED)
    if isinstance(X, (str, bytes, Path)) or X is None or isinstance(X, dict):
        raise InputTypeError(f"X is a {type(X).__name__}, not a sequence of pictures.", _WANTED)
    if not isinstance(X, (list, tuple)):
        X = _to_array(X)
        if X.dtype.kind not in "OUT":
            return _read_stack(X)
        if X.ndim != 1:
            raise InputError(f"X holds objects in an array of shape {X.shape}.", _WANTED + " Reshape your data.")
    pictures = [_read_item(item, index) for index, item in enumerate(X)]
    if not pictures:
        raise InputError("X holds 0 sample(s): a minimum of 1 is required.", _WANTED)
    return pictures


def read_labels(y: Any, n: int) -> Labels:
    """One label a picture. Raises InputError for missing, continuous or single-class labels."""
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import assert_all_finite, column_or_1d

    if y is None:
        raise InputError(
            "ImageClassifier requires y to be passed, but the target y is None.", "Give one label a picture."
        )
    try:
        labels = column_or_1d(y, warn=True)
        missing = (
            [at for at, label in enumerate(labels.tolist()) if _is_missing(label)] if labels.dtype.kind == "O" else []
        )
        if missing:
            raise InputError(
                f"y holds None or NaN for {len(missing)} of {n} pictures, such as number {missing[0]}.",
                "Give one label a picture, or leave the picture out.",
            )
        assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        classes, codes = np.unique(labels, return_inverse=True)
    except TypeError as error:
        raise InputTypeError(
            f"y cannot be sorted into classes: {error}", "Give labels of one kind: texts or whole numbers."
        ) from error
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error), "y holds one label a picture: texts or whole numbers.") from error
    if len(labels) != n:
        raise InputError(f"X holds {n} pictures and y {len(labels)} labels.", "Give one label a picture.")
    if len(classes) < 2:
        raise InputError(f"y holds one class only: {classes[0]}.", "The number of classes has to be greater than one.")
    return Labels(classes, _name_classes(classes), codes)


def read_groups(groups: Any, n: int) -> list[str] | None:
    """Patients as texts. Raises InputError for another length, several columns or missing values."""
    if groups is None:
        return None
    values = np.asarray(groups, dtype=object)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or len(values) != n:
        raise InputError(f"groups has the shape {values.shape} for {n} pictures.", "Give one patient a picture.")
    texts = ["" if _is_missing(value) else str(value).strip() for value in values.tolist()]
    if missing := [index for index, text in enumerate(texts) if not text]:
        raise InputError(
            f"groups is empty for {len(missing)} pictures, such as number {missing[0]}.",
            "Give every picture its patient; one that is alone may have a name of its own.",
        )
    return texts


def read_settings(settings: Any) -> list[str]:
    """`KEY=VALUE` texts, or a mapping of keys to values, as `--set` takes them."""
    if isinstance(settings, str):
        raise InputTypeError(f"settings is the text {settings!r}.", 'Give a sequence: settings=["preprocess.size=64"].')
    pairs = settings.items() if hasattr(settings, "items") else [item.partition("=")[::2] for item in settings]
    told = [f"{key}={_to_toml(value)}" for key, value in pairs]
    for key in ("data.fractions", "data.merge"):
        if any(text.partition("=")[0].strip() == key for text in told):
            way = {
                "data.fractions": "validation_fraction says how much is kept for validation; nothing is kept for test",
                "data.merge": "merge the labels in y",
            }[key]
            raise InputError(f"settings holds {key}, which ImageClassifier settles itself.", f"{way}.")
    return told


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and bool(np.isnan(value)))


def _to_toml(value: object) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)


def _to_array(X: Any) -> NDArray[Any]:
    try:
        return np.asarray(X)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"X is a {type(X).__name__} that is no array: {error}", _WANTED) from error


def _read_stack(X: NDArray[Any]) -> list[Given]:
    if X.dtype.kind == "c":
        raise InputError("Complex data not supported: X holds complex numbers.", _WANTED)
    if X.dtype.kind == "f" and not np.isfinite(X).all():
        raise InputError("X contains NaN or infinity.", _WANTED)
    if X.ndim not in (3, 4) or (X.ndim == 4 and X.shape[3] not in (1, 3)):
        raise InputError(
            f"X has the shape {X.shape}, which is none of pictures.",
            f"{_WANTED} Reshape your data, such as X.reshape(N, H, W); channels come last.",
        )
    if not X.size:
        raise InputError(f"X has the shape {X.shape}: 0 sample(s), while a minimum of 1 is required.", _WANTED)
    return [_to_pixels(item, index) for index, item in enumerate(X)]


def _read_item(item: Any, index: int) -> Given:
    if isinstance(item, (str, Path)):
        return str(item)
    if isinstance(item, np.ndarray) and item.dtype.kind in "uif" and item.ndim in (2, 3):
        return _to_pixels(item, index)
    what = f"{item.dtype} of shape {item.shape}" if isinstance(item, np.ndarray) else type(item).__name__
    raise InputTypeError(f"Picture {index} of X is {what}, neither a path nor an array of pixels.", _WANTED)


def _to_pixels(values: NDArray[Any], index: int) -> NDArray[np.uint8]:
    if values.ndim == 3 and values.shape[2] not in (1, 3):
        raise InputError(f"Picture {index} of X has the shape {values.shape}.", "Channels come last: (H, W, 3).")
    if values.dtype != np.uint8 and values.dtype.kind != "f":
        raise InputError(
            f"Picture {index} of X holds {values.dtype}.",
            "Give uint8 from 0 to 255, or decimals from 0 to 1. Pictures of more bits are given as paths.",
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"Picture {index} of X contains NaN or infinity.", _WANTED)
    try:
        return np.asarray(to_pixels(values), np.uint8)
    except PictureError as error:
        raise InputError(f"Picture {index} of X: {error.message}", error.hint) from error


def _name_classes(classes: Iterable[Any]) -> tuple[str, ...]:
    """Texts of the classes, all different: a program's labels may be told apart by a blank or a type."""
    from unicodedata import normalize

    names: list[str] = []
    for number, value in enumerate(classes):
        text = normalize("NFC", str(value)).strip() or "(empty)"
        names.append(text if text not in names else f"{text} [{number}]")
    return tuple(names)


def require_fraction(value: Any) -> float:
    """The share of the pictures on which validation is made. Raises InputError."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating)) or not 0 < value < 1:
        raise InputError(f"validation_fraction = {value!r} is no number between 0 and 1.", "Example: 0.2")
    return float(value)


def to_sources(pictures: Sequence[Given]) -> list[str | NDArray[np.uint8]]:
    """As the predictor takes them."""
    return [str(Path(item).expanduser()) if isinstance(item, str) else item for item in pictures]
