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
    `shift` `(C,)` is what the method adds to the logits: log of the effective prior over the true one.
    """

    table: FeatureTable
    labels: NDArray[np.int64]
    loss: ClassLoss
    shift: torch.Tensor
    draw: torch.Tensor | None = None


def rebalance(
    table: FeatureTable, labels: NDArray[np.int64], n_classes: int, plan: ImbalancePlan, *, in_batches: bool, seed: int
) -> Rebalanced:
    """Apply the plan's method to training features with labels `(N,)`.

    Balanced sampling draws the pictures of an epoch where learning goes `in_batches`. A step on all pictures at once
    takes what the draws give on average: each picture, weighted by class. Raises UsageError where the features that
    oversampling would make are too many for the memory.
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
    if plan.method == "oversample_features":
        grown, grown_labels = oversample(table, labels, plan.neighbors, seed)
        return Rebalanced(grown, grown_labels, even, balanced)
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


def oversample(
    table: FeatureTable, labels: NDArray[np.int64], neighbors: int, seed: int
) -> tuple[FeatureTable, NDArray[np.int64]]:
    """Each class brought to the size of the largest by SMOTE (Chawla et al. 2002) on standardised features.

    New rows follow the old ones, in every view: a new row lies between a picture and one of its `neighbors` nearest of
    the same class in the same view. Smaller classes have fewer neighbours; a class of one picture repeats it.
    """
    n_views, _, width = table.shape
    counts = np.bincount(labels)
    n_rows = int((counts > 0).sum() * counts.max())
    need = n_views * n_rows * width * 4
    if need > OVERSAMPLED_BYTES:
        raise UsageError(
            f'imbalance.method = "oversample_features" would make {need / 1e6:,.0f} MB of features; '
            f"{OVERSAMPLED_BYTES / 1e6:,.0f} MB are allowed.",
            'Choose "class_weights" or "balanced_sampling", which need no more memory, or a smaller augment.views.',
        )
    mean, variance = table.compute_moments()
    scale = np.maximum(np.sqrt(variance), _SMALLEST_STD)
    small = [label for label in np.flatnonzero(counts) if counts[label] < counts.max()]
    grown = np.empty((n_views, n_rows, width), np.float32)
    for view in range(n_views):
        rows = table.take(view, slice(0, len(labels)))
        grown[view, : len(labels)] = rows
        at = len(labels)
        for label in small:
            own = (rows[labels == label] - mean) / scale
            made = _interpolate(own, int(counts.max() - counts[label]), neighbors, seed)
            grown[view, at : at + len(made)] = made * scale + mean
            at += len(made)
    new = [np.full(counts.max() - counts[label], label, np.int64) for label in small]
    return FeatureTable.hold(grown), np.concatenate([labels, *new])


def _interpolate(rows: NDArray[np.float64], n: int, neighbors: int, seed: int) -> NDArray[np.float64]:
    """`n` new rows between rows `(m, D)` of one class."""
    from imblearn.over_sampling import SMOTE

    if len(rows) == 1:
        return np.repeat(rows, n, axis=0)
    # SMOTE looks at no row of another class, but asks for one
    both = np.vstack([rows, np.zeros((1, rows.shape[1]))])
    marks = np.append(np.ones(len(rows), int), 0)
    sampler = SMOTE(
        sampling_strategy={1: len(rows) + n}, k_neighbors=min(neighbors, len(rows) - 1), random_state=seed % 2**32
    )
    made, _ = sampler.fit_resample(both, marks)
    return np.asarray(made[len(both) :])


def _to_tensor(values: NDArray[np.float64]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)
