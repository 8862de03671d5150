"""Which column of a table names its pictures, and which pictures no row names. Two such columns are asked about."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from snellen.core.errors import DataError
from snellen.core.letters import show_count
from snellen.imaging.kinds import PICTURE_SUFFIXES
from snellen.ingest.dicom_tree import index_tags
from snellen.ingest.picture_index import Found, PictureIndex, look_like_uids
from snellen.ingest.rows import Rows
from snellen.ingest.samples import make_issue, show_names
from snellen.ingest.tree import Tree
from snellen.records.cohort import Issue

_MIN_FOUND = 0.5
_SHOWN = 40


def find_pictures(table: Rows, index: PictureIndex, tree: Tree, asked: str | None) -> Found:
    """The column whose values are pictures of `index`.

    Raises DataError where no column names most of its rows', or where several name different pictures.
    """
    every = _locate(table, index, tree, asked)
    best = _choose_best(table, tree, every)
    if not best.location_of:
        raise DataError(
            f"{table.path}: each picture that the column {best.column} names lies in several folders "
            f"below {tree.root}, such as {best.ambiguous[0]!r}.",
            "Write the folder into the column, or give only one of the folders together with the table.",
        )
    if rivals := _list_rivals(every, best):
        named = sorted([best, *rivals], key=lambda found: table.header.index(found.column))
        shown = ", ".join(f"{found.column} ({len(set(found.location_of.values()))} pictures)" for found in named)
        raise DataError(
            f"{table.path}: several columns name pictures, and not the same ones: {shown}. One column of them is read.",
            f"Say which: --columns image={named[0].column}. To use all, write a row a picture, with its own label and "
            "the patient in a column.",
        )
    return best


def list_fitting(table: Rows, index: PictureIndex, tree: Tree) -> frozenset[str]:
    """The pictures that any of the columns that name pictures may mean. Raises DataError where none does."""
    every = _locate(table, index, tree, None)
    best = _choose_best(table, tree, every)
    return best.fitting.union(*(found.fitting for found in _list_rivals(every, best)))


def has_pictures(table: Rows, index: PictureIndex, tree: Tree) -> bool:
    """Whether a column names pictures without doubt. Raises DataError where none does."""
    return bool(_choose_best(table, tree, _locate(table, index, tree, None)).location_of)


def check_found(found: Found) -> list[Issue]:
    """What had to be overlooked or preferred to find the pictures."""
    issues = []
    if found.loose:
        value = found.loose[0]
        message = (
            f"{show_count(len(found.loose), 'row names its', 'rows name their')} picture with another case or "
            "extension, "
            f"such as {value!r} for {found.location_of[value]}."
        )
        issues.append(make_issue("picture_matched_loosely", "info", message, "Check the example.", found.loose))
    if found.passed:
        message = f"Several folders hold the same names: {found.chosen}/ was taken, not {show_names(found.passed)}."
        advice = "If another is meant, give a copy of the data without the rest."
        issues.append(make_issue("folder_chosen", "warning", message, advice))
    return issues


def check_unlisted(tree: Tree, every: Sequence[Found]) -> list[Issue]:
    """Pictures below the tree that no row names; a folder of which none is named is told as a whole."""
    used = {location for found in every for location in found.location_of.values()}
    open_ = {item for found in every if found.ambiguous for item in found.fitting}  # told as ambiguous
    passed = {folder for found in every for folder in found.passed}  # told as folders that were not chosen
    folders = {_folder(item) for item in used}
    left = [item for item in tree.pictures if item not in used and item not in open_ and _folder(item) not in passed]
    names = [item for item in left if _folder(item) in folders]
    whole = Counter(_folder(item) for item in left if _folder(item) not in folders)
    if not left:
        return []
    told = [f"{show_count(len(names), 'picture')}, such as {show_names(names[:3])}"] if names else []
    told += [f"all of {folder}/ ({count})" for folder, count in whole.most_common(3)]
    more = f" and of {len(whole) - 3} more folders" if len(whole) > 3 else ""
    message = f"No row of the table names {len(left)} of the pictures below its folder: {'; '.join(told)}{more}."
    advice = "Add rows for them if they belong to the data; without a row a picture has no label and is not read."
    return [make_issue("picture_not_in_table", "warning", message, advice, names)]


def _locate(table: Rows, index: PictureIndex, tree: Tree, asked: str | None) -> list[Found]:
    values = {column: table.values(column) for column in ([asked] if asked else table.header)}
    if asked or any(look_like_uids(items) for items in values.values()):
        index.add_keys(index_tags(tree, index.pictures, by_patient=asked is not None, values=values.get(asked or "")))
    every = [index.locate(column, items) for column, items in values.items()]
    if asked is None:
        _require_header(table, index, every)
    return every


def _require_header(table: Rows, index: PictureIndex, every: Sequence[Found]) -> None:
    """Raise DataError where the header is a row of data: a file's name in it, or an id in a column of pictures."""
    if any(index.holds(name) for name in table.header) or any(_is_data(table, index, found) for found in every):
        raise DataError(
            f"{table.path} has no header: its first row ({', '.join(table.header)}) reads like data.",
            "Write a first line that names the columns, such as image,label.",
        )


