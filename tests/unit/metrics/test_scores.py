"""Scores against scikit-learn with sample weights, and against values worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as oracle

from snellen.core.errors import DataError
from snellen.metrics import scores as scores_module
from snellen.metrics.scores import compute_confusion, compute_per_class, compute_scores

N_RESAMPLES = 6
# Both sides sum float64 in another order.
close = pytest.approx


def _simulate(n_classes: int, *, n: int = 120, seed: int = 0):
    """Labels, probabilities with many ties, and weights: ones, whole numbers with zeros, fractions."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    raw = rng.integers(1, 6, (n, n_classes)) + 2.0 * np.eye(n_classes)[labels] * rng.integers(0, 2, (n, 1))
    probs = raw / raw.sum(axis=1, keepdims=True)
    weights = np.vstack([np.ones((1, n)), rng.integers(0, 4, (2, n)), rng.random((N_RESAMPLES - 3, n)) + 0.1])
    return labels, probs, weights


def _expected(labels, probs, weights, name):
    kept = weights > 0  # a resample without a sample does not hold it
    y, p, w = labels[kept], probs[kept], weights[kept]
    decided, classes = p.argmax(axis=1), np.arange(probs.shape[1])
    macro = {"sample_weight": w, "average": "macro", "zero_division": 0}
    weighted = macro | {"average": "weighted"}
    is_binary = len(classes) == 2
    functions = {
        "accuracy": lambda: oracle.accuracy_score(y, decided, sample_weight=w),
        "balanced_accuracy": lambda: oracle.balanced_accuracy_score(y, decided, sample_weight=w),
        "f1": lambda: oracle.f1_score(y, decided, **macro),
        "precision": lambda: oracle.precision_score(y, decided, **macro),
        "recall": lambda: oracle.recall_score(y, decided, **macro),
        "f1_weighted": lambda: oracle.f1_score(y, decided, **weighted),
        "precision_weighted": lambda: oracle.precision_score(y, decided, **weighted),
        "recall_weighted": lambda: oracle.recall_score(y, decided, **weighted),
        "mcc": lambda: oracle.matthews_corrcoef(y, decided, sample_weight=w),
        "log_loss": lambda: oracle.log_loss(y, p, labels=classes, sample_weight=w),
        "brier": lambda: oracle.brier_score_loss(y, p[:, 1] if is_binary else p, sample_weight=w, labels=classes),
        "auc": lambda: (
            oracle.roc_auc_score(y, p[:, 1], sample_weight=w)
            if is_binary
            else np.mean([oracle.roc_auc_score(y == c, p[:, c], sample_weight=w) for c in classes])
        ),
        "average_precision": lambda: (
            oracle.average_precision_score(y, p[:, 1], sample_weight=w)
            if is_binary
            else np.mean([oracle.average_precision_score(y == c, p[:, c], sample_weight=w) for c in classes])
        ),
        "brier_skill": lambda: (
            1
            - functions["brier"]()
            / oracle.brier_score_loss(
                y, shares(y, w)[:, 1] if is_binary else shares(y, w), sample_weight=w, labels=classes
            )
        ),
        "kappa_quadratic": lambda: oracle.cohen_kappa_score(
            y, decided, labels=classes, weights="quadratic", sample_weight=w
        ),
        "kappa_linear": lambda: oracle.cohen_kappa_score(y, decided, labels=classes, weights="linear", sample_weight=w),
        "off_by_two": lambda: np.average(np.abs(y - decided) >= 2, weights=w),
    }

    def shares(y, w):
        return np.repeat(np.bincount(y, weights=w, minlength=len(classes))[None] / w.sum(), len(y), axis=0)

    return functions[name]()


NAMES = [
    "accuracy",
    "balanced_accuracy",
    "f1",
    "precision",
    "recall",
    "f1_weighted",
    "precision_weighted",
    "recall_weighted",
    "mcc",
    "log_loss",
    "brier",
    "auc",
    "average_precision",
    "brier_skill",
    "kappa_quadratic",
]


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_scores_agree_with_scikit_learn_for_every_weight_row(name, n_classes):
    labels, probs, weights = _simulate(n_classes)
    found = compute_scores(labels, probs, weights=weights, is_ordered=True)[name]
    expected = [_expected(labels, probs, row, name) for row in weights]
    assert found == close(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["kappa_linear", "off_by_two"])
