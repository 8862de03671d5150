"""Learning rates over time, as a factor of the highest rate. Pure numbers: no network, no file."""

from __future__ import annotations

import math
from collections.abc import Sequence

from snellen.records.recipe import FinetuneSchedule

_PLATEAU_FACTOR = 0.3
_LEAST = 1e-3


def compute_rate_factor(
    schedule: FinetuneSchedule, done: float, *, warmup: float, losses: Sequence[float] = (), patience: int = 1
) -> float:
    """The factor in (0, 1] after the share `done` of all steps, of which the share `warmup` climbs in a line.

    `cosine` falls to 0 after the climb (Loshchilov and Hutter 2017); `one_cycle` climbs and falls in cosines with the
    top at `warmup`, or at 0.3 where that is 0 (Smith and Topin 2018); `plateau` takes 0.3 whenever the `losses`
    of the epochs so far (of validation, if there is one) did not get better for `patience` epochs.
    """
    if schedule == "one_cycle":
        top = warmup or 0.3
        if done < top:
            return max(_LEAST, 0.5 * (1 - math.cos(math.pi * done / top)))
        return max(_LEAST, 0.5 * (1 + math.cos(math.pi * (done - top) / (1 - top))))
    if done < warmup:
        return max(_LEAST, done / warmup)
    if schedule == "cosine":
        return max(_LEAST, 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))))
    if schedule == "plateau":
        return max(_LEAST, _PLATEAU_FACTOR ** _count_plateaus(losses, patience))
    return 1.0


def _count_plateaus(losses: Sequence[float], patience: int) -> int:
    """How often `losses` stayed above their best for `patience` epochs in a row."""
    best, waited, found = math.inf, 0, 0
    for loss in losses:
        waited = 0 if loss < best else waited + 1
        best = min(best, loss)
        if waited == patience:
            found, waited = found + 1, 0
    return found
