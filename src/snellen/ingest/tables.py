"""A CSV with a row a picture, or one a split: columns are found by content, or told with --columns.

Ambiguity is asked, not guessed. Decodes no pixel; of DICOM files it reads tags where a column holds UIDs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from snellen.core.errors import DataError, UsageError
from snellen.core.letters import show_class, show_count
from snellen.ingest.label_columns import LabelColumns, find_labels, read_labels, require_columns
from snellen.ingest.patients import RawSample
from snellen.ingest.picture_columns import check_found, check_unlisted, find_pictures, has_pictures, list_fitting
from snellen.ingest.picture_index import Found, PictureIndex, get_root_name, restrict_to_split
from snellen.ingest.rows import Rows, read_rows
from snellen.ingest.samples import PATIENT_NAMES, SPLIT_NAMES, guess_split, make_issue, simplify_name
from snellen.ingest.tree import Tree, read_tree
from snellen.records.cohort import PARTS, Issue

ROLES = ("image", "label", "patient", "split")
_SPLIT_COLUMNS = ("split", "set", "subset", "partition")
_NO_PATIENT = ("", "na", "nan", "n/a", "none", "null", "-", "?")
_MEASURES = ("age", "alter", "date", "year", "width", "height")
_MIN_FOUND = 0.5
_MIN_IDS = 0.1  # of the rows: fewer values are a site or a grade
_MAX_IDS = 0.9  # more are names of pictures


@dataclass
class Table:
    """The samples of a table and how its columns were read."""

    samples: list[RawSample]
    layout: str
    class_origin: str
    issues: list[Issue] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    patient_candidates: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Columns:
    found: Found
    label: LabelColumns
    patient: str | None
    split: str | None

    @property
    def roles(self) -> str:
        told = {"image": self.found.column, "label": "+".join(self.label.names), "patient": self.patient,
                "split": self.split}  # fmt: skip
        return ", ".join(f"{role}={column}" for role, column in told.items() if column)


def read_table(path: Path, columns: dict[str, str], tree: Tree | None = None) -> Table:
    """Read a CSV or TSV; pictures lie below `tree`, else below its folder. Raises DataError or UsageError."""
    table = read_rows(path)
    require_columns(table, columns, ROLES)
    tree = tree or read_tree(path.parent)
    found = find_pictures(table, PictureIndex(tree.pictures, get_root_name(tree.root)), tree, columns.get("image"))
    chosen, issues = _choose_columns(table, found, columns)
    samples, set_aside = _to_samples(table, chosen, None)
    return Table(
        samples,
        f"table {path.name} ({chosen.roles}; pictures in {found.place})",
        chosen.label.title,
        [*table.issues, *issues, *check_found(found), *check_unlisted(tree, [found]), *set_aside],
        table.header,
        chosen.label.names,
        _list_patient_candidates(table, chosen),
    )


def read_split_tables(tree: Tree, tables: dict[str, str], columns: dict[str, str]) -> Table:
    """Read one table a split; `tables` is path below the tree → split. The label's column is that of train.

    A table without that column is ungraded: its rows are set aside and told.
    """
    index = PictureIndex(tree.pictures, get_root_name(tree.root))
    samples: list[RawSample] = []
    issues: list[Issue] = []
    header: tuple[str, ...] = ()
    label: LabelColumns | None = None
    told, every = [], []
    for name, split in sorted(tables.items(), key=lambda item: (item[1] != "train", item)):
        table = read_rows(tree.root / name, min_columns=2 if label is None else 1)
        known = {role: column for role, column in columns.items() if label is None or column in table.header}
        require_columns(table, known, ROLES)
        part = restrict_to_split(index, split)
        found = find_pictures(table, part, tree, known.get("image"))
        every.append(found)
        issues += [*table.issues, *check_found(found)]
        if label is not None and not set(label.names) <= set(table.header):
            issues.append(_ungraded(name, label, table.values(found.column)))
            continue
        chosen, more = _choose_columns(table, found, known, label)
        label = chosen.label
        rows, set_aside = _to_samples(table, chosen, split)
        samples += rows
        issues += [*more, *set_aside]
        header = header or table.header
        told.append(f"{name} = {split}")
    title = label.title if label else ""
    layout = f"a table a split ({', '.join(told)}; {title})"
    kept, repeated = _drop_repeated(samples)
    return Table(kept, layout, title, [*issues, *check_unlisted(tree, every), *repeated], header)


def find_split_tables(names: Sequence[str]) -> dict[str, str]:
    """Table → split, where the tables' names, or their folders', tell several splits and one is train; else nothing."""
    found = {}
    for name in names:
        parts = name.rsplit(".", 1)[0].split("/")
        split = next((split for part in reversed(parts) if (split := guess_split(part)) is not None), None)
        if split is not None:
            found[name] = split
    return found if "train" in found.values() else {}


def names_most_pictures(path: Path, n_pictures: int, tree: Tree | None = None) -> bool:
    """Whether a table that lies beside class folders describes them: then it is the data, not the folders' names."""
    tree = tree or read_tree(path.parent)
    try:
        fitting = list_fitting(read_rows(path), PictureIndex(tree.pictures, get_root_name(tree.root)), tree)
    except DataError:
        return False
    # copies of a picture in other folders (cropped, masked) are described by the same row
    return len(fitting) > _MIN_FOUND * n_pictures


