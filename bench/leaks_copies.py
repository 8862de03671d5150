"""A class folder with ready-made copies, dealt picture by picture and as `snellen train` does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from snellen.imaging.cache import PixelCache
from snellen.metrics.scores import compute_scores
from snellen.modeling.weights import load_weights
from snellen.planning.recipe_files import load_recipe
from snellen.planning.splits import choose_splits
from snellen.records.cohort import Cohort, Split
from snellen.records.run import DataRequest, TrainRequest
from snellen.run_features import build_frozen, collect_features, encode_labels, export_backbone
from snellen.run_preparation import Prepared, prepare
from snellen.training.features import FeatureStore
from snellen.training.head import fit_head

METRICS = ("accuracy", "balanced_accuracy", "auc")


def measure(
    data: Path, patients: str, settings: Sequence[str], seeds: Sequence[int]
) -> tuple[str, dict[str, list[dict[str, float]]], dict[str, object]]:
    """Title, protocol → a row a seed, and facts of the data. The head on frozen features is chosen on validation."""
    source = DataRequest(data=str(data.resolve()), patients=patients)
    loaded = load_recipe("auto", settings)
    prepared = prepare(TrainRequest(source=source, settings=tuple(settings)), loaded)
    plan, cohort, fractions = prepared.plan, prepared.cohort, loaded.recipe.data.fractions
    pixels = prepared.build_pixels(cohort.samples)
    frozen = build_frozen(plan)
    load_weights(frozen.backbone, plan.model.backbone, plan.model.weights)
    graph = export_backbone(frozen, plan, prepared.cache)
    store = FeatureStore(graph, pixels, plan.augment, prepared.cache, plan.training.seed, plan.training.threads)
    arms: dict[str, list[dict[str, float]]] = {"published": [], "honest": []}
    for seed in seeds:
        splits = {
            "published": split_pictures(cohort, fractions, seed), "honest": choose_splits(cohort, fractions, seed),
        }  # fmt: skip
        for name, chosen in splits.items():
            arms[name].append(_run(replace(prepared, splits=chosen), pixels, store))
            told = ", ".join(f"{metric} {value:.3f}" for metric, value in arms[name][-1].items())
            print(f"seed {seed}, {name}: {told}", flush=True)
    shares = [_count_shared(cohort, split_pictures(cohort, fractions, seed)) for seed in seeds]
    facts = {
        "pictures": len(cohort.samples),
        "patients": cohort.patients.n,
        "patient_rule": cohort.patients.rule,
        "copy_groups": len(cohort.audit.duplicate_groups),
        "test_pictures_with_a_twin_in_training": float(np.mean(shares)),
    }
    return f"{data.name}, {len(cohort.samples)} pictures", arms, facts


def split_pictures(cohort: Cohort, fractions: tuple[float, float, float], seed: int) -> tuple[Split, ...]:
    """Pictures dealt class by class, whoever they show: what most published splits do."""
    random = np.random.default_rng(seed)
    part = {}
    for label in cohort.classes:
        own = random.permutation([sample.name for sample in cohort.samples if sample.label == label])
        n_test, n_val = (round(len(own) * share) for share in (fractions[2], fractions[1]))
        for place, name in enumerate(own):
            part[str(name)] = "test" if place < n_test else "val" if place < n_test + n_val else "train"
    return tuple(
        Split.model_validate(
            {"sample": sample.name, "patient": sample.patient, "group": sample.name, "label": sample.label,
             "split": part[sample.name], "reason": ""}
        )
        for sample in cohort.samples
    )  # fmt: skip


def _count_shared(cohort: Cohort, splits: tuple[Split, ...]) -> float:
    """Share of the test pictures whose patient, or whose exact copy, is trained on."""
    part = {row.sample: row.split for row in splits}
    trained = [sample for sample in cohort.samples if part[sample.name] == "train"]
    patients, hashes = {sample.patient for sample in trained}, {sample.pixels_sha256 for sample in trained}
    test = [sample for sample in cohort.samples if part[sample.name] == "test"]
    return sum(sample.patient in patients or sample.pixels_sha256 in hashes for sample in test) / len(test)


def _run(prepared: Prepared, pixels: PixelCache, store: FeatureStore) -> dict[str, float]:
    head = fit_head(collect_features(prepared, pixels, store), prepared.plan).head
    test = prepared.members("test")
    features = store.compute(pixels.select(test), 0).load()[0]
    with torch.no_grad():
        probabilities = torch.softmax(head(torch.from_numpy(features)).double(), 1).numpy()
    positive = None if prepared.plan.data.positive is None else prepared.plan.data.classes.index(
        prepared.plan.data.positive
    )  # fmt: skip
    scores = compute_scores(encode_labels(test, prepared.plan), probabilities, positive=positive)
    return {name: float(scores[name][0]) for name in METRICS}
