"""Which pictures are meant by files, folders and patterns. A file that cannot be read is kept: reading it says why."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from snellen.core.errors import UsageError
from snellen.core.progress import say
from snellen.imaging.readers import list_pictures

_SHOWN = 3
_ALSO_TOLD = ("circular_link", "archive_not_opened", "dicomdir_not_used")


@dataclass(frozen=True)
class Named:
    """A row to come: the location of a picture or, with `error`, what was named in vain."""

    location: str
    error: str = ""


def find_pictures(patterns: Sequence[str]) -> list[Named]:
    """Files as named (also absent ones: they get a row), folders' pictures, and what patterns match.

    In the order of `patterns`; what is named twice comes twice, but a link shows no file a second time within one of
    them. A DICOM with several frames becomes one entry a frame, such as `scan.dcm::frame[3]`. Raises UsageError where
    nothing at all is found.
    """
    if "" in patterns:
        raise UsageError("An empty path was given.", "Name pictures, folders or patterns; `.` is the current folder.")
    found = [item for pattern in patterns for item in _find(pattern)]
    if found and all(item.error for item in found):
        listed = "\n".join(f"  • {item.location}: {item.error}" for item in found)
        raise UsageError(
            f"There is no picture to predict.\n{listed}",
            "Read are JPEG, PNG, TIFF, BMP, WebP, GIF and DICOM. Quotes keep the shell away from patterns.",
        )
    return found


def _find(pattern: str) -> list[Named]:
    path = _expand_home(pattern)
    mode = _read_mode(path)
    if stat.S_ISDIR(mode):
        return _find_in_folder(path)
    is_inside = stat.S_ISREG(_read_mode(Path(str(path).rpartition("::")[0])))  # its brackets are no pattern
    if mode or is_inside or not glob.has_magic(pattern):
        return _name([str(path)])
    deep = "**" in path.parts
    return (_match_deep(path) if deep else _match(path)) or [Named(pattern, "the pattern matches no file")]


def _find_in_folder(folder: Path) -> list[Named]:
    walked = _walk(folder, once=True)
    files = sorted([*walked.pictures, *walked.lost], key=lambda item: Path(item).parts)
    return [*_name(files), *walked.closed] or [Named(str(folder), "the folder holds no picture")]


def _match(pattern: Path) -> list[Named]:
    """As the shell does, but for folders, which are told, and names that systems make on their own."""
    matched = [Path(item) for item in glob.glob(str(pattern))]  # noqa: PTH207  # Path.glob takes no absolute patterns
    hidden = [item for item in matched if _is_hidden_match(item, pattern)]
    if hidden:
        say(f"{pattern}: {_count(hidden, 'hidden or system name')} left out{_show(hidden)}")
    seen = sorted(set(matched) - set(hidden))
    folders = [item for item in seen if stat.S_ISDIR(_read_mode(item))]
    if folders:
        say(f"{pattern}: {_count(folders, 'folder')} not searched{_show(folders)}: name them, or use **")
    return _name(_leave_out_repeats([str(item) for item in sorted(set(seen) - set(folders))], pattern))


def _match_deep(pattern: Path) -> list[Named]:
    """`**` goes through folders as naming them does: no circles, nothing hidden."""
    at = pattern.parts.index("**")
    base, rest = Path(*pattern.parts[:at]), pattern.parts[at:]
    begins = [base] if _read_mode(base) else [Path(item) for item in glob.glob(str(base))]  # noqa: PTH207  # as above
    files: list[str] = []
    closed: list[Named] = []
    for folder in sorted(item for item in begins if stat.S_ISDIR(_read_mode(item))):
        walked = _walk(folder)
        files += [
            item
            for item in dict.fromkeys((*walked.pictures, *walked.lost, *walked.others))
            if _fits(Path(item).relative_to(folder).parts, rest)
        ]
        closed += walked.closed
    return [*_name(_leave_out_repeats(files, pattern)), *closed]


@dataclass(frozen=True)
class _Walked:
    """Below a folder: `lost` are links to nothing and what is no file, `closed` folders that cannot be entered."""

    pictures: list[str]
    lost: list[str]
    others: list[str]
    closed: list[Named]


def _walk(folder: Path, *, once: bool = False) -> _Walked:
    from snellen.ingest.tree import check_tree, read_tree  # loads records that a single picture does not need

    tree = read_tree(folder, once=once)
    if tree.hidden:
        say(f"{folder}: {_count(tree.hidden, 'hidden or system name')} left out{_show(tree.hidden)}")
    if tree.repeated:
        say(f"{folder}: {_count(tree.repeated, 'link')} to folders that are searched anyway{_show(tree.repeated)}")
    for issue in check_tree(tree):
        if issue.code in _ALSO_TOLD:
            say(f"{folder}: {issue.message}")
    others = [str(folder / name) for name in tree.others]
    absent = [name for name in others if not _read_mode(Path(name))]
    return _Walked(
        pictures=[str(folder / name) for name in tree.pictures],
        lost=[*(str(folder / name) for name, _ in tree.special), *absent],
        others=others,
        closed=[
            Named(str(folder / name), f"the folder cannot be entered: {reason}") for name, reason in tree.unreadable
        ],
    )


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path fits a pattern, part by part; `**` stands for any number of parts."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _fits(parts, pattern[1:]) or (bool(parts) and _fits(parts[1:], pattern))
    return bool(parts) and fnmatch(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _is_hidden_match(path: Path, pattern: Path) -> bool:
    from snellen.ingest.tree import is_hidden_name  # as above

    pairs = zip(path.parts, pattern.parts, strict=False)  # as many, where no part is **
    return any(
        is_hidden_name(part) for part, asked in pairs if glob.has_magic(asked) and not asked.startswith(".")
    )  # a name that was spelt out is meant


def _leave_out_repeats(files: Sequence[str], where: Path) -> list[str]:
    """Sorted; of a file that links of folders lead to several times, the shortest path is kept."""
    kept: dict[tuple[str, str], str] = {}
    homes: dict[str, str] = {}
    for file in sorted(files, key=lambda item: (len(Path(item).parts), item)):
        folder, name = os.path.split(file)
        if folder not in homes:
            homes[folder] = os.path.realpath(folder)
        kept.setdefault((homes[folder], name), file)
    if n_repeats := len(files) - len(kept):
        repeats = sorted(set(files) - set(kept.values()))
        say(f"{where}: {n_repeats} file(s) left out to which links of folders lead again{_show(repeats)}")
    return sorted(kept.values(), key=lambda item: Path(item).parts)


def _name(files: Sequence[str]) -> list[Named]:
    return [Named(location) for file in files for location in list_pictures(file)]


def _expand_home(pattern: str) -> Path:
    """`~` and `~user` as the shell has it: where there is no such user, it is a name like any other."""
    try:
        return Path(pattern).expanduser()
    except RuntimeError:
        return Path(pattern)


def _read_mode(path: Path) -> int:
    """What kind of file it is or leads to; 0 of what is absent, out of reach, or can be no name."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def _count(items: Sequence[object], what: str) -> str:
    return f"{len(items)} {what}{'s' * (len(items) > 1)}"


def _show(items: Sequence[object]) -> str:
    more = ", …" if len(items) > _SHOWN else ""
    return f" ({', '.join(str(item) for item in items[:_SHOWN])}{more})" if items else ""
