"""From probabilities to one class a picture, by a named rule. Whoever calls a picture a class asks here.

This room knows probabilities and class indices. It must not know labels, thresholds of a positive class, or files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snellen.records.recipe import DecisionRule

CALLED: dict[DecisionRule, str] = {
    "most_probable": "the most probable class",
    "expected_grade": "the grade nearest to the expected grade",
}
TIE = 1e-6  # float32 probabilities cannot tell an expected grade from a middle that is nearer than this


def decide(probabilities: NDArray[np.floating], rule: DecisionRule) -> NDArray[np.intp]:
    """The class index `(N,)` of each row of `probabilities` `(N, C)`.

    - "most_probable": the class of the highest probability.
    - "expected_grade", for ordered classes 0 < 1 < 2 …: the grade nearest to the expected grade Σ k·p_k. No other grade
      has a smaller expected squared distance, which is what quadratic kappa counts.

    Of equal classes the lower one; an expected grade within 1e-6 of the middle between two grades lies on it.
    """
    if rule == "most_probable":
        return np.asarray(np.argmax(probabilities, axis=1), np.intp)
    found = np.asarray(probabilities, np.float64)
    last = found.shape[1] - 1
    # a sum row by row does not depend on the rows beside it, as a product of matrices may
    expected = (found * np.arange(last + 1)).sum(axis=1)
    return np.asarray(np.clip(np.ceil(expected - 0.5 - TIE), 0, last), np.intp)
