"""Grey DICOM values as they are to be shown (PS3.3 C.11): rescaled, then through the file's own window, else kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import PictureError
from snellen.imaging.dicom import read_number
from snellen.imaging.picture import Levels

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

_OWN = ("BitsStored", "PixelRepresentation", "PhotometricInterpretation", "VOILUTFunction", "VOILUTSequence")
_GROUPED = ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth")
_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
_FEW_LEVELS = 256


@dataclass(frozen=True)
class ShownGrey:
    """`pixels` `(H, W)`: uint8 with `bits` 8, else the values themselves."""

    pixels: Levels
    bits: int
    notes: tuple[str, ...]


def show_grey(values: Levels, data: FileDataset, index: int) -> ShownGrey:
    """Stored values `(H, W)` of frame `index` → what is shown, bright is high. Raises PictureError."""
    from pydicom.pixels.processing import apply_modality_lut

    settings = _collect_settings(data, index)
    bits = read_number(settings, "BitsStored", 8)
    is_inverted = str(settings.PhotometricInterpretation) == "MONOCHROME1"
    rescaled = apply_modality_lut(values, settings)
    low, high = _compute_range(settings, bits)
    windowed = _apply_window(rescaled, settings, (low, high))
    if isinstance(windowed, np.ndarray):
        return ShownGrey(255 - windowed if is_inverted else windowed, 8, ("dicom_window",))
    notes = ("dicom_window_ignored",) if windowed else ()
    if bits <= 8 and low == 0 and values.dtype == np.uint8 and rescaled is values:
        pixels = np.rint(values * (255 / high)).astype(np.uint8) if bits < 8 else np.asarray(values, np.uint8)
        return ShownGrey(255 - pixels if is_inverted else pixels, 8, notes)
    whole = _to_whole(rescaled, low, high)
    return ShownGrey(_shrink(round(low + high) - whole if is_inverted else whole), max(9, bits), notes)


def _collect_settings(data: FileDataset, index: int) -> Dataset:
    """What decides of the grey values, from the top of the file or, in enhanced ones, from the groups of the frame."""
    from pydicom.dataset import Dataset

    settings = Dataset()
    settings.file_meta = data.file_meta
    places: list[Any] = [data]
    shared, of_frames = data.get("SharedFunctionalGroupsSequence"), data.get("PerFrameFunctionalGroupsSequence")
    groups = [shared[0] if shared else None, of_frames[index] if of_frames and index < len(of_frames) else None]
    places += [group[name][0] for group in groups if group for name in _GROUPS if group.get(name)]
    for place in places:
        for name in (*_OWN, *_GROUPED):
            if name in place and place[name].value is not None and place[name].value != "":
                settings[name] = place[name]
    for first, second in (("RescaleSlope", "RescaleIntercept"), ("WindowCenter", "WindowWidth")):
        if (first in settings) != (second in settings):  # one says nothing without the other
            del settings[first if first in settings else second]
    return settings


def _compute_range(settings: Dataset, bits: int) -> tuple[float, float]:
    """The lowest and highest value that may stand in the rescaled picture."""
    if settings.get("ModalityLUTSequence"):
        return 0.0, float(2 ** int(settings.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if settings.get("PixelRepresentation") else (0, 2**bits - 1)
    slope, intercept = float(settings.get("RescaleSlope", 1)), float(settings.get("RescaleIntercept", 0))
    ends = low * slope + intercept, high * slope + intercept
    return min(ends), max(ends)


def _apply_window(values: NDArray[Any], settings: Dataset, reach: tuple[float, float]) -> NDArray[np.uint8] | bool:
    """0 to 255 by the file's look-up table or first window; else whether it brings one that cannot be used."""
    from pydicom.pixels.processing import apply_voi, apply_windowing

    if settings.get("VOILUTSequence"):
        try:
            n_bits = int(settings.VOILUTSequence[0].LUTDescriptor[2])
            return _scale(apply_voi(np.rint(values).astype(np.int64), settings), 0, 2**n_bits - 1)
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, NotImplementedError, OverflowError):
            return True
    if "WindowWidth" not in settings:
        return False
    try:
        return _scale(apply_windowing(values, settings), *reach)
    except (ValueError, TypeError, IndexError, KeyError, AttributeError):
        return True


def _scale(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    return np.clip(np.rint((values - low) * (255 / (high - low))), 0, 255).astype(np.uint8)


def _to_whole(values: NDArray[Any], low: float, high: float) -> NDArray[np.int64]:
    if values.dtype.kind == "f" and high - low < _FEW_LEVELS and not np.array_equal(values, np.rint(values)):
        raise PictureError(
            f"its rescaled values are fractions between {low:g} and {high:g}, and it brings no window",
            "Export it with a window, or as PNG.",
        )
    return np.asarray(np.rint(values), np.int64)


def _shrink(values: NDArray[np.int64]) -> Levels:
    """The plainest type that holds the values, so that equal pictures are equal whatever the file's encoding is."""
    for kind in (np.uint16, np.int32):
        found = np.iinfo(kind)
        if found.min <= int(values.min()) and int(values.max()) <= found.max:
            return values.astype(kind)
    return values
