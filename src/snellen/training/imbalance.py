"""What each method against imbalance changes in training, and what it thereby adds to the logits.

This room knows features, labels and losses. It must not know which split it sees: the caller passes training only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snellen.core.errors import UsageError
from snellen.records.plan import ImbalancePlan
from snellen.training.feature_table import FeatureTable
from snellen.training.more_views import show_evenly
from snellen.training.pictures import Pictures
from snellen.training.resampling import resample

MAKERS = ("smote", "smote_tomek")
PICKERS = ("random_over", "random_under")
RESAMPLERS = (*MAKERS, *PICKERS, "augment")
OVERSAMPLED_BYTES = 400_000_000
_SMALLEST_STD = 1e-2
_SMALLEST_DOUBT = 1e-6


@dataclass(frozen=True)
class ClassLoss:
    """Cross-entropy weighted by class `(C,)`, on logits plus `offset` `(C,)`; focal where `gamma` is above 0.

    Focal (Lin et al. 2017, eq. 4): the loss of a picture times (1 - p)^gamma, p the probability of its class.
    """

    weights: torch.Tensor
    offset: torch.Tensor | None = None
    gamma: float = 0.0

    def compute(self, logits: torch.Tensor, labels: torch.Tensor, total: float) -> torch.Tensor:
        """Sum of the losses of a block `(n, C)`, as a share of the whole whose weights add up to `total`."""
        if self.offset is not None:
            logits = logits + self.offset
        if not self.gamma:
            return nn.functional.cross_entropy(logits, labels, weight=self.weights, reduction="sum") / total
        losses = nn.functional.cross_entropy(logits, labels, weight=self.weights, reduction="none")
        certain = torch.log_softmax(logits, 1).gather(1, labels[:, None])[:, 0]
        # a doubt of exactly 0 has no gradient where gamma is below 1
        doubt = (-torch.expm1(certain)).clamp_min(_SMALLEST_DOUBT)
        return (doubt**self.gamma * losses).sum() / total

    def sum_weights(self, labels: torch.Tensor) -> float:
        """What the losses of pictures with these labels are divided by."""
        return float(self.weights[labels].sum())

    def recover(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits `(N, C)` whose softmax is what the loss's minimiser says of the classes.

        The focal loss makes probabilities too cautious. Its minimiser v gives them back as h(v) / sum h(v),
        h(v) = v / ((1 - v)^g - g (1 - v)^(g - 1) v log v) (Charoenphakdee et al. 2021).
        """
        if not self.gamma:
            return logits
        log_v = torch.log_softmax(logits.double(), 1)
        doubt = (-torch.expm1(log_v)).clamp_min(1e-12)
        steep = torch.log(doubt - self.gamma * log_v.exp() * log_v)
        return (log_v - (self.gamma - 1) * torch.log(doubt) - steep).to(logits.dtype)


@dataclass(frozen=True)
class Rebalanced:
    """A training part as a method makes it: features with labels `(N,)`, the loss, and how pictures are drawn.

    `draw` `(N,)` holds the chance of each picture in an epoch of batches; None takes each once.
    `shift` `(C,)` is what the method adds to the logits: log of the effective prior over the true one. `counts`
    `(2, C)`: pictures of each class before and after resampling, where that was done.
    """

    table: FeatureTable
    labels: NDArray[np.int64]
    loss: ClassLoss
    shift: torch.Tensor
    draw: torch.Tensor | None = None
    counts: NDArray[np.int64] | None = None


def rebalance(
    table: FeatureTable,
    labels: NDArray[np.int64],
    n_classes: int,
    plan: ImbalancePlan,
    *,
    in_batches: bool,
    seed: int,
    pictures: Pictures | None = None,
) -> Rebalanced:
    """Apply the plan's method to training features with labels `(N,)`.

    Balanced sampling draws the pictures of an epoch where learning goes `in_batches`. A step on all pictures at once
    takes what the draws give on average: each picture, weighted by class. `pictures` are those of the table, of which
    new ones are made where the plan says so. Raises UsageError where what resampling would make is too much for the
    memory.
    """
    prior = compute_prior(labels, n_classes)
    even = ClassLoss(torch.ones(n_classes))
    none, balanced = torch.zeros(n_classes), _to_tensor(-np.log(n_classes * prior))
    if plan.method == "class_weights" or (plan.method == "balanced_sampling" and not in_batches):
        return Rebalanced(table, labels, ClassLoss(compute_class_weights(labels, n_classes)), balanced)
    if plan.method == "balanced_sampling":
        chances = compute_class_weights(labels, n_classes)[torch.from_numpy(labels)]
        return Rebalanced(table, labels, even, balanced, chances / chances.sum())
    if plan.method == "focal":
        return Rebalanced(table, labels, ClassLoss(even.weights, gamma=plan.focal_gamma), none)
    if plan.method == "logit_adjustment":
        offset = _to_tensor(plan.logit_tau * np.log(prior))
        return Rebalanced(table, labels, ClassLoss(even.weights, offset), -offset)
    if plan.method in RESAMPLERS:
        grown, grown_labels = _resample(table, labels, plan, seed, pictures)
        return count_pictures(labels, grown_labels, n_classes, grown)
    return Rebalanced(table, labels, even, none)


