"""The error of an AUC against worked values and against a simulation; growth that halves it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from snellen.metrics.ranking import compute_weighted_auc
from snellen.metrics.sample_size import compute_auc_error, compute_half_width, find_growth


def test_error_equals_the_published_example() -> None:
    """Hanley and McNeil (1982): 51 abnormal and 58 normal cases, area 0.893, standard error 0.032."""
    assert compute_auc_error(0.893, 51, 58) == pytest.approx(0.032, abs=0.0006)


def test_error_agrees_with_simulated_cohorts() -> None:
    random = np.random.default_rng(0)
    shift = 1.4657  # of two normal distributions: AUC 0.85
    found = []
    for _ in range(400):
        scores = np.concatenate([random.normal(shift, 1, 30), random.normal(0, 1, 90)])
        found.append(compute_weighted_auc(np.arange(120) < 30, scores, np.ones((1, 120)))[0])
    assert np.mean(found) == pytest.approx(0.85, abs=0.01)
    # the exponential approximation is on the safe side
    assert np.std(found) <= compute_auc_error(0.85, 30, 90) <= 1.3 * np.std(found)


def test_growth_halves_the_width() -> None:
    growth = find_growth(0.85, 12, 40)
    assert 3.5 < growth < 4.5
    now, then = (compute_half_width(0.85, factor * 12, factor * 40) for factor in (1, growth))
    assert then == pytest.approx(now / 2, rel=1e-6)


def test_an_empty_side_has_no_width() -> None:
    assert math.isinf(compute_half_width(0.8, 0, 10))
    assert math.isnan(find_growth(0.8, 0, 10))
