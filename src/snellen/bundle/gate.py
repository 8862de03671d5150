"""Fits the gate: components on training embeddings, the limit on validation embeddings; looks and facts across both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from snellen.core.array_store import release_pages
from snellen.core.runtime import count_threads
from snellen.imaging.cache import PixelCache
from snellen.imaging.quality import FACTS, compute_facts, compute_look
from snellen.inference.gate import GATE_FILE, Cloud, Gate, Look, Reference, pack_gate
from snellen.records.cohort import Sample

FALSE_REFUSALS = 0.01
MOST_LOOKED_AT = 2000
_COMPONENTS = 64
_MARGIN = 1.15
_RELATIVE_FLOOR = 1e-6
_FOLDS = 5
_FEWEST_LOOKS = 20
_FEWEST_FOR_TOLERANCE = 5
_CONFIDENCE = 0.9
_FACT_TAIL = 0.005
_FACT_MARGIN = 0.5
_READ_AT_ONCE = 256
_QUANTILES = np.linspace(0, 1, 201)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """Pictures of training and validation: `looks` `(N, L)`, `facts` `(N, F)`, and the patient of each."""

    looks: NDArray[np.float32]
    facts: Floats
    patients: tuple[str, ...]


def measure_seen(pixels: PixelCache, samples: Sequence[Sample], units: Sequence[str], seed: int) -> Seen:
    """Looks and facts of up to 2000 of the samples, drawn under `seed`; `units` says whom each counts as."""
    n = min(len(samples), MOST_LOOKED_AT)
    chosen = np.sort(np.random.default_rng(seed).choice(len(samples), n, replace=False)).tolist()
    rows = pixels.select([samples[at] for at in chosen])

    def measure(row: int) -> tuple[NDArray[np.float32], Floats]:
        picture = np.asarray(pixels.pixels[row])
        return compute_look(picture), compute_facts(picture)

    measured: list[tuple[NDArray[np.float32], Floats]] = []
    with ThreadPoolExecutor(count_threads()) as pool:
        for start in range(0, n, _READ_AT_ONCE):
            measured += pool.map(measure, rows[start : start + _READ_AT_ONCE].tolist())
            release_pages(pixels.pixels)
    looks, facts = (np.array(each) for each in zip(*measured, strict=True))
    return Seen(looks, facts, tuple(units[at] for at in chosen))


def fit_gate(
    read_train: Callable[[], Iterable[NDArray[np.float32]]],
    val: NDArray[np.float32],
    seen: Seen | None = None,
    n_patients: int | None = None,
) -> Gate:
    """Blocks of training embeddings `(n, D)`, read twice, those of validation `(M, D)` of `n_patients`, and pictures of
    both → gate. Without `n_patients` each row counts as one.
    """
    cloud = fit_cloud(read_train)
    compared = [val] if len(val) else read_train()
    distances = np.concatenate([cloud.compute_distances(block) for block in compared])
    gate = Gate(cloud.mean, cloud.components, cloud.scale, choose_limit(distances, n_patients or len(distances)))
    if seen is None or len(seen.looks) < _FEWEST_LOOKS:
        return gate
    look, own = fit_look(seen)
    measured = {"embedding": distances, "look": own, **dict(zip(FACTS, seen.facts.T, strict=True))}
    quantiles = {name: np.quantile(values, _QUANTILES) for name, values in measured.items()}
    return replace(gate, look=look, reference=Reference(quantiles))


def fit_look(seen: Seen) -> tuple[Look, Floats]:
    """The look's cloud on all pictures; its limit by distances from clouds that left out the picture's patient, which
    come along `(N,)`.
    """
    _, patient = np.unique(np.array(seen.patients), return_inverse=True)
    fold = patient % min(_FOLDS, int(patient.max()) + 1)
    own = np.zeros(len(seen.looks))
    for number in np.unique(fold):
        is_out = fold == number
        rest = seen.looks[~is_out] if (~is_out).any() else seen.looks
        own[is_out] = fit_cloud(lambda rest=rest: [rest]).compute_distances(seen.looks[is_out])  # type: ignore[misc]  # a default that mypy cannot infer
    low, high = choose_bounds(seen.facts)
    limit = choose_limit(own, len(set(seen.patients)))
    return Look(fit_cloud(lambda: [seen.looks]), limit, low, high), own


def choose_limit(distances: Floats, n_patients: int) -> float:
    """The 99th percentile of the distances `(N,)` with a margin of 15 %, or the tolerance limit where that is higher.

    Few patients know the tail badly, and a gate that cries wolf is switched off. The tolerance limit lies above 99 % of
    all pictures with a confidence of 90 %, taking logarithms of distances as normal (Natrella 1963, one-sided).
    """
    quantile = float(np.quantile(distances, 1 - FALSE_REFUSALS)) * _MARGIN
    if n_patients < _FEWEST_FOR_TOLERANCE or not (distances > 0).all():
        return quantile
    found = np.log(distances)
    return max(quantile, float(np.exp(found.mean() + _compute_tolerance_factor(n_patients) * found.std(ddof=1))))


def _compute_tolerance_factor(n: int) -> float:
    """How many standard deviations above the mean, for n independent values."""
    share, confidence = (NormalDist().inv_cdf(each) for each in (1 - FALSE_REFUSALS, _CONFIDENCE))
    a, b = 1 - confidence**2 / (2 * (n - 1)), share**2 - confidence**2 / n
    return (share + math.sqrt(max(share**2 - a * b, 0))) / a


def choose_bounds(facts: Floats) -> tuple[Floats, Floats]:
    """`(N, F)` → the lowest and highest of each fact that pass: outer quantiles, and half as far again as they lie from
    the median.
    """
    low, middle, high = np.quantile(facts, [_FACT_TAIL, 0.5, 1 - _FACT_TAIL], axis=0)
    return low - _FACT_MARGIN * (middle - low) - 1e-6, high + _FACT_MARGIN * (high - middle) + 1e-6


def fit_cloud(read: Callable[[], Iterable[NDArray[np.float32]]]) -> Cloud:
    """Blocks of points `(n, D)`, read twice → their cloud."""
    n, mean, scatter = _compute_scatter(read)
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
    return Cloud(mean.astype(np.float32), components.astype(np.float32), scale.astype(np.float32))


def _compute_scatter(
    read: Callable[[], Iterable[NDArray[np.float32]]],
) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """Number, mean `(D,)` and centred scatter matrix `(D, D)` of all points."""
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
    np.savez(folder / GATE_FILE, allow_pickle=False, **pack_gate(gate))
