"""The order of the classes, from lowest to highest: asked, read off their names, or not known. Guesses nothing."""

from __future__ import annotations

import difflib
import json
import re
import shlex
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from snellen.core.errors import UsageError
from snellen.core.natural_order import is_number, read_numbers
from snellen.planning.ledger import Ledger
from snellen.planning.severity_words import order_by_words
from snellen.records.cohort import Cohort
from snellen.records.plan import Decision, How
from snellen.records.recipe import DataWish

_GRADED = re.compile(r"^(?:grade|stage|level|severity|class|score)[ _-]?[-+−]?\d+(?:[.,]\d+)?$", re.IGNORECASE)
_GRADED_COLUMN = re.compile(r"grade|stage|level|severity", re.IGNORECASE)
_NOTHING = "nothing says that the classes are grades; if they are"
_ADVICE = 'give their order: data.order=["LOWEST", …, "HIGHEST"]'
_SHOWN = 8
_UNORDERED = "only listed so: the classes are not ordered"


@dataclass(frozen=True)
class Order:
    """Classes from lowest to highest. `is_sure`: names or column say themselves that these are grades."""

    classes: tuple[str, ...]
    reason: str
    is_sure: bool


def plan_order(wish: DataWish, cohort: Cohort, ledger: Ledger) -> tuple[tuple[str, ...], bool]:
    """The classes as they are to be listed, and whether they are ordered. Raises UsageError where no order follows."""
    decided: tuple[bool, How, str]
    if wish.order != "auto":
        found: Order | str = Order(_require_each(wish.order, cohort.classes), "set in the recipe or with --set", True)
        decided = True, "rule", "data.order says so"
    elif wish.ordered is True or (wish.ordered == "auto" and wish.task == "ordinal"):
        found = _require_order(cohort, wish)
        decided = True, "rule", "the task was asked to be ordinal"
    else:
        found = find_sure_order(cohort)
        decided = (True, "rule", found.reason) if isinstance(found, Order) else (False, "rule", found)
    ordered = ledger.settle("data.ordered", wish.ordered, decided)
    classes = found.classes if isinstance(found, Order) else cohort.classes
    reason = f"{show_order(classes)}: {found.reason}" if isinstance(found, Order) and ordered else _UNORDERED
    how: How = "rule" if wish.order == "auto" else "asked"
    ledger.decisions.append(Decision(key="data.classes", value=list(classes), how=how, reason=reason))
    return classes, ordered


def find_sure_order(cohort: Cohort) -> Order | str:
    """The order that needs no asking; else why there is none, and what to set."""
    if len(cohort.classes) == 2:
        return "two classes need no order"
    orders = find_orders(cohort)
    sure = next((order for order in orders if order.is_sure), None)
    if (parted := _find_parted(cohort)) and _has_graded_labels(cohort):
        return f"{parted}; {_ADVICE}"
    if sure is not None:
        return f"{_describe_odds(orders)}; {_ADVICE}" if _is_at_odds(orders) else sure
    if orders and read_numbers(cohort.classes):
        return f"{_NOTHING}, set data.ordered=true: {_shorten(orders[0].classes)}"
    return f"{_NOTHING}, {f'set {suggest_order(orders[0].classes)}' if orders else _ADVICE}"


def find_orders(cohort: Cohort) -> list[Order]:
    """Every order that the source, the labels or the names of the classes suggest, the most telling first."""
    classes = cohort.classes
    if cohort.is_ordered and not cohort.is_merged:
        return [Order(classes, f"the source's classes are grades ({cohort.class_origin})", is_sure=True)]
    found = [_follow_labels(cohort), _follow_numbers(cohort)]
    if words := order_by_words(classes):
        found.append(Order(words, "the class names are steps of a known scale", is_sure=False))
    orders = [order for order in found if order is not None]
    # a plan that left these classes without order has weighed all this
    return [replace(order, is_sure=False) for order in orders] if cohort.has_settled_order else orders


def show_order(classes: Sequence[str]) -> str:
    """`none < mild < severe`."""
    return " < ".join(classes)


def suggest_order(classes: Sequence[str]) -> str:
    """A setting to copy, made of the real names as they stand; those of a known scale in its order."""
    return f"data.order={json.dumps(list(order_by_words(classes) or classes), ensure_ascii=False)}"


def _require_each(order: Sequence[str], classes: Sequence[str]) -> tuple[str, ...]:
    """Raise UsageError where `order` does not name every class exactly once."""
    named = tuple(unicodedata.normalize("NFC", name) for name in order)
    problems = [f"{name!r} is listed more than once" for name in dict.fromkeys(named) if named.count(name) > 1]
    for name in dict.fromkeys(named):
        if name not in classes:
            near = difflib.get_close_matches(name, classes, n=1)
            problems.append(f"{name!r} is no class" + (f"; did you mean {near[0]!r}?" if near else ""))
    problems += [f"{name!r} is missing" for name in classes if name not in named]
    if problems:
        listed = "\n".join(f"  • {problem}" for problem in problems)
        raise UsageError(
            f"data.order has to name every class exactly once, lowest first:\n{listed}",
            f"The classes are {', '.join(classes)}. Example: --set {shlex.quote(suggest_order(classes))}",
        )
    return named


