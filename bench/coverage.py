"""How often intervals hold the truth, by simulation: no data, no training. Bounded by --seconds.

    python bench/coverage.py [--studies 1000] [--jobs 2] [--seconds 900] [--json FILE]

Studies are drawn from populations whose true scores are known from 200,000 patients: two classes (20 of 100 patients
positive) with one and with two pictures a patient, five grades of 20 patients each, 500 patients. Shown is how often
the 95 % interval held the truth, for each metric of evaluation.json, for sensitivity and specificity at a fixed
threshold, for paired differences of two models, and for slope and intercepts of right probabilities. 95 % of 1,000
studies is known to 1.4 points.

Then 5,000 patients of a head whose training was re-balanced and corrected, calibrated on 10,000 others: whether slope's
interval holds 1 and the error stays below the 95th percentile of perfect calibration.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen.metrics.differences import pair_models
from snellen.metrics.intervals import compute_estimates, compute_per_class_estimates
from snellen.metrics.operating_point import compute_operating_point
from snellen.metrics.perfect_calibration import expect_errors
from snellen.metrics.recalibration import compute_calibration_lines, compute_calibration_slope
from snellen.metrics.scores import compute_per_class, compute_scores
from snellen.records.evaluation import Estimate, Intervals

Floats = NDArray[np.float64]
POPULATION = 200_000
BATCH = 25
METHODS = ("none", "class_weights", "smote", "focal", "logit_adjustment", "random_under")
SHOWN_PER_CLASS = ("precision", "recall", "specificity", "npv", "f1", "auc", "average_precision")


@dataclass(frozen=True)
class Scenario:
    """`shares` of the classes among `n_patients`, each with `per_patient` pictures that are alike."""

    name: str
    shares: tuple[float, ...]
    n_patients: int
    per_patient: int = 1

    @property
    def is_ordered(self) -> bool:
        return len(self.shares) > 2


SCENARIOS = (
    Scenario("two classes", (0.8, 0.2), 100),
    Scenario("two pictures a patient", (0.8, 0.2), 100, 2),
    Scenario("five grades", (0.2,) * 5, 100),
    Scenario("500 patients", (0.8, 0.2), 500),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    begin = time.monotonic()
    found: dict[str, dict[str, dict[str, float]]] = {}
    with ProcessPoolExecutor(args.jobs) as pool:
        for number, scenario in enumerate(SCENARIOS):
            until = begin + args.seconds * (number + 1) / (len(SCENARIOS) + 0.5)
            found[scenario.name] = measure(scenario, args.studies, pool, until)
            show(scenario, found[scenario.name])
    calibrated = check_corrected()
    for row in calibrated:
        print(
            f"{row['training']:<22} ECE {row['ece']:.4f} (limit {row['limit']:.4f}), slope {row['slope']:.3f} "
            f"[{row['low']:.3f}, {row['high']:.3f}]"
        )
    print(f"{time.monotonic() - begin:.0f} s")
    if args.json:
        args.json.write_text(json.dumps({"coverage": found, "calibration": calibrated}, indent=2) + "\n")


def measure(scenario: Scenario, n_studies: int, pool: ProcessPoolExecutor, until: float) -> dict[str, dict[str, float]]:
    """Estimate → share of studies whose interval held the truth, and the number of studies with an interval."""
    truth = find_truth(scenario)
    held: dict[str, list[bool]] = defaultdict(list)
    batches = [range(first, min(first + BATCH, n_studies)) for first in range(0, n_studies, BATCH)]
    for tasks in (batches[first : first + 4] for first in range(0, len(batches), 4)):
        for part in pool.map(run_studies, [scenario] * len(tasks), tasks, [truth] * len(tasks)):
            for name, hits in part.items():
                held[name] += hits
        if time.monotonic() > until:
            break
    return {name: {"coverage": float(np.mean(hits)), "studies": len(hits)} for name, hits in held.items()}


def show(scenario: Scenario, found: dict[str, dict[str, float]]) -> None:
    n = max(int(each["studies"]) for each in found.values())
    outside = [name for name, each in found.items() if not 0.93 <= each["coverage"] <= 0.97]
    print(f"\n{scenario.name}: {n} studies of {scenario.n_patients} patients; outside 93 to 97 %: {len(outside)}")
    for name, each in found.items():
        mark = " <-" if name in outside else ""
        print(f"  {name:<34}{100 * each['coverage']:6.1f} %  ({int(each['studies'])}){mark}")


def draw(
    scenario: Scenario, seed: int, n_patients: int | None = None
) -> tuple[NDArray[np.int64], list[Floats], list[str]]:
    """Labels, probabilities of two models and patients of one study; the shares of the classes are fixed by design.

    The first model's probabilities are right but for the shared part of a patient's pictures.
    """
    random = np.random.default_rng(seed)
    n, n_classes = n_patients or scenario.n_patients, len(scenario.shares)
    counts = np.round(np.array(scenario.shares) * n).astype(int)
    labels = np.repeat(np.repeat(np.arange(n_classes), counts), scenario.per_patient)
    patient = np.repeat(np.arange(n), scenario.per_patient)
    spread = np.sqrt(0.5)
    seen = 1.6 * np.eye(n_classes)[labels] + spread * random.normal(size=(n, n_classes))[patient]
    seen = seen + spread * random.normal(size=(len(labels), n_classes))
    models = []
    for noise in (0.0, 0.7):
        noisy = seen + noise * random.normal(size=seen.shape)
        raw = 1.6 / (1 + noise**2) * noisy + np.log(np.array(scenario.shares))
        raised = np.exp(raw - raw.max(axis=1, keepdims=True))
        models.append(raised / raised.sum(axis=1, keepdims=True))
    return labels, models, [str(each) for each in patient]


def find_truth(scenario: Scenario) -> dict[str, float]:
    labels, models, _ = draw(scenario, 10**6, POPULATION)
    scores = [compute_scores(labels, each, is_ordered=scenario.is_ordered) for each in models]
    truth = {name: float(value[0]) for name, value in scores[0].items()}
    truth |= {f"difference of {name}": float(scores[1][name][0] - value[0]) for name, value in scores[0].items()}
    for name, values in compute_per_class(labels, models[0]).items():
        truth |= {f"{name} of class {c}": float(value) for c, value in enumerate(values[0])}
    if not scenario.is_ordered:
        called, is_sick = models[0][:, 1] >= 0.2, labels == 1
        truth["sensitivity at 0.2"] = float(called[is_sick].mean())
        truth["specificity at 0.2"] = float((~called)[~is_sick].mean())
        truth["positive likelihood ratio"] = truth["sensitivity at 0.2"] / (1 - truth["specificity at 0.2"])
        truth["negative likelihood ratio"] = (1 - truth["sensitivity at 0.2"]) / truth["specificity at 0.2"]
        truth["PPV at 5 %"] = 1 / (1 + 19 / truth["positive likelihood ratio"])
    return truth | {"calibration slope": 1.0} | {f"intercept of class {c}": 0.0 for c in range(len(scenario.shares))}


def run_studies(scenario: Scenario, seeds: range, truth: dict[str, float]) -> dict[str, list[bool]]:
    """Estimate → of each study with an interval whether it held the truth."""
    held: dict[str, list[bool]] = defaultdict(list)
    for seed in seeds:
        labels, models, patients = draw(scenario, seed)
        for name, estimate in estimate_all(scenario, labels, models, patients, seed).items():
            if estimate.low is not None and estimate.high is not None:
                held[name].append(bool(estimate.low <= truth[name] <= estimate.high))
    return held


def estimate_all(
    scenario: Scenario, labels: NDArray[np.int64], models: list[Floats], patients: list[str], seed: int
) -> dict[str, Estimate]:
    settings = Intervals(n_resamples=1000, unit="patient", seed=seed)
    is_ordered, n_classes = scenario.is_ordered, len(scenario.shares)
    classes = [str(c) for c in range(n_classes)]
    found = dict(compute_estimates(labels, models[0], patients, settings=settings, is_ordered=is_ordered))
    by_class = compute_per_class_estimates(labels, models[0], patients, classes=classes, settings=settings)
    for c, own in by_class.items():
        found |= {f"{name} of class {c}": getattr(own, name) for name in SHOWN_PER_CLASS}
    paired = pair_models(
        labels, (models[0], models[1]), patients, settings=settings, is_ordered=is_ordered,
        rules=("most_probable", "most_probable"),
    )  # fmt: skip
    found |= {f"difference of {name}": each.difference for name, each in paired.items()}
    if not is_ordered:
        point = compute_operating_point("p", "argmax", "val", 0.2, labels, models[0][:, 1], patients, settings)
        sides = {"sensitivity": point.sensitivity, "specificity": point.specificity}
        ratios = {"positive": point.lr_positive, "negative": point.lr_negative}
        found |= {f"{side} likelihood ratio": each for side, each in ratios.items() if each is not None}
        found["PPV at 5 %"] = next(each.ppv for each in point.at_prevalence if each.prevalence == 0.05)
        found |= {f"{name} at 0.2": each for name, each in sides.items() if each is not None}
    # labels as the probabilities say, so that these are right
    drawn = np.random.default_rng(seed + 10**7).random((len(labels), 1)) > models[0].cumsum(axis=1)
    right = np.minimum(drawn.sum(axis=1), n_classes - 1)
    apart = [str(row) for row in range(len(labels))]
    found["calibration slope"] = compute_calibration_slope(right, models[0], apart)
    lines = compute_calibration_lines(right, models[0], apart, classes=classes)
    found |= {f"intercept of class {c}": line.intercept for c, line in lines.items()}
    return found


def check_corrected(n: int = 5000) -> list[dict[str, float | str]]:
    """Slope and error on 5,000 patients of a head that learned under each method and was calibrated on others."""
    rows: list[dict[str, float | str]] = []
    for method in METHODS:
        labels, probabilities = learn_and_score(method, n)
        patients = [str(row) for row in range(n)]
        slope = compute_calibration_slope(labels, probabilities, patients)
        expected = expect_errors(probabilities, seed=0)["ece_adaptive"]
        error = float(compute_scores(labels, probabilities)["ece_adaptive"][0])
        rows.append(
            {
                "training": method,
                "ece": error,
                "limit": expected.limit,
                "slope": slope.value or float("nan"),
                "low": slope.low or float("nan"),
                "high": slope.high or float("nan"),
            }
        )
    return rows


def learn_and_score(method: str, n: int) -> tuple[NDArray[np.int64], Floats]:
    """Labels and calibrated probabilities of `n` new patients by a head that the product trained on 3,000 others, of
    which 5 % are of the rarest class: features are drawn, all that follows is what `snellen train` does.
    """
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import torch

    from models import make_plan
    from snellen.metrics.calibrators import fit_calibration
    from snellen.training.feature_table import FeatureTable
    from snellen.training.head import HeadData, fit_head

    random = np.random.default_rng(0)
    shares, centres = np.array([0.75, 0.2, 0.05]), 0.7 * random.normal(size=(3, 16))

    def draw_features(count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        labels = random.choice(3, count, p=shares)
        return (centres[labels] + random.normal(size=(count, 16))).astype(np.float32), labels

    (train, train_labels), (val, val_labels), (test, labels) = (draw_features(count) for count in (3000, 10_000, n))
    plan = make_plan(("0", "1", "2"), imbalance=method, stage={"weight_decay": (0.1, 0.01, 0.001)})
    head = fit_head(HeadData(FeatureTable.hold(train[None]), train_labels, val, val_labels), plan).head
    with torch.no_grad():
        held, new = (head(torch.from_numpy(each)).double().numpy() for each in (val, test))
    fitted = fit_calibration(held, val_labels, [str(row) for row in range(len(val))])
    return labels, fitted.calibrator.apply(new)


if __name__ == "__main__":
    main()
