"""Each method is imbalanced-learn's on the same rows, and stands classes that it would refuse."""

from __future__ import annotations

import numpy as np
import pytest
from imblearn.combine import SMOTETomek
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler

from snellen.training.resampling import Resampled, resample

LABELS = np.array([0] * 60 + [1] * 25 + [2] * 15)
METHODS = ["smote", "smote_tomek", "random_over", "random_under"]


def draw_rows(labels: np.ndarray = LABELS, seed: int = 4) -> np.ndarray:
    """Overlapping clouds, so that there are links between classes."""
    random = np.random.default_rng(seed)
    return random.normal(size=(len(labels), 6)) + 0.5 * labels[:, None]


def join(found: Resampled, rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.vstack([rows[found.picked], found.made]), np.concatenate([labels[found.picked], found.made_labels])


@pytest.mark.parametrize(
    ("method", "sampler"),
    [
        ("smote", SMOTE(k_neighbors=5, random_state=7)),
        ("smote_tomek", SMOTETomek(smote=SMOTE(k_neighbors=5, random_state=7))),
        ("random_over", RandomOverSampler(random_state=7)),
        ("random_under", RandomUnderSampler(random_state=7)),
    ],
)
def test_rows_are_those_of_imbalanced_learn(method: str, sampler: SMOTE) -> None:
    rows = draw_rows()
    expected, expected_labels = sampler.fit_resample(rows, LABELS)
    found, found_labels = join(resample(rows, LABELS, method, 5, 7), rows, LABELS)
    assert found_labels.tolist() == expected_labels.tolist()
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_tomek_links_take_rows_away() -> None:
    rows = draw_rows()
    one, other = (resample(rows, LABELS, method, 5, 7) for method in ("smote", "smote_tomek"))
    assert len(other.picked) + len(other.made) < len(one.picked) + len(one.made)


@pytest.mark.parametrize(("method", "size"), [("smote", 60), ("random_over", 60), ("random_under", 15)])
def test_classes_become_equal(method: str, size: int) -> None:
    rows = draw_rows()
    assert np.bincount(join(resample(rows, LABELS, method, 5, 0), rows, LABELS)[1]).tolist() == [size] * 3


@pytest.mark.parametrize("method", METHODS)
def test_labels_without_rows_stay_without(method: str) -> None:
    labels = LABELS * 2  # no row of class 1 and 3
    found = join(resample(draw_rows(), labels, method, 5, 0), draw_rows(), labels)[1]
    assert set(found.tolist()) == {0, 2, 4}


@pytest.mark.parametrize("method", METHODS)
def test_one_class_alone_stays_as_it_is(method: str) -> None:
    rows = draw_rows()
    found = resample(rows, np.full(100, 1), method, 5, 0)
    assert (found.picked.tolist(), len(found.made)) == (list(range(100)), 0)


@pytest.mark.parametrize("method", ["smote", "smote_tomek"])
def test_lone_row_is_repeated(method: str) -> None:
    labels = np.array([0] * 10 + [1])
    rows = draw_rows(labels)
    rows[10] += 100  # far from all others: no links
    found = resample(rows, labels, method, 5, 0)
    assert found.made_labels.tolist() == [1] * 9
    np.testing.assert_array_equal(found.made, np.repeat(rows[10:], 9, axis=0))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_fewer_rows_than_neighbours_take_all_of_them(n: int) -> None:
    labels = np.array([0] * 20 + [1] * n)
    rows = draw_rows(labels)
    found = resample(rows, labels, "smote", 5, 3)
    expected, _ = SMOTE(k_neighbors=n - 1, random_state=3).fit_resample(rows, labels)
    np.testing.assert_allclose(found.made, expected[len(rows) :], atol=1e-12)
    own = rows[20:]
    assert (found.made >= own.min(0) - 1e-9).all()
    assert (found.made <= own.max(0) + 1e-9).all()


def test_class_is_never_cut_away_whole() -> None:
    rows, labels = np.array([[0.0], [0.1]]), np.array([0, 1])  # each the other's nearest: a link of all there is
    assert resample(rows, labels, "smote_tomek", 5, 0).picked.tolist() == [0, 1]


@pytest.mark.parametrize("method", METHODS)
def test_equal_seeds_resample_equally(method: str) -> None:
    rows = draw_rows()
    one, same, other = (resample(rows, LABELS, method, 5, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.picked, same.picked)
    assert np.array_equal(one.made, same.made)
    assert not (np.array_equal(one.picked, other.picked) and np.array_equal(one.made, other.made))
