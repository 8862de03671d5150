"""`auto` on several cohorts, cross-validated by patient, beside the frozen probe and a plain fine-tuning.

    python bench/accuracy.py --cohort NAME DATA COLUMNS SETTINGS … --work DIR \
                             [--seeds 3] [--folds 5] [--peer-folds 1] [--cache DIR] [--json FILE]
    python bench/accuracy.py --cohort grades idrid/labels.csv image=image,label=grade data.ordered=true \
                             --cohort fundus fundus/ "" "" --work /tmp/accuracy --seeds 1

COLUMNS are as for `--columns`, SETTINGS are KEY=VALUE parted by blanks; both may be empty. All patients are in folds
and no test part exists, so the data must be for development. `auto` is `snellen train --folds K --no-test` in a
process of its own; every picture is scored by a member that did not see its patient. The probe is the logistic
regression on frozen features that every report has, on the same folds. The peer is what a timm script does: the whole
of the same network with the same weights, timm's own training transforms at 224 px, timm's AdamW and cosine schedule
with warm-up, ten epochs, the last one kept. It takes long and runs on the first folds only (`--peer-folds`); `auto` and
the probe are shown on those pictures, too. Calls follow the same rule and the same shares of the classes for all.
Mean over seeds, and half the range where there are several. What is finished lies in DIR: the same command goes on
there, and tells the table of what there is. `--json` writes its rows, and first reads those that the file has: what
an earlier command measured is told, too, and not run again.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from timm.data import create_transform
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import nn

from snellen.metrics.decision import make_rule
from snellen.metrics.scores import compute_scores
from snellen.modeling.architectures import FrozenBackbone
from snellen.modeling.weights import load_weights
from snellen.planning.recipe_files import load_recipe
from snellen.records.plan import Plan
from snellen.records.run import TrainRequest
from snellen.run_preparation import Prepared, prepare
from snellen.runs import Run
from snellen.training.imbalance import compute_prior

METRICS = ("auc", "balanced_accuracy", "accuracy", "kappa_quadratic")
_PEER_PX, _PEER_EPOCHS, _PEER_BATCH, _PEER_LR = 224, 10, 32, 1e-3
_ROWS = "rows.json"
_PEER = "timm fine-tuning"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", nargs=4, action="append", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--peer-folds", type=int, default=0)
    parser.add_argument("--cache", default=None)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    earlier = json.loads(args.json.read_text()) if args.json and args.json.exists() else []
    commit = _read_commit()
    for seed in range(args.seeds):
        for name, data, columns, settings in args.cohort:
            folder = args.work / f"{name}-seed{seed}"
            about = {"cohort": name, "seed": seed, "commit": commit}
            known = {row["who"] for row in earlier if (row["cohort"], row["seed"]) == (name, seed)}
            if "auto" not in known and not (folder / _ROWS).exists():
                rows = _train(folder, about, (data, columns, settings.split()), args)
                (folder / _ROWS).write_text(json.dumps(rows, indent=2))
            # the peer learns on the folds of a run, which has to be there
            wants_peer = args.peer_folds and not any(who.startswith(_PEER) for who in known)
            if wants_peer and (folder / _ROWS).exists() and not (folder / f"peer-{_ROWS}").exists():
                rows = _compare_peer(Run(folder / "run"), about, args)
                (folder / f"peer-{_ROWS}").write_text(json.dumps(rows, indent=2))
            found = [row for path in sorted(args.work.glob(f"*/*{_ROWS}")) for row in json.loads(path.read_text())]
            own = {(row["cohort"], row["seed"], row["who"]) for row in found}
            rows = [row for row in earlier if (row["cohort"], row["seed"], row["who"]) not in own] + found
            rows.sort(key=lambda row: (row["cohort"], row["seed"]))
            _print(rows)
            if args.json:
                args.json.write_text(json.dumps(rows, indent=1) + "\n")


def _read_commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip() or "unknown"


def _train(folder: Path, about: dict, cohort: tuple[str, str, list[str]], args: argparse.Namespace) -> list[dict]:
    """`auto` and the frozen probe, on all folds."""
    data, columns, settings = cohort
    out = folder / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "snellen", "train", data, "--folds", str(args.folds), "--no-test"]
    command += ["--seed", str(about["seed"]), "--out", str(out), "--set", "data.fractions=[0.8,0.2,0]"]
    command += [word for setting in settings for word in ("--set", setting)]
    command += ["--columns", columns] if columns else []
    command += ["--cache", args.cache] if args.cache else []
    begin, before = time.monotonic(), _count_processor_seconds()
    with (folder / "log.txt").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log)
    spent = {"seconds": time.monotonic() - begin, "processor_s": _count_processor_seconds() - before}
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    found = json.loads((out / "evaluation-oof.json").read_text())
    record = json.loads((out / "run.json").read_text())
    taken = ["mean" if each["averaged"] else "after" if each["kept"] else "before" for each in record["finetuned"]] or [
        "none"
    ]
    about = {**about, "n": found["n"], "n_patients": found["n_patients"]}
    probe = found["baselines"]["linear_probe"]
    return [
        {**about, "who": "auto", "memory_mb": record["peak_memory_mb"], "taken": taken, **spent,
         **{key: found["metrics"][key]["value"] for key in METRICS if key in found["metrics"]}},
        {**about, "who": "frozen probe", **{key: probe[key]["value"] for key in METRICS if key in probe}},
    ]  # fmt: skip


def _count_processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _compare_peer(run: Run, about: dict, args: argparse.Namespace) -> list[dict]:
    """The peer, and `auto` on the same pictures of the first folds."""
    request = run.record.request
    loaded = load_recipe(str(run.folder / "recipe.toml"))
    prepared = prepare(TrainRequest(**{**request.model_dump(), "recipe": loaded.recipe.name}), loaded)
    samples, folds = prepared.held_out()
    cache = prepared.build_pixels(samples)
    pixels = np.stack([_shrink(picture) for picture in cache.pixels[cache.select(samples)]])
    classes = list(prepared.plan.data.classes)
    labels = np.array([classes.index(sample.label) for sample in samples])
    begin, before = time.monotonic(), time.process_time()
    parts = [(folds == fold) for fold in range(args.peer_folds)]
    probabilities = np.concatenate([_fit_peer(prepared.plan, pixels, labels, part) for part in parts])
    share = args.folds / args.peer_folds
    spent = {
        "seconds": (time.monotonic() - begin) * share, "processor_s": (time.process_time() - before) * share,
    }  # fmt: skip
    with (run.folder / "scores-oof.csv").open(encoding="utf-8", newline="") as stream:
        scored = {
            row["sample"]: [float(row[f"probability_{name}"]) for name in classes] for row in csv.DictReader(stream)
        }
    own = np.array(
        [scored[sample.name] for part in parts for sample, is_in in zip(samples, part, strict=True) if is_in]
    )
    truth = np.concatenate([labels[part] for part in parts])
    label = f"first {args.peer_folds} of {args.folds} folds"
    shares = compute_prior(labels, len(classes)).tolist()
    return [
        {**about, "who": f"{_PEER}, {label}", **spent, **_score(prepared, truth, probabilities, shares)},
        {**about, "who": f"auto, {label}", **_score(prepared, truth, own, shares)},
    ]


def _score(prepared: Prepared, truth: np.ndarray, probabilities: np.ndarray, shares: list[float]) -> dict:
    data = prepared.plan.data
    rule = make_rule(prepared.plan.evaluation.decision, shares)
    positive = None if data.positive is None else data.classes.index(data.positive)
    found = compute_scores(truth, probabilities, positive=positive, is_ordered=data.ordered, rule=rule)
    return {key: float(value[0]) for key, value in found.items() if key in METRICS}


def _shrink(picture: np.ndarray) -> np.ndarray:
    found = cv2.resize(picture, (_PEER_PX, _PEER_PX), interpolation=cv2.INTER_AREA)
    return found.reshape(_PEER_PX, _PEER_PX, -1)


def _fit_peer(plan: Plan, pixels: np.ndarray, labels: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Probabilities `(m, C)` of the held-out pictures by a network that learned from all others."""
    from PIL import Image

    torch.manual_seed(plan.training.seed)
    torch.set_num_threads(plan.training.threads)
    frozen = FrozenBackbone(plan.model)
    load_weights(frozen.backbone, plan.model.backbone, plan.model.weights)
    head = nn.Sequential(nn.Dropout(0.2), nn.Linear(frozen.backbone.num_features, plan.model.n_classes))
    network = nn.ModuleDict({"frozen": frozen, "head": head}).to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(network, opt="adamw", lr=_PEER_LR, weight_decay=0.05)
    train = np.flatnonzero(~held)
    n_steps = len(train) // _PEER_BATCH
    schedule = CosineLRScheduler(
        optimizer, t_initial=n_steps * _PEER_EPOCHS, warmup_t=n_steps, warmup_lr_init=_PEER_LR / 100, t_in_epochs=False
    )
    transform = create_transform(
        _PEER_PX, is_training=True, scale=(0.7, 1.0), color_jitter=0.2, mean=(0.0,) * 3, std=(1.0,) * 3
    )
    step = 0
    for _ in range(_PEER_EPOCHS):
        network.train()
        order = torch.randperm(len(train))[: n_steps * _PEER_BATCH]
        for picked in torch.split(order, _PEER_BATCH):
            rows = train[picked.numpy()]
            pictures = [Image.fromarray(pixels[row].squeeze()).convert("RGB") for row in rows]
            planes = torch.stack([transform(picture) for picture in pictures])
            logits = head(frozen((planes * 255).permute(0, 2, 3, 1))[0])
            loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            schedule.step_update(step)
    network.eval()
    with torch.no_grad():
        parts = np.array_split(np.flatnonzero(held), max(1, int(held.sum()) // 32))
        found = [torch.softmax(head(frozen(torch.from_numpy(pixels[rows]))[0]), 1).double().numpy() for rows in parts]
    return np.concatenate(found)


def _print(rows: list[dict]) -> None:
    print(
        f"\n{'cohort':<16}{'who':<38}"
        + "".join(f"{key:>20}" for key in METRICS)
        + f"{'minutes':>9}{'processor':>11}{'MB':>7}  taken"
    )
    for cohort, who in dict.fromkeys((row["cohort"], row["who"]) for row in rows):
        own = [row for row in rows if (row["cohort"], row["who"]) == (cohort, who)]
        cells = "".join(f"{_tell([row[key] for row in own if key in row]):>20}" for key in METRICS)
        minutes, processor = (
            statistics.mean([row.get(key, 0) / 60 for row in own]) for key in ("seconds", "processor_s")
        )
        memory = max(row.get("memory_mb") or 0 for row in own)
        taken = [each for row in own for each in row.get("taken", [])]
        told = ", ".join(f"{taken.count(word)} {word}" for word in dict.fromkeys(taken))
        print(f"{cohort:<16}{who:<38}{cells}{minutes:9.1f}{processor:11.1f}{memory:7.0f}  {told}", flush=True)


def _tell(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {np.ptp(values) / 2:.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread} ({len(values)})"


if __name__ == "__main__":
    main()
