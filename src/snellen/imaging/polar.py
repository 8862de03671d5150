"""Pictures about the middle of their field of view, ring by ring: how alike two are at the best turn.

For pictures with hardly any detail, where local features fail. This room knows comparable sketches and arrays of their
spectra. It must not know samples.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.imaging.comparable import Comparable, Inside
from snellen.imaging.keypoints import Affine

Spectra = NDArray[np.complex64]
N_RINGS, N_FREQUENCIES, N_TURNS = 16, 24, 64
_SIDE = 96
_SAMPLED = 128
_ALL_BELOW = 2048
_TRIED = 64
_STRONG = 12
_COUNTED = np.where(np.arange(N_FREQUENCIES) == 0, 1.0, 2.0).astype(np.float32)


def find_disc(inside: Inside) -> Affine:
    """`(2, 3)`, from the unit disc to the field of view: its middle, and its half axes where it is stretched."""
    rows, columns = np.nonzero(inside)
    if len(rows) < 16:
        height, width = inside.shape
        return np.array([[width / 2, 0, width / 2], [0, height / 2, height / 2]])
    # of a full ellipse, half an axis is twice the standard deviation along it
    return np.array([[2 * columns.std(), 0, columns.mean()], [0, 2 * rows.std(), rows.mean()]])


def compute_spectrum(picture: Comparable) -> Spectra:
    """`(N_RINGS, N_FREQUENCIES)`: each ring's Fourier coefficients over the angle; a turn changes their phases only."""
    to_picture = find_disc(picture.whole)
    half = _SIDE / 2
    to_square = to_picture @ np.array([[1 / half, 0, -1], [0, 1 / half, -1], [0, 0, 1]])
    smooth = cv2.GaussianBlur(picture.detail, (0, 0), 1.5)
    square = cv2.warpAffine(smooth, to_square, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    size = (N_RINGS, _SAMPLED)
    rings = cv2.warpPolar(square, size, (half, half), 0.95 * half, cv2.WARP_POLAR_LINEAR | cv2.INTER_LINEAR)
    weight = np.sqrt((np.arange(N_RINGS) + 0.5) / N_RINGS)[:, None]
    return np.asarray(np.fft.rfft(rings.T, axis=1)[:, :N_FREQUENCIES] * weight, np.complex64)


def mirror_spectrum(spectra: Spectra) -> Spectra:
    """Those of the pictures mirrored left to right: the angle a becomes π − a."""
    signs = np.where(np.arange(N_FREQUENCIES) % 2, -1, 1)
    return np.asarray(spectra.conj() * signs, np.complex64)


def standardise(spectra: Spectra) -> Spectra:
    """`(N, R, F)` each coefficient over its spread in the cohort; each picture has length 1."""
    centred = spectra.copy()
    centred[:, :, 0] -= centred[:, :, 0].mean(axis=0)  # rings' means do not turn
    spread = np.sqrt((np.abs(centred) ** 2).mean(axis=0))
    scaled = centred / np.maximum(spread, 1e-6 + 0.1 * spread.max())
    length = np.sqrt((np.abs(scaled) ** 2 * _COUNTED).sum(axis=(1, 2), keepdims=True))
    return np.asarray(scaled / np.maximum(length, 1e-9), np.complex64)


def correlate_turns(row: Spectra, others: Spectra) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Best correlation of `row` `(R, F)` with each of `others` `(n, R, F)` over all turns, and that turn in radians."""
    products = np.einsum("rf,nrf->nf", row.conj(), others)
    turns = np.fft.irfft(products, n=N_TURNS, axis=1) * N_TURNS
    best = turns.argmax(axis=1)
    return np.asarray(turns[np.arange(len(best)), best], np.float32), best * (2 * np.pi / N_TURNS)


class TurnIndex:
    """Numbered pictures by their spectra. Of many, those with rings of like strength are tried, whatever their turn."""

    def __init__(self, spectra: Spectra) -> None:
        self._spectra = standardise(spectra)
        strengths = np.abs(self._spectra[:, :, :_STRONG]).reshape(len(spectra), -1)
        strengths -= strengths.mean(axis=0)
        self._strengths = strengths / np.maximum(np.linalg.norm(strengths, axis=1, keepdims=True), 1e-9)

    def find_alike(self, number: int, most: int, least: float) -> list[tuple[int, bool]]:
        """Up to `most` (picture, whether it is mirrored), the best first, that correlate at least so much."""
        others = np.arange(len(self._spectra))
        if len(others) > _ALL_BELOW:
            near = self._strengths @ self._strengths[number]
            others = np.sort(np.argpartition(-near, _TRIED)[:_TRIED])
        others = others[others != number]
        plain, _ = correlate_turns(self._spectra[number], self._spectra[others])
        mirrored, _ = correlate_turns(mirror_spectrum(self._spectra[number]), self._spectra[others])
        alike = np.concatenate([plain, mirrored])
        best = np.argsort(-alike, kind="stable")[:most]
        return [(int(others[at % len(others)]), bool(at >= len(others))) for at in best if alike[at] >= least]

    def tell_turn(self, first: int, second: int, is_mirrored: bool) -> tuple[float, float]:
        """How alike the second, mirrored if so, is to the first, and by what angle it is turned against it."""
        other = self._spectra[second : second + 1]
        alike, turn = correlate_turns(self._spectra[first], mirror_spectrum(other) if is_mirrored else other)
        return float(alike[0]), float(turn[0])


def guess_transform(first: Comparable, second: Comparable, turn: float) -> Affine:
    """From points of the first to the second, whose field of view is the first's, turned."""
    turned = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    here = np.vstack([find_disc(first.whole), [0, 0, 1]])
    return np.asarray(find_disc(second.whole) @ turned @ np.linalg.inv(here), np.float64)
