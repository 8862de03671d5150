"""What a comparison of two models says in plain sentences, and what a reader must know of it.

This room knows records and English. It must not know HTML, figures or how a number is computed.
"""

from __future__ import annotations

from snellen.evaluation.wording import format_count, format_number, name_metric
from snellen.records.comparison import Comparison, MetricDifference
from snellen.records.evaluation import Estimate


def describe_verdict(found: Comparison) -> str:
    """Which of the two is better by the headline metric, or that this test set cannot tell, and what could."""
    each, name = found.metrics[found.headline], name_metric(found.headline)
    if each.better == "undefined":
        return f"{name} is undefined on these pictures: a class is missing."
    if each.better == "equal":
        return f"Both have the same {name} on these pictures."
    shown = f"{name} {format_number(each.a)} of A, {format_number(each.b)} of B; difference {_show(each.difference)}"
    if each.better in ("a", "b"):
        return f"{each.better.upper()} is better: {shown}."
    return f"These pictures cannot tell the two apart: {shown}. {_say_needed(found, each)}"


def _say_needed(found: Comparison, each: MetricDifference) -> str:
    units = "pictures" if found.intervals.unit == "picture" else "patients"
    if each.detectable is None and each.standard_error is not None:
        least = "ten of each of two classes are the least, of more classes 20 in all"
        return f"Too few {units} to compare two models: {least}."
    n = found.n if units == "pictures" else found.n_patients
    told = []
    if each.detectable is not None:
        told.append(
            f"With {n} {units} like these a true difference of {format_number(each.detectable)} would be found 8 "
            "times out of 10."
        )
    if each.n_patients_needed is not None and each.n_patients_needed > n:
        told.append(
            f"Were the true difference as seen, it would take about {round_to_two(each.n_patients_needed):,} {units}."
        )
    elif each.n_patients_needed is None:
        told.append("Were the true difference as seen, no test set of practical size would find it.")
    return " ".join(told)


def round_to_two(number: int) -> int:
    """`9732` → 9700: a number that is itself an estimate needs no more digits."""
    step = int(10 ** max(0, len(str(number)) - 2))
    return round(number / step) * step


def list_notes(found: Comparison, *, has_same_patients: bool) -> tuple[str, ...]:
    """What weakens the comparison."""
    notes = []
    if found.n_only_a or found.n_only_b:
        notes.append(
            f"The test sets differ: compared on the {found.n} pictures of both; {found.n_only_a} are only in A's, "
            f"{found.n_only_b} only in B's."
        )
    others = [f"{name} by {unit}" for name, unit in (("A", found.a.unit), ("B", found.b.unit)) if unit != "picture"]
    if others:
        notes.append(
            f"Compared picture by picture, although {' and '.join(others)} was measured: these numbers differ from its "
            "report's."
        )
    if found.matched_by == "name":
        notes.append("Pictures were matched by their names, because not both sides know the hashes of their pixels.")
    if found.intervals.unit == "picture":
        notes.append(
            "No patients are known: pictures count as independent, and the intervals are too narrow where a person has "
            "several."
        )
    elif not has_same_patients:
        notes.append("The two runs group pictures into other patients: those of A were taken.")
    if found.a.decision != found.b.decision:
        notes.append("The two models call a picture a class by other rules: accuracy and the like compare both.")
    if found.a.bundle_sha256 == found.b.bundle_sha256:
        notes.append("Both are the same bundle.")
    notes += [
        f"{format_count(len(found.metrics), 'metric')} are compared, each at its own level: with so many, one in "
        f"twenty leaves out 0 by chance. Decide on {name_metric(found.headline)} before you look at the others.",
        "The intervals say what other patients would change. They do not hold what another seed would: train each "
        "with --seeds to see that.",
        "Whoever takes the better of the two by these numbers has chosen on the test set: the number of the winner is "
        "then too good, and new patients must confirm it.",
    ]
    return tuple(notes)


def _show(estimate: Estimate) -> str:
    value = _signed(estimate.value)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} ({_signed(estimate.low)} to {_signed(estimate.high)})"


def _signed(value: float | None) -> str:
    return ("+" if value is not None and value > 0 else "") + format_number(value)
