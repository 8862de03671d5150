"""Stage 1 in folds: each member leaves out one fold, and nothing that made it has seen that fold.

Strength and epoch of a member are chosen by the other folds among themselves: heads that leave out two folds are
judged on one of them, for the member that leaves out the other (nested cross-validation; Varma and Simon 2006).
Then the member learns on all but its own fold, without looking at it.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations, islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snellen.core.progress import follow
from snellen.records.plan import Plan
from snellen.records.run import ChosenHead, EpochRecord
from snellen.training.feature_table import FeatureTable
from snellen.training.head import Ready, TrainData, explain_divergence, iterate_epochs, make_ready, monitor
from snellen.training.imbalance import undo_shift
from snellen.training.pictures import Pictures

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class FoldData:
    """Features of all pictures to learn from, with labels `(N,)` and folds 0 … K-1 `(N,)`; `pictures` as before."""

    table: FeatureTable
    labels: NDArray[np.int64]
    folds: NDArray[np.intp]
    pictures: Pictures | None = field(default=None, kw_only=True)

    @property
    def n_folds(self) -> int:
        return int(self.folds.max()) + 1

    def leave_out(self, *folds: int) -> TrainData:
        """What is in none of `folds`."""
        kept = np.flatnonzero(~np.isin(self.folds, folds))
        pictures = None if self.pictures is None else self.pictures.select(kept)
        return TrainData(self.table.select(kept), self.labels[kept], pictures=pictures)

    def take(self, fold: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Features `(n, D)` without views and labels `(n,)` of one fold."""
        members = np.flatnonzero(self.folds == fold)
        return torch.from_numpy(self.table.take(0, members)), torch.from_numpy(self.labels[members])


@dataclass(frozen=True)
class FittedFolds:
    """A head a fold, how each was chosen, and the logits `(N, C)` of each picture by the head that did not see it.
    `counts` are those of each member, as in Rebalanced.
    """

    heads: tuple[nn.Sequential, ...]
    chosen: tuple[ChosenHead, ...]
    epochs: tuple[EpochRecord, ...]
    logits: NDArray[np.float64]
    counts: tuple[NDArray[np.int64] | None, ...]


def fit_folds(data: FoldData, plan: Plan, note: Callable[[EpochRecord], None] | None = None) -> FittedFolds:
    """K members; `note` is told every epoch of each. Raises UsageError where no candidate gives a number."""
    decays = plan.training.head_stage.weight_decay
    pairs = list(combinations(range(data.n_folds), 2))
    curves: dict[tuple[int, int], dict[float, dict[int, Curve]]] = {}
    for pair in follow(pairs, "Cross-validating", len(pairs), "heads"):
        ready = make_ready(data.leave_out(*pair), plan)
        curves[pair] = {decay: _trace(data, plan, pair, ready, decay) for decay in decays}
    sizes = np.bincount(data.folds, minlength=data.n_folds)
    logits = np.zeros((len(data.labels), plan.model.n_classes))
    heads, chosen, records, counts = [], [], list[EpochRecord](), []
    for fold in follow(range(data.n_folds), "Training members", data.n_folds, "members"):
        choice = choose_epoch(curves, fold, sizes)
        if choice is None:
            raise explain_divergence(plan)
        decay, epoch = choice
        ready = make_ready(data.leave_out(fold), plan)
        head, epochs = _fit_member(data, plan, fold, (decay, epoch), ready)
        counts.append(ready.rebalanced.counts)
        last = epochs[-1]
        heads.append(head)
        records += epochs
        if note is not None:
            for record in epochs:
                note(record)
        chosen.append(
            ChosenHead(
                weight_decay=decay, epoch=last.epoch, val_loss=last.val_loss, val_auc=last.val_auc,
                n_candidates=len(decays),
            )
        )  # fmt: skip
        with torch.no_grad():
            logits[data.folds == fold] = head(data.take(fold)[0]).double().numpy()
    return FittedFolds(tuple(heads), tuple(chosen), tuple(records), logits, tuple(counts))


def choose_epoch(
    curves: Mapping[tuple[int, int], Mapping[float, Mapping[int, Curve]]], fold: int, sizes: NDArray[np.intp]
) -> tuple[float, int] | None:
    """Weight decay and epoch (from 1) that are best on the other folds, by heads that saw neither them nor `fold`.

    `curves[pair][decay][f]` are the losses by epoch on fold `f` of the pair; a curve that ended early keeps its last
    value. None where no loss is a number.
    """
    best: tuple[float, float, int] | None = None
    decays = next(iter(curves.values()))
    for decay in decays:
        judged = [
            (curve[decay][judge], sizes[judge])
            for pair, curve in curves.items()
            if fold in pair
            for judge in pair
            if judge != fold
        ]
        if not all(len(losses) for losses, _ in judged):
            continue
        length = max(len(losses) for losses, _ in judged)
        padded = np.stack([np.pad(losses, (0, length - len(losses)), mode="edge") for losses, _ in judged])
        mean = np.average(padded, axis=0, weights=[size for _, size in judged])
        at = int(mean.argmin())
        if math.isfinite(mean[at]) and (best is None or mean[at] < best[0]):
            best = (float(mean[at]), decay, at + 1)
    return None if best is None else best[1:]


def _trace(data: FoldData, plan: Plan, pair: tuple[int, int], ready: Ready, decay: float) -> dict[int, Curve]:
    """Losses by epoch on both folds of a pair, until neither gets better any more."""
    judges = {fold: data.take(fold) for fold in pair}
    losses: dict[int, list[float]] = {fold: [] for fold in pair}
    patience = plan.training.head_stage.patience
    for head, _, _ in iterate_epochs(ready, plan, decay):
        for fold, (features, labels) in judges.items():
            losses[fold].append(monitor(head, features, labels, ready.rebalanced)[0])
        if all(len(found) - 1 - int(np.argmin(found)) >= patience for found in losses.values()):
            break
    return {fold: np.array(found) for fold, found in losses.items()}


def _fit_member(
    data: FoldData, plan: Plan, fold: int, choice: tuple[float, int], ready: Ready
) -> tuple[nn.Sequential, list[EpochRecord]]:
    """All but `fold`, for the chosen number of epochs. What is noted of `fold` decides nothing."""
    decay, n_epochs = choice
    held_out = data.take(fold)
    records: list[EpochRecord] = []
    kept: nn.Sequential | None = None
    begin = time.monotonic()
    for head, rate, loss in islice(iterate_epochs(ready, plan, decay), n_epochs):
        val_loss, val_auc = monitor(head, *held_out, ready.rebalanced)
        records.append(
            EpochRecord(
                stage=0, candidate=fold, fold=fold, weight_decay=decay, epoch=len(records) + 1, lr=rate,
                train_loss=loss, val_loss=val_loss, val_auc=val_auc, seconds=round(time.monotonic() - begin, 4),
            )
        )  # fmt: skip
        begin = time.monotonic()
        kept = head
    if kept is None:
        raise explain_divergence(plan)
    member = copy.deepcopy(kept).eval()
    undo_shift(member, ready.rebalanced.shift)
    return member, records
