"""Shares: Wilson's interval where patients count once, an effective number of cases where pictures are alike."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, t

from snellen.metrics.intervals import PatientBootstrap
from snellen.metrics.proportions import compute_wilson_interval, estimate_proportion
from snellen.records.evaluation import Intervals

ONE_STRATUM = np.zeros(1000, dtype=np.intp)


def estimate(hits, units, strata=None, counted=None):
    hits, units = np.asarray(hits, bool), np.asarray(units)
    counted = np.ones(len(hits), bool) if counted is None else np.asarray(counted, bool)
    strata = ONE_STRATUM[: units.max() + 1] if strata is None else strata
    return estimate_proportion(hits, counted, units, strata, 0.95)


@pytest.mark.parametrize(("n_hits", "n"), [(0, 20), (17, 20), (20, 20), (71, 80), (1, 3)])
def test_one_picture_a_patient_has_the_plain_interval(n_hits, n):
    found = estimate(np.arange(n) < n_hits, np.arange(n))
    expected = binomtest(n_hits, n).proportion_ci(0.95, method="wilson")
    assert (found.value, found.method) == (n_hits / n, "wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_two_equal_pictures_a_patient_say_as_much_as_one():
    units = np.arange(40)
    hits = units < 30
    once, twice = estimate(hits, units), estimate(np.repeat(hits, 2), np.repeat(units, 2))
    assert twice.value == once.value
    # n - 1 patients, and Student's quantile for the normal one
    n, z = 39, float(t.ppf(0.975, 39))
    half = z / (1 + z**2 / n) * np.sqrt(0.75 * 0.25 / n + z**2 / (4 * n**2))
    assert twice.high - twice.low == pytest.approx(2 * half, rel=1e-3)
    assert 1 < (twice.high - twice.low) / (once.high - once.low) < 1.06


def test_pictures_of_a_patient_that_differ_as_strangers_do_count_as_more():
    random = np.random.default_rng(4)
    hits = random.random(400) < 0.8
    together, apart = estimate(hits, np.repeat(np.arange(200), 2)), estimate(hits, np.arange(400))
    assert (together.high - together.low) / (apart.high - apart.low) == pytest.approx(1, abs=0.15)


def test_the_spread_is_that_of_resamples_within_strata():
    random = np.random.default_rng(1)
    labels = np.repeat([0, 1], [240, 60])
    patients = np.repeat(np.arange(150), 2)
    called = random.random(300)[patients] + 0.3 * random.random(300) < np.where(labels == 1, 0.9, 0.3)
    bootstrap = PatientBootstrap(
        labels, [str(each) for each in patients], Intervals(n_resamples=4000, unit="patient", seed=3)
    )
    found = bootstrap.estimate_share(labels == 1, called, 0.95)
    weights = bootstrap.draws[:, bootstrap.unit_of_sample]
    resampled = (weights @ (called & (labels == 1))) / (weights @ called)
    z = float(t.ppf(0.975, bootstrap.count(called) - 1))
    assert (found.high - found.low) / (2 * z * resampled.std()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_without_exceptions_counts_patients(share):
    found = estimate([bool(share)] * 30, np.repeat(np.arange(10), 3))
    assert (found.low, found.high) == pytest.approx(compute_wilson_interval(10 * share, 10))


def test_nothing_counted_has_no_share():
    found = estimate([True, False], [0, 1], counted=[False, False])
    assert (found.value, found.low, found.method) == (None, None, "none")


def test_alone_in_each_stratum_nothing_can_be_resampled_and_patients_count():
    found = estimate([True, False], [0, 1], strata=np.array([0, 1]))
    assert (found.low, found.high) == pytest.approx(compute_wilson_interval(1, 2))
