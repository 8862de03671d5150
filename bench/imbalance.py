"""Every method against imbalance on one cohort's cached features: AUC, balanced accuracy, log loss. Never opens test.

    python bench/imbalance.py DATA [--columns …] [--set KEY=VALUE]… [--seeds 3] [--json FILE]

Half of the validation patients choose epoch, regularisation and calibration, the other half is scored; then the
halves change places. `argmax` takes the most probable class; `balanced` takes it after dividing by the share in
training, which is what a balanced accuracy asks for. Mean and half the range are over seeds of the splits.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from snellen.metrics.calibrators import assign_folds, fit_calibration
from snellen.metrics.scores import compute_scores
from snellen.modeling.architectures import FrozenBackbone
from snellen.modeling.weights import load_weights
from snellen.planning.recipe_files import load_recipe
from snellen.records.plan import Plan
from snellen.records.recipe import Imbalance
from snellen.records.run import DataRequest, TrainRequest
from snellen.run_features import collect_features, export_backbone
from snellen.run_preparation import prepare
from snellen.training.features import FeatureStore
from snellen.training.head import HeadData, fit_head

COLUMNS = ("auc", "balanced_accuracy", "balanced", "log_loss")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--columns", default="")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    columns = dict(part.split("=") for part in args.columns.split(",") if part)
    source = DataRequest(data=str(Path(args.data).resolve()), columns=columns)
    found: dict[str, list[dict[str, float]]] = {method: [] for method in get_args(Imbalance)}
    for seed in range(args.seeds):
        plan, data, shown, patients = collect(TrainRequest(source=source, settings=tuple(args.settings), seed=seed))
        counts = np.bincount(data.train_labels, minlength=len(plan.data.classes))
        print(f"seed {seed}: {counts.tolist()} to learn from, {len(data.val_labels)} for validation", flush=True)
        for method, rows in found.items():
            rows.append(measure(shown if method == "augment" else data, patients, use_method(plan, method)))
    print(f"{'method':<22}{'AUC':>14}{'argmax':>14}{'balanced':>14}{'log loss':>14}")
    for method, rows in found.items():
        cells = [[row[name] for row in rows] for name in COLUMNS]
        told = [f"{statistics.mean(cell):.3f} ± {np.ptp(cell) / 2:.3f}" for cell in cells]
        print(f"{method:<22}" + "".join(f"{text:>14}" for text in told))
    if args.json:
        args.json.write_text(json.dumps(found, indent=2))


def collect(request: TrainRequest) -> tuple[Plan, HeadData, HeadData, list[str]]:
    """Plan, features (again with the further views of `augment`) and the patients of validation.

    Views are drawn by one seed, so that the cache serves all.
    """
    prepared = prepare(request, load_recipe("auto", request.settings))
    plan = prepared.plan
    pixels = prepared.build_pixels([*prepared.members("train"), *prepared.members("val")])
    frozen = FrozenBackbone(plan.model)
    load_weights(frozen.backbone, plan.model.backbone, plan.model.weights)
    graph = export_backbone(frozen, plan, prepared.cache)
    store = FeatureStore(graph, pixels, plan.augment, prepared.cache, 0, plan.training.threads)
    data = collect_features(prepared, pixels, store)
    shown = collect_features(replace(prepared, plan=use_method(plan, "augment")), pixels, store)
    return plan, data, shown, [sample.patient for sample in prepared.members("val")]


def use_method(plan: Plan, method: str) -> Plan:
    imbalance = plan.imbalance.model_copy(update={"method": method})
    return plan.model_copy(update={"imbalance": imbalance})


def measure(data: HeadData, patients: list[str], plan: Plan) -> dict[str, float]:
    """Scores of both halves together, each by the head that the other half chose."""
    half = assign_folds(data.val_labels, patients) % 2
    probabilities = np.empty((len(data.val_labels), plan.model.n_classes))
    for part in (0, 1):
        chooses, scored = np.flatnonzero(half != part), np.flatnonzero(half == part)
        own = replace(data, val=data.val[chooses], val_labels=data.val_labels[chooses])
        head = fit_head(own, plan).head
        calibrator = fit_calibration(
            _run(head, data.val[chooses]), own.val_labels, [patients[row] for row in chooses]
        ).calibrator
        probabilities[scored] = calibrator.apply(_run(head, data.val[scored]))
    prior = np.bincount(data.train_labels, minlength=plan.model.n_classes) / len(data.train_labels)
    positive = None if plan.data.positive is None else plan.data.classes.index(plan.data.positive)
    scores = compute_scores(data.val_labels, probabilities, positive=positive)
    even = probabilities / prior
    balanced = compute_scores(data.val_labels, even / even.sum(1, keepdims=True), positive=positive)
    named = {name: float(scores[name][0]) for name in ("auc", "balanced_accuracy", "log_loss")}
    return {**named, "balanced": float(balanced["balanced_accuracy"][0])}


def _run(head: torch.nn.Module, features: NDArray[np.float32]) -> NDArray[np.float64]:
    with torch.no_grad():
        logits: NDArray[np.float64] = head(torch.from_numpy(features)).double().numpy()
    return logits


if __name__ == "__main__":
    main()
