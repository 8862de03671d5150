"""The probe is what scikit-learn would say, as plain arrays."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from models import draw_features
from snellen.training import feature_table
from snellen.training.feature_table import FeatureTable
from snellen.training.probe import Baselines, fit_baselines


def soften(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_probe_says_what_sklearn_predicts(n_classes: int) -> None:
    data = draw_features(150, n_classes, distance=0.7)
    fitted = fit_baselines(data.train, data.train_labels, n_classes)
    scaler = StandardScaler().fit(data.train.load()[0])
    model = LogisticRegression(max_iter=1000).fit(scaler.transform(data.train.load()[0]), data.train_labels)
    found = soften(data.val.astype(np.float64) @ fitted.weight + fitted.bias)
    # stored as float32; the solver stops at a gradient of 1e-4
    np.testing.assert_allclose(found, model.predict_proba(scaler.transform(data.val)), atol=1e-3)


def test_probe_does_not_blow_up_a_constant_feature() -> None:
    data = draw_features(60)
    features = data.train.load()[0].copy()
    features[:, 0] = 5.0
    fitted = fit_baselines(FeatureTable.hold(features[None]), data.train_labels, 2)
    # a feature that never varied in training says nothing later either
    assert np.abs(fitted.weight[0]).max() == pytest.approx(0.0, abs=1e-6)


def test_prior_is_the_share_of_each_class() -> None:
    data = draw_features(60, 3)
    fitted = fit_baselines(FeatureTable.hold(data.train.load()[:, :50]), data.train_labels[:50], 3)
    # 50 labels 0, 1, 2, 0, 1, …: 17, 17 and 16 of them
    np.testing.assert_allclose(fitted.prior, [0.34, 0.34, 0.32], rtol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_prior_sums_to_one(n_classes: int) -> None:
    data = draw_features(47, n_classes)
    prior = fit_baselines(data.train, data.train_labels, n_classes).prior
    assert prior.sum() == pytest.approx(1.0, abs=1e-6)


def test_probe_has_a_column_a_class() -> None:
    data = draw_features(60, 3)
    fitted = fit_baselines(data.train, data.train_labels, 3)
    assert (fitted.weight.shape, fitted.bias.shape) == ((8, 3), (3,))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_probe_read_from_disk_is_that_of_scikit_learn(n_classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = draw_features(3000, n_classes, 12)
    in_memory = fit_baselines(data.train, data.train_labels, n_classes)
    monkeypatch.setattr(feature_table, "HELD_BYTES", 0)
    by_blocks = fit_baselines(data.train, data.train_labels, n_classes)

    def predict(fitted: Baselines) -> np.ndarray:
        logits = data.val @ fitted.weight + fitted.bias
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(odds / odds.sum(1, keepdims=True))

    # both stop within their tolerance of one optimum of a convex objective
    np.testing.assert_allclose(predict(by_blocks), predict(in_memory), atol=5e-3)