def _is_data(table: Rows, index: PictureIndex, found: Found) -> bool:
    """Whether the header's cell is a picture without a row, as its column's cells are pictures, and no name besides:
    it has a digit, or another cell of the header is a value of its column.
    """
    name = found.column
    own = index.locate("", [name]).fitting - found.fitting
    if not own or len(found.fitting) < _MIN_FOUND * max(len({value for value in table.values(name) if value}), 1):
        return False
    others = [column for column in table.header if column and column != name]
    return any(map(str.isdecimal, name)) or any(column in table.values(column) for column in others)


def _choose_best(table: Rows, tree: Tree, every: Sequence[Found]) -> Found:
    best = max(every, key=lambda found: (len(found.location_of), len(found.ambiguous)))
    if not best.fitting:  # none is better than another: the one with most values is the likeliest to be meant
        best = max(every, key=lambda found: len(set(table.values(found.column))))
    n_values = len({value for value in table.values(best.column) if value})
    if len(best.location_of) + len(best.ambiguous) < _MIN_FOUND * max(n_values, 1):
        raise DataError(
            f"{table.path}: no column names pictures below {tree.root} "
            f"(best: {best.column} with {len(best.location_of)} of {n_values} found"
            f"{_show_example(table, tree, best)}).",
            _find_lost_zeros(table, tree, every)
            + "Keep the table beside the pictures' folder; --columns image=NAME tells the column.",
        )
    return best


def _show_example(table: Rows, tree: Tree, best: Found) -> str:
    """A cell that names no picture, beside what a picture is called."""
    cell = next((value for value in table.values(best.column) if value and value not in best.location_of), "")
    return f"; a cell is {cell[:_SHOWN]!r}, a file {show_names(tree.pictures[:1])}" if cell and tree.pictures else ""


def _find_lost_zeros(table: Rows, tree: Tree, every: Sequence[Found]) -> str:
    """The column whose cells would be files' names without leading zeros: said, not matched, for 7 may be 07 or 007."""
    files = defaultdict(list)
    for picture in tree.pictures:
        name = picture.rpartition("/")[2]
        files[_strip_zeros(name)].append(name)
    best: tuple[str, list[str]] = ("", [])
    for found in every:
        values = {value for value in table.values(found.column) if value}
        lost = sorted(value for value in values - set(found.location_of) if _strip_zeros(value) in files)
        if len(lost) > len(best[1]) and len(lost) + len(found.location_of) >= _MIN_FOUND * len(values):
            best = found.column, lost
    column, lost = best
    if not lost:
        return ""
    return (
        f"Without leading zeros {len(lost)} of the cells of {column} would fit, such as {lost[0]!r} for "
        f"{show_names(files[_strip_zeros(lost[0])][:1])}: a spreadsheet may have dropped them. Write the cells as the "
        "files are called. "
    )


def _strip_zeros(name: str) -> str:
    """The name without folder, picture's suffix and leading zeros: 1 of `images/0001.png`, also of `1.0`."""
    name = name.replace("\\", "/").rpartition("/")[2].casefold()
    suffix = next((suffix for suffix in PICTURE_SUFFIXES if name.endswith(suffix)), "")
    plain = re.sub(r"(?<!\d)0+(?=\d)", "", name.removesuffix(suffix))
    return plain.removesuffix(".0")


def _list_rivals(every: Sequence[Found], best: Found) -> list[Found]:
    """Other columns that name pictures which the best one does not: file names, or as many as a column of ids has."""
    known = set(best.location_of.values()) | best.fitting
    rivals = []
    for found in every:
        other = {value: item for value, item in found.location_of.items() if item not in known}
        n_names = sum(value.lower().endswith(PICTURE_SUFFIXES) for value in other)
        if found is not best and other and (n_names or len(other) >= _MIN_FOUND * len(best.location_of)):
            rivals.append(found)
    return rivals


def _folder(picture: str) -> str:
    return picture.rpartition("/")[0] or "."
