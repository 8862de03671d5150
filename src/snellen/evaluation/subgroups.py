"""Which part of a cohort a sample belongs to, by a column of the data or by what is known of every picture.

This room knows samples. It must not know scores, files or figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from snellen.core.errors import UsageError
from snellen.evaluation.units import Units, find_eye
from snellen.records.cohort import FACTS, Sample

MISSING = ""
SEVERAL = "several"
_MOST_VALUES = 12
_MOST_NUMBERS = 8
_BANDS = 3


def read_columns(
    samples: Sequence[Sample], names: Sequence[str], units: Units | None = None
) -> tuple[dict[str, list[str]], list[str]]:
    """The columns that make parts, and a note for each that makes none.

    With `units` a value each eye or patient: that of its pictures, `several` where these differ.
    """
    columns, notes = dict[str, list[str]](), []
    for name in names:
        try:
            found = read_column(samples, name)
            columns[name] = found if units is None else _join(found, units, name)
        except UsageError as error:
            notes.append(f"No parts by {name}: {error.message}")
    return columns, notes


def read_column(samples: Sequence[Sample], name: str) -> list[str]:
    """The value of column `name` of each sample, empty where there is none; many numbers are put into bands.

    Raises UsageError for a column that the data do not have, or that has too many values to be parts of a cohort.
    """
    if any(name in sample.attributes for sample in samples):
        values = [sample.attributes.get(name, MISSING).strip() for sample in samples]
    elif name in FACTS:
        values = [_read_fact(sample, name) for sample in samples]
    else:
        known = sorted({key for sample in samples for key in sample.attributes})
        raise UsageError(
            f"The data have no column {name} to make parts by.",
            f"Give a column of the table, or one of {', '.join([*known, *FACTS])}.",
        )
    distinct = {value for value in values if value}
    if len(distinct) < 2:
        only = f"one value, {next(iter(distinct))}" if distinct else "no value"
        raise UsageError(
            f"The column {name} has {only}, for the pictures that are measured: there are no parts to compare.",
            "Leave it out.",
        )
    if len(distinct) > _MOST_NUMBERS and all(_is_number(value) for value in distinct):
        return _cut(values)
    if len(distinct) > _MOST_VALUES:
        shown = ", ".join(sorted(distinct)[:5])
        raise UsageError(
            f"The column {name} has {len(distinct)} values ({shown} …): too many to be parts of a cohort.",
            "Join values in the table into at most a dozen; numbers are put into bands by themselves.",
        )
    return values


def _join(values: Sequence[str], units: Units, name: str) -> list[str]:
    own = [set[str]() for _ in units.names]
    for value, at in zip(values, units.index, strict=True):
        own[at] |= {value} if value else set()
    joined = [SEVERAL if len(each) > 1 else next(iter(each), MISSING) for each in own]
    if len(set(joined) - {MISSING}) < 2:
        raise UsageError(f"what is measured has one value of {name} throughout, or several each.", "Leave it out.")
    return joined


def _read_fact(sample: Sample, name: str) -> str:
    if name == "eye":
        return find_eye(sample) or MISSING
    if name == "size":
        return f"{sample.width_px}×{sample.height_px}"
    value = getattr(sample, name)
    return MISSING if value is None else str(value)


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def _cut(values: Sequence[str]) -> list[str]:
    """Bands of about equally many samples: `below 51`, `51 to below 64`, `64 and above`."""
    numbers = np.array([float(value) for value in values if value])
    edges = sorted({float(f"{edge:.3g}") for edge in np.quantile(numbers, np.arange(1, _BANDS) / _BANDS)})
    names = [f"below {edges[0]:g}"]
    names += [f"{low:g} to below {high:g}" for low, high in pairwise(edges)]
    names.append(f"{edges[-1]:g} and above")
    return [names[int(np.searchsorted(edges, float(value), side="right"))] if value else MISSING for value in values]
