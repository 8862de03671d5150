"""Class folders, and train/val/test folders of them: the folder's name is the label. Works on a walked tree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from snellen.core.letters import agree, show_count
from snellen.ingest.patients import RawSample, is_patient_folder
from snellen.ingest.samples import SPLIT_NAMES, Source, guess_split, make_issue, show_names, to_text
from snellen.ingest.tree import ARCHIVE_SUFFIXES, Tree
from snellen.records.cohort import Issue

_SIDES = {"left", "right", "od", "os", "ou", "l", "r", "re", "le"}


def find_split_folders(tree: Tree) -> dict[str, str]:
    """Folder → split, where the names of the folders say so: train and at least one other. Else nothing.

    Names that are a split's win over names that only hold one, such as `train_images`.
    """
    here = tree.list_top_folders()
    for choose in (lambda name: SPLIT_NAMES.get(name.lower()), guess_split):
        found = {name: split for name in here if (split := choose(name)) is not None}
        if "train" in found.values() and len(found) >= 2:
            return found
    return {}


def read_split_folders(tree: Tree, split_of: dict[str, str]) -> Source:
    """The pictures of every class folder in every split folder."""
    samples: list[RawSample] = []
    loose: list[str] = []
    for name in tree.pictures:
        parts = name.split("/")
        if parts[0] not in split_of:
            continue
        if len(parts) < 3:
            loose.append(name)
            continue
        samples.append(RawSample(name, name, parts[1], split_of[parts[0]], folder=parts[2] if parts[3:] else None))
    ignored = [name for name in tree.list_top_folders() if name not in split_of]
    outside = [name for name in tree.pictures if "/" not in name]
    issues = [
        *([_ignored_folders(ignored)] if ignored else []),
        *([_without_class([*loose, *outside])] if loose or outside else []),
        *_check_empty(tree, [name for name in tree.folders if name.count("/") == 1 and name.split("/")[0] in split_of]),
        *_check_classes(samples),
        *_check_inner(samples),
    ]
    return Source(tree.root, "split folders of class folders", samples, "folder names", issues=issues)


def read_class_folders(tree: Tree, classes: Sequence[str], tables: Sequence[str]) -> Source:
    """The pictures of every class folder; sub-folders belong to their class."""
    paths = [(name, name.split("/")) for name in tree.pictures if "/" in name]
    samples = [RawSample(name, name, parts[0], folder=parts[1] if parts[2:] else None) for name, parts in paths]
    loose = [name for name in tree.pictures if "/" not in name]
    issues = []
    if tables:
        issues.append(_table_not_used(tree, tables))
    if loose:
        issues.append(_without_class(loose))
    issues += _check_empty(tree, [name for name in tree.list_top_folders() if name not in classes])
    issues += _check_inner(samples)
    return Source(tree.root, "class folders", samples, "folder names", issues=issues)


def check_others(tree: Tree, used: Sequence[str] = ()) -> list[Issue]:
    """Files that are neither pictures nor used: told, for one of them may have been meant as a picture."""
    left = [
        name
        for name in tree.others
        if name not in used
        and not name.lower().endswith(ARCHIVE_SUFFIXES)
        and name.rsplit("/", 1)[-1].upper() != "DICOMDIR"
    ]
    if not left:
        return []
    what = show_count(len(left), "file is neither picture nor table", "files are neither pictures nor tables")
    message = f"{what} that {agree(len(left), 'were')} used: {show_names(left)}."
    return [make_issue("file_not_used", "info", message, "Nothing to do, unless one is a picture.", left)]


def _check_classes(samples: Sequence[RawSample]) -> list[Issue]:
    """Classes that some of the splits lack, and a missing val or test."""
    classes: dict[str, set[str]] = {}
    for sample in samples:
        classes.setdefault(sample.split or "", set()).add(sample.label)
    issues = []
    every = set().union(*classes.values()) if classes else set()
    lacking = [f"{split} lacks {', '.join(sorted(every - found))}" for split, found in classes.items() if every - found]
    if lacking:
        message = f"The splits do not hold the same classes: {'; '.join(lacking)}."
        issues.append(
            make_issue("classes_differ_between_splits", "warning", message, "Check the names of the class folders.")
        )
    missing = [split for split in ("val", "test") if split not in classes]
    if missing and classes:
        message = f"There is no {' and no '.join(missing)}: cut from train by patient."
        issues.append(make_issue("split_missing", "info", message, "Nothing to do."))
    return issues


def _check_inner(samples: Sequence[RawSample]) -> list[Issue]:
    """The same folders within every class: those may be the classes, and what was read as classes sites or eyes.
    Or the classes within one of them: that is a copy, a part or an export of the rest.
    """
    inner: dict[str, set[str]] = {}
    for sample in samples:
        inner.setdefault(sample.label, set()).update([sample.folder.casefold()] if sample.folder else [])
    if len(inner) < 2:
        return []
    same = {name for name in set.intersection(*inner.values()) if not is_patient_folder(name)}
    held = {name: found for name in inner if (found := _find_classes_within(name, inner))}
    if held and not same:
        return [_tell_classes_within(name, found) for name, found in sorted(held.items())]
    if len(same) < 2 or same <= _SIDES or 2 * len(same) < len(set.union(*inner.values())):
        return []
    outer, shown = sorted(inner), sorted(same)
    message = (
        f"The folders {show_names(outer)} were read as classes, but each holds the same folders {show_names(shown)}, "
    )
    if all(guess_split(name) for name in same):
        message += "which look like splits."
        advice = f"Turn the folders round: {shown[0]}/{outer[0]}/…"
    else:
        message += "which look like the classes."
        advice = (
            f"If they are, re-arrange the folders ({shown[0]}/{outer[0]}/…, {shown[-1]}/{outer[0]}/…), or give a table "
            "with image, label and, for example, site."
        )
    return [make_issue("folders_hold_same_folders", "severe", message, to_text(advice))]


def _find_classes_within(name: str, inner: dict[str, set[str]]) -> list[str]:
    """The other classes after which the folders within class `name` are called, where these are most of the folders
    and two classes at least, or all there are. Among many folders of patients, some are called like grades.
    """
    others = [label for label in inner if label.casefold() != name.casefold()]
    found = sorted(label for label in others if label.casefold() in inner[name])
    is_enough = len(found) >= 2 or (bool(found) and len(found) == len(others))
    return found if is_enough and 2 * len(found) >= len(inner[name]) else []


def _tell_classes_within(name: str, found: Sequence[str]) -> Issue:
    message = f"The folder {show_names([name])} was read as a class, but holds folders named like the classes "
    advice = f"Take it out of the data, or move its pictures into the folders of their classes ({name}/{found[0]}/… "
    return make_issue(
        "folders_hold_same_folders", "severe", f"{message}({show_names(found)}).", to_text(f"{advice}→ {found[0]}/…).")
    )


def _table_not_used(tree: Tree, tables: Sequence[str]) -> Issue:
    message = f"The labels are the folder names; {show_names(tables)} was not used."
    advice = f"To take labels from the table, give it as DATA: {tree.root / tables[0]}"
    return make_issue("table_not_used", "info", message, to_text(advice))


def _check_empty(tree: Tree, folders: Sequence[str]) -> list[Issue]:
    filled = {parent.as_posix() for name in tree.pictures for parent in PurePosixPath(name).parents}
    empty = [name for name in folders if name not in filled]
    if not empty:
        return []
    message = f"Folders without a picture that Snellen reads: {show_names(empty)}. They are no classes."
    advice = "Export their pictures as JPEG, PNG or TIFF if they belong to the data."
    return [make_issue("folder_without_pictures", "warning", message, advice)]


def _ignored_folders(names: Sequence[str]) -> Issue:
    message = f"Beside the split folders lie others that were not used: {show_names(names)}."
    advice = "Move pictures that belong to the data into train, val or test."
    return make_issue("folder_not_used", "warning", message, advice)


def _without_class(names: Sequence[str]) -> Issue:
    message = (
        f"{show_count(len(names), 'picture lies', 'pictures lie')} in no class folder, such as {names[0]}: set aside."
    )
    advice = f"Move {'it into the folder of its' if len(names) == 1 else 'them into the folder of their'} class."
    return make_issue("picture_without_class", "warning", message, advice, names)
