"""A fitted gate lets pictures as in training pass and refuses foreign ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from snellen.bundle.gate import FALSE_REFUSALS, fit_gate, save_gate
from snellen.inference.gate import Gate, load_gate

D = 40


def draw(n: int, seed: int, *, d: int = D, shift: float = 0.0) -> np.ndarray:
    """Correlated normal rows `(N, D)` whose deviations run from 3 to 0.1."""
    random = np.random.default_rng(seed)
    mixing = np.linalg.qr(np.random.default_rng(99).normal(size=(d, d)))[0]
    rows = random.normal(size=(n, d)) * np.geomspace(3, 0.1, d)
    return np.asarray(rows @ mixing + 5 + shift, np.float32)


def blocks_of(rows: np.ndarray, size: int = 300) -> Callable[[], list[np.ndarray]]:
    """As training reads its embeddings: again and again, in blocks."""
    return lambda: [rows[start : start + size] for start in range(0, len(rows), size)]


@pytest.fixture(scope="module")
def gate() -> Gate:
    return fit_gate(blocks_of(draw(2000, 0)), draw(1000, 1))


def test_distance_of_training_pictures_is_about_one(gate: Gate) -> None:
    # the mean square of 2000 rows: a standard error of some percent
    assert np.sqrt((gate.compute_distances(draw(2000, 0)) ** 2).mean()) == pytest.approx(1.0, abs=0.03)


def test_distance_of_new_pictures_is_about_one(gate: Gate) -> None:
    # as above, and what was fitted on 2000 rows
    assert np.sqrt((gate.compute_distances(draw(2000, 2)) ** 2).mean()) == pytest.approx(1.0, abs=0.06)


def test_new_pictures_are_refused_at_most_one_in_hundred(gate: Gate) -> None:
    refused = (gate.compute_distances(draw(5000, 2)) > gate.limit).mean()
    # the limit has a margin of 15 % above the 99th percentile: fewer than 1 %, plus the spread of 1000 rows
    assert refused <= FALSE_REFUSALS + 0.005


def test_limit_without_its_margin_refuses_about_one_in_hundred(gate: Gate) -> None:
    refused = (gate.compute_distances(draw(5000, 2)) > gate.limit / 1.15).mean()
    # the 99th percentile of 1000 rows has a standard error of 0.3 %
    assert refused == pytest.approx(FALSE_REFUSALS, abs=0.01)


def test_pictures_shifted_far_away_are_refused(gate: Gate) -> None:
    assert (gate.compute_distances(draw(500, 3, shift=5.0)) > gate.limit).all()


def test_pictures_of_other_contrast_are_refused(gate: Gate) -> None:
    spread = 5 + 6 * (draw(500, 3) - 5)
    assert (gate.compute_distances(spread) > gate.limit).mean() > 0.99


def test_pictures_off_the_training_plane_are_refused() -> None:
    # training varies in 10 of 40 directions; a foreign picture leaves along another
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(D, D)))[0]

    def inside(n: int) -> np.ndarray:
        return np.asarray(random.normal(size=(n, 10)) @ basis[:10] + 0.01 * random.normal(size=(n, D)), np.float32)

    fitted = fit_gate(blocks_of(inside(400)), inside(200))
    assert (fitted.compute_distances(inside(100) + 2 * basis[20].astype(np.float32)) > fitted.limit).all()


@pytest.mark.parametrize(("n", "expected"), [(2000, D - 1), (80, 20), (8, 2), (3, 1)])
def test_gate_takes_no_more_components_than_pictures_allow(n: int, expected: int) -> None:
    assert fit_gate(blocks_of(draw(n, 0)), draw(20, 1)).components.shape == (D, expected)


def test_gate_takes_at_most_64_components() -> None:
    assert fit_gate(blocks_of(draw(1000, 0, d=100)), draw(20, 1, d=100)).components.shape == (100, 64)


def test_components_are_orthonormal(gate: Gate) -> None:
    # float32 keeps 7 digits
    np.testing.assert_allclose(gate.components.T @ gate.components, np.eye(D - 1), atol=1e-5)


def test_gate_is_the_same_on_every_call(gate: Gate) -> None:
    again = fit_gate(blocks_of(draw(2000, 0)), draw(1000, 1))
    assert (again.limit, again.components.tobytes()) == (gate.limit, gate.components.tobytes())


def test_gate_without_validation_takes_its_limit_from_training() -> None:
    fitted = fit_gate(blocks_of(draw(400, 0)), np.zeros((0, D), np.float32))
    assert (fitted.compute_distances(draw(400, 0)) > fitted.limit).mean() <= FALSE_REFUSALS


def test_limit_looks_at_validation(gate: Gate) -> None:
    assert fit_gate(blocks_of(draw(2000, 0)), draw(1000, 1, shift=1.0)).limit > 1.5 * gate.limit


def fit_dead() -> tuple[Gate, np.ndarray]:
    """Features of which most never vary, as those of a network that most units of never fire; and new ones."""
    rows = np.zeros((600, D), np.float32)
    rows[:, :8] = np.random.default_rng(0).normal(size=(600, 8))
    return fit_gate(blocks_of(rows[:300]), rows[300:400]), rows[400:]


def test_dead_features_leave_distances_at_about_one() -> None:
    fitted, new = fit_dead()
    # nothing lies outside the eight components: the half of it that counts is 0, which leaves √½ of 1
    assert 0.6 < np.sqrt((fitted.compute_distances(new) ** 2).mean()) < 1.1


def test_dead_features_do_not_blunt_the_gate() -> None:
    fitted, new = fit_dead()
    assert (fitted.compute_distances(100 * new) > fitted.limit).all()


def test_few_distinct_training_pictures_do_not_blunt_the_gate() -> None:
    # 120 pictures, but only 6 different ones: fewer directions than components
    few = draw(6, 0)
    fitted = fit_gate(blocks_of(np.tile(few, (20, 1))), draw(30, 1))
    assert (fitted.compute_distances(draw(30, 2, shift=100.0)) > fitted.limit).all()


def test_gate_comes_back_from_its_file(gate: Gate, tmp_path: Path) -> None:
    save_gate(gate, tmp_path)
    found = load_gate(tmp_path)
    assert np.array_equal(found.compute_distances(draw(50, 4)), gate.compute_distances(draw(50, 4)))
    assert found.limit == gate.limit


def test_gate_does_not_depend_on_the_size_of_blocks() -> None:
    one, many = (fit_gate(blocks_of(draw(500, 0), size), draw(100, 1)) for size in (500, 7))
    assert many.limit == pytest.approx(one.limit, rel=1e-5)
    np.testing.assert_allclose(many.scale, one.scale, rtol=1e-5)
