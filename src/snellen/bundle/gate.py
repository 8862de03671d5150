"""Fits the gate: components on training embeddings, the limit on validation embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen.inference.gate import GATE_FILE, Gate

FALSE_REFUSALS = 0.01
_COMPONENTS = 64
_MARGIN = 1.15
_RELATIVE_FLOOR = 1e-6


def fit_gate(train: NDArray[np.float32], val: NDArray[np.float32]) -> Gate:
    """Embeddings `(N, D)` of training and `(M, D)` of validation pictures → gate.

    The limit is the 99th percentile of the validation distances with a margin of 15 %: one split
    knows the tail of few pictures badly, and a gate that cries wolf is switched off.
    """
    mean = train.mean(0).astype(np.float64)
    centred = train.astype(np.float64) - mean
    n_components = max(1, min(_COMPONENTS, len(train) // 4, train.shape[1] - 1))
    # the covariance's eigenvectors, D×D at most 4096: exact, and the same on every call
    values, vectors = np.linalg.eigh(centred.T @ centred / max(1, len(train) - 1))
    order = np.argsort(values)[::-1][:n_components]
    # directions in which training never varies are left to what lies outside: their rounding is no measure
    floor = max(_RELATIVE_FLOOR * float(values.max()), 1e-12)
    order = order[: max(1, int((values[order] > floor).sum()))]
    components = vectors[:, order]
    inside = centred @ components
    outside = np.sqrt(np.maximum((centred**2).sum(1) - (inside**2).sum(1), 0))
    scale = np.sqrt(np.maximum([*values[order], (outside**2).mean()], floor))
    gate = Gate(mean.astype(np.float32), components.astype(np.float32), scale.astype(np.float32), np.inf)
    distances = gate.compute_distances(val if len(val) else train)
    limit = float(np.quantile(distances, 1 - FALSE_REFUSALS)) * _MARGIN
    return Gate(gate.mean, gate.components, gate.scale, limit)


def save_gate(gate: Gate, folder: Path) -> None:
    """Write `gate.npz`."""
    np.savez(
        folder / GATE_FILE, mean=gate.mean, components=gate.components, scale=gate.scale, limit=np.float64(gate.limit)
    )
