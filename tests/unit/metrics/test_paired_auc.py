"""The variance of an AUC is that of the published formulas, worked out here pair by pair, and of other libraries."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import make_risks
from sklearn.metrics import roc_auc_score

from snellen.core.errors import DataError
from snellen.metrics.paired_auc import compute_correlated_aucs


def draw(n_patients: int, per_patient: int, seed: int = 0) -> tuple[np.ndarray, list[np.ndarray], list[str]]:
    """Labels, scores of two models, patients; pictures of a patient are alike, some patients have both labels."""
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(n_patients), per_patient)
    labels = (random.random(len(patient)) < np.where(patient % 3 == 0, 0.8, 0.2)).astype(bool)
    own = random.normal(size=n_patients)[patient]
    common = labels + own + random.normal(size=len(patient))
    scores = [np.round(common + random.normal(0, spread, len(patient)), 1) for spread in (0.5, 1.0)]
    return labels, scores, [f"P{number}" for number in patient]


def win(positive: float, negative: float) -> float:
    return 1.0 if positive > negative else 0.5 if positive == negative else 0.0


def compute_by_pairs(labels: np.ndarray, scores: list[np.ndarray], patients: list[str]) -> np.ndarray:
    """Obuchowski 1997 as it is written: placements by loops over pairs, sums over patients one by one."""
    names = sorted(set(patients))
    n_positive, n_negative = int(labels.sum()), int((~labels).sum())
    rows = range(len(labels))
    aucs, deviations = [], []
    for own in scores:
        x10 = {i: sum(win(own[i], own[j]) for j in rows if not labels[j]) / n_negative for i in rows if labels[i]}
        x01 = {j: sum(win(own[i], own[j]) for i in rows if labels[i]) / n_positive for j in rows if not labels[j]}
        auc = sum(x10.values()) / n_positive
        aucs.append(auc)
        members = {name: [row for row in rows if patients[row] == name] for name in names}
        deviations.append(
            [
                (sum(x10[r] - auc for r in own if r in x10), sum(x01[r] - auc for r in own if r in x01))
                for own in members.values()
            ]
        )
    n_with_positive = len({patients[row] for row in rows if labels[row]})
    n_with_negative = len({patients[row] for row in rows if not labels[row]})
    found = np.zeros((len(scores), len(scores)))
    for r, one in enumerate(deviations):
        for s, other in enumerate(deviations):
            s10 = (
                n_with_positive
                / ((n_with_positive - 1) * n_positive)
                * sum(a[0] * b[0] for a, b in zip(one, other, strict=True))
            )
            s01 = (
                n_with_negative
                / ((n_with_negative - 1) * n_negative)
                * sum(a[1] * b[1] for a, b in zip(one, other, strict=True))
            )
            s11, s11_turned = (
                len(names) / (len(names) - 1) * sum(a[0] * b[1] for a, b in zip(first, second, strict=True))
                for first, second in ((one, other), (other, one))
            )
            found[r, s] = s10 / n_positive + s01 / n_negative + (s11 + s11_turned) / (n_positive * n_negative)
    return found


def compute_delong(labels: np.ndarray, scores: list[np.ndarray]) -> np.ndarray:
    """DeLong, DeLong and Clarke-Pearson 1988, equations 2 to 6: sample covariances of placements by pairs."""
    positives, negatives = np.flatnonzero(labels), np.flatnonzero(~labels)
    v10 = np.array([[np.mean([win(own[i], own[j]) for j in negatives]) for i in positives] for own in scores])
    v01 = np.array([[np.mean([win(own[i], own[j]) for i in positives]) for j in negatives] for own in scores])
    return np.cov(v10) / len(positives) + np.cov(v01) / len(negatives)


def test_single_pictures_give_delong() -> None:
    labels, scores, patients = draw(70, 1)
    found = compute_correlated_aucs(labels, scores, patients)
    assert found.method == "delong"
    assert found.aucs == pytest.approx([roc_auc_score(labels, each) for each in scores])
    np.testing.assert_allclose(found.covariance, compute_delong(labels, scores), rtol=1e-10)


def test_several_pictures_a_patient_give_obuchowski() -> None:
    labels, scores, patients = draw(30, 3)
    found = compute_correlated_aucs(labels, scores, patients)
    assert found.method == "obuchowski"
    np.testing.assert_allclose(found.covariance, compute_by_pairs(labels, scores, patients), rtol=1e-10)


def test_obuchowski_is_delong_at_one_picture_a_patient() -> None:
    labels, scores, patients = draw(60, 1, seed=3)
    np.testing.assert_allclose(compute_by_pairs(labels, scores, patients), compute_delong(labels, scores), rtol=1e-10)
    found = compute_correlated_aucs(labels, scores, patients)
    np.testing.assert_allclose(found.covariance, compute_by_pairs(labels, scores, patients), rtol=1e-10)


def test_pictures_of_a_patient_widen_the_error() -> None:
    labels, scores, patients = draw(60, 4)
    labels = np.repeat(labels[::4], 4)  # one label a patient
    scores = [score + 2 * labels for score in scores]
    together = compute_correlated_aucs(labels, scores, patients).covariance[0, 0]
    apart = compute_correlated_aucs(labels, scores, [str(row) for row in range(len(labels))]).covariance[0, 0]
    assert together > 1.5 * apart


def test_variance_is_that_of_confidenceinterval() -> None:
    """Its numbers, by bench/oracles.py; it ranks in single precision."""
    labels, risk = make_risks()
    found = compute_correlated_aucs(labels == 1, [risk], [str(row) for row in range(len(labels))])
    assert found.aucs[0] == pytest.approx(0.8608375192, abs=1e-6)
    assert found.covariance[0, 0] == pytest.approx(0.0006935984215, rel=1e-6)


def test_difference_of_equal_models_has_no_error() -> None:
    labels, scores, patients = draw(40, 2)
    found = compute_correlated_aucs(labels, [scores[0], scores[0]], patients)
    assert found.subtract() == (0.0, pytest.approx(0.0, abs=1e-12))


def test_one_patient_with_positives_is_too_few() -> None:
    labels = np.array([True, True, False, False, False])
    with pytest.raises(DataError, match="two patients"):
        compute_correlated_aucs(labels, [np.arange(5.0)], ["a", "a", "b", "c", "d"])


@pytest.mark.parametrize("per_patient", [1, 3])
def test_standard_error_is_the_spread_over_studies(per_patient: int) -> None:
    """The formula agrees with what drawing the study anew shows: 400 studies know a spread to 4 %."""
    found = []
    for seed in range(400):
        labels, scores, patients = draw(60, per_patient, seed=100 + seed)
        found.append(compute_correlated_aucs(labels, scores, patients).subtract())
    differences, errors = np.array(found).T
    assert np.sqrt((errors**2).mean()) == pytest.approx(differences.std(ddof=1), rel=0.12)
