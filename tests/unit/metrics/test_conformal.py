"""Conformal sets hold the true class as often as they say, for each class, and agree with MAPIE."""

from __future__ import annotations

import numpy as np
import pytest

from snellen.metrics.conformal import compute_quantile, count_needed, fit_conformal, predict_sets


def draw(n: int, seed: int, shares: tuple[float, ...] = (0.6, 0.3, 0.1)) -> tuple[np.ndarray, np.ndarray]:
    """Labels `(N,)` and probabilities `(N, C)` of a fair model, the rare class being the hardest."""
    random = np.random.default_rng(seed)
    labels = random.choice(len(shares), n, p=shares)
    logits = random.normal(size=(n, len(shares)))
    logits[np.arange(n), labels] += np.array([2.5, 1.5, 0.5])[labels]
    raised = np.exp(logits)
    return labels, raised / raised.sum(1, keepdims=True)


def name_patients(n: int, size: int = 1) -> list[str]:
    return [f"P{row // size}" for row in range(n)]


@pytest.mark.parametrize(
    ("n", "coverage", "expected"),
    [(9, 0.9, 9), (10, 0.9, 10), (19, 0.9, 18), (99, 0.9, 90), (8, 0.9, None), (19, 0.95, 19), (18, 0.95, None)],
)
def test_quantile_is_the_rank_with_the_new_picture_counted(n: int, coverage: float, expected: int | None) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1, n + 1) / 1000)
    # ⌈(n + 1)·coverage⌉-th smallest; 1 where there is no such score
    assert compute_quantile(scores, coverage) == (1.0 if expected is None else expected / 1000)


@pytest.mark.parametrize(("coverage", "expected"), [(0.9, 9), (0.95, 19), (0.8, 4), (0.5, 1), (0.99, 99)])
def test_fewest_patients_are_those_whose_quantile_leaves_something_out(coverage: float, expected: int) -> None:
    assert count_needed(coverage) == expected
    scores = np.linspace(0.1, 0.2, expected)
    assert compute_quantile(scores, coverage) < 1
    assert compute_quantile(scores[1:], coverage) == 1


@pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset has less labels")  # on purpose: by class
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_quantiles_and_sets_are_those_of_mapie_class_by_class(coverage: float) -> None:
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
        """Says the probabilities that it is given as features."""

        classes_ = np.arange(3)

        def fit(self, _x: np.ndarray, _y: np.ndarray) -> Given:
            return self

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            return x

        def predict(self, x: np.ndarray) -> np.ndarray:
            return np.asarray(x.argmax(1))

    labels, probabilities = draw(900, 0)
    _, new = draw(300, 1)
    found = fit_conformal(labels, probabilities, name_patients(900), coverage=coverage, seed=0)
    ours = predict_sets(new, found.quantiles.tolist(), is_ordered=False)
    for c in range(3):
        own = labels == c
        mapie = SplitConformalClassifier(Given(), confidence_level=coverage, conformity_score="lac", prefit=True)
        mapie.conformalize(probabilities[own], labels[own])
        _, sets = mapie.predict_set(new)
        assert np.array_equal(sets[:, c, 0], ours[:, c])


def test_coverage_holds_for_each_class() -> None:
    hits = np.zeros(3)
    for seed in range(60):
        labels, probabilities = draw(600, seed)
        found = fit_conformal(labels[:300], probabilities[:300], name_patients(300), coverage=0.9, seed=0)
        inside = predict_sets(probabilities[300:], found.quantiles.tolist(), is_ordered=False)
        held = inside[np.arange(300), labels[300:]]
        hits += [held[labels[300:] == c].mean() for c in range(3)]
    # 60 draws: the rare class has about 30 pictures on each side, whose coverage spreads by 8 points; its mean by one
    assert np.abs(hits / 60 - 0.9).max() < 0.035


def test_a_quantile_of_all_classes_would_not_hold_for_the_rare_one() -> None:
    labels, probabilities = draw(4000, 5)
    together = compute_quantile(1 - probabilities[np.arange(2000), labels[:2000]], 0.9)
    held = predict_sets(probabilities[2000:], [together] * 3, is_ordered=False)[np.arange(2000), labels[2000:]]
    assert held[labels[2000:] == 2].mean() < 0.8


def test_one_picture_of_a_patient_counts() -> None:
    # one patient with 91 wrong pictures, 9 patients with a right one each
    labels = np.zeros(100, int)
    probabilities = np.array([[0.9, 0.1]] * 9 + [[0.0, 1.0]] * 91)
    patients = [f"P{row}" for row in range(9)] + ["same"] * 91
    found = fit_conformal(labels, probabilities, patients, coverage=0.8, seed=0)
    assert found.n_patients.tolist() == [10, 0]
    assert found.quantiles[0] == pytest.approx(0.1)


def test_class_with_few_patients_shares_the_quantile_of_all_and_is_named() -> None:
    labels, probabilities = draw(200, 3)
    few = np.flatnonzero(labels == 2)[8:]
    keep = np.setdiff1d(np.arange(200), few)
    found = fit_conformal(labels[keep], probabilities[keep], name_patients(len(keep)), coverage=0.9, seed=0)
    assert found.pooled == (2,)
    scores = 1 - probabilities[keep][np.arange(len(keep)), labels[keep]]
    assert found.quantiles[2] == compute_quantile(scores, 0.9)
    assert found.quantiles[0] != found.quantiles[2]


def test_too_few_patients_leave_nothing_out() -> None:
    found = fit_conformal(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]), ["a", "b"], coverage=0.9, seed=0)
    assert found.quantiles.tolist() == [1.0, 1.0]
    assert predict_sets(np.array([[1.0, 0.0]]), found.quantiles.tolist(), is_ordered=False).all()


def test_sets_of_grades_have_no_holes() -> None:
    probabilities = np.array([[0.45, 0.05, 0.5]])
    assert predict_sets(probabilities, [0.6] * 3, is_ordered=False).tolist() == [[True, False, True]]
    assert predict_sets(probabilities, [0.6] * 3, is_ordered=True).tolist() == [[True, True, True]]


def test_set_may_be_empty() -> None:
    assert not predict_sets(np.array([[0.5, 0.5]]), [0.1, 0.1], is_ordered=True).any()
