"""Stronger augmentation for fine-tuning: RandAugment (Cubuk et al. 2020) by torchvision, fixed by seed and picture."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def apply_randaugment(
    pixels: NDArray[np.uint8], magnitude: int, *, seed: int, view: int, key: str
) -> NDArray[np.uint8]:
    """Two operations chosen by chance on `pixels` `(S, S, C)`; `magnitude` 0 to 30, `key` the picture's hex hash."""
    from torchvision.transforms import v2  # type: ignore[import-untyped]  # torchvision brings no types

    state = np.random.SeedSequence([seed, view, int(key[:16], 16), magnitude]).generate_state(1)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(state))
        planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        found: torch.Tensor = v2.RandAugment(num_ops=2, magnitude=magnitude)(planes)
    return np.ascontiguousarray(found.numpy().transpose(1, 2, 0))