def _require_order(cohort: Cohort, wish: DataWish) -> Order:
    """The order that was asked for. Raises UsageError where none follows, or where two contradict each other."""
    orders = find_orders(cohort)
    if len(cohort.classes) == 2:
        return orders[0] if orders else Order(cohort.classes, "of two classes either may be the lower", is_sure=False)
    if orders and not _is_at_odds(orders):
        return orders[0]
    asked = "data.ordered = true" if wish.ordered is True else "data.task = ordinal"
    why = _describe_odds(orders) if orders else f"no order follows from the class names {', '.join(cohort.classes)}"
    raise UsageError(
        f"{asked}, but {why}.",
        f"Put the names into their order, lowest first: --set {shlex.quote(suggest_order(cohort.classes))}",
    )


def _follow_labels(cohort: Cohort) -> Order | None:
    """The order of the labels that were merged, where they have one and only neighbours were joined.

    Whoever numbers classes says their order: then labels count only where they are grades for sure.
    """
    is_sure = _has_graded_labels(cohort)
    if not cohort.is_merged or (read_numbers(cohort.classes) and not is_sure):
        return None
    labels = _order_labels(cohort)
    runs = _list_runs(labels, cohort.labels) if labels else ()
    if not runs or len(set(runs)) < len(runs):
        return None
    grades = f"grades ({cohort.label_origin}) that " if is_sure else "labels that "
    return Order(runs, f"the classes keep the order of the {grades}they join", is_sure)


def _follow_numbers(cohort: Cohort) -> Order | None:
    numbers = read_numbers(cohort.classes)
    if numbers is None:
        return None
    classes = tuple(name for _, name in sorted(zip(numbers, cohort.classes, strict=True)))
    is_named = all(_GRADED.match(name) for name in classes)
    is_sure = _are_grades(classes, cohort.label_origin)
    reason = "the class names are numbered" + (" grades" if is_named else "")
    if is_sure and not is_named:
        reason = f"the labels are numbers of a grade ({cohort.label_origin})"
    if is_sure and min(numbers) < 0:
        reason += f"; {classes[0]} counts as the lowest: if it means ungraded, leave its rows out"
    return Order(classes, reason, is_sure)


def _are_grades(names: Sequence[str], origin: str) -> bool:
    """Whether `names` are grades by themselves, or numbers in a column that is named like a grade."""
    if read_numbers(names) is None:
        return False
    is_column = _GRADED_COLUMN.search(origin) is not None
    return all(_GRADED.match(name) for name in names) or (is_column and all(is_number(name) for name in names))


def _has_graded_labels(cohort: Cohort) -> bool:
    return cohort.is_ordered or _are_grades(_list_labels(cohort), cohort.label_origin)


def _list_labels(cohort: Cohort) -> tuple[str, ...]:
    """Labels of the data whose classes have pictures, in natural order; none where nothing is merged."""
    return tuple(label for label, name in cohort.labels.items() if name in cohort.classes)


def _order_labels(cohort: Cohort) -> tuple[str, ...] | None:
    """Those labels from lowest to highest, where their source, numbers or words tell."""
    labels = _list_labels(cohort)
    if cohort.is_ordered:
        return labels
    numbers = read_numbers(labels)
    if numbers is None:
        return order_by_words(labels)
    return tuple(label for _, label in sorted(zip(numbers, labels, strict=True)))


def _list_runs(labels: Sequence[str], class_of: Mapping[str, str]) -> tuple[str, ...]:
    """Classes along the labels, neighbours of one class taken together."""
    return tuple(name for name, _ in groupby(class_of[label] for label in labels))


def _find_parted(cohort: Cohort) -> str:
    """A sentence on the first class that joins labels with others between them; else nothing."""
    labels = _order_labels(cohort) or ()
    runs = _list_runs(labels, cohort.labels)
    for name in dict.fromkeys(runs):
        if runs.count(name) > 1:
            joined = ", ".join(label for label in labels if cohort.labels[label] == name)
            return f"data.merge joins grades that are no neighbours ({name} = {joined}), so the classes have no order"
    return ""


def _is_at_odds(orders: Sequence[Order]) -> bool:
    """Whether two orders differ by more than the end they begin at."""
    first = orders[0].classes
    return any(order.classes not in (first, first[::-1]) for order in orders)


def _describe_odds(orders: Sequence[Order]) -> str:
    first = orders[0]
    other = next(order for order in orders if order.classes not in (first.classes, first.classes[::-1]))
    return (
        f"two orders contradict each other: {_shorten(first.classes)} ({first.reason}) and "
        f"{_shorten(other.classes)} ({other.reason})"
    )


def _shorten(classes: Sequence[str]) -> str:
    return show_order(classes if len(classes) <= _SHOWN else [*classes[: _SHOWN - 2], "…", classes[-1]])
