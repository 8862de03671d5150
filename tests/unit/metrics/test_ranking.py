"""Curves against scikit-learn, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from snellen.core.errors import DataError
from snellen.metrics.ranking import compute_auc
from snellen.metrics.scores import compute_precision_recall, compute_roc, compute_scores


@pytest.fixture(params=["ties", "distinct", "all equal"])
def binary(request):
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, 80)
    scores = {
        "ties": rng.integers(0, 12, 80) / 12 + 0.1 * labels,
        "distinct": rng.random(80) + 0.3 * labels,
        "all equal": np.full(80, 0.3),
    }[request.param]
    return labels, scores


@pytest.mark.parametrize("drop_intermediate", [True, False])
def test_roc_agrees_with_scikit_learn(binary, drop_intermediate):
    labels, scores = binary
    found = compute_roc(labels, scores, drop_intermediate=drop_intermediate)
    for mine, theirs in zip(found, roc_curve(labels, scores, drop_intermediate=drop_intermediate), strict=True):
        assert mine == pytest.approx(theirs)


def test_precision_recall_agrees_with_scikit_learn(binary):
    labels, scores = binary
    for mine, theirs in zip(
        compute_precision_recall(labels, scores), precision_recall_curve(labels, scores), strict=True
    ):
        assert mine == pytest.approx(theirs)


def test_roc_of_a_hand_worked_case():
    fpr, tpr, thresholds = compute_roc(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.8, 0.1]))
    assert thresholds.tolist() == [np.inf, 0.9, 0.8, 0.1]
    assert tpr.tolist() == [0, 0.5, 1, 1]
    assert fpr.tolist() == [0, 0, 0.5, 1]


def test_rates_of_a_side_without_samples_are_nan():
    labels, scores = np.zeros(3, dtype=int), np.array([0.1, 0.2, 0.3])
    assert np.isnan(compute_roc(labels, scores)[1]).all()
    assert np.isnan(compute_precision_recall(labels, scores)[1][:-1]).all()


def test_curves_of_nothing_are_refused():
    with pytest.raises(DataError, match="do not fit"):
        compute_roc(np.array([], dtype=int), np.array([]))


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_auc_alone_is_that_of_all_scores(n_classes):
    draw = np.random.default_rng(n_classes)
    labels = draw.integers(0, n_classes - (n_classes > 3), 60)  # of five classes one is absent
    probabilities = draw.dirichlet(np.ones(n_classes), 60)
    positive = 1 if n_classes == 2 else None
    expected = compute_scores(labels, probabilities, positive=positive)["auc"][0]
    assert compute_auc(labels, probabilities) == pytest.approx(expected, abs=1e-12)


def test_auc_of_one_class_is_not_a_number():
    assert np.isnan(compute_auc(np.zeros(4, np.int64), np.full((4, 2), 0.5)))
