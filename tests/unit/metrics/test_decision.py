"""What a picture is called: the most probable class, the highest over its share, or the expected grade."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    recall_score,
)

from snellen.core.errors import UsageError
from snellen.metrics.decision import Balanced, Rule, decide, make_rule
from snellen.metrics.intervals import compute_per_class_estimates
from snellen.metrics.scores import compute_per_class, compute_scores
from snellen.records.evaluation import Intervals
from snellen.records.recipe import DecisionRule

GRADES = np.arange(5)
RULES: tuple[DecisionRule, ...] = ("most_probable", "expected_grade")


def draw_grades(n: int = 400, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels of five grades, the graver the rarer, and probabilities that are right on average."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet([1.2, 0.5, 0.7, 0.3, 0.2], n)
    labels = np.array([random.choice(5, p=row) for row in probabilities])
    return labels, probabilities


@pytest.mark.parametrize(
    ("row", "most_probable", "expected_grade"),
    [
        ([0.40, 0.25, 0.35], 0, 1),  # expected grade 0.95
        ([0.50, 0.05, 0.05, 0.40], 0, 1),  # 1.35
        ([0.05, 0.05, 0.90], 2, 2),  # 1.85
        ([1.00, 0.00, 0.00], 0, 0),
        ([0.00, 0.00, 1.00], 2, 2),
        ([0.55, 0.00, 0.00, 0.00, 0.45], 0, 2),  # 1.8
    ],
)
def test_decision_worked_out_by_hand(row: list[float], most_probable: int, expected_grade: int) -> None:
    assert decide(np.array([row]), "most_probable").tolist() == [most_probable]
    assert decide(np.array([row]), "expected_grade").tolist() == [expected_grade]


@pytest.mark.parametrize(
    ("row", "called"),
    [
        ([0.55, 0.40, 0.05], 1),  # 0.86, 2.35, 0.26 of their shares
        ([0.90, 0.05, 0.05], 0),
        ([0.60, 0.10, 0.30], 2),
    ],
)
def test_balanced_decision_worked_out_by_hand(row: list[float], called: int) -> None:
    assert decide(np.array([row]), make_rule("balanced", (0.64, 0.17, 0.19))).tolist() == [called]
    assert decide(np.array([row]), Balanced((1 / 3, 1 / 3, 1 / 3))).tolist() == [0]


def test_balanced_has_the_highest_mean_recall_where_probabilities_are_right() -> None:
    random = np.random.default_rng(3)
    probabilities = random.dirichlet([1.5, 0.4, 0.2], 20_000)
    labels = np.array([random.choice(3, p=row) for row in probabilities])
    shares = probabilities.mean(0)

    def measure(rule: Rule) -> tuple[float, float]:
        called = decide(probabilities, rule)
        return balanced_accuracy_score(labels, called), accuracy_score(labels, called)

    best = measure(make_rule("balanced", shares.tolist()))
    assert best[0] > measure("most_probable")[0] + 0.05
    assert best[1] < measure("most_probable")[1]
    for factors in ((1, 1.5, 1), (1, 1, 1.5), (1.5, 1, 1), (1, 0.5, 1)):  # other shares are worse
        assert best[0] >= measure(Balanced(tuple(shares * factors)))[0] - 0.002


def test_balanced_needs_a_share_of_every_class() -> None:
    with pytest.raises(UsageError, match="share of every class"):
        make_rule("balanced", (0.5, 0.5, 0.0))
    assert make_rule("most_probable", ()) == "most_probable"
    with pytest.raises(TypeError, match="needs shares"):
        decide(np.array([[0.5, 0.5]]), "balanced")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("row", "called"),
    [
        ([0.5, 0.5, 0.0], 0),
        ([0.0, 0.5, 0.5], 1),
        ([0.1, 0.4, 0.4, 0.1], 1),  # 1.5000000000000002 in float64
        ([0.0, 0.2, 0.3, 0.3, 0.2], 2),
        ([0.5 - 1e-4, 0.5 + 1e-4, 0.0], 1),
    ],
)
def test_half_way_the_lower_grade_is_taken(row: list[float], called: int, dtype: type) -> None:
    assert decide(np.array([row], dtype), "expected_grade").tolist() == [called]


def test_of_equally_probable_classes_the_lower_is_taken() -> None:
    assert decide(np.array([[0.2, 0.4, 0.4]]), "most_probable").tolist() == [1]


def test_no_grade_has_a_smaller_expected_squared_distance() -> None:
    _, probabilities = draw_grades(5000)
    cost = probabilities @ ((GRADES[:, None] - GRADES[None, :]) ** 2)  # (N, grade that is called)
    np.testing.assert_array_equal(decide(probabilities, "expected_grade"), cost.argmin(axis=1))


def test_a_row_is_decided_alike_alone_and_among_others() -> None:
    _, probabilities = draw_grades()
    alone = [int(decide(row[None], "expected_grade")[0]) for row in probabilities]
    assert decide(probabilities, "expected_grade").tolist() == alone


def test_rounding_leads_to_no_grade_that_is_none() -> None:
    over = np.array([[0.0, 0.0, 1.5], [-0.9, 0.0, 0.0]])
    assert decide(over, "expected_grade").tolist() == [2, 0]


def test_scores_of_grades_equal_sklearn() -> None:
    labels, probabilities = draw_grades()
    found = compute_scores(labels, probabilities, is_ordered=True, rule="expected_grade")
    called = np.clip(np.ceil(probabilities @ GRADES - 0.5), 0, 4).astype(int)
    assert found["kappa_quadratic"][0] == pytest.approx(cohen_kappa_score(labels, called, weights="quadratic"))
    assert found["accuracy"][0] == pytest.approx(accuracy_score(labels, called))
    assert found["recall"][0] == pytest.approx(recall_score(labels, called, average="macro"))


def test_expected_grade_makes_squared_errors_smaller() -> None:
    labels, probabilities = draw_grades(4000)
    plain, graded = (decide(probabilities, rule) for rule in RULES)
    assert ((graded - labels) ** 2).mean() < ((plain - labels) ** 2).mean()


def test_expected_grade_raises_kappa_where_grave_grades_are_rare() -> None:
    # a severity seen with noise, cut into grades as frequent as in a screening population; probabilities are exact
    random = np.random.default_rng(0)
    cuts = norm.ppf(np.cumsum([0.49, 0.10, 0.27, 0.05]))
    severity = random.normal(size=4000)
    seen = (severity + 0.5 * random.normal(size=4000)) / 1.25
    edges = np.concatenate([[-np.inf], cuts, [np.inf]])
    probabilities = np.diff(norm.cdf((edges[None] - seen[:, None]) / np.sqrt(0.2)), axis=1)
    labels = np.searchsorted(cuts, severity)
    plain, graded = (compute_scores(labels, probabilities, is_ordered=True, rule=rule) for rule in RULES)
    assert graded["kappa_quadratic"][0] > plain["kappa_quadratic"][0] + 0.01


@pytest.mark.parametrize("name", ["auc", "brier", "log_loss", "ece"])
def test_scores_of_the_probabilities_do_not_depend_on_the_rule(name: str) -> None:
    labels, probabilities = draw_grades()
    plain, graded = (
        compute_scores(labels, probabilities, rule=rule)[name] for rule in ("most_probable", "expected_grade")
    )
    np.testing.assert_array_equal(plain, graded)


def test_each_class_follows_the_rule() -> None:
    labels, probabilities = draw_grades()
    counts = confusion_matrix(labels, decide(probabilities, "expected_grade"))
    found = compute_per_class(labels, probabilities, rule="expected_grade")
    np.testing.assert_allclose(found["recall"][0], counts.diagonal() / counts.sum(axis=1))
    settings = Intervals(n_resamples=100, unit="patient", seed=0)
    patients = [str(number) for number in range(len(labels))]
    each = compute_per_class_estimates(
        labels, probabilities, patients, classes=list("abcde"), settings=settings, rule="expected_grade"
    )
    assert [found.recall.value for found in each.values()] == pytest.approx(list(found["recall"][0]))
