"""Shares of pictures of which something is true, with Wilson's interval, patients being independent and pictures not.

This room knows which pictures count, which are hits and whose they are. It must not know what a hit is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from snellen.metrics.student import find_t_quantile
from snellen.records.evaluation import Estimate


def estimate_proportion(
    is_hit: NDArray[np.bool_],
    is_counted: NDArray[np.bool_],
    unit_of_sample: NDArray[np.intp],
    stratum_of_unit: NDArray[np.intp],
    level: float,
) -> Estimate:
    """The share of hits among the counted samples, with Wilson's interval at the effective number of cases.

    `is_hit` and `is_counted` (N,), `unit_of_sample` (N,) the number of each one's patient (or picture),
    `stratum_of_unit` (units,) the class of each; no value where nothing is counted.

    That number is n_eff = p (1 - p) / v (Dean and Pagano 2015, J Surv Stat Methodol 3:484), v being the linearised
    variance of the ratio (Cochran 1977, chapter 6) over patients within strata. Where no patient counts twice, n_eff is
    at least the number of patients, as in a plain binomial; where one does, Student's quantile stands for the normal
    one. Where v is 0, as for a share of 0 or 1, the cases are the patients.
    """
    hits, cases = (is_hit & is_counted).astype(np.float64), is_counted.astype(np.float64)
    n_counted = float(cases.sum())
    if not n_counted:
        return Estimate(value=None, method="none")
    share = float(hits.sum()) / n_counted
    n_units = len(np.unique(unit_of_sample[is_counted]))
    deviations = (hits - share * cases) / n_counted
    residuals = np.bincount(unit_of_sample, deviations, minlength=len(stratum_of_unit)).astype(np.float64)
    variance = _sum_variances(residuals, stratum_of_unit)
    is_clustered = n_counted > n_units
    if share in (0.0, 1.0) or variance < 1e-15:
        return estimate_wilson(share, n_units, level)
    n_effective = share * (1 - share) / variance
    if not is_clustered:
        return estimate_wilson(share, max(n_effective, n_units), level)
    low, high = _invert_score(share, n_effective, find_t_quantile(0.5 + level / 2, max(n_units, 3) - 1))
    return Estimate(value=share, low=low, high=high, method="wilson")


def estimate_wilson(share: float, n: float, level: float) -> Estimate:
    """`share` of `n` independent cases with Wilson's interval."""
    low, high = compute_wilson_interval(share * n, n, level)
    return Estimate(value=share, low=low, high=high, method="wilson")


def compute_wilson_interval(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (Wilson 1927) of the proportion `successes` / `n`, both ends in [0, 1].

    `n` may be an effective number and need not be whole. Without cases the interval is (0, 1).
    """
    return _invert_score(successes / n, n, NormalDist().inv_cdf(0.5 + level / 2)) if n > 0 else (0.0, 1.0)


@dataclass(frozen=True)
class Ratio:
    """A ratio of two shares with its interval; `high` and `value` may be infinite."""

    value: float
    low: float
    high: float


def complement(share: Estimate) -> Estimate:
    """1 minus a share, with its interval."""
    if share.value is None or share.low is None or share.high is None:
        return share
    return Estimate(value=1 - share.value, low=1 - share.high, high=1 - share.low, method=share.method)


def find_ratio(above: Estimate, below: Estimate) -> Ratio | None:
    """The ratio of two independent shares with its interval from both shares' own, by MOVER.

    Zou and Donner 2008 (Statistics in Medicine 27:1693), on the logarithms; where one share is 0 the form of Donner and
    Zou 2012 (Statistical Methods in Medical Research 21:347), which needs none. None where a share has no interval or
    both are 0.
    """
    p, q = above.value, below.value
    if p is None or q is None or not (p or q):
        return None
    if above.low is None or above.high is None or below.low is None or below.high is None:
        return None
    if not q:
        return Ratio(math.inf, math.sqrt(above.low * (2 * p - above.low)) / below.high, math.inf)
    if not p:
        return Ratio(0.0, 0.0, above.high / math.sqrt(below.low * (2 * q - below.low)) if below.low else math.inf)
    down = math.hypot(math.log(p / above.low), math.log(below.high / q)) if above.low else math.inf
    up = math.hypot(math.log(above.high / p), math.log(q / below.low)) if below.low else math.inf
    return Ratio(p / q, p / q * math.exp(-down), p / q * math.exp(up))


def _invert_score(share: float, n: float, z: float) -> tuple[float, float]:
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * float(np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)))
    # The formula meets 0 and 1 exactly; the clamp takes away what rounding adds.
    return min(max(0.0, centre - half), share), max(min(1.0, centre + half), share)


def _sum_variances(residuals: NDArray[np.float64], strata: NDArray[np.intp]) -> float:
    """Σ n / (n - 1) Σ (residual - mean)² over the strata; one of a single unit adds nothing."""
    sizes = np.bincount(strata)
    means = np.bincount(strata, residuals) / np.maximum(sizes, 1)
    squares = np.bincount(strata, (residuals - means[strata]) ** 2)
    return float((squares * sizes / np.maximum(sizes - 1, 1)).sum())
