"""Which arrays of a file are pictures, labels, patients and splits: told, else found by shape and name.

Knows names, shapes and types; reads nothing. For .npz and HDF5 alike.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from snellen.core.errors import DataError, UsageError
from snellen.ingest.samples import PATIENT_NAMES, SPLIT_NAMES, simplify_name
from snellen.records.cohort import PARTS

ROLES = ("image", "label", "patient", "split")
_NAMES = {
    "image": ("images", "image", "x", "img", "imgs", "pictures", "data"),
    "label": ("labels", "label", "y", "target", "targets", "class", "classes", "diagnosis", "grade", "grades"),
    "split": ("splits", "split", "subset", "partition"),
    "name": ("names", "name", "ids", "id", "filenames", "filename", "files", "image_id", "image_ids"),
}
_MIN_SIDE_PX = 4
_MAX_ITEMS = 2_000_000
_SHOWN = 8


@dataclass(frozen=True)
class ArrayInfo:
    """An array of a file: `kind` is NumPy's letter of its type, `dtype` its name for a person."""

    key: str
    shape: tuple[int, ...]
    kind: str
    dtype: str

    @property
    def title(self) -> str:
        return f"{self.key} {self.shape} {self.dtype}"


@dataclass(frozen=True)
class Part:
    """The arrays of one split, or of the whole file where `split` is None; each of length `n`."""

    split: str | None
    n: int
    image: str
    label: str
    patient: str | None = None
    splits: str | None = None
    name: str | None = None


def find_parts(path: Path, arrays: Sequence[ArrayInfo], columns: dict[str, str]) -> list[Part]:
    """One part a split, or one for the file. Raises DataError or UsageError naming candidates and how to tell."""
    _require_told(path, arrays, columns)
    by_split: dict[str | None, list[ArrayInfo]] = defaultdict(list)
    for array in arrays:
        by_split[_find_split(array.key)].append(array)
    has_images = [split for split, items in by_split.items() if any(is_image(item) for item in items)]
    told = columns.get("image")
    if told and any(array.key == told for array in arrays):  # the whole key is told: one part, whatever it is called
        return [_find_part(path, None, list(arrays), columns)]
    if has_images in ([None], []):
        return [_find_part(path, None, list(arrays), columns)]
    if None in has_images:
        raise _undecided(path, "image", [item for item in arrays if is_image(item)])
    # a split whose pictures are of another kind is an error, not a split that is not there
    order = [split for split in PARTS if split in has_images or _is_meant(by_split[split])]
    return [_find_part(path, split, by_split[split], columns) for split in order]


def is_image(array: ArrayInfo) -> bool:
    """Whether the shape is (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W) of numbers."""
    if array.kind not in "uifb":
        return False
    if len(array.shape) == 3:
        sides = array.shape[1:]
    elif len(array.shape) == 4 and array.shape[3] in (1, 3):
        sides = array.shape[1:3]
    elif len(array.shape) == 4 and array.shape[1] in (1, 3):
        sides = array.shape[2:]
    else:
        return False
    return min(sides) >= _MIN_SIDE_PX


def _is_meant(arrays: Sequence[ArrayInfo]) -> bool:
    return any(_rest(item.key) in (*_NAMES["image"], *_NAMES["label"]) for item in arrays)


