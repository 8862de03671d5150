"""What is measured: pictures, eyes or patients. Knows samples and class indices; must not know files or figures.

An eye or a patient has the mean of its pictures' probabilities, and one label: that of its pictures where they agree,
of grades the highest, of two classes the positive one if any picture has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import DataError
from snellen.records.bundle import Manifest
from snellen.records.cohort import Sample
from snellen.records.evaluation import Intervals
from snellen.records.recipe import EvaluationUnit

_EYES = {"left": "L", "os": "L", "right": "R", "od": "R"}
_LAST = {"l": "L", "r": "R"}


@dataclass(frozen=True)
class Units:
    """`names` of the units `(U,)`, the `index` `(N,)` of each sample's unit, and the units' `labels` `(U,)`."""

    names: tuple[str, ...]
    index: NDArray[np.intp]
    labels: NDArray[np.int64]

    def average(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean of `values` `(N, C)` over the samples of each unit, `(U, C)`."""
        sums = np.stack([np.bincount(self.index, weights=column) for column in values.T], axis=1)
        return np.asarray(sums / np.bincount(self.index)[:, None])

    @property
    def first(self) -> NDArray[np.intp]:
        """The first sample of each unit, `(U,)`."""
        return np.unique(self.index, return_index=True)[1]


def find_eye(sample: Sample) -> str | None:
    """`L` or `R` as the DICOM tag or the file's name says (left, OD, `…_L`); None where neither does, or both."""
    if sample.laterality in ("L", "R"):
        return sample.laterality
    stem = sample.name.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0]
    found = {_EYES[word] for word in re.split(r"[^a-z]+", stem.lower()) if word in _EYES}
    last = re.split(r"[^a-z0-9]+", stem.lower())[-1]
    if not found and last in _LAST:
        found = {_LAST[last]}
    return found.pop() if len(found) == 1 else None


def group_labelled(manifest: Manifest, samples: Sequence[Sample], unit: EvaluationUnit) -> Units:
    """`group_units` by the samples' own labels, which the bundle knows, and its rule for several."""
    labels = np.array([manifest.classes.index(sample.label) for sample in samples], np.int64)
    positive = None if manifest.positive is None else manifest.classes.index(manifest.positive)
    return group_units(samples, labels, unit, is_ordered=manifest.ordered, positive=positive)


def group_units(
    samples: Sequence[Sample],
    labels: NDArray[np.int64],
    unit: EvaluationUnit,
    *,
    is_ordered: bool,
    positive: int | None,
) -> Units:
    """The units of `samples` with `labels` `(N,)`, in the order in which they first occur.

    Raises DataError where an eye is not known, or where one unit has several labels that no rule joins.
    """
    keys = [_name_unit(sample, unit) for sample in samples]
    names = tuple(dict.fromkeys(keys))
    number = {name: at for at, name in enumerate(names)}
    index = np.array([number[key] for key in keys], np.intp)
    joined = np.zeros(len(names), np.int64)
    for at, name in enumerate(names):
        own = labels[index == at]
        if len(set(own.tolist())) == 1 or is_ordered:
            joined[at] = own.max()
        elif positive is not None:
            joined[at] = positive
        else:
            raise DataError(
                f"Measuring by {unit}: the pictures of {name} are of several classes, and without an order none "
                "of them is that of all.",
                "Measure by eye if sides are known, or by picture (--unit, in a recipe evaluation.unit).",
            )
    return Units(names, index, joined)


def join_patients(samples: Sequence[Sample], groups: Mapping[str, str]) -> tuple[Sample, ...]:
    """Samples whose patient is called by its group, where `groups` names one: patients that share a picture."""
    return tuple(
        sample.model_copy(update={"patient": groups[sample.patient]}) if sample.patient in groups else sample
        for sample in samples
    )


def note_groups(n_patients: int, n_groups: int, intervals: Intervals) -> tuple[str, ...]:
    """What `join_patients` did to intervals, where it did anything."""
    if n_groups == n_patients:
        return ()
    who = "patients" if intervals.unit == "patient" else "pictures"
    return (
        f"Intervals count {n_groups} groups, not {n_patients} {who}: {who} that share a picture, or copies of one, are "
        "drawn together.",
    )


def _name_unit(sample: Sample, unit: EvaluationUnit) -> str:
    if unit == "picture":
        return sample.name
    if unit == "patient":
        return sample.patient
    eye = find_eye(sample)
    if eye is None:
        raise DataError(
            f"Measuring by eye: neither a DICOM tag nor the name of {sample.name} says which eye it is.",
            "Name files with left or right (OD or OS), or measure by patient or picture (--unit, in a recipe "
            "evaluation.unit).",
        )
    return f"{sample.patient}, {eye}"


def describe_units(unit: EvaluationUnit, n_pictures: int, *, is_ordered: bool, is_binary: bool) -> str:
    """How pictures became units, for the notes."""
    rule = "the highest of their grades" if is_ordered else "positive if any is" if is_binary else "the one of all"
    return (
        f"Measured by {unit}: probabilities are the mean over the pictures of one {unit} ({n_pictures} pictures in "
        f"all), the label is {rule}. Calibration and operating points were chosen on single pictures, and "
        "`predict` answers for single pictures."
    )
