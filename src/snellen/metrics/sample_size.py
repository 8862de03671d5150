"""How sure an AUC can be with so many patients, before anything is measured (Hanley and McNeil 1982).

This room knows counts and one AUC. It must not know cohorts, splits or what was measured.
"""

from __future__ import annotations

import math
from statistics import NormalDist

_MOST = 1e6


def compute_auc_error(auc: float, n_positive: float, n_negative: float) -> float:
    """The standard error of an AUC, by the exponential approximation of Hanley and McNeil (1982, equations 1 and 2).

    `n_positive` and `n_negative` are independent cases: patients, where pictures of one patient are alike. Infinite
    where a side is empty.
    """
    if n_positive <= 0 or n_negative <= 0:
        return math.inf
    q1 = auc / (2 - auc)
    q2 = 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (n_positive - 1) * (q1 - auc**2) + (n_negative - 1) * (q2 - auc**2)
    return math.sqrt(max(variance, 0.0) / (n_positive * n_negative))


def compute_half_width(auc: float, n_positive: float, n_negative: float, level: float = 0.95) -> float:
    """Half of the interval's width, as a normal interval; infinite where a side is empty."""
    return NormalDist().inv_cdf(0.5 + level / 2) * compute_auc_error(auc, n_positive, n_negative)


def find_growth(auc: float, n_positive: float, n_negative: float, share: float = 0.5) -> float:
    """By what factor both sides must grow alike for the interval to shrink to `share` of its width; about 1 / share².

    NaN where there is no interval to begin with.
    """
    now = compute_auc_error(auc, n_positive, n_negative)
    if not math.isfinite(now) or now == 0:
        return math.nan
    low, high = 1.0, 2.0
    while compute_auc_error(auc, high * n_positive, high * n_negative) > share * now:
        low, high = high, 2 * high
        if high > _MOST:
            return math.nan
    for _ in range(60):
        middle = (low + high) / 2
        if compute_auc_error(auc, middle * n_positive, middle * n_negative) > share * now:
            low = middle
        else:
            high = middle
    return high
