"""Which picture a cell of a table means: by name, with or without folder and extension, or by DICOM tags."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from snellen.imaging.kinds import PICTURE_SUFFIXES
from snellen.ingest.samples import guess_split

_MAIN_FOLDERS = ("images", "image", "imgs", "img", "pictures")


@dataclass(frozen=True)
class Found:
    """How the values of one column were resolved.

    `loose` are values that differ from the file's name in case or extension, `ambiguous` those that several files
    fit; `fitting` are the pictures that fit any value. `chosen` is the folder that was preferred where several hold
    the same names, `passed` are the others.
    """

    column: str
    location_of: dict[str, str]
    ambiguous: tuple[str, ...] = ()
    loose: tuple[str, ...] = ()
    fitting: frozenset[str] = frozenset()
    chosen: str = ""
    passed: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The folders of what was found, for a person."""
        used = Counter(_folder(item) for item in self.location_of.values())
        shown = ", ".join(f"{name}/" if name != "." else "the same folder" for name, _ in used.most_common(3))
        return shown + (" …" if len(used) > 3 else "")


class PictureIndex:
    """Pictures by their names, exact and loose. `root_name` lets `images/a.png` fit a.png in the folder images."""

    def __init__(self, pictures: Iterable[str], root_name: str = "") -> None:
        self.pictures = tuple(pictures)
        self.root_name = root_name
        self._exact: dict[str, list[str]] = defaultdict(list)
        self._loose: dict[str, list[str]] = defaultdict(list)
        self._parents_of: dict[str, tuple[str, ...]] = {}
        for picture in self.pictures:
            name = _normalise(picture.rpartition("/")[2])
            stem = _strip_one(name)
            for key in {name, stem}:
                self._exact[key].append(picture)
            for key in {name.casefold(), _strip_all(name).casefold()}:
                self._loose[key].append(picture)

    def add_keys(self, keys: Iterable[tuple[str, str]]) -> None:
        """Further names `(key, picture)`, such as UIDs of DICOM files."""
        for key, picture in keys:
            if key and picture not in self._exact[key]:
                self._exact[key].append(picture)

    def holds(self, value: str) -> bool:
        """Whether `value` is the whole name of a picture."""
        name = _normalise(value).rsplit("/", 1)[-1]
        return name.lower().endswith(PICTURE_SUFFIXES) and name in self._exact

    def locate(self, column: str, values: Sequence[str]) -> Found:
        """Resolve a column's distinct values."""
        found = {value: self._find(value) for value in dict.fromkeys(values) if value}
        folders = Counter(folder for items, _ in found.values() for folder in {_folder(item) for item in items})
        best = max(folders.values(), default=0)
        tied = sorted(folder for folder, count in folders.items() if count == best)
        main = [folder for folder in tied if PurePosixPath(folder).name.lower() in _MAIN_FOLDERS]
        chosen = main[0] if len(main) == 1 and len(tied) > 1 else ""
        location_of: dict[str, str] = {}
        ambiguous, loose, passed = [], [], set()
        for value, (items, is_loose) in found.items():
            # the same name in several folders: the folder that holds most rows of the table is meant
            most = max((folders[_folder(item)] for item in items), default=0)
            ranked = [item for item in items if folders[_folder(item)] == most]
            if len(ranked) > 1 and chosen:
                preferred = [item for item in ranked if _folder(item) == chosen] or ranked
                passed |= {_folder(item) for item in ranked} - {chosen}
                ranked = preferred
            if len(ranked) > 1:
                ambiguous.append(value)
            elif ranked:
                location_of[value] = ranked[0]
                loose += [value] if is_loose else []
        return Found(
            column=column,
            location_of=location_of,
            ambiguous=tuple(ambiguous),
            loose=tuple(loose),
            fitting=frozenset(item for items, _ in found.values() for item in items),
            chosen=chosen if passed else "",
            passed=tuple(sorted(passed)),
        )

    def _find(self, value: str) -> tuple[list[str], bool]:
        """(pictures that `value` may mean, whether case or extension had to be overlooked)."""
        path = _normalise(value.replace("\\", "/")).removeprefix("./")
        name = path.rsplit("/", 1)[-1]
        exact = self._fit_folder(self._exact.get(name, []), path)
        if exact:
            return exact, False
        for key in (name.casefold(), _strip_all(name).casefold()):
            if loose := self._fit_folder(self._loose.get(key, []), path):
                return loose, True
        return [], False

    def _fit_folder(self, pictures: Sequence[str], path: str) -> list[str]:
        """Those that lie in the folders that `path` names; an absolute path counts by its last folders."""
        parents = path.split("/")[:-1]
        if not parents or not pictures:
            return list(dict.fromkeys(pictures))
        if ".." in parents:
            return []
        is_absolute = path.startswith("/") or re.match(r"[A-Za-z]:", path) is not None
        lengths = range(len(parents), 0, -1) if is_absolute else (len(parents),)
        for length in lengths:
            tail = tuple(part.casefold() for part in parents[-length:])
            fitting = [item for item in pictures if self._parents(item)[-length:] == tail]
            if fitting:
                return fitting
        return []

    def _parents(self, picture: str) -> tuple[str, ...]:
        folder = _folder(picture)
        if folder not in self._parents_of:
            parts = (self.root_name, *(folder.split("/") if folder != "." else ()))
            self._parents_of[folder] = tuple(_normalise(part).casefold() for part in parts if part)
        return self._parents_of[folder]


def restrict_to_split(index: PictureIndex, split: str) -> PictureIndex:
    """Without pictures in folders named after another split: ids may repeat in train_images and test_images."""
    split_of = {folder: _guess_folder(folder) for folder in {_folder(item) for item in index.pictures}}
    kept = [item for item in index.pictures if split_of[_folder(item)] in (None, split)]
    return PictureIndex(kept, index.root_name)


def _guess_folder(folder: str) -> str | None:
    return next((split for part in PurePosixPath(folder).parts if (split := guess_split(part)) is not None), None)


def look_like_uids(values: Sequence[str]) -> bool:
    """Whether the values are DICOM UIDs."""
    shown = [value for value in values if value][:100]
    return bool(shown) and all(re.fullmatch(r"[0-2](\.\d+){4,}", value) for value in shown)


def get_root_name(folder: Path) -> str:
    """The folder's own name, by which tables may call it."""
    return folder.name


def _folder(picture: str) -> str:
    # by hand: paths as objects cost a quarter of a minute on 90,000 rows
    return picture.rpartition("/")[0] or "."


def _normalise(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _strip_one(name: str) -> str:
    return name[: name.rindex(".")] if name.lower().endswith(PICTURE_SUFFIXES) else name


def _strip_all(name: str) -> str:
    while (shorter := _strip_one(name)) != name and shorter:
        name = shorter
    return name
