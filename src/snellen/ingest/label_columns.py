"""Which column of a table holds the label: one column, or one column a class. Ambiguity is asked, not guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from snellen.core.errors import DataError, UsageError
from snellen.ingest.rows import Rows
from snellen.ingest.samples import make_issue, show_names
from snellen.records.cohort import Issue

LABEL_NAMES = (
    "label", "labels", "class", "diagnosis", "grade", "level", "dx", "target", "category", "binarylabels",
)  # fmt: skip
# not "none": that may be a class ("no retinopathy")
NO_LABEL = ("", "nan", "na", "n/a", "#n/a", "null")
_MAX_CLASSES = 50
_MAX_GRADES = 10
_MIN_ONE_HOT = 0.5
_ZERO = re.compile(r"0(\.0*)?")
_ONE = re.compile(r"1(\.0*)?")
_NUMBER = re.compile(r"-?\d+([.,]\d+)?")
_SEVERAL = re.compile(r"\s*[;|+/,&]\s*")
_WHOLE = re.compile(r"-?(0|[1-9]\d*)(\.0+)?")


@dataclass(frozen=True)
class LabelColumns:
    """The label's column, or the columns that each stand for a class."""

    names: tuple[str, ...]

    @property
    def is_one_hot(self) -> bool:
        return len(self.names) > 1

    @property
    def title(self) -> str:
        return f"one-hot columns {', '.join(self.names)}" if self.is_one_hot else f"column {self.names[0]}"


