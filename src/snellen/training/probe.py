"""The baseline that every report shows: logistic regression on the frozen features, as anyone would fit it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snellen.metrics.calibration import apply_temperature
from snellen.modeling.blocks import fix_batch_norm
from snellen.records.plan import StagePlan
from snellen.training.feature_table import FeatureTable
from snellen.training.imbalance import ClassLoss
from snellen.training.optimizers import Objective, run_lbfgs

Wide = NDArray[np.float64]
_STAGE = StagePlan(
    unfreeze="none", optimizer="lbfgs", epochs=200, batch_size=1024, lr=1.0, weight_decay=(), schedule="constant",
    patience=200,
)  # fmt: skip


@dataclass(frozen=True)
class Baselines:
    """`prior` `(C,)` are the class shares of training; a probe's logits are `embedding @ weight + bias`."""

    prior: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def score(self, embedding: NDArray[np.float32]) -> dict[str, Wide]:
        """Probabilities `(N, C)` of each baseline for features `(N, D)`."""
        return {
            "majority_class": np.repeat(self.prior[None].astype(np.float64), len(embedding), axis=0),
            "linear_probe": apply_temperature(embedding.astype(np.float64) @ self.weight + self.bias, 1.0),
        }


def fit_baselines(table: FeatureTable, labels: NDArray[np.int64], n_classes: int) -> Baselines:
    """Fit on the training pictures without views: logistic regression with scikit-learn's default strength."""
    mean, variance = table.compute_moments()
    std = np.maximum(np.sqrt(variance), 1e-2)
    alone = FeatureTable(table.sources[:1], table.rows)
    fit = _fit_in_memory if alone.is_small else _fit_by_blocks
    weight, bias = fit(alone, labels, n_classes, (mean, std))
    weight = weight / std[:, None]
    bias = bias - mean @ weight
    prior = np.bincount(labels, minlength=n_classes) / len(labels)
    return Baselines(prior.astype(np.float32), weight.astype(np.float32), bias.astype(np.float32))


def _fit_in_memory(
    table: FeatureTable, labels: NDArray[np.int64], n_classes: int, moments: tuple[Wide, Wide]
) -> tuple[Wide, Wide]:
    from sklearn.linear_model import LogisticRegression

    mean, std = (values.astype(np.float32) for values in moments)
    model = LogisticRegression(max_iter=1000).fit((table.load()[0] - mean) / std, labels)
    weight = np.zeros((table.shape[2], n_classes))
    bias = np.zeros(n_classes)
    if n_classes == 2:
        weight[:, 1], bias[1] = model.coef_[0], model.intercept_[0]
    else:
        weight[:, model.classes_], bias[model.classes_] = model.coef_.T, model.intercept_
    return weight, bias


def _fit_by_blocks(
    table: FeatureTable, labels: NDArray[np.int64], n_classes: int, moments: tuple[Wide, Wide]
) -> tuple[Wide, Wide]:
    """The same objective, read from disk: scikit-learn sums losses and halves |w|², we average."""
    head = nn.Sequential(nn.BatchNorm1d(table.shape[2], eps=0, affine=False), nn.Linear(table.shape[2], n_classes))
    mean, std = (torch.from_numpy(values).float() for values in moments)
    fix_batch_norm(head, mean, std**2)
    nn.init.zeros_(head[1].weight)  # type: ignore[arg-type]  # the linear layer above
    nn.init.zeros_(head[1].bias)  # type: ignore[arg-type]  # as above
    # of two classes scikit-learn penalises the difference of the two rows, twice as much as both halves together
    decay = (2 if n_classes == 2 else 1) / len(labels)
    for _ in run_lbfgs(head, Objective(table, labels, ClassLoss(torch.ones(n_classes)), decay), _STAGE):
        pass
    linear = head[1]
    if not isinstance(linear, nn.Linear):
        raise TypeError("the head ends in a linear layer")
    return linear.weight.detach().double().numpy().T, linear.bias.detach().double().numpy()
