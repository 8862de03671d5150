"""How a head is fitted to a table of features: epochs as (learning rate, training loss). Sees training only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snellen.records.plan import StagePlan
from snellen.training.feature_table import FeatureTable
from snellen.training.imbalance import ClassLoss

_LBFGS_STEPS = 5
_CONVERGED = 1e-4


@dataclass(frozen=True)
class Objective:
    """A loss over `table` with `labels` `(N,)`, plus `decay` as the optimizer means it.

    `draw` `(N,)` holds the chance of each picture to be drawn, with replacement; None takes each once an epoch.
    Only learning in batches draws.
    """

    table: FeatureTable
    labels: NDArray[np.int64]
    loss: ClassLoss
    decay: float
    seed: int = 0
    draw: torch.Tensor | None = None


def run_adamw(head: nn.Sequential, objective: Objective, stage: StagePlan) -> Iterator[tuple[float, float]]:
    """Batches with decoupled decay (Loshchilov and Hutter 2019); a picture comes once an epoch, or as drawn."""
    generator = torch.Generator().manual_seed(objective.seed)
    table, labels = objective.table, torch.from_numpy(objective.labels)
    n_views, n_samples, _ = table.shape
    optimizer = torch.optim.AdamW(head.parameters(), lr=stage.lr, weight_decay=objective.decay, fused=True)
    needs_several = any(isinstance(layer, nn.BatchNorm1d) for layer in head[1:])
    for epoch in range(stage.epochs):
        rate = _rate(stage, epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        set_training(head)
        order = (
            torch.randperm(n_samples, generator=generator)
            if objective.draw is None
            else torch.multinomial(objective.draw, n_samples, replacement=True, generator=generator)
        )
        views = torch.randint(n_views, (n_samples,), generator=generator)
        total = 0.0
        for batch in torch.split(order, stage.batch_size):
            if len(batch) == 1 and needs_several:
                continue  # one picture alone has no statistics
            features = _gather(table, views[batch].numpy(), batch.numpy())
            wanted = labels[batch]
            loss = objective.loss.compute(head(features), wanted, objective.loss.sum_weights(wanted))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            total += float(loss.detach()) * len(batch)
        yield rate, total / n_samples


def _gather(table: FeatureTable, views: NDArray[np.int64], positions: NDArray[np.int64]) -> torch.Tensor:
    gathered = np.empty((len(positions), table.shape[2]), np.float32)
    for view in np.unique(views):
        here = views == view
        gathered[here] = table.take(int(view), positions[here])
    return torch.from_numpy(gathered)


def run_lbfgs(head: nn.Sequential, objective: Objective, stage: StagePlan) -> Iterator[tuple[float, float]]:
    """Full-batch quasi-Newton steps (Liu and Nocedal 1989) on all pictures and views, until they no longer help.

    For a linear head the penalised loss is convex: the result depends on no seed.
    """
    table = objective.table
    matrices = [parameter for parameter in head.parameters() if parameter.ndim > 1]
    # few features are standardised once, into one block: a step costs a call a block beside the arithmetic
    held = [_join(_prepare_blocks(head, objective))] if table.is_small else None
    trained = head[1:] if is_fixed(head[0]) else head
    total = objective.loss.sum_weights(torch.from_numpy(objective.labels)) * table.shape[0]
    optimizer = torch.optim.LBFGS(
        head.parameters(), lr=stage.lr, max_iter=_LBFGS_STEPS, history_size=10, line_search_fn="strong_wolfe"
    )
    before = math.inf
    for _ in range(stage.epochs):
        set_training(head)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            summed = torch.zeros(())
            for inputs, labels in held if held is not None else _prepare_blocks(head, objective):
                part = objective.loss.compute(trained(inputs), labels, total)
                part.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                summed += part.detach()
            for matrix in matrices:
                # the penalty's gradient is the matrix itself: no graph is needed
                weight = matrix.detach()
                summed += 0.5 * objective.decay * weight.square().sum()
                if matrix.grad is not None:
                    matrix.grad.add_(weight, alpha=objective.decay)
            return summed

        loss = float(optimizer.step(closure))  # type: ignore[no-untyped-call]  # as above
        yield stage.lr, loss
        if before - loss < _CONVERGED * abs(loss):
            return
        before = loss


def _prepare_blocks(head: nn.Sequential, objective: Objective) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    first = head[0]
    for positions, values in objective.table.iterate_blocks():
        features = torch.from_numpy(values)
        if is_fixed(first):
            features = first.eval()(features).detach()
        yield features, torch.from_numpy(objective.labels[positions])


def is_fixed(layer: nn.Module) -> bool:
    """Whether a head's first layer standardises and nothing else: then it need be done once only."""
    return isinstance(layer, nn.BatchNorm1d) and not layer.affine


def _join(blocks: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    features, labels = zip(*blocks, strict=True)
    return torch.cat(features), torch.cat(labels)


def set_training(head: nn.Sequential) -> None:
    """Training mode for dropout; a leading batch norm keeps its exact statistics of the training part."""
    head.train()
    if isinstance(head[0], nn.BatchNorm1d):
        head[0].eval()


def _rate(stage: StagePlan, epoch: int) -> float:
    if stage.schedule == "constant":
        return stage.lr
    return stage.lr * 0.5 * (1 + math.cos(math.pi * epoch / stage.epochs))
