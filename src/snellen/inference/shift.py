"""Whether pictures as a whole differ from those of training: another camera, another site, other settings. No torch.

Single pictures may all pass the gate while the batch lies to one side of it. Each measure of the gate is held against
its quantiles in training by the Mann–Whitney statistic: how often a picture of the batch has more of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from snellen.inference.gate import Reference
from snellen.records.evaluation import BatchShift

FEWEST = 20
LARGE = 0.75
_STANDARD_ERRORS = 4.0
NAMES = {
    "embedding": ("nearer to what the network knows", "farther from what the network knows"),
    "look": ("nearer to the usual look", "farther from the usual look"),
    "brightness": ("darker", "brighter"),
    "highlights": ("with darker highlights", "with brighter highlights"),
    "contrast": ("of less contrast", "of more contrast"),
    "sharpness": ("less sharp", "sharper or noisier"),
    "colour": ("of less colour", "of more colour"),
    "tint": ("bluer", "yellower"),
}
_ONE_SIDED = ("embedding", "look")  # a batch nearer to the middle than training is no warning
Floats = NDArray[np.float64]


class Tally:
    """Gathers what was measured of pictures that come in groups."""

    def __init__(self) -> None:
        self._parts: list[Mapping[str, Floats]] = []

    def add(self, measured: Mapping[str, Floats]) -> None:
        """One group's measures `(n,)` by name."""
        self._parts.append(measured)

    def collect(self) -> dict[str, Floats]:
        """Those of all groups."""
        names = self._parts[0] if self._parts else ()
        return {name: np.concatenate([part[name] for part in self._parts]) for name in names}


def measure_shift(measured: Mapping[str, Floats], reference: Reference | None) -> BatchShift | None:
    """Measures of a batch `(N,)` by name against those of training; None without a reference or for few pictures."""
    n = len(next(iter(measured.values()), ()))
    if reference is None or n < FEWEST:
        return None
    signals = {
        name: round(compute_superiority(measured[name], quantiles), 4)
        for name, quantiles in reference.quantiles.items()
        if name in measured
    }
    chance = _STANDARD_ERRORS * np.sqrt(1 / (12 * n))
    differs = tuple(
        name
        for name, share in signals.items()
        if (share - 0.5 if name in _ONE_SIDED else abs(share - 0.5)) > max(LARGE - 0.5, chance)
    )
    return BatchShift(n=n, signals=signals, differs=differs, message=describe_shift(n, signals, differs))


def compute_superiority(values: Floats, quantiles: Floats) -> float:
    """How often a value of the batch `(N,)` exceeds one of training, given by its quantiles `(Q,)`; ties count half."""
    below = np.searchsorted(quantiles, values, side="left")
    not_above = np.searchsorted(quantiles, values, side="right")
    return float(((below + not_above) / 2).mean() / len(quantiles))


def describe_shift(n: int, signals: Mapping[str, float], differs: tuple[str, ...]) -> str:
    """What a person must know of it; nothing where nothing differs."""
    if not differs:
        return ""
    order = sorted(differs, key=lambda name: -abs(signals[name] - 0.5))
    told = ", ".join(NAMES[name][int(signals[name] > 0.5)] for name in order)
    return (
        f"These {n} pictures as a whole differ from those the model was trained on: {told}. If they come from another "
        "camera or site, the model's numbers need not hold: evaluate it on labelled pictures from there first."
    )
