"""Stage 1 (features of every picture and view, then the head) against bare forward passes of the same graph.

    python bench/stage1.py DATA [--columns …] [--json FILE]

Prints the ratio stage 1 ÷ ((1 + views) bare passes over the training pictures + one over validation). Limit: 1.3.
Bare passes run on random pixels already in memory, in this process, before and after stage 1, with the same threads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from snellen.imaging.cache import build_pixel_cache
from snellen.inference.session import BATCH, GraphSession
from snellen.modeling.architectures import FrozenBackbone
from snellen.modeling.weights import load_weights
from snellen.planning.recipe_files import load_recipe
from snellen.records.run import DataRequest, TrainRequest
from snellen.run_features import collect_features, export_backbone
from snellen.run_preparation import prepare
from snellen.training.features import FeatureStore
from snellen.training.head import fit_head

LIMIT = 1.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--columns", default="")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    columns = dict(part.split("=") for part in args.columns.split(",") if part)
    rows = [measure(args.data, columns) for _ in range(args.runs)]
    print(f"{'bare s':>8} {'stage 1 s':>10} {'features s':>11} {'head s':>8} {'ratio':>7}")
    for row in rows:
        print(
            f"{row['bare']:8.1f} {row['stage1']:10.1f} {row['features']:11.1f} {row['head']:8.1f} {row['ratio']:7.2f}"
        )
    median = statistics.median(row["ratio"] for row in rows)
    print(f"median ratio {median:.2f} (limit {LIMIT}), {rows[0]['pictures']} pictures, {rows[0]['views']} views")
    if args.json:
        args.json.write_text(json.dumps({"median_ratio": median, "limit": LIMIT, "runs": rows}, indent=2))


def measure(data: str, columns: dict[str, str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as cache:
        source = DataRequest(data=str(Path(data).resolve()), columns=columns, cache=cache)
        prepared = prepare(TrainRequest(source=source), load_recipe("auto"))
        plan = prepared.plan
        used = [sample for part in ("train", "val") for sample in prepared.members(part)]
        pixels = build_pixel_cache(
            used, Path(prepared.cohort.root), plan.preprocess, Path(cache), threads=plan.training.threads
        )
        frozen = FrozenBackbone(plan.model)
        load_weights(frozen.backbone, plan.model.backbone, plan.model.weights)
        graph = export_backbone(frozen, plan, Path(cache))
        n_passes = len(prepared.members("train")) * (1 + plan.augment.views) + len(prepared.members("val"))
        shape = pixels.pixels.shape[1:]
        before = _time_bare(graph, shape, n_passes, plan.training.threads)
        begin = time.perf_counter()
        store = FeatureStore(graph, pixels, plan.augment, Path(cache), plan.training.seed, plan.training.threads)
        features = collect_features(prepared, pixels, store)
        middle = time.perf_counter()
        fit_head(features, plan)
        end = time.perf_counter()
        after = _time_bare(graph, shape, n_passes, plan.training.threads)
    bare = (before + after) / 2
    return {
        "pictures": len(used), "views": plan.augment.views, "passes": n_passes, "bare": bare, "stage1": end - begin,
        "features": middle - begin, "head": end - middle, "ratio": (end - begin) / bare,
    }  # fmt: skip


def _time_bare(graph: Path, shape: tuple[int, ...], n_passes: int, threads: int) -> float:
    """Seconds for `n_passes` pictures, extrapolated from a tenth of them where they are many."""
    session = GraphSession(graph, threads=threads)
    batch = np.random.default_rng(0).integers(0, 256, (BATCH, *shape), np.uint8)
    session.run(batch, ("embedding",))
    n_calls = max(20, n_passes // BATCH // 5)
    begin = time.perf_counter()
    for _ in range(n_calls):
        session.run(batch, ("embedding",))
    return (time.perf_counter() - begin) / (n_calls * BATCH) * n_passes


if __name__ == "__main__":
    main()
