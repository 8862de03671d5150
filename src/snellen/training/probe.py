"""The baseline that every report shows: logistic regression on the frozen features, as anyone would fit it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Baselines:
    """`prior` `(C,)` are the class shares of training; a probe's logits are `embedding @ weight + bias`."""

    prior: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


def fit_baselines(features: NDArray[np.float32], labels: NDArray[np.int64], n_classes: int) -> Baselines:
    """Fit on un-augmented training features `(N, D)`: scikit-learn's logistic regression with its default strength."""
    from sklearn.linear_model import LogisticRegression

    mean, std = features.mean(0), np.maximum(features.std(0), 1e-2)
    model = LogisticRegression(max_iter=1000).fit((features - mean) / std, labels)
    weight = np.zeros((features.shape[1], n_classes), np.float64)
    bias = np.zeros(n_classes)
    if n_classes == 2:
        weight[:, 1], bias[1] = model.coef_[0], model.intercept_[0]
    else:
        weight[:, model.classes_], bias[model.classes_] = model.coef_.T, model.intercept_
    weight = weight / std[:, None]
    bias = bias - mean @ weight
    prior = np.bincount(labels, minlength=n_classes) / len(labels)
    return Baselines(prior.astype(np.float32), weight.astype(np.float32), bias.astype(np.float32))
