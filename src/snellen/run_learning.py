"""Stage 1 of a run: what was learned of one validation split or of folds, in one shape for what follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snellen.metrics.calibration import apply_temperature
from snellen.modeling.blocks import HeadEnsemble, MapHead, build_head, fix_batch_norm
from snellen.modeling.layers import Shape
from snellen.records.cohort import Sample
from snellen.records.plan import Plan
from snellen.records.run import ChosenHead, EpochRecord, Resampling
from snellen.run_preparation import Prepared
from snellen.run_resampling import describe_resampling, record_resampling
from snellen.training.crossval import FoldData, fit_folds
from snellen.training.feature_table import FeatureTable
from snellen.training.head import HeadData, fit_head
from snellen.training.imbalance import compute_prior
from snellen.training.probe import fit_baselines


@dataclass(frozen=True)
class Learned:
    """A head and what was held out from it: `samples` with `labels` `(M,)` and `logits` `(M, C)`.

    With folds, `folds` `(M,)` says which member did not see the sample, and `held_baselines` are the baselines'
    probabilities `(M, C)` fitted without its fold. `table` with `table_labels` is all that was learned from; the gate
    is fitted on `gate_table` and limited by the embeddings `gate_val`.
    """

    head: nn.Sequential | HeadEnsemble
    chosen: ChosenHead | None
    members: tuple[ChosenHead, ...]
    epochs: tuple[EpochRecord, ...]
    summary: str
    held_name: str
    samples: list[Sample]
    labels: NDArray[np.int64]
    logits: NDArray[np.float64]
    folds: NDArray[np.intp] | None
    held_baselines: Mapping[str, NDArray[np.float64]] | None
    table: FeatureTable
    table_labels: NDArray[np.int64]
    gate_table: FeatureTable
    gate_val: NDArray[np.float32]
    resampled: tuple[Resampling, ...] = ()


Note = Callable[[EpochRecord], None]
_BEGINS = "Head: begins by chance; the first stage learns on the feature map"


def learn(data: HeadData | FoldData, prepared: Prepared, note: Note | None = None) -> Learned:
    """One head by a validation split, or one a fold. `note` is told every epoch as soon as it is over."""
    return learn_folds(data, prepared, note) if isinstance(data, FoldData) else learn_split(data, prepared, note)


def learn_split(data: HeadData, prepared: Prepared, note: Note | None = None) -> Learned:
    """One head; the validation split chooses and calibrates."""
    fitted = fit_head(data, prepared.plan, note)
    chosen = fitted.chosen
    with torch.no_grad():
        logits = fitted.head(torch.from_numpy(data.val)).double().numpy()
    resampled = record_resampling(fitted.counts, prepared.plan)
    return Learned(
        head=fitted.head,
        chosen=chosen,
        members=(),
        epochs=fitted.epochs,
        summary=_join_lines(
            describe_resampling(resampled),
            f"Head: weight decay {chosen.weight_decay:g} ({chosen.n_candidates} tried), epoch {chosen.epoch}: "
            f"validation loss {chosen.val_loss:.3f}{_tell_auc(chosen)}",
        ),
        held_name="val",
        samples=prepared.members("val"),
        labels=data.val_labels,
        logits=logits,
        folds=None,
        held_baselines=None,
        table=data.train,
        table_labels=data.train_labels,
        gate_table=data.train,
        gate_val=data.val,
        resampled=resampled,
    )


def learn_folds(data: FoldData, prepared: Prepared, note: Note | None = None) -> Learned:
    """A head a fold, joined on one backbone; each picture is held out from one of them."""
    fitted = fit_folds(data, prepared.plan, note)
    told = [
        f"\n    fold {number}: weight decay {each.weight_decay:g}, epoch {each.epoch}: "
        f"left-out loss {each.val_loss:.3f}{_tell_auc(each)}"
        for number, each in enumerate(fitted.chosen)
    ]
    resampled = tuple(
        each for fold, counts in enumerate(fitted.counts) for each in record_resampling(counts, prepared.plan, fold)
    )
    first = np.flatnonzero(data.folds == 0)
    rest = np.flatnonzero(data.folds != 0)
    return Learned(
        head=HeadEnsemble(fitted.heads),
        chosen=None,
        members=fitted.chosen,
        epochs=fitted.epochs,
        summary=_join_lines(
            describe_resampling(resampled), f"Members: {data.n_folds}, each without one fold{''.join(told)}"
        ),
        held_name="oof",
        samples=prepared.held_out()[0],
        labels=data.labels,
        logits=fitted.logits,
        folds=data.folds,
        held_baselines=_hold_out_baselines(data, prepared.plan.model.n_classes),
        table=data.table,
        table_labels=data.labels,
        gate_table=FeatureTable(data.table.sources, data.table.rows[rest]),
        gate_val=data.table.take(0, first),
        resampled=resampled,
    )


def begin_anew(data: HeadData | FoldData, prepared: Prepared, map_shape: Shape) -> Learned:
    """What a run begins with whose first stage learns on the feature map: a head as it is initialised under the seed.

    What is held out has the logits of the class shares of the training part: there is no better guess yet.
    """
    plan = prepared.plan
    if isinstance(data, HeadData):
        return Learned(
            head=initialise_head(plan, map_shape, data.train),
            chosen=None, members=(), epochs=(), summary=_BEGINS, held_name="val",
            samples=prepared.members("val"), labels=data.val_labels,
            logits=guess_by_prior(data.train_labels, len(data.val_labels), plan.model.n_classes),
            folds=None, held_baselines=None, table=data.train, table_labels=data.train_labels, gate_table=data.train,
            gate_val=data.val,
        )  # fmt: skip
    first, rest = np.flatnonzero(data.folds == 0), np.flatnonzero(data.folds != 0)
    # the next fold judges what is learned, so it is left out as well
    parts = [data.leave_out(fold, (fold + 1) % data.n_folds) for fold in range(data.n_folds)]
    heads = [initialise_head(plan, map_shape, part.train) for part in parts]
    logits = np.zeros((len(data.labels), plan.model.n_classes))
    for fold in range(data.n_folds):
        held = data.folds == fold
        logits[held] = guess_by_prior(data.labels[~held], int(held.sum()), plan.model.n_classes)
    return Learned(
        head=HeadEnsemble(heads),
        chosen=None, members=(), epochs=(), summary=_BEGINS, held_name="oof",
        samples=prepared.held_out()[0], labels=data.labels, logits=logits, folds=data.folds,
        held_baselines=_hold_out_baselines(data, plan.model.n_classes),
        table=data.table, table_labels=data.labels,
        gate_table=FeatureTable(data.table.sources, data.table.rows[rest]), gate_val=data.table.take(0, first),
    )  # fmt: skip


def guess_by_prior(labels: NDArray[np.int64], n: int, n_classes: int) -> NDArray[np.float64]:
    """Logits `(n, C)` that say the shares of the classes among `labels`, whatever the picture."""
    return np.repeat(np.log(compute_prior(labels, n_classes))[None], n, axis=0)


def initialise_head(plan: Plan, map_shape: Shape, train: FeatureTable | None) -> nn.Sequential:
    """A head as it is initialised under the plan's seed. One on pooled features standardises by those of the training
    part, which another does not need.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.training.seed)
        head = build_head(plan.model.head, map_shape, plan.model.n_classes)
    if train is not None and not isinstance(head, MapHead):
        mean, variance = train.compute_moments()
        fix_batch_norm(head, torch.from_numpy(mean).float(), torch.from_numpy(variance).float())
    return head.eval()


def _hold_out_baselines(data: FoldData, n_classes: int) -> dict[str, NDArray[np.float64]]:
    """Probabilities `(N, C)` of each baseline by the one that did not see the picture."""
    probe, prior = (np.zeros((len(data.labels), n_classes)) for _ in range(2))
    for fold in range(data.n_folds):
        seen = data.leave_out(fold)
        fitted = fit_baselines(seen.train, seen.train_labels, n_classes)
        members = np.flatnonzero(data.folds == fold)
        embedding = data.table.take(0, members).astype(np.float64)
        probe[members] = apply_temperature(embedding @ fitted.weight + fitted.bias, 1.0)
        prior[members] = fitted.prior
    return {"majority_class": prior, "linear_probe": probe}


def _join_lines(*lines: str) -> str:
    return "\n".join(filter(None, lines))


def _tell_auc(chosen: ChosenHead) -> str:
    return "" if chosen.val_auc is None else f", AUC {chosen.val_auc:.3f}"