def _find_split(key: str) -> str | None:
    found = {SPLIT_NAMES[word] for word in _words(key) if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None


def _find_part(path: Path, split: str | None, arrays: list[ArrayInfo], columns: dict[str, str]) -> Part:
    where = f"{path} ({split})" if split else str(path)
    images = _pick(arrays, "image", columns, [item for item in arrays if is_image(item)])
    if len(images) != 1:
        raise _undecided(path, "image", images, arrays, where)
    image = images[0]
    _require_picture_type(path, image)
    n = image.shape[0]
    rest = [item for item in arrays if item is not image and len(item.shape) in (1, 2) and item.shape[0] == n]
    single = [item for item in rest if len(item.shape) == 1 or item.shape[1] == 1]
    found = {role: _pick_named(single, role, columns) for role in ("patient", "split", "name")}
    for role in ("patient", "split"):  # names may be those of classes, which are fewer
        if found[role] is None:
            _require_fitting(path, [item for item in arrays if item is not image], role, columns, n)
    rest = [item for item in rest if item not in found.values()]
    labels = _pick([item for item in arrays if item is not image], "label", columns, rest)
    if len(labels) != 1:
        raise _undecided(path, "label", labels, arrays, where)
    label = labels[0]
    if label.shape[:1] != (n,) or len(label.shape) > 2:
        raise DataError(
            f"{path}: {label.key} is {label.dtype} of shape {label.shape} for {n} pictures.",
            "There must be one label a picture.",
        )
    keys = {role: item.key if item else None for role, item in found.items()}
    return Part(split, n, image.key, label.key, keys["patient"], keys["split"], keys["name"])


def _pick(arrays: list[ArrayInfo], role: str, columns: dict[str, str], candidates: list[ArrayInfo]) -> list[ArrayInfo]:
    """The one that is told, else the one of the candidates that is called so, else all candidates."""
    if told := columns.get(role):
        return [item for item in arrays if item.key == told or _rest(item.key) == told.lower()]
    named = [item for item in candidates if _is_called(item.key, role)]
    if not candidates and role == "label":  # one of another length: the message says so
        named = [item for item in arrays if _is_called(item.key, role)]
    return named if len(named) == 1 else candidates


def _pick_named(arrays: list[ArrayInfo], role: str, columns: dict[str, str]) -> ArrayInfo | None:
    if role in columns:
        told = _pick(arrays, role, columns, [])
        return told[0] if told else None
    named = [item for item in arrays if _is_called(item.key, role)]
    return named[0] if len(named) == 1 else None


def _require_fitting(path: Path, arrays: Sequence[ArrayInfo], role: str, columns: dict[str, str], n: int) -> None:
    """Raise DataError for an array that is told or called as `role` and was not taken, since it does not fit."""
    meant = _pick(list(arrays), role, columns, [item for item in arrays if _is_called(item.key, role)])
    strange = next((item for item in meant if item.shape and item.shape[:1] != (n,)), None)
    if strange is None and role in columns:
        strange = next(iter(meant), None)
    if strange:
        raise DataError(
            f"{path}: {strange.key} is {strange.dtype} of shape {strange.shape} for {n} pictures.",
            f"There must be one {role} a picture. Mend it, or name another array: --columns {role}=KEY",
        )


def _is_called(key: str, role: str) -> bool:
    return simplify_name(_rest(key)) in PATIENT_NAMES if role == "patient" else _rest(key) in _NAMES[role]


def _words(key: str) -> list[str]:
    return [word for word in re.split(r"[^A-Za-z0-9]+", key.lower()) if word]


def _rest(key: str) -> str:
    """The key without its split: `images` of `train/images`, `y` of `y_train`."""
    return "_".join(word for word in _words(key) if word not in SPLIT_NAMES)


def _require_told(path: Path, arrays: Sequence[ArrayInfo], columns: dict[str, str]) -> None:
    unknown = [role for role in columns if role not in ROLES]
    if unknown:
        raise UsageError(f"--columns {unknown[0]}=…: there is no such role.", f"Roles are {', '.join(ROLES)}.")
    for key in columns.values():
        if not any(key == item.key or key.lower() == _rest(item.key) for item in arrays):
            raise UsageError(f"{path} has no array {key!r}.", f"It holds {_list(arrays)}.")


def _require_picture_type(path: Path, image: ArrayInfo) -> None:
    if image.dtype not in ("uint8", "uint16") and image.kind != "f":
        raise DataError(
            f"{path}: {image.key} is {image.dtype} of shape {image.shape}.",
            "Snellen reads uint8, uint16, or decimals from 0 to 1, of shape (N, H, W), (N, H, W, 3) or (N, 3, H, W).",
        )
    if image.shape[0] > _MAX_ITEMS:
        raise DataError(f"{path}: {image.key} claims {image.shape[0]:,} pictures.", "Is the file damaged?")


def _undecided(
    path: Path, role: str, candidates: Sequence[ArrayInfo], arrays: Sequence[ArrayInfo] = (), where: str = ""
) -> DataError:
    example = "--columns image=KEY,label=KEY,patient=KEY,split=KEY"
    if candidates:
        return DataError(
            f"{where or path}: several arrays may be the {role}s: {_list(candidates)}.",
            f"Say which: --columns {role}={candidates[0].key}",
        )
    return DataError(
        f"{where or path} lacks {role}s; it holds {_list(arrays)}.",
        f"Needed are images of shape (N, H, W), (N, H, W, 3) or (N, 3, H, W) and N labels; tell them with {example}",
    )


def _list(arrays: Sequence[ArrayInfo]) -> str:
    more = f" and {len(arrays) - _SHOWN} more" if len(arrays) > _SHOWN else ""
    return ", ".join(item.title for item in arrays[:_SHOWN]) + more if arrays else "nothing"
