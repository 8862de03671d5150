"""Stage 1: the head learns on cached features. Validation patients choose epoch and strength of regularisation."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snellen.metrics.scores import compute_scores
from snellen.modeling.blocks import build_head, fix_batch_norm
from snellen.records.plan import Plan, StagePlan
from snellen.records.run import ChosenHead, EpochRecord


@dataclass(frozen=True)
class HeadData:
    """Training features `(1 + views, N, D)` with labels `(N,)`; validation features `(M, D)` with labels `(M,)`."""

    train: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    val: NDArray[np.float32]
    val_labels: NDArray[np.int64]


@dataclass(frozen=True)
class FittedHead:
    """The chosen head, its record, and every epoch of every candidate."""

    head: nn.Sequential
    chosen: ChosenHead
    epochs: tuple[EpochRecord, ...]


def fit_head(data: HeadData, plan: Plan) -> FittedHead:
    """Train one candidate a weight decay, keep each at its best epoch, and the best of all by validation loss."""
    stage = plan.training.stages[0]
    # the matrices are small: a second thread gains a third on a quiet machine and loses tenfold on a busy one
    torch.set_num_threads(1)
    best: tuple[float, nn.Sequential, ChosenHead] | None = None
    records: list[EpochRecord] = []
    for number, decay in enumerate(stage.weight_decay):
        candidate = _fit_candidate(data, plan, stage, decay, number)
        records += candidate.epochs
        loss = candidate.chosen.val_loss if candidate.chosen.val_loss is not None else math.inf
        if best is None or loss < best[0]:
            best = (loss, candidate.head, candidate.chosen)
    if best is None:
        raise ValueError("a stage needs at least one weight decay")
    chosen = best[2].model_copy(update={"n_candidates": len(stage.weight_decay)})
    head = best[1]
    if plan.imbalance.method == "class_weights":
        _undo_class_weights(head, _class_weights(data.train_labels, plan.model.n_classes))
    return FittedHead(head, chosen, tuple(records))


def _fit_candidate(data: HeadData, plan: Plan, stage: StagePlan, decay: float, number: int) -> FittedHead:
    """Same seed for every candidate, so that they differ in nothing but the decay."""
    generator = torch.Generator().manual_seed(plan.training.seed)
    torch.manual_seed(plan.training.seed)
    features, labels = torch.from_numpy(data.train), torch.from_numpy(data.train_labels)
    val, val_labels = torch.from_numpy(data.val), torch.from_numpy(data.val_labels)
    n_views, n_samples, n_features = features.shape
    head = build_head(plan.model.head, n_features, plan.model.n_classes)
    fix_batch_norm(head, features[0])
    optimizer = torch.optim.AdamW(head.parameters(), lr=stage.lr, weight_decay=decay)
    weights = _class_weights(data.train_labels, plan.model.n_classes)
    objective = nn.CrossEntropyLoss(weight=weights if plan.imbalance.method == "class_weights" else None)
    best_loss, best_state, best_epoch, best_auc = math.inf, copy.deepcopy(head.state_dict()), 0, None
    records: list[EpochRecord] = []
    for epoch in range(stage.epochs):
        begin = time.monotonic()
        rate = _rate(stage, epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        _set_training(head)
        # every epoch sees each picture once, in a view drawn anew
        order = torch.randperm(n_samples, generator=generator)
        views = torch.randint(n_views, (n_samples,), generator=generator)
        train_loss = _run_epoch(
            head, features, labels, (*torch.split(order, stage.batch_size), views), (optimizer, objective)
        )
        val_loss, val_auc = _monitor(head, val, val_labels)
        records.append(
            EpochRecord(
                stage=0,
                candidate=number,
                weight_decay=decay,
                epoch=epoch,
                lr=rate,
                train_loss=train_loss,
                val_loss=val_loss,
                val_auc=val_auc,
                seconds=round(time.monotonic() - begin, 4),
            )
        )
        if val_loss < best_loss:
            best_loss, best_epoch, best_auc = val_loss, epoch, val_auc
            best_state = copy.deepcopy(head.state_dict())
        elif epoch - best_epoch >= stage.patience:
            break
    head.load_state_dict(best_state)
    chosen = ChosenHead(weight_decay=decay, epoch=best_epoch, val_loss=best_loss, val_auc=best_auc, n_candidates=1)
    return FittedHead(head.eval(), chosen, tuple(records))


def _run_epoch(
    head: nn.Sequential,
    features: torch.Tensor,
    labels: torch.Tensor,
    drawn: tuple[torch.Tensor, ...],
    step: tuple[torch.optim.Optimizer, nn.Module],
) -> float:
    *batches, views = drawn
    optimizer, objective = step
    total = 0.0
    for batch in batches:
        loss = objective(head(features[views[batch], batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += float(loss.detach()) * len(batch)
    return total / len(views)


def _rate(stage: StagePlan, epoch: int) -> float:
    if stage.schedule == "constant":
        return stage.lr
    return stage.lr * 0.5 * (1 + math.cos(math.pi * epoch / stage.epochs))


def _set_training(head: nn.Sequential) -> None:
    """Training mode for dropout; a leading batch norm keeps its exact statistics of the training part."""
    head.train()
    if isinstance(head[0], nn.BatchNorm1d):
        head[0].eval()


def _monitor(head: nn.Sequential, features: torch.Tensor, labels: torch.Tensor) -> tuple[float, float | None]:
    head.eval()
    with torch.no_grad():
        logits = head(features)
        loss = float(nn.functional.cross_entropy(logits, labels))
        probabilities = torch.softmax(logits.double(), 1).numpy()
    auc = float(compute_scores(labels.numpy(), probabilities, positive=1 if logits.shape[1] == 2 else None)["auc"][0])
    return loss, None if math.isnan(auc) else auc


def _class_weights(labels: NDArray[np.int64], n_classes: int) -> torch.Tensor:
    """n / (classes × n of the class), mean one over samples."""
    counts = np.bincount(labels, minlength=n_classes).clip(min=1)
    return torch.tensor(len(labels) / (n_classes * counts), dtype=torch.float32)


def _undo_class_weights(head: nn.Sequential, weights: torch.Tensor) -> None:
    """Weights w act as a training prior proportional to w·p: take log w off the logits, and the prior is p again."""
    last = head[-1]
    if isinstance(last, nn.Linear):
        with torch.no_grad():
            last.bias.sub_(weights.log())
