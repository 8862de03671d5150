"""What features say of pictures and patients: pictures like no other, and patients who may be one.

This room knows features of pictures and their groups. It must not know networks or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from snellen.core.letters import agree
from snellen.ingest.feature_space import Space
from snellen.ingest.patients import HOW_TO_TELL
from snellen.records.cohort import Issue, Sample

_FEWEST = 60
_QUARTILES = 1.349
_LEAST_SPREAD = 0.05
_FAR = 5.0
_MOST_OUTLIERS = 0.02
_CLOSER = 0.5  # an angle to the nearest other patient below half of that to the sixth
_MANY_PAIRS = 0.05
_FEW_OWN = 20
_OWN_QUANTILE = 0.5


def check_outliers(samples: Sequence[Sample], space: Space) -> list[Issue]:
    """Pictures whose nearest neighbours of other patients are much farther than those of the rest."""
    if len(samples) < _FEWEST:
        return []
    distance = np.log(np.maximum(np.nan_to_num(space.distance.astype(np.float64), posinf=0.0), 1e-3))
    low, middle, high = np.quantile(distance, [0.25, 0.5, 0.75])
    far = (distance - middle) / max((high - low) / _QUARTILES, _LEAST_SPREAD)
    rows = [int(row) for row in np.argsort(-far) if far[row] > _FAR]
    if not rows or len(rows) > max(5, _MOST_OUTLIERS * len(samples)):
        return []
    names = tuple(samples[row].name for row in rows)
    return [
        Issue(
            code="outlying_pictures",
            severity="warning",
            message=f"{len(names):,} of {len(samples):,} pictures {agree(len(names), 'look')} like no other, such as "
            f"{names[0]} "
            f"({samples[rows[0]].label}): of another modality or body part, perhaps, or damaged.",
            advice="Look whether they belong to the data. A rare finding may look so too: then keep it.",
            samples=names,
        )
    ]


def check_likeness(samples: Sequence[Sample], space: Space) -> list[Issue]:
    """Whether many pictures of different patients are as alike as those of one."""
    if len(samples) < _FEWEST:
        return []
    pairs = find_close_pairs(space)
    share = len({row for pair in pairs for row in pair}) / len(samples)
    if share < _MANY_PAIRS:
        return []
    shown = ", ".join(f"{samples[a].name} and {samples[b].name}" for a, b in pairs[:2])
    names = tuple(dict.fromkeys(samples[row].name for pair in pairs for row in pair))
    return [
        Issue(
            code="patients_look_alike",
            severity="warning",
            message=f"{100 * share:.0f} % of the pictures have one of another patient that is as like them as pictures "
            f"of one patient are, such as {shown}. Some patients may be one.",
            advice=f"If so, patients leak between the splits and every number is too good: give {HOW_TO_TELL}. Copies, "
            "and volumes cut into slices, look like this too.",
            samples=names,
        )
    ]


def find_close_pairs(space: Space) -> list[tuple[int, int]]:
    """Mutual nearest neighbours of different groups that stand out from the next ones, the closest first."""
    angle = np.sqrt(np.maximum(1 - space.near_cosine.astype(np.float64), 1e-9))
    first, last = angle[:, 0], angle[:, -1]
    limit = _CLOSER * np.ones(len(first))
    own = space.own_cosine[np.isfinite(space.own_cosine)]
    stands_out = first < limit * last
    if len(own) >= _FEW_OWN:
        # with patients of several pictures, those say how alike pictures of one are
        stands_out &= space.near_cosine[:, 0] >= np.quantile(own, _OWN_QUANTILE)
    nearest: NDArray[np.intp] = space.near[:, 0]
    rows = [row for row in np.flatnonzero(stands_out) if nearest[nearest[row]] == row]
    pairs = {(min(int(row), int(nearest[row])), max(int(row), int(nearest[row]))) for row in rows}
    return sorted(pairs, key=lambda pair: (first[pair[0]], pair))