def test_scores_of_grades_agree_with_scikit_learn(name):
    labels, probs, weights = _simulate(4)
    found = compute_scores(labels, probs, weights=weights, is_ordered=True)[name]
    assert found == close([_expected(labels, probs, row, name) for row in weights], abs=1e-12)
    assert name not in compute_scores(labels, probs)


def test_adaptive_error_is_that_of_bins_of_equally_many():
    labels, probs, _ = _simulate(2, n=150, seed=3)
    probs = np.random.default_rng(1).dirichlet([2, 2], 150)  # no ties
    confidence, hit = probs.max(1), probs.argmax(1) == labels
    order = np.argsort(confidence)
    by_hand = sum(abs(hit[part].sum() - confidence[part].sum()) for part in np.split(order, 15)) / 150
    assert compute_scores(labels, probs)["ece_adaptive"][0] == close(by_hand)


def test_whole_number_weights_equal_repeated_samples():
    labels, probs, weights = _simulate(3, seed=1)
    repeated = np.repeat(np.arange(len(labels)), weights[1].astype(int))
    weighted = compute_scores(labels, probs, weights=weights[1:2], is_ordered=True)
    plain = compute_scores(labels[repeated], probs[repeated], is_ordered=True)
    names = plain.keys() - {"ece_adaptive"}  # its bins are those of the samples, not of a resample
    assert {k: weighted[k][0] for k in names} == close({k: plain[k][0] for k in names}, abs=1e-12)


def test_scores_do_not_depend_on_the_chunk_size(monkeypatch):
    labels, probs, weights = _simulate(3)
    whole = compute_scores(labels, probs, weights=weights)
    monkeypatch.setattr(scores_module, "CHUNK_BYTES", 8 * len(labels) * 2)
    chunked = compute_scores(labels, probs, weights=weights)
    for name, values in whole.items():
        assert chunked[name] == close(values, abs=1e-12)


def test_auc_of_a_hand_worked_case_with_a_tie():
    # Positives .9 .5, negatives .5 .1: pairs won 1, 1, 1 and one tie of a half, of 4.
    probs = np.array([0.9, 0.5, 0.5, 0.1])
    found = compute_scores(np.array([1, 1, 0, 0]), np.column_stack([1 - probs, probs]))
    assert found["auc"][0] == 3.5 / 4


