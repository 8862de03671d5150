"""Stage 1: the head learns on cached features. Validation patients choose epoch and strength of regularisation."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snellen.core.errors import UsageError
from snellen.metrics.scores import compute_scores
from snellen.modeling.blocks import build_head, fix_batch_norm
from snellen.records.plan import Plan, StagePlan
from snellen.records.run import ChosenHead, EpochRecord

_LBFGS_STEPS = 5
_CONVERGED = 1e-4


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


def _fit_candidate(data: HeadData, plan: Plan, stage: StagePlan, decay: float, number: int) -> FittedHead | None:
    """Same seed for every candidate, so that they differ in nothing but the decay."""
    torch.manual_seed(plan.training.seed)
    head = build_head(plan.model.head, data.train.shape[2], plan.model.n_classes)
    fix_batch_norm(head, torch.from_numpy(data.train[0]))
    weights = _class_weights(data.train_labels, plan.model.n_classes)
    objective = nn.CrossEntropyLoss(weight=weights if plan.imbalance.method == "class_weights" else None)
    run = _run_lbfgs if stage.optimizer == "lbfgs" else _run_adamw
    val, val_labels = torch.from_numpy(data.val), torch.from_numpy(data.val_labels)
    shift = _prior_shift(data, plan)
    best_loss, best_state, best_epoch, best_auc = math.inf, copy.deepcopy(head.state_dict()), 1, None
    records: list[EpochRecord] = []
    begin = time.monotonic()
    for epoch, (rate, train_loss) in enumerate(run(head, data, stage, objective, (decay, plan.training.seed)), start=1):
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


_Penalty = tuple[float, int]


def _run_adamw(
    head: nn.Sequential, data: HeadData, stage: StagePlan, objective: nn.Module, settings: _Penalty
) -> Iterator[tuple[float, float]]:
    """Learning rate and training loss of every epoch; each sees every picture once, in a view drawn anew."""
    decay, seed = settings
    generator = torch.Generator().manual_seed(seed)
    features, labels = torch.from_numpy(data.train), torch.from_numpy(data.train_labels)
    n_views, n_samples, _ = features.shape
    optimizer = torch.optim.AdamW(head.parameters(), lr=stage.lr, weight_decay=decay)
    for epoch in range(stage.epochs):
        rate = _rate(stage, epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        _set_training(head)
        order = torch.randperm(n_samples, generator=generator)
        views = torch.randint(n_views, (n_samples,), generator=generator)
        total = 0.0
        for batch in torch.split(order, stage.batch_size):
            loss = objective(head(features[views[batch], batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(batch)
        yield rate, total / n_samples


def _run_lbfgs(
    head: nn.Sequential, data: HeadData, stage: StagePlan, objective: nn.Module, settings: _Penalty
) -> Iterator[tuple[float, float]]:
    """Full-batch quasi-Newton steps (Liu and Nocedal 1989) on all pictures and views, until they no longer help.

    For a linear head the penalised loss is convex: the result depends on no seed.
    """
    decay, _ = settings
    n_views = len(data.train)
    features = torch.from_numpy(data.train).flatten(0, 1)
    labels = torch.from_numpy(np.tile(data.train_labels, n_views))
    matrices = [parameter for parameter in head.parameters() if parameter.ndim > 1]
    # standardised once: the frozen batch norm would repeat it at every step
    first = head[0]
    fixed = isinstance(first, nn.BatchNorm1d)
    inputs = first.eval()(features).detach() if fixed else features
    trained = head[1:] if fixed else head
    optimizer = torch.optim.LBFGS(
        head.parameters(), lr=stage.lr, max_iter=_LBFGS_STEPS, history_size=10, line_search_fn="strong_wolfe"
    )
    before = math.inf
    for _ in range(stage.epochs):
        _set_training(head)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            penalty = sum((matrix.square().sum() for matrix in matrices), torch.zeros(()))
            loss: torch.Tensor = objective(trained(inputs), labels) + 0.5 * decay * penalty
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            return loss

        loss = float(optimizer.step(closure).detach())  # type: ignore[no-untyped-call]  # as above
        yield stage.lr, loss
        if before - loss < _CONVERGED * abs(loss):
            return
        before = loss


def _rate(stage: StagePlan, epoch: int) -> float:
    if stage.schedule == "constant":
        return stage.lr
    return stage.lr * 0.5 * (1 + math.cos(math.pi * epoch / stage.epochs))


def _set_training(head: nn.Sequential) -> None:
    """Training mode for dropout; a leading batch norm keeps its exact statistics of the training part."""
    head.train()
    if isinstance(head[0], nn.BatchNorm1d):
        head[0].eval()


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
