"""Fine-tuning on kept activations against running the frozen layers at every step: seconds an epoch, and equal scores.

    python bench/activations.py DATA [--columns …] [--set KEY=VALUE]… [--shares 0.1,0.33] [--epochs 3] [--json FILE]

Both learn from the same views with the same seed; `share` is the part of the multiplications that learns. The first
epoch of each is left out of the medians. Filling the cache is told apart: it is paid once for all epochs, folds and
seeds. Aim: a ratio of 4 for the top third. Validation only; the test split stays shut.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from snellen.modeling.weights import load_weights
from snellen.planning.recipe_files import load_recipe
from snellen.records.run import DataRequest, EpochRecord, TrainRequest
from snellen.run_features import build_frozen, collect_features, export_backbone
from snellen.run_finetuning import finetune_run
from snellen.run_learning import learn_split
from snellen.run_networks import Bench, compute_network_logits
from snellen.run_preparation import prepare
from snellen.training.features import FeatureStore

AIM = 4.0


class _Notes:
    """Collects epochs, as a run's log would."""

    def __init__(self) -> None:
        self.epochs: list[EpochRecord] = []

    def __enter__(self):
        return self.epochs.append

    def __exit__(self, *_: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--columns", default="")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--shares", default="0.1,0.33")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    columns = dict(part.split("=") for part in args.columns.split(",") if part)
    rows = []
    for share in (float(text) for text in args.shares.split(",")):
        row = {"share": share}
        logits = {}
        for cached in (True, False):
            settings = (
                *args.settings, 'training.stages.1.unfreeze="top"', f"training.stages.1.share={share}",
                f"training.stages.1.epochs={args.epochs}", f"training.stages.1.patience={args.epochs}",
                f"training.stages.1.cache={str(cached).lower()}",
            )  # fmt: skip
            source = DataRequest(data=str(Path(args.data).resolve()), columns=columns)
            found = _measure(TrainRequest(source=source, settings=settings), settings)
            logits[cached] = found.pop("logits")
            row |= {f"{'cached' if cached else 'live'}_{key}": value for key, value in found.items()}
        row["ratio"] = row["live_epoch_s"] / row["cached_epoch_s"]
        row["logit_difference"] = float(np.abs(logits[True] - logits[False]).max())
        row["loss_difference"] = abs(row["cached_val_loss"] - row["live_val_loss"])
        rows.append(row)
    print(
        f"{'share':>6} {'live s/epoch':>13} {'kept s/epoch':>13} {'ratio':>6} {'filling s':>10} {'loss differs by':>16}"
    )
    for row in rows:
        print(
            f"{row['live_share']:6.2f} {row['live_epoch_s']:13.2f} {row['cached_epoch_s']:13.2f} {row['ratio']:6.2f} "
            f"{row['cached_fill_s']:10.1f} {row['loss_difference']:16.2g}"
        )
    print(f"aim {AIM} for the top third; {rows[0]['live_n']} training pictures")
    if args.json:
        args.json.write_text(json.dumps({"aim": AIM, "rows": rows}, indent=2))


def _measure(request: TrainRequest, settings: tuple[str, ...]) -> dict:
    """Median seconds an epoch, seconds for the cache, and validation logits `(M, C)` after all epochs."""
    with tempfile.TemporaryDirectory() as folder:
        source = request.source.model_copy(update={"cache": folder})
        prepared = prepare(request.model_copy(update={"source": source}), load_recipe("auto", settings))
        plan = prepared.plan
        frozen = build_frozen(plan)
        load_weights(frozen.backbone, plan.model.backbone, plan.model.weights)
        samples = [*prepared.members("train"), *prepared.members("val")]
        pixels = prepared.build_pixels(samples)
        graph = export_backbone(frozen, plan, prepared.cache)
        store = FeatureStore(graph, pixels, plan.augment, prepared.cache, plan.training.seed, plan.training.threads)
        data = collect_features(prepared, pixels, store)
        learned = learn_split(data, prepared)
        notes = _Notes()
        begin = time.perf_counter()
        bench = Bench(prepared, pixels, frozen, Path(folder), torch.device("cpu"))
        tuned = finetune_run(bench, data, learned, lambda _: notes)
        total = time.perf_counter() - begin
        seconds = [epoch.seconds for epoch in notes.epochs]
        network = tuned.networks[0] if tuned.networks else None
        logits = (
            learned.logits
            if network is None
            else compute_network_logits(bench, network, pixels.select(prepared.members("val")))
        )
        return {
            "epoch_s": statistics.median(seconds[1:] or seconds), "fill_s": total - sum(seconds), "logits": logits,
            "share": tuned.outcomes[0].share, "n": len(prepared.members("train")),
            "val_loss": tuned.outcomes[0].val_loss,
        }  # fmt: skip


if __name__ == "__main__":
    main()
