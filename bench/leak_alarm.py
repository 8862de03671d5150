"""Leak alarm: labels permuted by group (a patient with all exact copies), the same steps as `train`, AUC on test.

    python bench/leak_alarm.py DATA [--permutations 20] [--json FILE]

Nothing can be learned from permuted labels: a mean test AUC away from 0.5 means that something of the test
pictures reached training. Features are computed once; splits, head, calibration and scores are made anew for
each permutation. Limit: 0.5 ± 0.03.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from snellen.imaging.cache import PixelCache, build_pixel_cache
from snellen.metrics.scores import compute_scores
from snellen.modeling.architectures import FrozenBackbone
from snellen.modeling.weights import load_weights
from snellen.planning.recipe_files import LoadedRecipe, load_recipe
from snellen.planning.splits import choose_splits, join_groups
from snellen.records.cohort import Cohort, Sample
from snellen.records.run import DataRequest, TrainRequest
from snellen.run_features import collect_features, export_backbone
from snellen.run_preparation import Prepared, prepare
from snellen.training.features import FeatureStore
from snellen.training.head import fit_head


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--columns", default="")
    parser.add_argument("--permutations", type=int, default=20)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    columns = dict(part.split("=") for part in args.columns.split(",") if part)
    with tempfile.TemporaryDirectory() as cache:
        request = TrainRequest(
            source=DataRequest(data=str(Path(args.data).resolve()), columns=columns, cache=cache),
            settings=tuple(args.settings),
        )
        aucs = measure(request, args.permutations)
    mean, spread = statistics.mean(aucs), statistics.stdev(aucs)
    print(" ".join(f"{auc:.3f}" for auc in aucs))
    error = spread / len(aucs) ** 0.5
    print(f"mean {mean:.3f}, standard deviation {spread:.3f}, standard error {error:.3f}; limit 0.5 ± 0.03")
    if args.json:
        args.json.write_text(json.dumps({"mean": mean, "stdev": spread, "aucs": aucs}, indent=2))


def measure(
    request: TrainRequest, n_permutations: int, family_of: Callable[[Sample], str] | None = None
) -> list[float]:
    """Test AUC (macro for several classes) of each permutation.

    `family_of` says what keeps one label; without it the product's own groups do. With families wider than
    these, an AUC above 0.5 shows what the product does not group.
    """
    loaded = load_recipe(request.recipe, request.settings)
    prepared = prepare(request, loaded)
    plan = prepared.plan
    samples = prepared.cohort.samples
    pixels = build_pixel_cache(
        samples, Path(prepared.cohort.root), plan.preprocess, prepared.cache, threads=plan.training.threads
    )
    frozen = FrozenBackbone(plan.model)
    load_weights(frozen.backbone, plan.model.backbone, plan.model.weights)
    graph = export_backbone(frozen, plan, prepared.cache)
    store = FeatureStore(graph, pixels, plan.augment, prepared.cache, plan.training.seed, plan.training.threads)
    groups = join_groups(prepared.cohort)
    families = {sample.name: family_of(sample) if family_of else groups[sample.name] for sample in samples}
    return [_permuted_auc(prepared, (loaded, pixels, store), families, seed) for seed in range(n_permutations)]


def _permuted_auc(
    prepared: Prepared, tools: tuple[LoadedRecipe, PixelCache, FeatureStore], families: dict[str, str], seed: int
) -> float:
    import torch

    loaded, pixels, store = tools
    cohort = permute_labels(prepared.cohort, families, seed)
    splits = choose_splits(cohort, loaded.recipe.data.fractions, seed)
    permuted = replace(prepared, cohort=cohort, splits=splits)
    fitted = fit_head(collect_features(permuted, pixels, store), permuted.plan)
    test = permuted.members("test")
    features = store.compute(pixels.select(test), 0).load()[0]
    with torch.no_grad():
        probabilities = torch.softmax(fitted.head(torch.from_numpy(features)).double(), 1).numpy()
    labels = np.array([permuted.plan.data.classes.index(sample.label) for sample in test])
    positive = 1 if probabilities.shape[1] == 2 else None
    return float(compute_scores(labels, probabilities, positive=positive)["auc"][0])


def permute_labels(cohort: Cohort, families: dict[str, str], seed: int) -> Cohort:
    """Give each family the label of another; within the data's own splits, so that each keeps its classes."""
    members: dict[str, list[Sample]] = defaultdict(list)
    for sample in cohort.samples:
        members[families[sample.name]].append(sample)
    names = sorted(members)
    labels = [Counter(sample.label for sample in members[name]).most_common(1)[0][0] for name in names]
    by_split: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        by_split[members[name][0].split or ""].append(index)
    random = np.random.default_rng(seed)
    new = list(labels)
    for indices in by_split.values():
        for place, source in zip(indices, random.permutation(indices), strict=True):
            new[place] = labels[source]
    label_of = {sample.name: label for name, label in zip(names, new, strict=True) for sample in members[name]}
    samples = tuple(sample.model_copy(update={"label": label_of[sample.name]}) for sample in cohort.samples)
    return cohort.model_copy(update={"samples": samples})


if __name__ == "__main__":
    main()
