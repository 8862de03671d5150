"""Where a network learns. Knows torch alone."""

from __future__ import annotations

import torch


def choose_device() -> torch.device:
    """A GPU where there is one."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
