"""Student's t distribution, for intervals from few patients. It must know nothing but numbers."""

from __future__ import annotations

from statistics import NormalDist


def find_t_quantile(probability: float, degrees: float) -> float:
    """Quantile of Student's t distribution by Cornish and Fisher's expansion (Abramowitz and Stegun 26.7.5).

    Off by less than 0.5 % for 0.975 from 3 degrees of freedom on.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees ** (power + 1) for power, term in enumerate(terms))