def names_pictures(path: Path, tree: Tree, split: str) -> bool:
    """Whether a table can be read as one that names pictures of `split` below `tree`."""
    index = restrict_to_split(PictureIndex(tree.pictures, get_root_name(tree.root)), split)
    try:
        return has_pictures(read_rows(path), index, tree)
    except DataError:
        return False


def _choose_columns(
    table: Rows, found: Found, columns: dict[str, str], label: LabelColumns | None = None
) -> tuple[_Columns, list[Issue]]:
    taken = {found.column}
    patient = columns.get("patient") or _by_name(table, PATIENT_NAMES, taken)
    taken |= {patient} if patient else set()
    split, issues = _choose_split(table, taken, columns.get("split"))
    taken |= {split} if split else set()
    label = label or find_labels(table, taken, columns.get("label"))
    if found.column in label.names:
        raise UsageError(
            f"{table.path}: the column {found.column} cannot be both image and label.",
            "Tell both: --columns image=NAME,label=NAME",
        )
    return _Columns(found, label, patient, split), issues


def _by_name(table: Rows, names: tuple[str, ...], taken: set[str]) -> str | None:
    plain = {simplify_name(column): column for column in reversed(table.header) if column not in taken}
    return next((plain[name] for name in names if name in plain), None)


def _list_patient_candidates(table: Rows, chosen: _Columns) -> tuple[str, ...]:
    """Where no column tells patients: those whose values repeat as ids of patients would."""
    if chosen.patient:
        return ()
    taken = {chosen.found.column, chosen.split, *chosen.label.names}
    found = []
    for column in table.header:
        values = [value for value in table.values(column) if value]
        n_rows, n_values = len(table.rows), len(set(values))
        is_measure = any(word in simplify_name(column) for word in _MEASURES) or any("." in value for value in values)
        if column in taken or is_measure or not _MIN_IDS * n_rows <= n_values <= _MAX_IDS * n_rows:
            continue
        if all(any(letter.isdecimal() for letter in value) for value in values):
            found.append(column)
    return tuple(found)


def _choose_split(table: Rows, taken: set[str], asked: str | None) -> tuple[str | None, list[Issue]]:
    column = asked or _by_name(table, _SPLIT_COLUMNS, taken)
    if column is None:
        return None, []
    strange = sorted({value for value in table.values(column) if value and value.lower() not in SPLIT_NAMES})
    if not strange:
        return column, []
    message = f"{table.path}: the column {column} has values that name no split: {', '.join(strange[:5])}"
    advice = f"Splits are called {', '.join(sorted(SPLIT_NAMES))}."
    if asked:
        raise DataError(f"{message}.", advice)
    return None, [make_issue("split_not_used", "warning", f"{message}; it was not used.", advice)]


