"""What the decision rule for grades gains and costs, with probabilities that are exactly right. No data, no training.

    python bench/grades.py [--n 20000] [--seed 0]

A severity, normally distributed, is cut into five grades and seen with noise; what follows from the noisy view are the
exact probabilities of the grades. So what differs between the rules is the rule alone.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from snellen.metrics.scores import compute_scores
from snellen.records.recipe import DecisionRule

SHARES = {
    "a clinic": (0.49, 0.10, 0.27, 0.05, 0.09),
    "screening": (0.73, 0.07, 0.15, 0.03, 0.02),
    "equal": (0.20, 0.20, 0.20, 0.20, 0.20),
}
NOISE = (0.3, 0.5, 0.8, 1.2)
RULES: tuple[DecisionRule, ...] = ("most_probable", "expected_grade")
METRICS = ("kappa_quadratic", "accuracy", "balanced_accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"{'grades':<12}{'noise':>6}" + "".join(f"{name:>26}" for name in METRICS))
    for name, shares in SHARES.items():
        for noise in NOISE:
            labels, probabilities = draw(shares, noise, args.n, args.seed)
            found = [compute_scores(labels, probabilities, is_ordered=True, rule=rule) for rule in RULES]
            cells = [" → ".join(f"{scores[metric][0]:.3f}" for scores in found) for metric in METRICS]
            print(f"{name:<12}{noise:>6}" + "".join(f"{cell:>26}" for cell in cells))


def draw(shares: tuple[float, ...], noise: float, n: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels `(N,)` and their exact probabilities `(N, C)` given a view of the severity with `noise`."""
    random = np.random.default_rng(seed)
    cuts = norm.ppf(np.cumsum(shares)[:-1])
    severity = random.normal(size=n)
    seen = severity + noise * random.normal(size=n)
    mean, spread = seen / (1 + noise**2), noise / np.sqrt(1 + noise**2)
    edges = np.concatenate([[-np.inf], cuts, [np.inf]])
    return np.searchsorted(cuts, severity), np.diff(norm.cdf((edges[None] - mean[:, None]) / spread), axis=1)


if __name__ == "__main__":
    main()
