"""Stage 1: the head learns on cached features. Validation patients choose epoch and strength of regularisation."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snellen.core.errors import UsageError
from snellen.metrics.ranking import compute_auc
from snellen.modeling.blocks import build_head, fix_batch_norm
from snellen.records.plan import Plan
from snellen.records.run import ChosenHead, EpochRecord
from snellen.training.feature_table import FeatureTable
from snellen.training.imbalance import Rebalanced, rebalance, undo_shift
from snellen.training.optimizers import Objective, run_adamw, run_lbfgs
from snellen.training.pictures import Pictures


@dataclass(frozen=True)
class TrainData:
    """Training features with labels `(N,)`, and their `pictures` where new ones may be made of them."""

    train: FeatureTable
    train_labels: NDArray[np.int64]
    pictures: Pictures | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class HeadData(TrainData):
    """The same with validation features `(M, D)` and their labels `(M,)`."""

    val: NDArray[np.float32]
    val_labels: NDArray[np.int64]


@dataclass(frozen=True)
class Ready:
    """Training data as the candidates take them, and `moments`: mean and variance `(D,)` for the leading batch norm."""

    rebalanced: Rebalanced
    moments: tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class FittedHead:
    """The chosen head, its record, and every epoch of every candidate. `counts` as in Rebalanced."""

    head: nn.Sequential
    chosen: ChosenHead
    epochs: tuple[EpochRecord, ...]
    counts: NDArray[np.int64] | None = None


def fit_head(data: HeadData, plan: Plan, note: Callable[[EpochRecord], None] | None = None) -> FittedHead:
    """Train one candidate a weight decay, keep each at its best epoch, and the best of all by validation loss.

    `note` is told every epoch as soon as it is over.
    """
    stage = plan.training.head_stage
    ready = make_ready(data, plan)
    best: tuple[float, nn.Sequential, ChosenHead] | None = None
    records: list[EpochRecord] = []
    for number, decay in enumerate(stage.weight_decay):
        candidate = _fit_candidate(data, ready, plan, (number, decay), note)
        if candidate is None:
            continue
        records += candidate.epochs
        loss = candidate.chosen.val_loss if candidate.chosen.val_loss is not None else math.inf
        if best is None or loss < best[0]:
            best = (loss, candidate.head, candidate.chosen)
    if best is None:
        raise explain_divergence(plan)
    chosen = best[2].model_copy(update={"n_candidates": len(stage.weight_decay)})
    head = best[1]
    undo_shift(head, ready.rebalanced.shift)
    return FittedHead(head, chosen, tuple(records), ready.rebalanced.counts)


def make_ready(data: TrainData, plan: Plan) -> Ready:
    """What every candidate begins with: the moments of the pictures themselves, and classes made even."""
    # the matrices are small: a second thread gains a third on a quiet machine and loses tenfold on a busy one
    torch.set_num_threads(1)
    mean, variance = data.train.compute_moments()
    rebalanced = rebalance(
        data.train,
        data.train_labels,
        plan.model.n_classes,
        plan.imbalance,
        in_batches=plan.training.head_stage.optimizer == "adamw",
        seed=plan.training.seed,
        pictures=data.pictures,
    )
    return Ready(rebalanced, (torch.from_numpy(mean).float(), torch.from_numpy(variance).float()))


def explain_divergence(plan: Plan) -> UsageError:
    """What to say where no candidate gave a number."""
    stage = plan.training.head_stage
    return UsageError(
        f"Training diverged: no loss is a number at lr {stage.lr:g}, weight_decay {list(stage.weight_decay)}.",
        "Choose a smaller training.stages.0.lr or weight_decay.",
    )


def _fit_candidate(
    data: HeadData,
    ready: Ready,
    plan: Plan,
    candidate: tuple[int, float],
    note: Callable[[EpochRecord], None] | None,
) -> FittedHead | None:
    stage, (number, decay) = plan.training.head_stage, candidate
    val, val_labels = torch.from_numpy(data.val), torch.from_numpy(data.val_labels)
    best_loss, best_state, best_epoch, best_auc = math.inf, dict[str, torch.Tensor](), 1, None
    head = nn.Sequential()
    records: list[EpochRecord] = []
    begin = time.monotonic()
    for epoch, (head, rate, train_loss) in enumerate(iterate_epochs(ready, plan, decay), start=1):
        val_loss, val_auc = monitor(head, val, val_labels, ready.rebalanced)
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


def iterate_epochs(ready: Ready, plan: Plan, decay: float) -> Iterator[tuple[nn.Sequential, float, float]]:
    """The same head after each epoch, its learning rate and training loss; ends where a number is none.

    Same seed for every candidate, so that they differ in nothing but the decay.
    """
    stage, made = plan.training.head_stage, ready.rebalanced
    torch.manual_seed(plan.training.seed)
    head = build_head(plan.model.head, made.table.shape[2], plan.model.n_classes)
    fix_batch_norm(head, *ready.moments)
    objective = Objective(made.table, made.labels, made.loss, decay, plan.training.seed, made.draw)
    run = run_lbfgs if stage.optimizer == "lbfgs" else run_adamw
    for rate, train_loss in run(head, objective, stage):
        if not math.isfinite(train_loss) or not all(bool(tensor.isfinite().all()) for tensor in head.parameters()):
            return
        yield head, rate, train_loss


def monitor(
    head: nn.Sequential, features: torch.Tensor, labels: torch.Tensor, rebalanced: Rebalanced
) -> tuple[float, float | None]:
    """Loss and AUC on held-out features `(M, D)` with labels `(M,)`, at the prior of training."""
    head.eval()
    with torch.no_grad():
        # what the method did is undone, so that candidates are judged by probabilities at that prior
        logits = rebalanced.loss.recover(head(features)) - rebalanced.shift
        loss = float(nn.functional.cross_entropy(logits, labels))
        probabilities = torch.softmax(logits.double(), 1).numpy()
    auc = compute_auc(labels.numpy(), probabilities)
    return loss, None if math.isnan(auc) else auc
