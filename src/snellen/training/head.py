"""Stage 1: the head learns on cached features. Validation patients choose epoch and strength of regularisation."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snellen.core.errors import UsageError
from snellen.metrics.scores import compute_scores
from snellen.modeling.blocks import build_head, fix_batch_norm
from snellen.records.plan import Plan
from snellen.records.run import ChosenHead, EpochRecord
from snellen.training.feature_table import FeatureTable
from snellen.training.optimizers import Objective, run_adamw, run_lbfgs


@dataclass(frozen=True)
class HeadData:
    """Training features with labels `(N,)`; validation features `(M, D)` with labels `(M,)`."""

    train: FeatureTable
    train_labels: NDArray[np.int64]
    val: NDArray[np.float32]
    val_labels: NDArray[np.int64]


@dataclass(frozen=True)
class FittedHead:
    """The chosen head, its record, and every epoch of every candidate."""

    head: nn.Sequential
    chosen: ChosenHead
    epochs: tuple[EpochRecord, ...]


def fit_head(data: HeadData, plan: Plan, note: Callable[[EpochRecord], None] | None = None) -> FittedHead:
    """Train one candidate a weight decay, keep each at its best epoch, and the best of all by validation loss.

    `note` is told every epoch as soon as it is over.
    """
    stage = plan.training.stages[0]
    # the matrices are small: a second thread gains a third on a quiet machine and loses tenfold on a busy one
    torch.set_num_threads(1)
    mean, variance = data.train.compute_moments()
    moments = torch.from_numpy(mean).float(), torch.from_numpy(variance).float()
    best: tuple[float, nn.Sequential, ChosenHead] | None = None
    records: list[EpochRecord] = []
    for number, decay in enumerate(stage.weight_decay):
        candidate = _fit_candidate(data, plan, moments, (number, decay), note)
        if candidate is None:
            continue
        records += candidate.epochs
        loss = candidate.chosen.val_loss if candidate.chosen.val_loss is not None else math.inf
        if best is None or loss < best[0]:
            best = (loss, candidate.head, candidate.chosen)
    if best is None:
        raise UsageError(
            f"Training diverged: no loss is a number at lr {stage.lr:g}, weight_decay {list(stage.weight_decay)}.",
            "Choose a smaller training.stages.0.lr or weight_decay.",
        )
    chosen = best[2].model_copy(update={"n_candidates": len(stage.weight_decay)})
    head = best[1]
    _undo_class_weights(head, _prior_shift(data, plan))
    return FittedHead(head, chosen, tuple(records))


def _fit_candidate(
    data: HeadData,
    plan: Plan,
    moments: tuple[torch.Tensor, torch.Tensor],
    candidate: tuple[int, float],
    note: Callable[[EpochRecord], None] | None,
) -> FittedHead | None:
    """Same seed for every candidate, so that they differ in nothing but the decay."""
    stage, (number, decay) = plan.training.stages[0], candidate
    torch.manual_seed(plan.training.seed)
    head = build_head(plan.model.head, data.train.shape[2], plan.model.n_classes)
    fix_batch_norm(head, *moments)
    weights = torch.ones(plan.model.n_classes)
    if plan.imbalance.method == "class_weights":
        weights = _class_weights(data.train_labels, plan.model.n_classes)
    objective = Objective(data.train, data.train_labels, weights, decay, plan.training.seed)
    run = run_lbfgs if stage.optimizer == "lbfgs" else run_adamw
    val, val_labels = torch.from_numpy(data.val), torch.from_numpy(data.val_labels)
    shift = _prior_shift(data, plan)
    best_loss, best_state, best_epoch, best_auc = math.inf, copy.deepcopy(head.state_dict()), 1, None
    records: list[EpochRecord] = []
    begin = time.monotonic()
    for epoch, (rate, train_loss) in enumerate(run(head, objective, stage), start=1):
        if not math.isfinite(train_loss) or not all(bool(tensor.isfinite().all()) for tensor in head.parameters()):
            break
        val_loss, val_auc = _monitor(head, val, val_labels, shift)
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
        if note is not None:
            note(records[-1])
        begin = time.monotonic()
        if val_loss < best_loss:
            best_loss, best_epoch, best_auc = val_loss, epoch, val_auc
            best_state = copy.deepcopy(head.state_dict())
        elif epoch - best_epoch >= stage.patience:
            break
    if best_loss == math.inf:
        return None
    head.load_state_dict(best_state)
    chosen = ChosenHead(weight_decay=decay, epoch=best_epoch, val_loss=best_loss, val_auc=best_auc, n_candidates=1)
    return FittedHead(head.eval(), chosen, tuple(records))


def _monitor(
    head: nn.Sequential, features: torch.Tensor, labels: torch.Tensor, shift: torch.Tensor
) -> tuple[float, float | None]:
    head.eval()
    with torch.no_grad():
        logits = head(features) - shift
        loss = float(nn.functional.cross_entropy(logits, labels))
        probabilities = torch.softmax(logits.double(), 1).numpy()
    auc = float(compute_scores(labels.numpy(), probabilities, positive=1 if logits.shape[1] == 2 else None)["auc"][0])
    return loss, None if math.isnan(auc) else auc


def _class_weights(labels: NDArray[np.int64], n_classes: int) -> torch.Tensor:
    """n / (classes × n of the class), mean one over samples."""
    counts = np.bincount(labels, minlength=n_classes).clip(min=1)
    return torch.tensor(len(labels) / (n_classes * counts), dtype=torch.float32)


def _prior_shift(data: HeadData, plan: Plan) -> torch.Tensor:
    """What class weights add to the logits: weights w act as a training prior proportional to w·p."""
    if plan.imbalance.method != "class_weights":
        return torch.zeros(plan.model.n_classes)
    return _class_weights(data.train_labels, plan.model.n_classes).log()


def _undo_class_weights(head: nn.Sequential, shift: torch.Tensor) -> None:
    """Take the shift off the logits, and the prior is that of training again."""
    last = head[-1]
    if isinstance(last, nn.Linear):
        with torch.no_grad():
            last.bias.sub_(shift)