def _to_samples(table: Rows, columns: _Columns, split: str | None) -> tuple[list[RawSample], list[Issue]]:
    samples: list[RawSample] = []
    set_aside: dict[str, list[str]] = defaultdict(list)
    seen: dict[str, str] = {}
    contradictions: list[tuple[str, str]] = []
    found = columns.found
    labels, issues = read_labels(table, columns.label)
    for number, row, value in zip(table.numbers, table.rows, labels, strict=True):
        name = row[found.column]
        location = found.location_of.get(name)
        name = name or f"row {number}"
        if location is None:
            set_aside["ambiguous_picture" if name in found.ambiguous else "missing_picture"].append(name)
        elif not value:
            set_aside["no_class_marked" if columns.label.is_one_hot else "empty_label"].append(name)
        elif location in seen:
            set_aside["repeated_row" if seen[location] == value else "conflicting_rows"].append(name)
            if seen[location] != value:
                contradictions.append((seen[location], value))
        else:
            seen[location] = value
            part = split or (row[columns.split].lower() if columns.split else None)
            patient = _read_patient(row[columns.patient]) if columns.patient else None
            samples.append(RawSample(location, location, value, part or None, patient, row=row))
    return samples, [*issues, *(_set_aside(code, names, contradictions) for code, names in set_aside.items())]


def _read_patient(value: str) -> str | None:
    """None for what tables write where there is nothing."""
    return None if value.lower() in _NO_PATIENT else value


def _drop_repeated(samples: Sequence[RawSample]) -> tuple[list[RawSample], list[Issue]]:
    """Of a picture that several tables name, the last split's row is kept: test before calibration, val and train."""
    best: dict[str, RawSample] = {}
    dropped: dict[str, list[str]] = defaultdict(list)
    contradictions: list[tuple[str, str]] = []
    for sample in sorted(samples, key=lambda item: -PARTS.index(item.split or "train")):
        kept = best.setdefault(sample.location, sample)
        if kept is not sample:
            dropped["repeated_row" if kept.label == sample.label else "conflicting_rows"].append(sample.name)
            if kept.label != sample.label:
                contradictions.append((kept.label, sample.label))
    left = [sample for sample in samples if best[sample.location] is sample]
    return left, [_set_aside(code, names, contradictions) for code, names in dropped.items()]


_SET_ASIDE = {
    "missing_picture": (
        "warning",
        ("row names", "rows name"),
        "a picture that is not there",
        "Add the pictures, or remove the rows.",
    ),
    "ambiguous_picture": (
        "warning",
        ("row names", "rows name"),
        "a picture that several folders hold",
        "Write the folder into the column.",
    ),
    "empty_label": (
        "info",
        ("row carries", "rows carry"),
        "no label (ungraded)",
        "Nothing to do, unless they should be graded.",
    ),
    "no_class_marked": (
        "warning",
        ("row has", "rows have"),
        "a one in none of the label's columns (ungraded)",
        "If that means a class of its own, add a column for it.",
    ),
    "repeated_row": (
        "info",
        ("row repeats", "rows repeat"),
        "an earlier one",
        "Nothing to do: each picture counts once.",
    ),
    "conflicting_rows": (
        "severe",
        ("row gives", "rows give"),
        "a picture another label; the first was kept",
        "Correct the table.",
    ),
}


def _set_aside(code: str, names: list[str], contradictions: Sequence[tuple[str, str]]) -> Issue:
    """`contradictions`: of each conflicting row the label that was kept and its own."""
    severity, subject, what, advice = _SET_ASIDE[code]
    labels = (
        f" ({show_class(contradictions[0][0])}, then {show_class(contradictions[0][1])})"
        if code == "conflicting_rows"
        else ""
    )
    return Issue.model_validate(
        {
            "code": code,
            "severity": severity,
            "message": f"{show_count(len(names), *subject)} {what}, such as {names[0]!r}{labels}: set aside.",
            "advice": advice,
            "samples": tuple(names),
        }
    )


def _ungraded(name: str, label: LabelColumns, rows: Sequence[str]) -> Issue:
    message = f"{name} has no {label.title}: {show_count(len(rows), 'row is', 'rows are')} ungraded and set aside."
    return make_issue("table_without_labels", "warning", message, "Add the labels if they are known.", rows)
