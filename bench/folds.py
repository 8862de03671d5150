"""Folds on kept features against running the backbone at every epoch: the same scores, and how many times faster.

    python bench/folds.py DATA --backbone mobilenetv2_100 --weights FILE.safetensors [--columns …] [--set KEY=VALUE]…
                          [--pictures 600] [--folds 5] [--epochs 10] [--live-epochs 2] [--timed NAME=FILE …]
                          [--json FILE]

A head (AdamW, batches of 64, no views) learns once a fold, patients kept together. One way computes features once, in
the exported graph; the other runs the network in torch for every batch, as a script would. With `--live-epochs` below
`--epochs` both are compared after the fewer epochs, and the time of all epochs is extrapolated from them and marked.
`--timed` adds networks of which one live epoch of one fold is timed and the rest extrapolated.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from snellen.imaging.cache import PixelCache
from snellen.metrics.scores import compute_scores
from snellen.modeling.architectures import FrozenBackbone
from snellen.modeling.weights import load_weights
from snellen.planning.recipe_files import load_recipe
from snellen.records.plan import Plan
from snellen.records.run import DataRequest, TrainRequest
from snellen.run_features import build_frozen, collect_fold_features, export_backbone
from snellen.run_preparation import prepare
from snellen.training.crossval import FoldData
from snellen.training.feature_table import FeatureTable
from snellen.training.features import FeatureStore
from snellen.training.head import iterate_epochs, make_ready

_BATCH = 64
_DECAY = 0.1


class _LiveFeatures:
    """Stands where a table's array stands, and runs the network for every row that is asked for."""

    def __init__(self, frozen: FrozenBackbone, pixels: PixelCache, width: int) -> None:
        self.frozen, self.pixels = frozen.eval(), pixels
        self.shape = (len(pixels.pixels), width)
        self.seconds, self.n = 0.0, 0

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        begin = time.perf_counter()
        parts = []
        with torch.inference_mode():
            for start in range(0, len(rows), _BATCH):
                pictures = torch.from_numpy(self.pixels.take(rows[start : start + _BATCH]))
                parts.append(self.frozen(pictures)[0].numpy())
        self.seconds += time.perf_counter() - begin
        self.n += len(rows)
        return np.concatenate(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--columns", default="")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--live-epochs", type=int)
    parser.add_argument("--timed", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = [_compare(args)]
    rows += [_extrapolate(args, *text.split("=", 1)) for text in args.timed]
    print(f"{'network':<18}{'kept s':>9}{'live s':>9}{'ratio':>8}  {'AUC kept':>9}{'AUC live':>9}{'p differs by':>14}")
    for row in rows:
        scores = f"{row['kept_auc']:9.4f}{row['live_auc']:9.4f}{row['difference']:14.1e}" if "live_auc" in row else ""
        mark = " (extrapolated)" if row["is_extrapolated"] else ""
        print(f"{row['network']:<18}{row['kept_s']:9.1f}{row['live_s']:9.1f}{row['ratio']:8.1f}  {scores}{mark}")
    print(f"{args.folds} folds, {args.epochs} epochs, {rows[0]['n']} pictures")
    if args.json:
        args.json.write_text(json.dumps({"rows": rows}, indent=2))


def _compare(args: argparse.Namespace) -> dict:
    """The whole way with kept features, and the same heads with the network run at every epoch."""
    n_live = args.live_epochs or args.epochs
    with tempfile.TemporaryDirectory() as folder:
        plan, frozen, pixels, store, prepared = _open(args, args.backbone, args.weights, folder)
        begin = time.perf_counter()
        kept = _thin(collect_fold_features(prepared, pixels, store), args.pictures)
        kept_found = _run_folds(kept, plan, args.epochs, n_live)
        kept_s = time.perf_counter() - begin
        source = _LiveFeatures(frozen, pixels, kept.table.shape[2])
        rows = _thin_rows(pixels.select(prepared.held_out()[0]), args.pictures)
        live = replace(kept, table=FeatureTable((source,), rows))
        begin = time.perf_counter()
        torch.set_num_threads(plan.training.threads)
        live_found = _run_folds(live, plan, n_live, n_live, moments=kept)
        measured_s = time.perf_counter() - begin
    positive = 1 if plan.model.n_classes == 2 else None
    aucs = [float(compute_scores(kept.labels, each, positive=positive)["auc"][0]) for each in (kept_found, live_found)]
    live_s = measured_s * args.epochs / n_live
    return {
        "network": args.backbone, "n": len(kept.labels), "kept_s": kept_s, "live_s": live_s, "ratio": live_s / kept_s,
        "measured_s": measured_s, "live_epochs": n_live, "is_extrapolated": n_live < args.epochs,
        "kept_auc": aucs[0], "live_auc": aucs[1], "difference": float(np.abs(kept_found - live_found).max()),
    }  # fmt: skip


def _extrapolate(args: argparse.Namespace, backbone: str, weights: str) -> dict:
    """Kept features measured; of the live way the forward passes of one epoch of one fold, times epochs and folds."""
    with tempfile.TemporaryDirectory() as folder:
        plan, frozen, pixels, store, prepared = _open(args, backbone, weights, folder)
        begin = time.perf_counter()
        kept = _thin(collect_fold_features(prepared, pixels, store), args.pictures)
        _run_folds(kept, plan, args.epochs, args.epochs)
        kept_s = time.perf_counter() - begin
        torch.set_num_threads(plan.training.threads)
        source = _LiveFeatures(frozen, pixels, kept.table.shape[2])
        rows = _thin_rows(pixels.select(prepared.held_out()[0]), args.pictures)
        epoch = source[rows[kept.folds != 0]].shape[0] + source[rows[kept.folds == 0]].shape[0]
    live_s = source.seconds * len(kept.labels) / epoch * args.epochs * args.folds
    return {
        "network": backbone, "n": len(kept.labels), "kept_s": kept_s, "live_s": live_s, "ratio": live_s / kept_s,
        "measured_s": source.seconds, "is_extrapolated": True,
    }  # fmt: skip


def _open(args: argparse.Namespace, backbone: str, weights: str, folder: str) -> tuple:
    """Plan, network with its weights, pixels and the store of features of a cohort in folds."""
    settings = (
        *args.settings, f'model.backbone="{backbone}"', f'model.weights="{weights}"', "augment.views=0",
        'training.stages.0.optimizer="adamw"', f"training.stages.0.batch_size={_BATCH}",
        f"training.stages.0.epochs={args.epochs}", 'training.stages.1.unfreeze="none"',
        f"evaluation.folds={args.folds}", "data.fractions=[0.8,0.2,0]",
    )  # fmt: skip
    columns = dict(part.split("=") for part in args.columns.split(",") if part)
    source = DataRequest(data=str(Path(args.data).resolve()), columns=columns, cache=folder)
    request = TrainRequest(source=source, settings=settings, opens_test=False)
    prepared = prepare(request, load_recipe("auto", settings))
    plan: Plan = prepared.plan
    frozen = build_frozen(plan)
    load_weights(frozen.backbone, plan.model.backbone, plan.model.weights)
    pixels = prepared.build_pixels(prepared.held_out()[0])
    graph = export_backbone(frozen, plan, prepared.cache)
    store = FeatureStore(graph, pixels, plan.augment, prepared.cache, plan.training.seed, plan.training.threads)
    return plan, frozen, pixels, store, prepared


def _thin_rows(rows: np.ndarray, n: int) -> np.ndarray:
    return rows[_pick(len(rows), n)]


def _thin(data: FoldData, n: int) -> FoldData:
    at = _pick(len(data.labels), n)
    return FoldData(FeatureTable(data.table.sources, data.table.rows[at]), data.labels[at], data.folds[at])


def _pick(total: int, n: int) -> np.ndarray:
    """`n` positions, the same ones each time."""
    return np.sort(np.random.default_rng(0).permutation(total)[:n])


def _run_folds(data: FoldData, plan: Plan, n_epochs: int, n_scored: int, moments: FoldData | None = None) -> np.ndarray:
    """Probabilities `(N, C)` of each picture by the head that left it out, as they are after `n_scored` epochs; each
    epoch looks at the fold that was left out, as training does. Mean and variance of the features come from `moments`:
    what runs the network must not run it for them.
    """
    found = np.zeros((len(data.labels), plan.model.n_classes))
    for fold in range(data.n_folds):
        left = data.leave_out(fold)
        ready = make_ready((moments or data).leave_out(fold), plan)
        ready = replace(ready, rebalanced=replace(ready.rebalanced, table=left.train))
        torch.set_num_threads(plan.training.threads)
        held = data.folds == fold
        for epoch, (head, _, _) in enumerate(islice(iterate_epochs(ready, plan, _DECAY), n_epochs), start=1):
            head.eval()
            with torch.no_grad():
                probabilities = torch.softmax(head(data.take(fold)[0]), 1).double().numpy()
            if epoch == n_scored:
                found[held] = probabilities
    return found


if __name__ == "__main__":
    main()
