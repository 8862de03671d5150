"""How much out-of-fold numbers flatter because all members take the best of three models on the same pictures.

    python bench/one_of_three.py [--draws 400] [--patients 100 330 1249] [--json FILE]

No pictures and no training: two models' logits of three classes are drawn, right by a strength and with noise of which
a part is common to both, then chosen among by the rule that fine-tuning uses. Told is the mean AUC and log loss of what
was chosen, on the pictures that chose, minus what the same choices give on other draws of the same two models (the mean
over all draws).
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen.metrics.calibration import fit_temperature
from snellen.training.judging import choose_model, judge_logits

_CLASSES = 3
_COMMON = 0.7  # part of the noise that both models share
_STRENGTHS = ((1.0, 1.0), (1.0, 1.1), (1.0, 1.3), (1.0, 1.6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--patients", type=int, nargs="+", default=[100, 330, 1249])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    print(f"{'patients':>8}{'before':>8}{'after':>8}{'AUC':>9}{'log loss':>10}   taken")
    for n in args.patients:
        for before, after in _STRENGTHS:
            row = _measure(n, (before, after), args.draws)
            rows.append(row)
            told = ", ".join(f"{share:.0%} {name}" for name, share in row["taken"].items())
            print(f"{n:8}{before:8}{after:8}{row['auc']:9.4f}{row['log_loss']:10.4f}   {told}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2))


def _measure(n: int, strengths: tuple[float, float], n_draws: int) -> dict:
    random = np.random.default_rng(n)
    taken, scores = [], []
    for _ in range(n_draws):
        labels = random.integers(0, _CLASSES, n)
        options = _draw(labels, strengths, random)
        taken.append(choose_model(options, "mean", labels, [str(number) for number in range(n)]))
        scores.append({name: judge_logits(logits, labels) for name, logits in options.items()})
    found = {}
    for at, name in ((0, "log_loss"), (1, "auc")):
        expected = {option: statistics.mean(each[option][at] for each in scores) for option in scores[0]}
        found[name] = statistics.mean(each[own][at] - expected[own] for each, own in zip(scores, taken, strict=True))
    shares = {name: taken.count(name) / n_draws for name in ("before", "mean", "after") if name in taken}
    return {"patients": n, "strengths": strengths, **found, "taken": shares}


def _draw(
    labels: NDArray[np.int64], strengths: tuple[float, float], random: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    right, common = np.eye(_CLASSES)[labels], random.normal(size=(len(labels), _CLASSES))
    before, after = (
        strength * right
        + np.sqrt(_COMMON) * common
        + np.sqrt(1 - _COMMON) * random.normal(size=(len(labels), _CLASSES))
        for strength in strengths
    )
    first, last = (logits / fit_temperature(logits, labels).temperature for logits in (before, after))
    return {"before": before, "after": after, "mean": (first + last) / 2}


if __name__ == "__main__":
    main()
