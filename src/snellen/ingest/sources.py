"""What lies at DATA: folders, tables, a zip, arrays, DICOM files → raw samples. No pixel is read here."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path

from snellen.core.errors import DataError, UsageError
from snellen.core.letters import agree, show_count
from snellen.core.regular_files import describe_special
from snellen.imaging.arrays import ARRAY_SUFFIXES
from snellen.imaging.kinds import PICTURE_SUFFIXES, looks_like_picture
from snellen.ingest.arrays import read_npz
from snellen.ingest.classes import normalise_labels, sort_classes
from snellen.ingest.dicom_tree import describe_dicom, is_dicom
from snellen.ingest.folders import check_others, find_split_folders, read_class_folders, read_split_folders
from snellen.ingest.given import LIST_SUFFIX, read_given
from snellen.ingest.label_columns import LABEL_NAMES, require_roles
from snellen.ingest.samples import LAYOUTS, SPLIT_NAMES, Source, make_issue, show_names
from snellen.ingest.tables import (
    ROLES,
    Table,
    find_split_tables,
    names_most_pictures,
    names_pictures,
    read_split_tables,
    read_table,
)
from snellen.ingest.tree import (
    ARCHIVE_SUFFIXES,
    SHEET_SUFFIXES,
    TABLE_SUFFIXES,
    TEXT_SUFFIXES,
    Tree,
    check_tree,
    read_tree,
)
from snellen.records.cohort import Issue

_PROBED = 8

__all__ = ["SPLIT_NAMES", "Source", "read_source", "sort_classes"]


def read_source(data: str, columns: dict[str, str], cache: Path | None = None, *, min_classes: int = 2) -> Source:
    """Find out what DATA is and list its samples; a zip is unpacked into `cache`.

    With `min_classes` 1 a single class folder is data too. Raises DataError that says what was expected, UsageError
    for options that do not fit.
    """
    require_roles(columns, ROLES)
    source = _read_path(require_path(data), _Wish(columns, min_classes), cache)
    if source.cohort is not None:
        return source
    source = describe_dicom(source)
    samples, issues = normalise_labels(source.samples)
    return replace(source, samples=samples, issues=[*source.issues, *issues])


@dataclass(frozen=True)
class _Wish:
    columns: dict[str, str]
    min_classes: int


def require_path(data: str) -> Path:
    """The absolute path of DATA. Raises DataError naming what lies near where it does not exist."""
    path = Path(data).expanduser()
    try:
        exists = path.exists()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        exists = False
    if not exists and (address := _find_address(path)):
        raise DataError(
            f"{address} is an address: Snellen reads files and folders.",
            "Download it first and give the file or folder; `snellen fetch NAME` downloads MedMNIST sets.",
        )
    if not exists:
        raise DataError(f"{data} does not exist.", f"{_suggest(path)}DATA is {LAYOUTS}.")
    return path.resolve()


def _find_address(path: Path) -> str:
    """`https://…`, also where it was taken for a path and made absolute; else nothing."""
    schemes = ("http:", "https:", "ftp:", "s3:", "gs:", "file:")
    at = next((index for index, part in enumerate(path.parts) if part.lower() in schemes), None)
    return "" if at is None else f"{path.parts[at]}//{'/'.join(path.parts[at + 1 :])}"


def _suggest(path: Path) -> str:
    """The nearest name beside the first part of the path that does not exist."""
    for part in reversed((path, *path.parents)):
        try:
            if part.exists() or not part.parent.is_dir():
                continue
            near = difflib.get_close_matches(part.name, [item.name for item in part.parent.iterdir()], 1)
        except (OSError, ValueError):
            return ""
        return f"Did you mean {part.parent / near[0]}? " if near else ""
    return ""


def _read_path(path: Path, wish: _Wish, cache: Path | None) -> Source:
    columns = wish.columns
    if path.is_dir():
        return _read_folder(read_tree(path), wish)
    suffix = path.suffix.lower()
    if kind := describe_special(path.stat().st_mode):
        raise DataError(f"{path} is {kind}, no file or folder.", f"DATA is {LAYOUTS}.")
    if path.name.endswith(LIST_SUFFIX):
        if columns:
            raise UsageError(f"--columns is for tables and array files; {path} is a list.", "Leave it out.")
        return read_given(path)
    is_text = suffix in TEXT_SUFFIXES and not looks_like_picture(path)
    if is_text or suffix in (*TABLE_SUFFIXES, *SHEET_SUFFIXES):
        tree = read_tree(path.parent)
        return _from_table(tree, read_table(path, columns, tree))
    if suffix in ARRAY_SUFFIXES:
        return _read_arrays(path, columns)
    if suffix == ".zip":
        return _read_zip(path, wish, cache)
    if suffix in ARCHIVE_SUFFIXES:
        raise DataError(
            f"{path} is a {suffix} archive, which Snellen does not unpack.",
            "Unpack it first and give the folder, or pack it as .zip.",
        )
    if suffix in PICTURE_SUFFIXES or looks_like_picture(path):
        raise DataError(
            f"{path} is one picture, no data set that Snellen reads.",
            "Give the folder with all pictures and their labels. To predict: snellen predict BUNDLE PICTURE",
        )
    raise DataError(
        f"{path}: a {suffix or 'file without extension'} is no data set that Snellen reads.", f"DATA is {LAYOUTS}."
    )


def _read_arrays(path: Path, columns: dict[str, str]) -> Source:
    if path.suffix.lower() == ".npz":
        return read_npz(path, columns)
    from snellen.ingest.hdf5 import read_hdf5
    from snellen.ingest.packed import is_packed, read_packed

    return read_packed(path) if is_packed(path) else read_hdf5(path, columns)


def _read_zip(path: Path, wish: _Wish, cache: Path | None) -> Source:
    from snellen.core.unpacking import unpack_zip

    if cache is None:
        raise UsageError(f"{path} needs a cache to be unpacked into.", "Tell one: --cache DIR")
    unpacked = unpack_zip(path, cache)
    bad = [(name, reason) for name, reason in unpacked.damaged if not name.lower().endswith(PICTURE_SUFFIXES)]
    if bad:
        raise DataError(f"{path}: {bad[0][0]} in the archive is damaged: {bad[0][1]}", "Copy the archive again.")
    tree = read_tree(unpacked.folder)
    while (inside := tree.unwrap()) is not None:  # people pack the folder, not its content
        tree = inside
    try:
        source = _read_folder(tree, wish)
    except (DataError, UsageError) as error:  # nobody knows the place in the cache
        message = error.message.replace(str(unpacked.folder), str(path))
        raise type(error)(message, error.hint.replace(str(unpacked.folder), str(path))) from error
    issues = []
    if names := [name for name, _ in unpacked.damaged]:
        message = (
            f"{show_count(len(names), 'picture')} in the archive {agree(len(names), 'are')} damaged, such "
            f"as {names[0]} ({unpacked.damaged[0][1]})"
        )
        issues.append(
            make_issue("damaged_entry", "warning", f"{message}: set aside.", "Copy the archive again.", names)
        )
    return replace(source, layout=f"zip of {source.layout}", issues=[*source.issues, *issues])


def _read_folder(tree: Tree, wish: _Wish) -> Source:
    columns = wish.columns
    tables = tree.list_files(TABLE_SUFFIXES)
    n_pictures = len(tree.pictures)
    if len(tables) == 1 and (columns or names_most_pictures(tree.root / tables[0], n_pictures, tree)):
        table = read_table(tree.root / tables[0], columns, tree)
        source = _from_table(tree, table, tables)
        differing = _compare_with_folders(tree, table, tables[0], columns)
        return replace(source, issues=[*source.issues, *differing])
    every = tree.list_files(TABLE_SUFFIXES, deep=True)
    if len(every) > 1 and (found := _read_split_tables(tree, every, columns)) is not None:
        return found
    if split_of := find_split_folders(tree):
        return _finish(read_split_folders(tree, split_of), tree, columns, depth=1)
    here = {name.split("/")[0] for name in tree.pictures if "/" in name}
    classes = [name for name in tree.list_top_folders() if name in here]
    if len(classes) >= 2:
        return _finish(read_class_folders(tree, classes, tables), tree, columns)
    return _read_rest(tree, wish, classes, every)


def _read_rest(tree: Tree, wish: _Wish, classes: list[str], tables: list[str]) -> Source:
    """A folder without class folders: a table that is hardly the data, a wrapper, one array file, or nothing."""
    columns = wish.columns
    here = tree.list_files(TABLE_SUFFIXES)
    if len(here) == 1:
        return _from_table(tree, read_table(tree.root / here[0], columns, tree), here)
    if len(classes) == 1 and not tree.pictures_here:
        inside = tree.below(classes[0])
        if inside.folders or inside.list_files(TABLE_SUFFIXES):
            return _read_folder(inside, wish)
    arrays = tree.list_files(ARRAY_SUFFIXES, deep=True)
    if len(arrays) == 1 and not tree.pictures:
        return _read_arrays(tree.root / arrays[0], columns)
    if len(tables) == 1 and tree.pictures:
        return _from_table(tree, read_table(tree.root / tables[0], columns, tree), tables)
    if len(classes) >= wish.min_classes and not tree.pictures_here and not tables:
        return _finish(read_class_folders(tree, classes, []), tree, columns)
    raise _explain_folder(tree, classes, tables, arrays)


def _compare_with_folders(tree: Tree, table: Table, name: str, columns: dict[str, str]) -> list[Issue]:
    """An issue where the pictures lie in class folders that say something else than the table. Raises DataError where
    besides a column was taken for the label without a word.
    """
    at = 1 if find_split_folders(tree) else 0
    parts = [(sample.label, sample.location.split("/")) for sample in table.samples]
    folder_of = [(label, path[at] if len(path) > at + 1 else "") for label, path in parts]
    folders = sorted({folder for _, folder in folder_of if folder})
    if len(folders) < 2 or all(label == folder for label, folder in folder_of):
        return []
    if "label" in columns or (not columns and (len(table.label) > 1 or table.label[0].lower() in LABEL_NAMES)):
        differing = sum(label != folder for label, folder in folder_of)
        message = (
            f"The labels come from {name}; the folders of the pictures ({show_names(folders)}) are named otherwise for "
            f"{differing} of {len(folder_of)} pictures and were not used."
        )
        advice = f"If the folders hold the labels, give a copy of them without {name}."
        return [make_issue("folders_not_used", "info", message, advice)]
    raise DataError(
        f"{tree.root}: the labels could be the names of the folders ({show_names(folders)}) or a column of {name}, "
        f"such as {table.label[0]}.",
        f"Say --columns label={table.label[0]} to take the table"
        + (", another column's name" if len(table.columns) > 3 else "")
        + f", or give a copy of the folders without {name} to take their names.",
    )


def _explain_folder(tree: Tree, classes: list[str], tables: list[str], arrays: list[str]) -> DataError:
    if not tree.folders and not tree.pictures and not tree.others:
        reason = tree.unreadable[0][1] if tree.unreadable else ""
        what = f"cannot be entered ({reason})" if reason else "is empty"
        return DataError(f"{tree.root} {what}: labels cannot be told.", f"DATA is {LAYOUTS}.")
    hints = []
    if tree.unreadable:
        name, reason = tree.unreadable[0]
        hints.append(f"{show_names([name])} cannot be entered ({reason}): check the permissions.")
    if tables:
        hints.append(f"Which table? Give one as DATA: {show_names(tables)}.")
    if sheets := tree.list_files(SHEET_SUFFIXES, deep=True):
        hints.append(f"{show_names(sheets)}: open it and export the sheet as CSV.")
    notes = [name for name in tree.list_files(TEXT_SUFFIXES, deep=True) if not _is_readme(name)]
    if notes and tree.pictures and not tables:
        hints.append(f"{show_names(notes)}: if {'it' if len(notes) == 1 else 'one'} is the table, give it as DATA.")
    if len(arrays) > 1:
        hints.append(f"Which file? Give one as DATA: {show_names(arrays)}.")
    if any(is_dicom(tree.root, name) for name in tree.pictures[:_PROBED]):
        hints.append(
            "DICOM files carry no label: sort them into class folders, or put a table beside them whose rows name the "
            "file, its SOPInstanceUID or the PatientID, and the label."
        )
    if archives := tree.list_files(ARCHIVE_SUFFIXES, deep=True):
        hints.append(f"Unpack it, or give it as DATA: {show_names(archives)}.")
    return DataError(
        f"{tree.root} holds {len(tree.pictures)} pictures in {len(classes)} class folder(s) and {len(tables)} tables: "
        "labels cannot be told.",
        " ".join([*hints, f"DATA is {LAYOUTS}; class folders need at least two classes."]),
    )


def _is_readme(name: str) -> bool:
    return name.rsplit("/", 1)[-1].lower().startswith(("readme", "license", "licence"))


def _read_split_tables(tree: Tree, names: list[str], columns: dict[str, str]) -> Source | None:
    """Tables whose names tell splits, if they describe the pictures; else None."""
    tables = find_split_tables(names)
    if not tables:
        return None
    train = [name for name, split in tables.items() if split == "train"]
    if split_of := find_split_folders(tree):
        has_classes = bool(read_split_folders(tree, split_of).samples)
    else:
        has_classes = len({name.split("/")[0] for name in tree.pictures if "/" in name}) > 1
    if has_classes and not columns and not any(names_pictures(tree.root / name, tree, "train") for name in train):
        return None
    if len(tables) == 1:
        return _from_table(tree, read_table(tree.root / train[0], columns, tree), train)
    return _from_table(tree, read_split_tables(tree, tables, columns), list(tables))


def _from_table(tree: Tree, table: Table, used: list[str] | None = None) -> Source:
    others = [name for name in tree.list_files(TABLE_SUFFIXES, deep=True) if used and name not in used]
    issues: list[Issue] = [*table.issues, *check_tree(tree, has_samples=False)]
    if others:
        message = f"The labels come from {', '.join(used or ())}; {show_names(others)} was not used."
        issues.append(make_issue("table_not_used", "info", message, "Give another table as DATA to take its labels."))
    return Source(
        tree.root, table.layout, table.samples, table.class_origin, issues=issues, columns=table.columns,
        label=table.label, patient_candidates=table.patient_candidates,
    )  # fmt: skip


def _finish(source: Source, tree: Tree, columns: dict[str, str], depth: int = 0) -> Source:
    """What folders `depth` levels down named as classes, with what lies beside them."""
    if columns:
        told = ",".join(f"{role}={column}" for role, column in columns.items())
        every = tree.list_files(TABLE_SUFFIXES, deep=True)
        raise UsageError(
            f"--columns {told} is for tables and array files; {tree.root} was read as {source.layout}.",
            (f"To take labels from a table, give it as DATA: {show_names(every)}. " if every else "Leave it out. ")
            + "Patients are told from file names with --patients REGEX.",
        )
    tables = tree.list_files(TABLE_SUFFIXES)
    return replace(source, issues=[*source.issues, *check_tree(tree, class_depth=depth), *check_others(tree, tables)])
