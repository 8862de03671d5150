"""Whether probabilities are right after training on 5,000 drawn patients, however the classes were made equal.

    python bench/calibration.py [--patients 5000] [--kind oct] [--methods none smote] [--json FILE] [--work DIR]

One picture a patient, classes of unequal size, the head alone. Each training method is a whole run of the recipe
`auto` with its own `imbalance.method`; shown is its test split: calibration slope with interval, adaptive calibration
error beside the 95th percentile of what right probabilities would have, and AUC. The calibration is fitted on
patients of their own, who are neither in training nor in test.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from snellen import workflow
from snellen.ingest.phantom import KINDS, draw_picture, list_labels

METHODS = ("none", "class_weights", "balanced_sampling", "smote", "focal", "logit_adjustment")
SHARES = (0.6, 0.25, 0.1, 0.05)
SIZE_PX = 96


def main() -> None:
    """Draw the cohort once, train with each method, print a row each, write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=5000)
    parser.add_argument("--kind", choices=KINDS, default="oct")
    parser.add_argument("--difficulty", type=float, default=0.9)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--work", type=Path, help="keep cohort, cache and runs here")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = args.work or Path(folder)
        if not (work / "data").exists():
            draw_cohort(work / "data", args.kind, args.patients, args.difficulty)
        rows = [measure(work, method) for method in args.methods]
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def draw_cohort(folder: Path, kind: str, n_patients: int, difficulty: float) -> None:
    """One picture of each of `n_patients`, whose classes are drawn with the shares above, the last ones rare."""
    labels = list_labels(kind)
    shares = np.array(SHARES[: len(labels)])
    drawn = np.random.default_rng(0).choice(len(labels), n_patients, p=shares / shares.sum())
    for patient, number in enumerate(drawn.tolist()):
        pixels = draw_picture(kind, labels[number], patient_seed=patient, size_px=SIZE_PX, difficulty=difficulty)
        place = folder / labels[number] / f"synthetic_P{patient:05d}_left_1.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place)


def measure(work: Path, method: str) -> dict[str, object]:
    """Train with `method` and read off the run's test split."""
    begin = time.monotonic()
    settings = ['training.stages=[{unfreeze="none"}]', f"preprocess.size={SIZE_PX}", f'imbalance.method="{method}"']
    run = workflow.train(work / "data", out=work / method, cache=work / "cache", settings=settings, overwrite=True)
    found = run.evaluation
    check = found.calibration.check
    if check is None:
        raise SystemExit(f"{method}: the run's test split has no check of its calibration")
    slope, limit = check.slope, check.expected["ece_adaptive"].limit
    row = {
        "method": method, "n_test": found.n, "fitted_on": found.calibration.fitted_on,
        "n_fitted": found.calibration.n_fitted, "calibration": found.calibration.method,
        "slope": slope.value, "low": slope.low, "high": slope.high, "ece_adaptive": check.ece_adaptive,
        "limit": limit, "auc": found.metrics["auc"].value, "seconds": round(time.monotonic() - begin, 1),
    }  # fmt: skip
    holds = slope.low is not None and slope.high is not None and slope.low <= 1 <= slope.high
    print(
        f"{method:<18} slope {slope.value:.3f} [{slope.low:.3f}, {slope.high:.3f}] {'holds' if holds else 'MISSES'} 1; "
        f"adaptive error {check.ece_adaptive:.4f}, limit {limit:.4f}{'' if check.ece_adaptive <= limit else ' ABOVE'}; "
        f"AUC {row['auc']:.3f}; {row['calibration']} on {row['n_fitted']} of {row['fitted_on']}",
        flush=True,
    )
    return row


if __name__ == "__main__":
    main()