def test_auc_is_nan_where_a_resample_lacks_a_side():
    probs = np.array([[0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    weights = np.array([[1.0, 1, 1], [0.3, 0, 0], [0, 0.1, 0.7]])
    found = compute_scores(np.array([1, 0, 0]), probs, weights=weights)["auc"]
    assert found == close([1.0, np.nan, np.nan], nan_ok=True)


def test_multi_class_auc_is_the_mean_over_classes_that_have_both_sides():
    labels, probs, _ = _simulate(3)
    kept = labels != 2
    found = compute_scores(labels[kept], probs[kept])["auc"][0]
    expected = np.mean([oracle.roc_auc_score(labels[kept] == c, probs[kept][:, c]) for c in (0, 1)])
    assert found == close(expected)


def test_binary_auc_of_either_class_is_the_same_when_probabilities_sum_to_one():
    labels, probs, _ = _simulate(2)
    assert compute_scores(labels, probs, positive=0)["auc"] == close(compute_scores(labels, probs)["auc"])


def test_macro_scores_leave_out_classes_that_occur_nowhere():
    labels = np.array([0, 0, 1, 1])
    probs = np.eye(4)[[0, 1, 1, 1]]
    found = compute_scores(labels, probs)
    assert found["recall"][0] == 0.75
    assert found["precision"][0] == close((1 + 2 / 3) / 2)


def test_balanced_accuracy_leaves_out_classes_without_labels_but_macro_recall_counts_them():
    labels = np.array([0, 0, 1, 1])
    probs = np.eye(3)[[0, 2, 1, 1]]
    found = compute_scores(labels, probs)
    assert found["balanced_accuracy"][0] == 0.75
    assert found["recall"][0] == close(0.5)


def test_mcc_is_zero_where_every_decision_is_the_same():
    assert compute_scores(np.array([0, 1, 1]), np.eye(2)[[1, 1, 1]])["mcc"][0] == 0


def test_brier_is_halved_for_two_classes_only():
    assert compute_scores(np.array([0]), np.array([[0.7, 0.3]]))["brier"][0] == close(0.09)
    three = compute_scores(np.array([0]), np.array([[0.7, 0.2, 0.1]]))["brier"][0]
    assert three == close(0.09 + 0.04 + 0.01)


def test_log_loss_of_a_probability_of_zero_is_finite():
    found = compute_scores(np.array([0]), np.array([[0.0, 1.0]]))["log_loss"][0]
    assert found == close(-np.log(np.finfo(float).eps))


def test_ece_of_a_hand_worked_case():
    # .95 twice (one hit) share a bin: |1 - 1.9|; .61 (a miss) stands alone: .61. Together 1.51 of 3.
    probs = np.array([[0.95, 0.05], [0.95, 0.05], [0.39, 0.61]])
    found = compute_scores(np.array([0, 1, 0]), probs)["ece"][0]
    assert found == close((0.9 + 0.61) / 3)


def test_ece_follows_the_weights():
    probs = np.array([[0.95, 0.05], [0.95, 0.05], [0.39, 0.61]])
    weights = np.array([[3.0, 1, 2]])
    found = compute_scores(np.array([0, 1, 0]), probs, weights=weights)["ece"][0]
    assert found == close((abs(3 - 4 * 0.95) + 2 * 0.61) / 6)


def test_quadratic_kappa_is_given_for_ordered_classes_only():
    labels, probs, _ = _simulate(3)
    assert "kappa_quadratic" not in compute_scores(labels, probs)
    assert compute_scores(labels, np.eye(3)[labels], is_ordered=True)["kappa_quadratic"][0] == 1


def test_quadratic_kappa_is_nan_where_all_is_one_class():
    found = compute_scores(np.array([1, 1]), np.eye(3)[[1, 1]], is_ordered=True)
    assert np.isnan(found["kappa_quadratic"][0])


def test_a_resample_without_weight_has_no_scores():
    found = compute_scores(np.array([0, 1]), np.eye(2), weights=np.zeros((1, 2)), is_ordered=True)
    assert all(np.isnan(found[name][0]) for name in found if name != "mcc")


def test_per_class_scores_agree_with_scikit_learn():
    labels, probs, weights = _simulate(4, seed=3)
    found = compute_per_class(labels, probs, weights=weights)
    decided = probs.argmax(axis=1)
    for row, w in enumerate(weights):
        precision, recall, f1, _ = oracle.precision_recall_fscore_support(labels, decided, sample_weight=w)
        assert found["precision"][row] == close(precision)
        assert found["recall"][row] == close(recall)
        assert found["f1"][row] == close(f1)
        for c in range(4):
            specificity = oracle.recall_score(labels != c, decided != c, sample_weight=w)
            assert found["specificity"][row, c] == close(specificity)
            assert found["auc"][row, c] == close(oracle.roc_auc_score(labels == c, probs[:, c], sample_weight=w))
            npv = oracle.precision_score(labels != c, decided != c, sample_weight=w)
            assert found["npv"][row, c] == close(npv)
            area = oracle.average_precision_score(labels == c, probs[:, c], sample_weight=w)
            assert found["average_precision"][row, c] == close(area)


def test_per_class_scores_without_cases_are_nan():
    found = compute_per_class(np.array([0, 0, 1]), np.eye(3)[[0, 0, 0]])
    assert found["precision"][0] == close([2 / 3, np.nan, np.nan], nan_ok=True)
    assert found["recall"][0] == close([1, 0, np.nan], nan_ok=True)
    assert found["f1"][0] == close([0.8, 0, np.nan], nan_ok=True)
    assert found["specificity"][0] == close([0, 1, 1])


def test_confusion_has_labels_in_rows():
    found = compute_confusion(np.array([0, 0, 2]), np.array([1, 0, 1]), 3)
    assert found.tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("labels", "probs", "says"),
    [
        ([0, 1], [[0.5, 0.5]], "do not fit"),
        ([0], [[1.0]], "do not fit"),
        ([], np.zeros((0, 2)), "no sample"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], "row 1"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "2 classes"),
        ([-1, 1], [[0.5, 0.5], [0.5, 0.5]], "-1"),
    ],
)
def test_input_that_does_not_fit_is_refused(labels, probs, says):
    with pytest.raises(DataError, match=says):
        compute_scores(np.array(labels, dtype=int), np.array(probs))


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="weights"):
        compute_scores(np.array([0, 1]), np.eye(2), weights=np.ones((1, 3)))
