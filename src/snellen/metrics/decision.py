"""From probabilities to one class a picture, by a named rule. Whoever calls a picture a class asks here.

This room knows probabilities and class indices. It must not know labels, thresholds of a positive class, or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import UsageError
from snellen.records.recipe import DecisionRule

CALLED: dict[DecisionRule, str] = {
    "most_probable": "the most probable class",
    "balanced": "the class whose probability is highest in relation to its share in training",
    "expected_grade": "the grade nearest to the expected grade",
}
TIE = 1e-6  # float32 probabilities cannot tell an expected grade from a middle that is nearer than this


@dataclass(frozen=True)
class Balanced:
    """The rule "balanced" with the shares of the C classes that the probabilities assume, all above 0."""

    shares: tuple[float, ...]


Rule = DecisionRule | Balanced


def make_rule(name: DecisionRule, shares: Sequence[float]) -> Rule:
    """What `decide` asks for; `shares` `(C,)` matter to "balanced" alone. Raises UsageError for a share of 0."""
    if name != "balanced":
        return name
    if not min(shares) > 0:
        raise UsageError(
            'evaluation.decision = "balanced" needs the share of every class in training, and one has none.',
            "Train with pictures of every class, or with --set evaluation.decision=most_probable.",
        )
    return Balanced(tuple(float(share) for share in shares))


def decide(probabilities: NDArray[np.floating], rule: Rule) -> NDArray[np.intp]:
    """The class index `(N,)` of each row of `probabilities` `(N, C)`.

    - "most_probable": the class of the highest probability.
    - "balanced": the class whose probability is highest over its share: of all rules the one with the highest expected
      mean recall of the classes, if the probabilities are right (Menon et al. 2013).
    - "expected_grade", for ordered classes 0 < 1 < 2 …: the grade nearest to the expected grade Σ k·p_k. No other grade
      has a smaller expected squared distance, which is what quadratic kappa counts.

    Of equal classes the lower one; an expected grade within 1e-6 of the middle between two grades lies on it.
    """
    if isinstance(rule, Balanced):
        return np.asarray(np.argmax(np.asarray(probabilities, np.float64) / rule.shares, axis=1), np.intp)
    if rule == "most_probable":
        return np.asarray(np.argmax(probabilities, axis=1), np.intp)
    if rule == "balanced":
        raise TypeError('"balanced" needs shares: see make_rule')
    found = np.asarray(probabilities, np.float64)
    last = found.shape[1] - 1
    # a sum row by row does not depend on the rows beside it, as a product of matrices may
    expected = (found * np.arange(last + 1)).sum(axis=1)
    return np.asarray(np.clip(np.ceil(expected - 0.5 - TIE), 0, last), np.intp)
