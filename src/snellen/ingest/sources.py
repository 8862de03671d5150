"""What lies at DATA: class folders, split folders, a table or an array file → raw samples. No pixel is read here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from snellen.core.errors import DataError
from snellen.imaging.readers import PICTURE_SUFFIXES
from snellen.ingest.arrays import read_npz
from snellen.ingest.patients import RawSample
from snellen.ingest.tables import TABLE_SUFFIXES, is_hidden, names_most_pictures, read_table
from snellen.records.cohort import Cohort, Issue

SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_LAYOUTS = "class folders, train/val/test folders of class folders, a CSV, or a MedMNIST .npz"


@dataclass
class Source:
    """Raw samples below `root` and how they were found. `is_ordered`: the source says that its classes are ordered.

    `cohort` is set where the source is a cohort already, read by an earlier step (a packed file).
    """

    root: Path
    layout: str
    samples: list[RawSample]
    class_origin: str = ""
    is_ordered: bool = False
    issues: list[Issue] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    cohort: Cohort | None = None


def read_source(data: str, columns: dict[str, str]) -> Source:
    """Find out what DATA is and list its samples. Raises DataError that says what was expected."""
    path = Path(data).expanduser()
    if not path.exists():
        raise DataError(f"{data} does not exist.", f"DATA is {_LAYOUTS}.")
    if path.is_dir():
        return _read_folder(path.resolve(), columns)
    suffix = path.suffix.lower()
    if suffix in TABLE_SUFFIXES:
        return _from_table(path.resolve(), columns)
    if suffix == ".npz":
        samples, layout, origin, is_ordered = read_npz(path.resolve())
        return Source(path.resolve().parent, layout, samples, origin, is_ordered)
    if suffix in (".h5", ".hdf5"):
        from snellen.ingest.packed import is_packed, read_packed

        if is_packed(path):
            return read_packed(path.resolve())
    raise DataError(f"{data}: a {suffix or 'file without extension'} is no data set that Snellen reads.",
                    f"DATA is {_LAYOUTS}.")  # fmt: skip


def _from_table(path: Path, columns: dict[str, str]) -> Source:
    table = read_table(path, columns)
    return Source(path.parent, table.layout, table.samples, table.class_origin, False, table.issues, table.columns)


def _read_folder(folder: Path, columns: dict[str, str]) -> Source:
    visible = [item for item in folder.iterdir() if not item.name.startswith(".")]
    tables = sorted(item for item in visible if item.suffix.lower() in TABLE_SUFFIXES)
    if len(tables) == 1 and (columns or names_most_pictures(tables[0], len(_list_pictures(folder)))):
        return _from_table(tables[0], columns)
    inside = sorted(item for item in visible if item.is_dir())
    if _has_splits(inside):
        return _read_split_folders(folder, inside)
    classes = [item for item in inside if _list_pictures(item)]
    if len(classes) >= 2:
        source = _read_class_folders(folder, classes, tables)
        empty = [item.name for item in inside if item not in classes]
        return replace(source, issues=[*source.issues, _empty_folders(empty)]) if empty else source
    if len(tables) == 1:
        return _from_table(tables[0], columns)
    if len(classes) == 1 and any(
        child.is_dir() or child.suffix.lower() in TABLE_SUFFIXES for child in classes[0].iterdir()
    ):
        return _read_folder(classes[0], columns)
    n_pictures = len(_list_pictures(folder))
    raise DataError(
        f"{folder} holds {n_pictures} pictures in {len(classes)} class folder(s) and {len(tables)} tables: "
        "labels cannot be told.",
        f"DATA is {_LAYOUTS}; class folders need at least two classes.",
    )


def _has_splits(folders: Sequence[Path]) -> bool:
    names = [SPLIT_NAMES.get(item.name.lower()) for item in folders]
    return "train" in names and len([name for name in names if name]) >= 2


def _read_split_folders(folder: Path, inside: Sequence[Path]) -> Source:
    samples: list[RawSample] = []
    ignored = [item.name for item in inside if item.name.lower() not in SPLIT_NAMES]
    for part in inside:
        split = SPLIT_NAMES.get(part.name.lower())
        if split is None:
            continue
        for class_folder in sorted(item for item in part.iterdir() if item.is_dir()):
            samples += _list_samples(folder, class_folder, split)
    issues = [_ignored_folders(ignored)] if ignored else []
    return Source(folder, "split folders of class folders", samples, "folder names", issues=issues)


def _read_class_folders(folder: Path, classes: Sequence[Path], tables: Sequence[Path]) -> Source:
    samples = [sample for item in classes for sample in _list_samples(folder, item, None)]
    issues = []
    if tables:
        issues.append(
            Issue(
                code="table_not_used",
                severity="info",
                message=f"The labels are the folder names; {', '.join(table.name for table in tables)} was not used.",
                advice=f"To take labels from the table, give it as DATA: {tables[0]}",
            )
        )
    return Source(folder, "class folders", samples, "folder names", issues=issues)


def _list_samples(root: Path, class_folder: Path, split: str | None) -> list[RawSample]:
    return [
        RawSample(
            name=path.relative_to(root).as_posix(),
            location=path.relative_to(root).as_posix(),
            label=class_folder.name,
            split=split,
        )
        for path in _list_pictures(class_folder)
    ]


def _list_pictures(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in PICTURE_SUFFIXES and not is_hidden(path, folder) and path.is_file()
    )


def _empty_folders(names: list[str]) -> Issue:
    return Issue(
        code="folder_without_pictures",
        severity="warning",
        message=f"Folders without a picture that Snellen reads ({', '.join(PICTURE_SUFFIXES)}): {', '.join(names)}. "
        "They are no classes.",
        advice="Export their pictures as JPEG, PNG or TIFF if they belong to the data.",
    )


def _ignored_folders(names: list[str]) -> Issue:
    return Issue(
        code="folder_not_used",
        severity="warning",
        message=f"Beside the split folders lie others that were not used: {', '.join(names)}.",
        advice="Move pictures that belong to the data into train, val or test.",
    )


def sort_classes(labels: set[str]) -> tuple[str, ...]:
    """Natural order: `grade_2` before `grade_10`."""

    def key(label: str) -> list[tuple[int, int, str]]:
        parts = re.split(r"(\d+)", label)
        return [(0, int(part), "") if part.isdecimal() else (1, 0, part.casefold()) for part in parts if part]

    return tuple(sorted(labels, key=lambda label: (key(label), label)))
