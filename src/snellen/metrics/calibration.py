"""Temperature scaling, and how well confidence agrees with accuracy.

This room knows logits, probabilities and labels. It must not know networks or files; `fit_temperature`
may see validation data only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import UsageError
from snellen.metrics.proportions import compute_wilson_interval
from snellen.metrics.scores import ECE_BINS, bin_confidences, require_labels_and_probabilities
from snellen.records.evaluation import ReliabilityBin

MIN_SAMPLES = 20
MIN_TEMPERATURE = 0.05
MAX_TEMPERATURE = 20.0


@dataclass(frozen=True)
class TemperatureFit:
    """A temperature, the number of samples seen and, unless all went well, the reason in one sentence."""

    temperature: float
    n: int
    is_fitted: bool
    reason: str = ""


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> TemperatureFit:
    """The temperature in [0.05, 20] with the smallest log loss of `logits` (N, C) / T on `labels` (N,).

    Guo et al. 2017, section 4.2, by golden-section search over log T (the loss is convex in 1/T, so it
    has one minimum). May see validation data only. The temperature stays 1 and `is_fitted` False with
    fewer than 20 samples, with a class without samples, and where the loss falls without end towards
    T = 0: too few errors to learn from, the fit would claim certainty; or logits that hardly differ.
    """
    labels, values = require_labels_and_probabilities(labels, logits)
    n = len(labels)
    missing = sorted(set(range(values.shape[1])) - set(labels.tolist()))
    if n < MIN_SAMPLES:
        return TemperatureFit(1.0, n, False, f"{n} samples are fewer than the {MIN_SAMPLES} needed")
    if missing:
        return TemperatureFit(1.0, n, False, f"no sample of class index {', '.join(map(str, missing))}")
    margins = values - values[np.arange(n), labels][:, None]
    temperature = _search_minimum(margins, np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE))
    if temperature < MIN_TEMPERATURE * 1.001:
        few = "too few errors" if not (margins.max(1) > 0).any() else "the logits hardly differ"
        return TemperatureFit(1.0, n, False, f"{few}: the log loss falls without end towards T = 0")
    if temperature > MAX_TEMPERATURE * 0.999:
        reason = f"the log loss still falls at T = {MAX_TEMPERATURE:g}: the logits say little of the labels"
        return TemperatureFit(MAX_TEMPERATURE, n, True, reason)
    return TemperatureFit(temperature, n, True)


def apply_temperature(logits: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Softmax of `logits` (N, C) / `temperature`: probabilities (N, C) in [0, 1] that sum to 1."""
    if not temperature > 0:
        raise UsageError(f"temperature {temperature} is not above 0", "A temperature of 1 changes nothing.")
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    raised = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = raised / raised.sum(axis=-1, keepdims=True)
    return probabilities


def compute_ece(labels: NDArray[np.integer], probabilities: NDArray[np.floating], n_bins: int = ECE_BINS) -> float:
    """Expected calibration error in [0, 1] of the top label (Guo et al. 2017, eq. 3).

    `labels` (N,), `probabilities` (N, C); bins of equal width over [0, 1], closed above.
    """
    is_hit, confidence, in_bin = _bin_top_label(labels, probabilities, n_bins)
    gaps = np.bincount(in_bin, weights=is_hit - confidence, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(confidence))


def compute_reliability_bins(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], n_bins: int = 10, level: float = 0.95
) -> tuple[ReliabilityBin, ...]:
    """Mean confidence and accuracy of the top label in the bins of [0, 1] that are not empty.

    `labels` (N,), `probabilities` (N, C), bins of equal width. The accuracy's interval is Wilson's over the
    pictures of the bin: it takes them as independent and is too narrow where patients have many pictures.
    """
    is_hit, confidence, in_bin = _bin_top_label(labels, probabilities, n_bins)
    edges = np.linspace(0, 1, n_bins + 1)
    bins = []
    for index in np.unique(in_bin):
        hits = is_hit[in_bin == index]
        low, high = compute_wilson_interval(float(hits.sum()), len(hits), level)
        bins.append(
            ReliabilityBin(
                low=float(edges[index]),
                high=float(edges[index + 1]),
                n=len(hits),
                confidence=float(confidence[in_bin == index].mean()),
                accuracy=float(hits.mean()),
                accuracy_low=low,
                accuracy_high=high,
            )
        )
    return tuple(bins)


def _bin_top_label(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], n_bins: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Hit (0 or 1), confidence and bin of each sample's most probable class, each (N,)."""
    labels, probs = require_labels_and_probabilities(labels, probabilities)
    confidence = probs.max(axis=1)
    is_hit = (probs.argmax(axis=1) == labels).astype(np.float64)
    return is_hit, confidence, bin_confidences(confidence, n_bins)


def _search_minimum(margins: NDArray[np.float64], low: float, high: float) -> float:
    """The temperature with the smallest loss of `margins` (N, C), by golden section over log T."""
    ratio = (np.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    loss_left, loss_right = _compute_loss(margins, left), _compute_loss(margins, right)
    while high - low > 1e-7:
        # Equal losses are flat ground of rounding near T = 0: go down, so that the lower end is told.
        if loss_left <= loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - ratio * (high - low)
            loss_left = _compute_loss(margins, left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + ratio * (high - low)
            loss_right = _compute_loss(margins, right)
    return float(np.exp((low + high) / 2))


def _compute_loss(margins: NDArray[np.float64], log_temperature: float) -> float:
    """Mean log loss at a temperature; `margins` (N, C) are logits minus that of the label."""
    scaled = margins * np.exp(-log_temperature)
    top = scaled.max(axis=1)
    return float((top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))).mean())
