"""All files below a folder, walked once: pictures, tables, others, and what could not be entered. Reads no pixel."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from snellen.core.letters import show_count
from snellen.core.regular_files import describe_special
from snellen.imaging.kinds import PICTURE_SUFFIXES, looks_like_picture
from snellen.ingest.samples import make_issue, show_names
from snellen.records.cohort import Issue

TABLE_SUFFIXES = (".csv", ".tsv")
TEXT_SUFFIXES = (".txt", ".tab", ".dat")  # a table only where it is named: it may be notes or anything
SHEET_SUFFIXES = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
# what systems and network disks put beside pictures; Synology's @eaDir holds thumbnails of them
_HIDDEN = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Tree:
    """Visible files below `root`, as sorted paths relative to it with `/`.

    `unreadable` holds folders and why they could not be entered, `circular` links that lead back up,
    `special` what is no file or leads to none (devices, pipes, sockets), and what it is. `hidden` are files and
    folders that were left out for their names, `repeated` links to folders that were walked already.
    """

    root: Path
    folders: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    circular: tuple[str, ...] = ()
    special: tuple[tuple[str, str], ...] = ()
    hidden: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()

    @property
    def pictures_here(self) -> tuple[str, ...]:
        """Those that lie directly in the root."""
        return tuple(name for name in self.pictures if "/" not in name)

    def unwrap(self) -> Tree | None:
        """The part below the only folder, where the root holds nothing else and that folder is no class."""
        here = self.list_top_folders()
        if len(here) != 1 or any("/" not in name for name in (*self.pictures, *self.others)):
            return None
        inside = self.below(here[0])
        return inside if inside.folders or inside.others else None

    def list_top_folders(self) -> list[str]:
        """Names of the folders that lie directly in the root."""
        return [name for name in self.folders if "/" not in name]

    def list_files(self, suffixes: Sequence[str], *, deep: bool = False) -> list[str]:
        """Files that are no pictures and end so; those of the root, or with `deep` all."""
        return [name for name in self.others if name.lower().endswith(tuple(suffixes)) and (deep or "/" not in name)]

    def below(self, name: str) -> Tree:
        """The part below the folder `name`, as if it had been walked alone."""
        begin = f"{name}/"

        def cut(names: Sequence[str]) -> tuple[str, ...]:
            return tuple(item[len(begin) :] for item in names if item.startswith(begin))

        return replace(
            self, root=self.root / name, folders=cut(self.folders), pictures=cut(self.pictures),
            others=cut(self.others), hidden=cut(self.hidden),
            special=tuple((item[len(begin) :], kind) for item, kind in self.special if item.startswith(begin)),
            unreadable=tuple((item[len(begin) :] if item.startswith(begin) else f"../{item}", reason)
                             for item, reason in self.unreadable),
        )  # fmt: skip


def is_hidden_name(name: str) -> bool:
    """Whether a file or folder is one of those that systems and editors hide or make on their own."""
    return name.startswith(".") or name.lower() in _HIDDEN


def read_tree(root: Path, *, once: bool = False) -> Tree:
    """Walk `root`. Links are followed, but not back up to a folder that is being walked; nothing is raised.

    With `once` no folder is walked a second time, whatever leads to it.
    """
    found = _Found()
    links: deque[_Place] | None = deque() if once else None
    for name in _walk_all(_Place(root, "", ()), links, found):
        (found.pictures if looks_like_picture(root / name) else found.others).append(name)
    return Tree(
        root, tuple(sorted(found.folders)), tuple(sorted(found.pictures)), tuple(sorted(found.others)),
        tuple(sorted(found.unreadable)), tuple(sorted(found.circular)), tuple(sorted(found.special)),
        tuple(sorted(found.hidden)), tuple(sorted(found.repeated)),
    )  # fmt: skip


def check_tree(tree: Tree, *, has_samples: bool = True, class_depth: int | None = None) -> list[Issue]:
    """What could not be entered or was not opened. `has_samples`: each picture of the tree is a sample.

    `class_depth`: so many folders lie above a folder whose name is a class; none where folders are no classes.
    """
    issues = []
    if tree.special:
        name, kind = tree.special[0]
        message = (
            f"{show_count(len(tree.special), 'entry is no file', 'entries are no files')}, such as {name} "
            f"({kind}): they were not opened."
        )
        # of a table, a row that names one misses its picture and is counted as that
        names = [name for name, _ in tree.special if has_samples and name.lower().endswith(PICTURE_SUFFIXES)]
        issues.append(make_issue("special_file", "warning", message, "Put the pictures there, or remove them.", names))
    issues += _check_unreadable(tree, class_depth)
    if tree.circular:
        message = f"Links that lead back to a folder above them were not followed: {show_names(tree.circular)}."
        issues.append(make_issue("circular_link", "info", message, "Nothing to do.", tree.circular))
    if archives := tree.list_files(ARCHIVE_SUFFIXES, deep=True):
        message = f"Archives within the data were not opened: {show_names(archives)}."
        issues.append(make_issue("archive_not_opened", "warning", message, "Unpack them if they belong to the data.",
                                 archives))  # fmt: skip
    if sets := [name for name in tree.others if name.rsplit("/", 1)[-1].upper() == "DICOMDIR"]:
        message = f"DICOMDIR is a table of contents, no picture: {show_names(sets)} not used."
        issues.append(make_issue("dicomdir_not_used", "info", message, "Nothing to do.", sets))
    return issues


def _check_unreadable(tree: Tree, class_depth: int | None) -> list[Issue]:
    """Folders that could not be entered; severe where a whole class, or a whole split, lies in one."""
    whole = dict(found for found in tree.unreadable if class_depth is not None and found[0].count("/") <= class_depth)
    inner = dict(found for found in tree.unreadable if found[0] not in whole)
    issues = []
    if whole:
        message = f"{_describe_unreadable(whole)}: all pictures of the class or split are missing."
        issues.append(make_issue("unreadable_class", "severe", message, "Check the permissions.", list(whole)))
    if inner:
        message = f"{_describe_unreadable(inner)}: the pictures there are missing."
        issues.append(make_issue("unreadable_folder", "warning", message, "Check the permissions.", list(inner)))
    return issues


def _describe_unreadable(found: dict[str, str]) -> str:
    name, reason = next(iter(found.items()))
    which = f"The folder {name}" if len(found) == 1 else f"{len(found)} folders, such as {name},"
    return f"{which} cannot be entered ({reason})"


@dataclass
class _Found:
    folders: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    circular: list[str] = field(default_factory=list)
    special: list[tuple[str, str]] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    walked: set[tuple[int, int]] = field(default_factory=set)


@dataclass(frozen=True)
class _Place:
    """A folder, its path relative to the root, and device and number of the folders above that are being walked."""

    folder: Path
    name: str
    above: tuple[tuple[int, int], ...]


def _walk_all(begin: _Place, links: deque[_Place] | None, found: _Found) -> Iterator[str]:
    """Files below `begin`. With `links`, linked folders wait there until all others are walked, and none comes twice:
    each folder has the path that it has without links, and those that link each other take no more than their number.
    """
    yield from _walk(begin, links, found)
    while links:
        yield from _walk(links.popleft(), links, found)


def _walk(place: _Place, links: deque[_Place] | None, found: _Found) -> Iterator[str]:
    folder, name = place.folder, place.name
    try:
        status = folder.stat()
        mark = (status.st_dev, status.st_ino)
        if mark in place.above:
            found.circular.append(name)
            return
        if links is not None and mark in found.walked:
            found.repeated.append(name)
            return
        found.walked.add(mark)
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        found.unreadable.append((name or ".", error.strerror or str(error)))
        return
    if name:
        found.folders.append(name)
    for entry in listed:
        path = f"{name}/{entry.name}" if name else entry.name
        if is_hidden_name(entry.name):
            found.hidden.append(path)
        elif _is_folder(entry):
            inside = _Place(folder / entry.name, path, (*place.above, mark))
            if links is not None and entry.is_symlink():
                links.append(inside)
            else:
                yield from _walk(inside, links, found)
        elif kind := _describe_special(entry):
            found.special.append((path, kind))
        else:
            yield path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _describe_special(entry: os.DirEntry[str]) -> str:
    """What it is or leads to, where that is no file. A link to nothing is read, which says what is wrong."""
    try:
        return "" if entry.is_file() else describe_special(entry.stat().st_mode)
    except OSError:
        return ""
