"""A CSV with a row a picture: columns are found by content, or told with --columns. Ambiguity is asked, not guessed."""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from snellen.core.errors import DataError, UsageError
from snellen.imaging.readers import PICTURE_SUFFIXES
from snellen.ingest.patients import RawSample
from snellen.records.cohort import Issue

TABLE_SUFFIXES = (".csv", ".tsv")
ROLES = ("image", "label", "patient", "split")
_PATIENT_NAMES = ("patient", "patient_id", "patientid", "subject", "subject_id", "case", "case_id", "person", "pid")
_LABEL_NAMES = ("label", "labels", "class", "diagnosis", "grade", "level", "dx", "target", "category")
_SPLIT_NAMES = ("split", "set", "subset", "partition")
_SPLIT_VALUES = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
_MAX_CLASSES = 50
_MIN_FOUND = 0.5


@dataclass
class Table:
    """The samples of a table and how its columns were read."""

    samples: list[RawSample]
    layout: str
    class_origin: str
    issues: list[Issue] = field(default_factory=list)
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Rows:
    path: Path
    header: tuple[str, ...]
    rows: tuple[dict[str, str], ...]

    def values(self, column: str) -> list[str]:
        return [row[column] for row in self.rows]


def read_table(path: Path, columns: dict[str, str]) -> Table:
    """Read a CSV or TSV. Raises DataError or UsageError naming the column."""
    table = _read_rows(path)
    _require_columns(table, columns)
    found = _find_pictures(table, columns.get("image"))
    taken = {found.column}
    patient = columns.get("patient") or _by_name(table, _PATIENT_NAMES, taken)
    taken |= {patient} if patient else set()
    split, split_issues = _choose_split(table, taken, columns.get("split"))
    taken |= {split} if split else set()
    label = columns.get("label") or _find_label(table, taken)
    samples, issues = _to_samples(table, found, label, patient, split)
    told = {"image": found.column, "label": label, "patient": patient, "split": split}
    roles = ", ".join(f"{role}={column}" for role, column in told.items() if column)
    return Table(
        samples,
        f"table {path.name} ({roles}; pictures in {found.place})",
        f"column {label}",
        [*split_issues, *issues],
        table.header,
    )


def names_most_pictures(path: Path, n_pictures: int) -> bool:
    """Whether a table that lies beside class folders describes them: then it is the data, not the folders' names."""
    try:
        found = _find_pictures(_read_rows(path), None)
    except DataError:
        return False
    return len(found.location_of) > _MIN_FOUND * n_pictures


def _read_rows(path: Path) -> _Rows:
    text = _decode(path)
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        header = tuple((name or "").strip() for name in reader.fieldnames or ())
        reader.fieldnames = list(header)
        rows = tuple({name: (row.get(name) or "").strip() for name in header} for row in reader)
    except csv.Error as error:
        raise DataError(f"{path} is no well-formed table: {error}", "Check quotes and delimiters.") from error
    if not rows or len(header) < 2:
        raise DataError(
            f"{path} has {len(rows)} rows and {len(header)} columns.",
            "A table needs a header, an image and a label column.",
        )
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        raise DataError(f"{path} has several columns called {twice[0]!r}.", "Rename all but one.")
    return _Rows(path, header, rows)


def _decode(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "Check its permissions.") from error
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _require_columns(table: _Rows, columns: dict[str, str]) -> None:
    unknown = [role for role in columns if role not in ROLES]
    if unknown:
        raise UsageError(f"--columns {unknown[0]}=…: there is no such role.", f"Roles are {', '.join(ROLES)}.")
    missing = [name for name in columns.values() if name not in table.header]
    if missing:
        raise UsageError(f"{table.path} has no column {missing[0]!r}.", f"Its columns are: {', '.join(table.header)}.")


@dataclass(frozen=True)
class _Found:
    column: str
    place: str
    location_of: dict[str, str]
    ambiguous: tuple[str, ...]


def _find_pictures(table: _Rows, asked: str | None) -> _Found:
    """The column whose values are pictures, below the table's folder."""
    by_name: dict[str, list[str]] = defaultdict(list)
    folder = table.path.parent
    for path in folder.rglob("*"):
        if path.suffix.lower() in PICTURE_SUFFIXES and not is_hidden(path, folder) and path.is_file():
            relative = path.relative_to(folder).as_posix()
            for key in {path.name, path.stem}:
                by_name[key].append(relative)
    best: _Found | None = None
    for column in [asked] if asked else table.header:
        found = _locate(column, table.values(column), by_name)
        if best is None or len(found.location_of) > len(best.location_of):
            best = found
    n_values = len({value for value in table.values(best.column) if value}) if best else 0
    if best is None or len(best.location_of) + len(best.ambiguous) < _MIN_FOUND * max(n_values, 1):
        n_found = len(best.location_of) if best else 0
        raise DataError(
            f"{table.path}: no column names pictures below {folder} "
            f"(best: {best.column if best else 'none'} with {n_found} of {n_values} found).",
            "Keep the table beside the pictures' folder; --columns image=NAME tells the column.",
        )
    return best


