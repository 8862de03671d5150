"""`auto` on several cohorts, cross-validated by patient, beside the frozen probe and a plain fine-tuning.

    python bench/accuracy.py --cohort NAME DATA COLUMNS SETTINGS … \
                             [--seeds 3] [--folds 5] [--peer-folds 1] [--json FILE]
    python bench/accuracy.py --cohort grades idrid/labels.csv image=image,label=grade data.ordered=true \
                             --cohort fundus fundus/ "" "" --seeds 1

COLUMNS are as for `--columns`, SETTINGS are KEY=VALUE parted by blanks; both may be empty. All patients are in folds
and no test part exists, so the data must be for development. `auto` is `snellen train --folds K --no-test` in a
process of its own; every picture is scored by a member that did not see its patient. The probe is the logistic
regression on frozen features that every report has, on the same folds. The peer is what a script would do: the whole
of the same network with the same weights and pictures at 224 px, AdamW, one cycle, flips and crops, ten epochs, the
last one kept. It takes long and runs on the first folds only (`--peer-folds`); `auto` is shown on those pictures, too.
Mean over seeds, and half the range where there are several.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from snellen.metrics.scores import compute_scores
from snellen.modeling.architectures import FrozenBackbone
from snellen.modeling.weights import load_weights
from snellen.planning.recipe_files import load_recipe
from snellen.records.plan import Plan
from snellen.records.run import TrainRequest
from snellen.run_preparation import prepare
from snellen.runs import Run

METRICS = ("auc", "balanced_accuracy", "accuracy", "kappa_quadratic")
_PEER_PX, _PEER_EPOCHS, _PEER_BATCH, _PEER_LR = 224, 10, 32, 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", nargs=4, action="append", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--peer-folds", type=int, default=0)
    parser.add_argument("--cache", default=None)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for name, data, columns, settings in args.cohort:
        for seed in range(args.seeds):
            rows += _measure_cohort((name, data, columns, settings.split()), seed, args)
            _print(rows)
            if args.json:
                args.json.write_text(json.dumps(rows, indent=2))


def _measure_cohort(cohort: tuple[str, str, str, list[str]], seed: int, args: argparse.Namespace) -> list[dict]:
    name, data, columns, settings = cohort
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "snellen", "train", data, "--folds", str(args.folds), "--no-test"]
        command += ["--seed", str(seed), "--out", str(out), "--set", "data.fractions=[0.8,0.2,0]"]
        command += [word for setting in settings for word in ("--set", setting)]
        command += ["--columns", columns] if columns else []
        command += ["--cache", args.cache] if args.cache else []
        begin = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - begin
        found = json.loads((out / "evaluation-oof.json").read_text())
        record = json.loads((out / "run.json").read_text())
        about = {"cohort": name, "seed": seed, "n": found["n"], "n_patients": found["n_patients"]}
        stages = {"kept": sum(each["kept"] for each in record["finetuned"]), "tried": len(record["finetuned"])}
        rows = [
            {**about, "who": "auto", "seconds": seconds, "memory_mb": record["peak_memory_mb"], **stages,
             **{key: found["metrics"][key]["value"] for key in METRICS if key in found["metrics"]}},
            {**about, "who": "frozen probe", **{
                key: found["baselines"]["linear_probe"][key]["value"]
                for key in METRICS if key in found["baselines"]["linear_probe"]
            }},
        ]  # fmt: skip
        if args.peer_folds:
            rows += _compare_peer(Run(out), about, args)
        return rows


def _compare_peer(run: Run, about: dict, args: argparse.Namespace) -> list[dict]:
    """The peer and `auto` on the same pictures of the first folds."""
    request = run.record.request
    loaded = load_recipe(str(run.folder / "recipe.toml"))
    prepared = prepare(TrainRequest(**{**request.model_dump(), "recipe": loaded.recipe.name}), loaded)
    samples, folds = prepared.held_out()
    cache = prepared.build_pixels(samples)
    pixels = np.stack([_shrink(picture) for picture in cache.pixels[cache.select(samples)]])
    classes = list(prepared.plan.data.classes)
    labels = np.array([classes.index(sample.label) for sample in samples])
    begin = time.monotonic()
    parts = [(folds == fold) for fold in range(args.peer_folds)]
    probabilities = np.concatenate([_fit_peer(prepared.plan, pixels, labels, part) for part in parts])
    seconds = (time.monotonic() - begin) * args.folds / args.peer_folds
    with (run.folder / "scores-oof.csv").open(encoding="utf-8", newline="") as stream:
        scored = {
            row["sample"]: [float(row[f"probability_{name}"]) for name in classes] for row in csv.DictReader(stream)
        }
    own = np.array(
        [scored[sample.name] for part in parts for sample, is_in in zip(samples, part, strict=True) if is_in]
    )
    truth = np.concatenate([labels[part] for part in parts])
    positive = None if prepared.plan.data.positive is None else classes.index(prepared.plan.data.positive)
    is_ordered = prepared.plan.data.ordered
    label = f"first {args.peer_folds} of {args.folds} folds"
    return [
        {**about, "who": who, "seconds": spent, **{
            key: float(value[0])
            for key, value in compute_scores(truth, found, positive=positive, is_ordered=is_ordered).items()
            if key in METRICS
        }}
        for who, found, spent in ((f"peer, {label}", probabilities, seconds), (f"auto, {label}", own, None))
    ]  # fmt: skip


def _shrink(picture: np.ndarray) -> np.ndarray:
    found = cv2.resize(picture, (_PEER_PX, _PEER_PX), interpolation=cv2.INTER_AREA)
    return found.reshape(_PEER_PX, _PEER_PX, -1)


def _fit_peer(plan: Plan, pixels: np.ndarray, labels: np.ndarray, held: np.ndarray) -> np.ndarray:
    from torchvision.transforms import v2

    torch.manual_seed(plan.training.seed)
    torch.set_num_threads(plan.training.threads)
    frozen = FrozenBackbone(plan.model)
    load_weights(frozen.backbone, plan.model.backbone, plan.model.weights)
    head = nn.Sequential(nn.Dropout(0.2), nn.Linear(frozen.backbone.num_features, plan.model.n_classes))
    network = nn.Sequential(frozen, head).to(memory_format=torch.channels_last)
    parameters = [*frozen.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=_PEER_LR, weight_decay=0.05)
    train = np.flatnonzero(~held)
    n_steps = -(-len(train) // _PEER_BATCH) * _PEER_EPOCHS
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=_PEER_LR, total_steps=n_steps)
    crop = v2.Compose([v2.RandomResizedCrop(_PEER_PX, scale=(0.7, 1.0), antialias=True), v2.RandomHorizontalFlip()])
    for _ in range(_PEER_EPOCHS):
        network.train()
        for picked in torch.split(torch.randperm(len(train)), _PEER_BATCH):
            rows = train[picked.numpy()]
            planes = torch.stack([crop(torch.from_numpy(pixels[row]).permute(2, 0, 1)) for row in rows])
            if len(rows) < 2:
                continue
            logits = head(frozen(planes.permute(0, 2, 3, 1))[0])
            loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        parts = np.array_split(np.flatnonzero(held), max(1, int(held.sum()) // 32))
        found = [torch.softmax(head(frozen(torch.from_numpy(pixels[rows]))[0]), 1).double().numpy() for rows in parts]
    return np.concatenate(found)


def _print(rows: list[dict]) -> None:
    print(
        f"\n{'cohort':<16}{'who':<26}"
        + "".join(f"{key:>20}" for key in METRICS)
        + f"{'minutes':>9}{'MB':>7}{'kept':>7}"
    )
    for cohort, who in dict.fromkeys((row["cohort"], row["who"]) for row in rows):
        own = [row for row in rows if (row["cohort"], row["who"]) == (cohort, who)]
        cells = "".join(f"{_tell([row[key] for row in own if key in row]):>20}" for key in METRICS)
        minutes = [row["seconds"] / 60 for row in own if row.get("seconds")]
        memory = [row["memory_mb"] for row in own if row.get("memory_mb")]
        kept = f"{sum(row['kept'] for row in own)}/{sum(row['tried'] for row in own)}" if "kept" in own[0] else ""
        print(
            f"{cohort:<16}{who:<26}{cells}{statistics.mean(minutes) if minutes else 0:9.1f}"
            f"{max(memory) if memory else 0:7.0f}{kept:>7}",
            flush=True,
        )


def _tell(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {np.ptp(values) / 2:.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
