"""Coverage of conformal sets by class over many resplits, by simulation.

    python bench/coverage_conformal.py [--splits 200] [--json FILE]
    python bench/coverage_conformal.py --scores RUN/scores-val.csv RUN/scores-test.csv

Without --scores: drawn scores of an overconfident model, patients with one to four pictures, classes of different size
and difficulty. With it: the patients of a run's tables (such as validation and test) are dealt anew to calibration and
test each time. Both calibrate as `snellen train` does; a class counts in a split where it has patients enough for a
quantile of its own. Aim: by class within two points of nominal.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen.metrics.conformal import fit_conformal, predict_sets


@dataclass(frozen=True)
class Pictures:
    """Scored pictures: labels `(N,)`, probabilities `(N, C)`, patients `(N,)`, names of the classes."""

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    patients: NDArray[np.str_]
    classes: tuple[str, ...]


def main() -> None:
    """Measure, print the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=Path, nargs="+", help="tables of scores of a run")
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = []
    print("| scores | coverage | class | mean coverage | mean size of sets | splits |")
    print("| --- | --- | --- | --- | --- | --- |")
    for coverage in (0.8, 0.9, 0.95):
        for name, row in measure(args.scores, coverage, args.splits).items():
            source = "drawn" if not args.scores else args.scores[0].parent.name
            found.append({"source": source, "coverage": coverage, "class": name, **row})
            shown = f"{row['coverage']:.3f} | {row['size']:.2f} | {row['splits']:.0f} |"
            print(f"| {source} | {coverage:g} | {name} | {shown}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


def measure(scores: Sequence[Path] | None, coverage: float, n_splits: int) -> dict[str, dict[str, float]]:
    """Class → mean coverage and size over the splits in which it has a quantile of its own."""
    read = None if not scores else read_scores(scores)
    held: dict[str, list[float]] = {}
    sizes: dict[str, list[float]] = {}
    for seed in range(n_splits):
        pictures = draw(seed) if read is None else read
        is_test = split_patients(pictures.patients, seed)
        fitted = fit_conformal(
            pictures.labels[~is_test], pictures.probabilities[~is_test], pictures.patients[~is_test],
            coverage=coverage, seed=seed,
        )  # fmt: skip
        inside = predict_sets(pictures.probabilities[is_test], fitted.quantiles.tolist(), is_ordered=False)
        labels = pictures.labels[is_test]
        is_held = inside[np.arange(len(labels)), labels]
        for c, name in enumerate(pictures.classes):
            if c not in fitted.pooled and (labels == c).any():
                held.setdefault(name, []).append(float(is_held[labels == c].mean()))
                sizes.setdefault(name, []).append(float(inside[labels == c].sum(1).mean()))
    return {
        name: {"coverage": float(np.mean(held[name])), "size": float(np.mean(sizes[name])), "splits": len(held[name])}
        for name in held
    }


def split_patients(patients: NDArray[np.str_], seed: int) -> NDArray[np.bool_]:
    """Half of the patients are tested `(N,)`."""
    names = np.random.default_rng(seed).permutation(np.unique(patients))
    return np.isin(patients, names[: len(names) // 2])


def draw(seed: int, n_patients: int = 500) -> Pictures:
    """Pictures of a patient share its class and part of its difficulty; probabilities are too sure of themselves."""
    random = np.random.default_rng(1000 + seed)
    shares, ease = (0.55, 0.3, 0.15), np.array([2.5, 1.5, 0.8])
    label = random.choice(3, n_patients, p=shares)
    each = random.integers(1, 5, n_patients)
    labels = np.repeat(label, each)
    own = np.repeat(random.normal(0, 0.7, (n_patients, 3)), each, axis=0)
    logits = own + random.normal(0, 0.7, (len(labels), 3))
    logits[np.arange(len(labels)), labels] += ease[labels]
    raised = np.exp(2 * logits)
    patients = np.repeat([f"P{number}" for number in range(n_patients)], each)
    return Pictures(labels, raised / raised.sum(1, keepdims=True), patients, ("common", "less", "rare"))


def read_scores(paths: Sequence[Path]) -> Pictures:
    """The rows of all tables together."""
    rows: list[dict[str, str]] = []
    for path in paths:
        with path.open(encoding="utf-8", newline="") as stream:
            rows += list(csv.DictReader(stream))
    classes = tuple(key.removeprefix("probability_") for key in rows[0] if key.startswith("probability_"))
    return Pictures(
        np.array([classes.index(row["label"]) for row in rows]),
        np.array([[float(row[f"probability_{name}"]) for name in classes] for row in rows]),
        np.array([row["patient"] for row in rows]),
        classes,
    )


if __name__ == "__main__":
    main()