def _locate(column: str, values: list[str], by_name: dict[str, list[str]]) -> _Found:
    candidates = {value: _candidates(value, by_name) for value in dict.fromkeys(values) if value}
    folders: Counter[str] = Counter(
        parent for found in candidates.values() for parent in {str(PurePosixPath(item).parent) for item in found}
    )
    location_of: dict[str, str] = {}
    ambiguous: list[str] = []
    for value, found in candidates.items():
        # the same name in several folders: the folder that holds most rows of the table is meant
        ranked = sorted(found, key=lambda item: (-folders[str(PurePosixPath(item).parent)], item))
        if not ranked:
            continue
        tied = [
            item
            for item in ranked
            if folders[str(PurePosixPath(item).parent)] == folders[str(PurePosixPath(ranked[0]).parent)]
        ]
        if len(tied) > 1:
            ambiguous.append(value)
        else:
            location_of[value] = ranked[0]
    used = Counter(str(PurePosixPath(item).parent) for item in location_of.values())
    place = ", ".join(f"{name}/" if name != "." else "the same folder" for name, _ in used.most_common(3))
    return _Found(column, place + (" …" if len(used) > 3 else ""), location_of, tuple(ambiguous))


def _candidates(value: str, by_name: dict[str, list[str]]) -> list[str]:
    path = PurePosixPath(value.replace("\\", "/"))
    found = by_name.get(path.name) or []
    if len(path.parts) > 1:
        wanted = path.as_posix().removeprefix("./")
        return [
            item for item in found if item == wanted or item.endswith("/" + wanted) or item.rsplit(".", 1)[0] == wanted
        ]
    return list(dict.fromkeys(found))


def _by_name(table: _Rows, names: tuple[str, ...], taken: set[str]) -> str | None:
    return next((column for column in table.header if column.lower() in names and column not in taken), None)


def _choose_split(table: _Rows, taken: set[str], asked: str | None) -> tuple[str | None, list[Issue]]:
    column = asked or _by_name(table, _SPLIT_NAMES, taken)
    if column is None:
        return None, []
    strange = sorted({value for value in table.values(column) if value and value.lower() not in _SPLIT_VALUES})
    if not strange:
        return column, []
    message = f"{table.path}: the column {column} has values that name no split: {', '.join(strange[:5])}"
    advice = f"Splits are called {', '.join(sorted(_SPLIT_VALUES))}."
    if asked:
        raise DataError(f"{message}.", advice)
    issue = Issue(code="split_not_used", severity="warning", message=f"{message}; it was not used.", advice=advice)
    return None, [issue]


def is_hidden(path: Path, root: Path) -> bool:
    """Whether the file, or a folder between it and `root`, is one of those that systems and editors hide."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _find_label(table: _Rows, taken: set[str]) -> str:
    counts = {
        column: len({value for value in table.values(column) if value})
        for column in table.header
        if column not in taken
    }
    candidates = [column for column, n in counts.items() if 2 <= n <= min(_MAX_CLASSES, max(2, len(table.rows) // 2))]
    named = [column for column in candidates if column.lower() in _LABEL_NAMES]
    if len(named) == 1:
        return named[0]
    if len(candidates) == 1:
        return candidates[0]
    listed = ", ".join(f"{column} ({counts[column]} values)" for column in candidates) or "none"
    raise DataError(
        f"{table.path}: the label column cannot be told; candidates: {listed}.",
        f"Say which: --columns label={candidates[0] if candidates else 'NAME'}",
    )


def _to_samples(
    table: _Rows, found: _Found, label: str, patient: str | None, split: str | None
) -> tuple[list[RawSample], list[Issue]]:
    samples: list[RawSample] = []
    set_aside: dict[str, list[str]] = defaultdict(list)
    seen: dict[str, str] = {}
    for row in table.rows:
        name, value = row[found.column], row[label]
        location = found.location_of.get(name)
        reason = _reason_to_set_aside(name, value, location, found, seen)
        if reason or location is None:
            set_aside[reason or "missing_picture"].append(name)
            continue
        seen[location] = value
        part = row[split].lower() if split else ""
        samples.append(
            RawSample(location, location, value, part or None, _read_patient(row[patient]) if patient else None)
        )
    return samples, [_set_aside(code, names) for code, names in set_aside.items()]


def _read_patient(value: str) -> str | None:
    """None for what tables write where there is nothing."""
    return None if value.lower() in ("", "na", "nan", "n/a", "none", "null", "-", "?") else value


def _reason_to_set_aside(name: str, value: str, location: str | None, found: _Found, seen: dict[str, str]) -> str:
    if name in found.ambiguous:
        return "ambiguous_picture"
    if location is None:
        return "missing_picture"
    if not value:
        return "empty_label"
    if location in seen:
        return "repeated_row" if seen[location] == value else "conflicting_rows"
    return ""


_SET_ASIDE = {
    "missing_picture": ("warning", "rows name a picture that is not there", "Add the pictures, or remove the rows."),
    "ambiguous_picture": (
        "warning",
        "rows name a picture that several folders hold",
        "Write the folder into the column.",
    ),
    "empty_label": ("info", "rows carry no label (ungraded)", "Nothing to do, unless they should be graded."),
    "repeated_row": ("info", "rows repeat an earlier one", "Nothing to do: each picture counts once."),
    "conflicting_rows": ("severe", "rows give a picture another label; the first was kept", "Correct the table."),
}


def _set_aside(code: str, names: list[str]) -> Issue:
    severity, what, advice = _SET_ASIDE[code]
    return Issue.model_validate(
        {
            "code": code,
            "severity": severity,
            "message": f"{len(names)} {what}, such as {names[0]!r}: set aside.",
            "advice": advice,
            "samples": tuple(names),
        }
    )
