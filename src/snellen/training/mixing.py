"""Mixing the pictures of a batch with each other, on pixels or on activations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Mixed:
    """A batch `(n, C, h, w)` in which a picture is the share `kept` of itself and the rest of `partner` `(n,)`."""

    values: torch.Tensor
    partner: torch.Tensor | None
    kept: float


def mix(values: torch.Tensor, random: np.random.Generator, *, mixup: float, cutmix: float) -> Mixed:
    """Mix by one of the two, or by neither where both are 0; they take turns by chance where both are above 0.

    Mixup (Zhang et al. 2018) adds pictures in proportion; on activations it is manifold mixup (Verma et al. 2019).
    CutMix (Yun et al. 2019) lays a rectangle of another picture in. Shares follow Beta(alpha, alpha).
    """
    if not mixup and not cutmix:
        return Mixed(values, None, 1.0)
    cuts = bool(cutmix) and (not mixup or random.random() < 0.5)
    alpha = cutmix if cuts else mixup
    kept = float(random.beta(alpha, alpha))
    partner = torch.from_numpy(random.permutation(len(values)))
    if not cuts:
        return Mixed(torch.lerp(values[partner], values, kept), partner, kept)
    height, width = values.shape[2:]
    side = math.sqrt(1 - kept)
    top, bottom = _place(height, side, random)
    left, right = _place(width, side, random)
    mixed = values.clone()
    mixed[:, :, top:bottom, left:right] = values[partner, :, top:bottom, left:right]
    return Mixed(mixed, partner, 1 - (bottom - top) * (right - left) / (height * width))


def _place(length: int, side: float, random: np.random.Generator) -> tuple[int, int]:
    centre = int(random.integers(length))
    half = round(length * side) // 2
    return max(0, centre - half), min(length, centre + half)
