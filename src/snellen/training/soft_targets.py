"""What a network learns from where another one teaches it: the teacher's probabilities instead of labels.

Knowledge distillation (Hinton, Vinyals and Dean 2015) at temperature 1, without a part of the true labels. The teacher
is a finished graph and is asked through it, so what is learned is what the delivered file says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from snellen.core.storage import compute_sha256
from snellen.imaging.cache import PixelCache
from snellen.records.plan import Plan
from snellen.training.feature_table import FeatureTable
from snellen.training.features import FeatureStore
from snellen.training.imbalance import ClassLoss, Rebalanced


@dataclass(frozen=True)
class SoftTargets:
    """`arrays` holds the probabilities `(rows of the pixel cache, C)` of each view; `rows` `(N,)` are the pictures."""

    arrays: tuple[NDArray[Any], ...]
    rows: NDArray[np.intp]

    def take(self, positions: NDArray[np.intp], views: NDArray[np.intp]) -> torch.Tensor:
        """float32 `(n, C)` of pictures by position, each as its view shows it (0 is the picture itself)."""
        found = np.empty((len(positions), self.arrays[0].shape[1]), np.float32)
        for view in np.unique(views):
            here = views == view
            found[here] = self.arrays[view][self.rows[positions[here]]]
        return torch.from_numpy(found)


@dataclass(frozen=True)
class SoftLoss(ClassLoss):
    """Cross-entropy with probabilities `(n, C)` for labels; every picture counts the same."""

    def compute(self, logits: torch.Tensor, labels: torch.Tensor, total: float) -> torch.Tensor:
        return -(labels * torch.log_softmax(logits, 1)).sum() / total

    def sum_weights(self, labels: torch.Tensor) -> float:
        return float(len(labels))


@dataclass(frozen=True)
class Teacher:
    """A finished graph, and the folder in which its answers are kept until nobody learns from them any more."""

    graph: Path
    folder: Path

    @property
    def sha256(self) -> str:
        """What a checkpoint must have learned from to be taken up."""
        return compute_sha256(self.graph)

    def answer(
        self, pixels: PixelCache, rows: NDArray[np.intp], plan: Plan, views: int, randaugment: int
    ) -> SoftTargets:
        """Its probabilities of `rows` of the pixel cache and of their views, the same that the learner is shown."""
        training = plan.training
        store = FeatureStore(
            self.graph, pixels, plan.augment, self.folder, training.seed, training.threads, "probabilities",
            randaugment=randaugment,
        )  # fmt: skip
        return SoftTargets(store.fill(rows, views, "Asking the ensemble"), rows)


def soften(labels: NDArray[np.int64], n_classes: int) -> Rebalanced:
    """Pictures to learn from as they are: the teacher has learned the true prior, so no class needs a weight."""
    nothing = FeatureTable.hold(np.zeros((1, len(labels), 1), np.float32))
    return Rebalanced(nothing, labels, SoftLoss(torch.ones(n_classes)), torch.zeros(n_classes))
