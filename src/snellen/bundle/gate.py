"""Fits the gate: components on training embeddings, the limit on validation embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen.inference.gate import GATE_FILE, Gate

FALSE_REFUSALS = 0.01
_COMPONENTS = 64
_MARGIN = 1.15
_RELATIVE_FLOOR = 1e-6


def fit_gate(read_train: Callable[[], Iterable[NDArray[np.float32]]], val: NDArray[np.float32]) -> Gate:
    """Blocks of training embeddings `(n, D)`, read twice, and those of validation `(M, D)` → gate.

    The limit is the 99th percentile of the validation distances with a margin of 15 %: one split
    knows the tail of few pictures badly, and a gate that cries wolf is switched off.
    """
    n, mean, scatter = _compute_scatter(read_train)
    n_components = max(1, min(_COMPONENTS, n // 4, len(mean) - 1))
    # the covariance's eigenvectors, D×D at most 4096: exact, and the same on every call
    values, vectors = np.linalg.eigh(scatter / max(1, n - 1))
    order = np.argsort(values)[::-1][:n_components]
    # directions in which training never varies are left to what lies outside: their rounding is no measure
    floor = max(_RELATIVE_FLOOR * float(values.max()), 1e-12)
    order = order[: max(1, int((values[order] > floor).sum()))]
    components = vectors[:, order]
    outside = max(float(np.trace(scatter) - (components * (scatter @ components)).sum()), 0) / n
    scale = np.sqrt(np.maximum([*values[order], outside], floor))
    gate = Gate(mean.astype(np.float32), components.astype(np.float32), scale.astype(np.float32), np.inf)
    compared = [val] if len(val) else read_train()
    distances = np.concatenate([gate.compute_distances(block) for block in compared])
    limit = float(np.quantile(distances, 1 - FALSE_REFUSALS)) * _MARGIN
    return Gate(gate.mean, gate.components, gate.scale, limit)


def _compute_scatter(
    read: Callable[[], Iterable[NDArray[np.float32]]],
) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """Number, mean `(D,)` and centred scatter matrix `(D, D)` of all embeddings."""
    sums = [(len(block), block.sum(0, dtype=np.float64)) for block in read()]
    n = sum(count for count, _ in sums)
    mean = np.sum([total for _, total in sums], axis=0) / n
    scatter = np.zeros((len(mean), len(mean)))
    for block in read():
        centred = block - mean
        scatter += centred.T @ centred
    return n, mean, scatter


def save_gate(gate: Gate, folder: Path) -> None:
    """Write `gate.npz`."""
    np.savez(
        folder / GATE_FILE, mean=gate.mean, components=gate.components, scale=gate.scale, limit=np.float64(gate.limit)
    )
