"""Values of more than 8 bits → the 256 levels that models see, by the window that the plan fixes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import PictureError
from snellen.imaging.picture import Levels

Window = tuple[float, float]


def apply_window(values: Levels, window: Window | None) -> NDArray[np.uint8]:
    """Integers of any shape → uint8: `window[0]` and below is 0, `window[1]` and above 255. uint8 stays as it is.

    Raises PictureError where there is no window.
    """
    if values.dtype == np.uint8:
        return np.asarray(values, np.uint8)
    if window is None:
        raise PictureError(
            f"the picture has more than 8 bits a channel ({values.dtype.name}), and the model was made for 8 bits",
            "Export it with 8 bits, or train with preprocess.window = [low, high].",
        )
    if values.dtype == np.uint16:
        return np.asarray(_scale(np.arange(1 << 16), window)[values], np.uint8)
    return _scale(values, window)


def measure_levels(values: Levels, n_wanted: int) -> NDArray[np.float64]:
    """About `n_wanted` values, evenly picked: enough for percentiles."""
    flat = values.reshape(-1)
    return flat[:: max(1, len(flat) // n_wanted)].astype(np.float64)


def _scale(values: Levels, window: Window) -> NDArray[np.uint8]:
    low, high = float(window[0]), float(window[1])  # an integer would make unsigned values wrap
    return np.asarray(np.clip(np.rint((values - low) * (255 / (high - low))), 0, 255), np.uint8)