def find_labels(table: Rows, taken: set[str], asked: str | None) -> LabelColumns:
    """The label of a table. Raises DataError that names the candidates with their values."""
    if asked:
        return LabelColumns(split_names(asked, table.header))
    columns = [column for column in table.header if column and column not in taken]
    values = {
        column: sorted({value for value in table.values(column) if value.lower() not in NO_LABEL}) for column in columns
    }
    highest = min(_MAX_CLASSES, max(2, len(table.rows) // 2))
    candidates = [column for column in columns if 2 <= len(values[column]) <= highest]
    named = [column for column in candidates if column.lower() in LABEL_NAMES]
    if len(named) == 1:
        return LabelColumns((named[0],))
    binary = [column for column in columns if values[column] and all(_is_binary(value) for value in values[column])]
    others = [column for column in candidates if column not in binary]
    if not named and _is_one_hot(table, binary):
        if not others:
            return LabelColumns(tuple(binary))
        shown = [_show(column, values[column]) for column in others]
        raise _undecided(table, [*shown, f"{'+'.join(binary)} (one column a class)"], others[0])
    if len(candidates) == 1:
        if _is_measure(values[candidates[0]]):
            measure = f"{_show(candidates[0], values[candidates[0]])}, which looks like a measure such as an age"
            raise _undecided(table, [measure], candidates[0])
        return LabelColumns((candidates[0],))
    if not others and len(binary) >= 3:
        require_single(table, tuple(binary))
    alone = [column for column in columns if len(values[column]) == 1 and column.lower() in LABEL_NAMES]
    if not candidates and len(alone) == 1:  # data of one class can be evaluated; to train on them is refused later
        return LabelColumns((alone[0],))
    if not candidates:
        if not columns:
            raise DataError(
                f"{table.path} has no column left for the label: {', '.join(table.header)}.",
                "Add a column with the label of each picture.",
            )
        counted = ", ".join(f"{column} ({len(values[column])} values)" for column in columns)
        raise _undecided(table, [f"none among {counted}: a label has at least 2 values, and far fewer than rows"])
    raise _undecided(table, [_show(column, values[column]) for column in candidates], candidates[0])


def split_names(asked: str, header: Sequence[str]) -> tuple[str, ...]:
    """The columns that `A+B+C` names; a column that is really called so wins."""
    return (asked,) if asked in header else tuple(part.strip() for part in asked.split("+"))


def read_labels(table: Rows, labels: LabelColumns) -> tuple[list[str], list[Issue]]:
    """The label of every row, empty where there is none. Raises DataError for several labels a picture."""
    if labels.is_one_hot:
        require_single(table, labels.names)
        return [_read_one_hot(row, labels.names) for row in table.rows], []
    raw = ["" if value.lower() in NO_LABEL else value for value in table.values(labels.names[0])]
    require_one_each(
        f"{table.path}: the column {labels.names[0]}", raw, [next(iter(row.values())) for row in table.rows]
    )
    return _to_integers(raw, labels.names[0])


def require_one_each(where: str, labels: Sequence[str], names: Sequence[str]) -> None:
    """Raise DataError where cells such as `amd;dme` hold several labels that other rows carry alone."""
    known = {label.casefold() for label in labels if label}

    def is_several(label: str) -> bool:
        parts = [part.casefold() for part in _SEVERAL.split(label) if part]
        return len(set(parts)) > 1 and all(part in known for part in parts)

    joined = {label for label in set(labels) if is_several(label)}
    several = [(name, label) for name, label in zip(names, labels, strict=True) if label in joined]
    if several:
        shown = "; ".join(f"{name}: {label}" for name, label in several[:3])
        raise DataError(
            f"{where} holds several labels in {len(several):,} of {len(labels):,} rows (multi-label), such as {shown}.",
            "Multi-label is out of scope: Snellen is for one label a picture. Write one label a row, or a column of "
            "0 and 1 for the condition to be told from the rest: --columns label=NAME",
        )


def require_single(table: Rows, names: Sequence[str]) -> None:
    """Raise DataError where a row has several ones, or a cell that is neither 0 nor 1."""
    strange = sorted({row[name] for row in table.rows for name in names if row[name] and not _is_binary(row[name])})
    if strange:
        raise DataError(
            f"{table.path}: the columns {', '.join(names)} hold more than 0 and 1: {show_names(strange)}.",
            "One column a class needs 0 or 1 in each; one column of labels is told with --columns label=NAME.",
        )
    several = [row for row in table.rows if sum(_ONE.fullmatch(row[name]) is not None for name in names) > 1]
    if several:
        shown = "; ".join(
            f"{next(iter(row.values()))}: {', '.join(name for name in names if _ONE.fullmatch(row[name]))}"
            for row in several[:3]
        )
        raise DataError(
            f"{table.path}: {len(several):,} of {len(table.rows):,} rows have a one in several of the columns "
            f"{show_names(names)} (multi-label), such as {shown}.",
            "Multi-label is out of scope: Snellen is for one label a picture. To tell one condition from the rest, "
            f"give its column: --columns label={names[0]}{_advise_fewer(table, names)}",
        )


def _advise_fewer(table: Rows, names: Sequence[str]) -> str:
    """How to leave out columns that are no classes; the one without which each row has exactly one 1 is named."""

    def is_single(left: Sequence[str]) -> bool:
        return all(sum(_ONE.fullmatch(row[name]) is not None for name in left) == 1 for row in table.rows)

    if len(names) < 3:
        return ""
    rest_of = {out: [name for name in names if name != out] for out in names}
    found = [out for out, rest in rest_of.items() if is_single(rest)]
    if len(found) != 1:
        return ". If some of these columns are no classes, name those that are: --columns label=A+B+C"
    return (
        f". If {found[0]} is no class, name the others, of which each row has exactly one: "
        f"--columns label={'+'.join(rest_of[found[0]])}"
    )


def _read_one_hot(row: dict[str, str], names: Sequence[str]) -> str:
    return next((name for name in names if _ONE.fullmatch(row[name])), "")


def _is_binary(value: str) -> bool:
    return _ZERO.fullmatch(value) is not None or _ONE.fullmatch(value) is not None


def _is_one_hot(table: Rows, binary: Sequence[str]) -> bool:
    """At most one 1 in every row, and one in most; a column that is always 1 would say nothing."""
    if len(binary) < 2:
        return False
    ones = [[_ONE.fullmatch(row[name]) is not None for name in binary] for row in table.rows]
    sums = [sum(row) for row in ones]
    n_used = sum(any(column) for column in zip(*ones, strict=True))
    return max(sums) <= 1 and n_used >= 2 and sum(sums) > _MIN_ONE_HOT * len(sums)


def _to_integers(values: list[str], column: str) -> tuple[list[str], list[Issue]]:
    """Text as it stands; but whole numbers that a program wrote as 0.0, 1.0 become 0, 1."""
    filled = {value for value in values if value}
    if not any(value.endswith("0") and "." in value for value in filled) or not all(
        _WHOLE.fullmatch(value) for value in filled
    ):
        return values, []
    message = f"The labels in column {column} are whole numbers written with decimals ({show_names(sorted(filled))}): "
    issue = make_issue("labels_as_integers", "info", f"{message}read as integers.", "Nothing to do.")
    return [value.partition(".")[0] for value in values], [issue]


def _is_measure(values: Sequence[str]) -> bool:
    """Whether these are more numbers than grades have."""
    return len(values) > _MAX_GRADES and all(_NUMBER.fullmatch(value) for value in values)


def _show(column: str, values: Sequence[str]) -> str:
    listed = ", ".join(values[:5]) + (" …" if len(values) > 5 else "")
    return f"{column} ({len(values)} values: {listed})"


def _undecided(table: Rows, candidates: Sequence[str], first: str = "NAME") -> DataError:
    return DataError(
        f"{table.path}: the label column cannot be told; candidates: {'; '.join(candidates) or 'none'}.",
        f"Say which: --columns label={first}; one column a class: --columns label=A+B+C",
    )


def require_roles(columns: dict[str, str], roles: Sequence[str]) -> None:
    """Raise UsageError for a role that does not exist."""
    unknown = [role for role in columns if role not in roles]
    if unknown:
        raise UsageError(f"--columns {unknown[0]}=…: there is no such role.", f"Roles are {', '.join(roles)}.")


def require_columns(table: Rows, columns: dict[str, str], roles: Sequence[str]) -> None:
    """Raise UsageError for a role or a column that does not exist, and for a label that has another role as well."""
    require_roles(columns, roles)
    wanted = [part for role, name in columns.items() for part in _list_parts(role, name, table.header)]
    missing = [name for name in wanted if name not in table.header]
    if missing:
        raise UsageError(f"{table.path} has no column {missing[0]!r}.", f"Its columns are: {', '.join(table.header)}.")
    label = _list_parts("label", columns["label"], table.header) if "label" in columns else ()
    doubled = [role for role, name in columns.items() if role != "label" and name in label]
    if doubled:
        raise UsageError(
            f"{table.path}: the column {columns[doubled[0]]!r} cannot be both label and {doubled[0]}.",
            f"Name another column for one of them: {', '.join(table.header)}.",
        )


def _list_parts(role: str, name: str, header: Sequence[str]) -> tuple[str, ...]:
    return split_names(name, header) if role == "label" else (name,)
