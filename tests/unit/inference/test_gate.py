"""The gate measures how far an embedding lies from those of training; a damaged one is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from snellen.core.errors import BundleError
from snellen.inference.gate import GATE_FILE, Gate, load_gate


@pytest.fixture
def gate() -> Gate:
    """Two components along the first two of four features, two and three long; what lies outside is one long."""
    return Gate(
        mean=np.array([10, 0, 0, 0], np.float32),
        components=np.eye(4, 2, dtype=np.float32),
        scale=np.array([2, 3, 1], np.float32),
        limit=2.5,
    )


def write(gate: Gate, folder: Path, **changes: np.ndarray) -> Path:
    content = {"mean": gate.mean, "components": gate.components, "scale": gate.scale, "limit": np.float64(gate.limit)}
    np.savez(folder / GATE_FILE, **{**content, **changes})
    return folder


@pytest.mark.parametrize(
    ("embedding", "expected"),
    [
        ([10, 0, 0, 0], 0.0),  # the mean itself
        ([12, 3, 0, 0], np.sqrt((1 + 0) / 2)),  # one deviation along each component, nothing outside
        ([10, 0, 0.6, 0.8], np.sqrt((0 + 1) / 2)),  # one deviation outside
        ([6, -6, 3, 4], np.sqrt(((4 + 4) / 2 + 25) / 2)),
    ],
    ids=["mean", "inside", "outside", "both"],
)
def test_distance_is_as_worked_out_by_hand(gate: Gate, embedding: list[float], expected: float) -> None:
    found = gate.compute_distances(np.array([embedding], np.float32))
    # float32 input, float64 sums
    assert found == pytest.approx([expected], abs=1e-6)


def test_distances_come_a_row_each(gate: Gate) -> None:
    rows = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    alone = [float(gate.compute_distances(row[None])[0]) for row in rows]
    assert gate.compute_distances(rows) == pytest.approx(alone, rel=1e-12)  # float64 sums in another order


def test_gate_is_read_as_it_was_stored(gate: Gate, tmp_path: Path) -> None:
    found = load_gate(write(gate, tmp_path))
    assert found.limit == gate.limit
    assert np.array_equal(found.components, gate.components)


def test_gate_without_limit_is_refused(gate: Gate, tmp_path: Path) -> None:
    np.savez(tmp_path / GATE_FILE, mean=gate.mean, components=gate.components, scale=gate.scale)
    with pytest.raises(BundleError, match=r"gate\.npz cannot be read.*limit"):
        load_gate(tmp_path)


def test_gate_with_pickled_objects_is_refused(gate: Gate, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"gate\.npz cannot be read"):
        load_gate(write(gate, tmp_path, mean=np.array([{"a": 1}], dtype=object)))


def test_absent_gate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"gate\.npz"):
        load_gate(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_gate_that_was_cut_off_is_refused(gate: Gate, tmp_path: Path, kept: float) -> None:
    path = write(gate, tmp_path) / GATE_FILE
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(BundleError, match=r"gate\.npz cannot be read"):
        load_gate(tmp_path)
