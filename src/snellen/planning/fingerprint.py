"""Measured facts of the training part. Nothing here may see validation or test pictures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen.imaging.preprocess import find_content
from snellen.imaging.readers import read_location
from snellen.imaging.window import Window, apply_window, measure_levels
from snellen.records.cohort import Sample
from snellen.records.plan import Fingerprint

_MEASURED = 200
_MEASURE_SIDE_PX = 128
_LEVELS_A_PICTURE = 10_000
_WINDOW_SHARES = (0.005, 0.995)


def compute_fingerprint(samples: Sequence[Sample], root: Path) -> Fingerprint:
    """`samples` are those of the training part. Grey levels are measured on up to 200 of them, evenly picked."""
    widths = np.array([sample.width_px for sample in samples], float)
    heights = np.array([sample.height_px for sample in samples], float)
    patients: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        patients[sample.label].add(sample.patient)
    deep = _pick([sample for sample in samples if sample.bits > 8])
    window = _measure_window(deep, root)
    levels = [_measure(sample, root, window) for sample in _pick(samples)]
    means, squares, borders = (np.array([level[position] for level in levels]) for position in range(3))
    mean = means.mean(0)
    std = np.sqrt(np.maximum(squares.mean(0) - mean**2, 0))
    return Fingerprint(
        n_samples=len(samples),
        n_patients=len({sample.patient for sample in samples}),
        class_counts=dict(sorted(Counter(sample.label for sample in samples).items())),
        patients_by_class={label: len(found) for label, found in sorted(patients.items())},
        width_px=_quantiles(widths),
        height_px=_quantiles(heights),
        aspect_median=round(float(np.median(widths / heights)), 4),
        n_shapes=len({(sample.width_px, sample.height_px) for sample in samples}),
        formats=dict(sorted(Counter(sample.format for sample in samples).items())),
        grey_fraction=round(float(np.mean([sample.channels == 1 for sample in samples])), 4),
        border_fraction=round(float(borders.mean()), 4),
        mean=_round3(mean),
        std=_round3(std),
        n_measured=len(levels),
        bits={str(bits): count for bits, count in sorted(Counter(sample.bits for sample in samples).items())},
        deep_levels=window,
        n_deep_measured=len(deep),
    )


def _pick(samples: Sequence[Sample]) -> list[Sample]:
    ordered = sorted(samples, key=lambda sample: sample.pixels_sha256)
    step = max(1, len(ordered) // _MEASURED)
    return ordered[::step][:_MEASURED]


def _measure_window(samples: Sequence[Sample], root: Path) -> Window | None:
    """Quantiles that leave out what single bright or dark pixels would stretch; None without samples."""
    if not samples:
        return None
    found = [measure_levels(read_location(root, sample.location).pixels, _LEVELS_A_PICTURE) for sample in samples]
    low, high = np.quantile(np.concatenate(found), _WINDOW_SHARES)
    return float(low), max(float(high), float(low) + 1)


def _measure(
    sample: Sample, root: Path, window: Window | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Mean and mean square per channel in [0, 1], and the share of rows and columns in the black border."""
    pixels = apply_window(read_location(root, sample.location, min_side_px=_MEASURE_SIDE_PX).pixels, window)
    top, bottom, left, right = find_content(pixels)
    kept = (bottom - top) * (right - left) / (pixels.shape[0] * pixels.shape[1])
    planes = pixels.astype(np.float64) / 255
    rgb = np.repeat(planes[..., None], 3, 2) if planes.ndim == 2 else planes
    return rgb.mean((0, 1)), (rgb**2).mean((0, 1)), 1 - kept


def _quantiles(values: NDArray[np.float64]) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return round(float(low), 1), round(float(middle), 1), round(float(high), 1)


def _round3(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return round(float(values[0]), 4), round(float(values[1]), 4), round(float(values[2]), 4)