def compute_prior(labels: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """Shares of the classes `(C,)`; a class without pictures counts as if it had one."""
    counts = np.bincount(labels, minlength=n_classes).clip(min=1)
    return np.asarray(counts / counts.sum())


def compute_class_weights(labels: NDArray[np.int64], n_classes: int) -> torch.Tensor:
    """n / (classes × n of the class), mean one over samples."""
    counts = np.bincount(labels, minlength=n_classes).clip(min=1)
    return _to_tensor(len(labels) / (n_classes * counts))


def undo_shift(head: nn.Sequential, shift: torch.Tensor) -> None:
    """Take the shift `(C,)` off the logits, and the prior is that of training again.

    Exact: what was learned is p(class | x) · effective prior / true prior, in logits one number a class.
    """
    last = head[-1]
    if not isinstance(last, nn.Linear):
        raise TypeError("a head ends in a linear layer")
    with torch.no_grad():
        last.bias.sub_(shift)


def count_pictures(
    before: NDArray[np.int64], after: NDArray[np.int64], n_classes: int, table: FeatureTable | None = None
) -> Rebalanced:
    """Pictures of labels `before` that have become those of labels `after`, and what that adds to the logits.

    Without a table for whoever learns from pictures themselves.
    """
    counts = np.stack([np.bincount(labels, minlength=n_classes) for labels in (before, after)])
    prior, effective = (compute_prior(labels, n_classes) for labels in (before, after))
    held = FeatureTable.hold(np.zeros((1, len(after), 1), np.float32)) if table is None else table
    shift = _to_tensor(np.log(effective / prior))
    return Rebalanced(held, after, ClassLoss(torch.ones(n_classes)), shift, counts=counts)


def _resample(
    table: FeatureTable, labels: NDArray[np.int64], plan: ImbalancePlan, seed: int, pictures: Pictures | None
) -> tuple[FeatureTable, NDArray[np.int64]]:
    if plan.method == "augment":
        return show_more_views(table, labels, seed)
    if plan.method in PICKERS:
        picked = resample(np.zeros((len(labels), 1)), labels, plan.method, plan.neighbors, seed).picked
        return table.select(picked), labels[picked]
    _require_room(table, labels, plan.method)
    if plan.on == "features":
        return _make_features(table, labels, plan, seed)
    if pictures is None:
        raise ValueError("new pictures are made of pictures")
    made = pictures.resample(labels, plan, seed)
    new = None if made.new is None else pictures.compute_features(made.new, table.shape[0] - 1)
    return _join(table.select(made.picked), new), np.concatenate([labels[made.picked], made.labels])


def show_more_views(
    table: FeatureTable, labels: NDArray[np.int64], seed: int
) -> tuple[FeatureTable, NDArray[np.int64]]:
    """Each class shown as often as the largest: a picture that is shown again is so in the table's spare views."""
    n_slots = table.shape[0]
    showing = show_evenly(labels, n_slots, seed)
    if showing.views.max() >= n_slots + len(table.spare):
        raise ValueError("the further views of smaller classes were not computed")
    grown = FeatureTable(table.sources, table.rows[showing.picked], table.spare, showing.views)
    return grown, labels[showing.picked]


def _require_room(table: FeatureTable, labels: NDArray[np.int64], method: str) -> None:
    n_views, _, width = table.shape
    counts = np.bincount(labels)
    need = n_views * int((counts > 0).sum() * counts.max()) * width * 4
    if need > OVERSAMPLED_BYTES:
        raise UsageError(
            f'imbalance.method = "{method}" would make {need / 1e6:,.0f} MB of features; '
            f"{OVERSAMPLED_BYTES / 1e6:,.0f} MB are allowed.",
            'Choose "class_weights", "balanced_sampling" or "random_over", which need no more memory, or a smaller '
            "augment.views.",
        )


def _make_features(
    table: FeatureTable, labels: NDArray[np.int64], plan: ImbalancePlan, seed: int
) -> tuple[FeatureTable, NDArray[np.int64]]:
    """New features between those of pictures, standardised and without views; a new row is the same in every view."""
    mean, variance = table.compute_moments()
    scale = np.maximum(np.sqrt(variance), _SMALLEST_STD)
    rows = (table.take(0, slice(0, len(labels))) - mean) / scale
    found = resample(rows, labels, plan.method, plan.neighbors, seed)
    made = (found.made * scale + mean).astype(np.float32)
    new = FeatureTable((made,) * table.shape[0], np.arange(len(made))) if len(made) else None
    return _join(table.select(found.picked), new), np.concatenate([labels[found.picked], found.made_labels])


def _join(old: FeatureTable, new: FeatureTable | None) -> FeatureTable:
    """Both in memory, the new rows behind the old."""
    n_views, n_old, width = old.shape
    joined = np.empty((n_views, n_old + (0 if new is None else new.shape[1]), width), np.float32)
    for view in range(n_views):
        joined[view, :n_old] = old.take(view, slice(None))
        if new is not None:
            joined[view, n_old:] = new.take(view, slice(None))
    return FeatureTable.hold(joined)


def _to_tensor(values: NDArray[np.float64]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)
