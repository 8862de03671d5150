"""What `bench/leaks.py` compares is what it says: the network, the interval, and who sees what."""

from __future__ import annotations

import itertools

import leaks
import leaks_resampling
import numpy as np
import pytest
from leaks_copies import split_pictures
from scipy.stats import ttest_rel

from pictures import make_cohort, make_sample


@pytest.fixture(scope="module")
def data() -> leaks_resampling.Data:
    return leaks_resampling.load(None, 40, 0)


def test_network_has_the_published_number_of_parameters() -> None:
    network = leaks_resampling.build_network(4)
    assert sum(parameter.numel() for parameter in network.parameters()) == 167_172


def test_interval_is_that_of_a_paired_t_test() -> None:
    random = np.random.default_rng(0)
    one, other = random.normal(0.9, 0.01, 6), random.normal(0.8, 0.02, 6)
    expected = ttest_rel(one, other).confidence_interval(0.95)
    arms = {
        name: [dict.fromkeys(leaks.METRICS, value) for value in values]
        for name, values in (("published", one.tolist()), ("honest", other.tolist()))
    }
    found = leaks.summarise(arms)["inflation"]["published"]["auc"]  # type: ignore[index]
    assert (found["low"], found["high"]) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert found["value"] == pytest.approx(float((one - other).mean()))


def test_synthetic_patients_have_one_class_and_six_pictures(data: leaks_resampling.Data) -> None:
    assert np.bincount(data.patients).tolist() == [6] * 40
    assert all(len(set(data.labels[data.patients == patient].tolist())) == 1 for patient in range(40))


def find_relatives(part: leaks_resampling.Part) -> int:
    """Test pictures that are trained on as well."""
    train, test = part.train.reshape(len(part.train), -1), part.test.reshape(len(part.test), -1)
    nearest = [float(np.sort(np.linalg.norm(train - row, axis=1))[0]) for row in test]
    return int((np.array(nearest) < 1e-6).sum())


def test_honest_folds_divide_no_patient_and_measure_real_pictures(data: leaks_resampling.Data) -> None:
    real = {row.tobytes() for row in leaks_resampling.equalise(data.pixels)}
    seen = 0
    for part in leaks_resampling._split_patients(data, 4, seed=0):
        assert all(row.tobytes() in real for row in part.test)
        assert find_relatives(part) == 0
        counts = np.bincount(part.train_labels)
        assert counts.tolist() == [counts[0]] * 4
        seen += len(part.test)
    assert seen == len(data.labels)


def test_published_folds_measure_what_was_made(data: leaks_resampling.Data) -> None:
    real = {row.tobytes() for row in leaks_resampling.equalise(data.pixels)}
    tests = [part.test for part in leaks_resampling._publish(data, 4, seed=0)]
    n_real = sum(row.tobytes() in real for row in itertools.chain(*tests))
    assert n_real == len(data.labels)
    assert sum(map(len, tests)) == 2 * 4 * np.bincount(data.labels).max()


def test_pictures_are_dealt_one_by_one() -> None:
    samples = tuple(make_sample(f"{row}.png", "ab"[row % 2], f"P{row // 4}") for row in range(80))
    splits = split_pictures(make_cohort(samples), (0.7, 0.15, 0.15), seed=0)
    counts = {part: sum(row.split == part for row in splits) for part in ("train", "val", "test")}
    assert counts == {"train": 56, "val": 12, "test": 12}
    parts = {}
    for row in splits:
        parts.setdefault(row.patient, set()).add(row.split)
    assert max(map(len, parts.values())) > 1
