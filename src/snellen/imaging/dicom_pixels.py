"""Pixels of DICOM files as a screen would show them: rescaled, windowed as the file asks, colours as sRGB.

pydicom and GDCM decode. A grey picture that brings no window keeps its values; the model's window is applied later.
As in `dicom`, no text of a file may get into a message.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from snellen.core.errors import PictureError
from snellen.core.quiet import hush_warnings
from snellen.imaging.dicom import (
    MAX_DICOM_BYTES,
    count_claimed_frames,
    explain_damage,
    open_dicom,
    read_number,
    require_dicom,
)
from snellen.imaging.dicom_grey import show_grey
from snellen.imaging.picture import Levels, Picture, require_size

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_GREY = ("MONOCHROME1", "MONOCHROME2")
_PALETTE = "PALETTE COLOR"


@dataclass(frozen=True)
class _Opened:
    """A data set in memory. pydicom converts values when they are asked for, so one thread at a time may ask."""

    data: FileDataset
    n_bytes: int
    lock: Any = field(default_factory=threading.Lock)


def decode_dicom(source: Path | bytes, *, frame: int | None) -> Picture:
    """One picture of a DICOM file; `frame` counts from 0 and may be left out where the file holds one.

    Raises PictureError.
    """
    require_dicom()
    opened = _open(source, is_one_of_many=frame is not None)
    try:
        with hush_warnings(), opened.lock:
            return _decode(opened, frame)
    except PictureError:
        raise
    except MemoryError as error:
        raise PictureError("the picture is too large for this machine's memory", "Export it smaller.") from error
    except Exception as error:  # decoders raise whatever a damaged file makes of them, and may quote it
        raise explain_damage(error) from None


def _open(source: Path | bytes, *, is_one_of_many: bool) -> _Opened:
    if isinstance(source, bytes):
        return _Opened(open_dicom(source), len(source))
    try:
        found = source.stat()
    except OSError as error:
        raise PictureError(f"the file cannot be read: {error.strerror}", "Check the path.") from error
    if found.st_size > 2 * MAX_DICOM_BYTES:
        raise PictureError(
            f"the file has {found.st_size:,} bytes, more than the limit of 2 GB", "Export single frames."
        )
    if is_one_of_many:
        return _open_once(source, found.st_size, found.st_mtime_ns)
    return _Opened(open_dicom(source), found.st_size)


@functools.lru_cache(maxsize=2)
def _open_once(path: Path, size: int, _changed_ns: int) -> _Opened:
    # the frames of a volume are asked for one by one
    return _Opened(open_dicom(path), size)


def _decode(opened: _Opened, frame: int | None) -> Picture:
    data = opened.data
    index = _choose_frame(count_claimed_frames(data, opened.n_bytes), frame)
    rows, columns = _require_pixels(data)
    values = _read_values(data, index)
    kind = str(data.PhotometricInterpretation)
    notes: tuple[str, ...] = ()
    bits = 8
    if kind in _GREY:
        shown = show_grey(values, data, index)
        pixels, bits, notes = shown.pixels, shown.bits, shown.notes
    elif kind == _PALETTE:
        pixels = _look_up(values, data)
    elif values.ndim == 3 and values.shape[2] == 3:
        pixels, bits = _scale_colour(values, data)
    else:
        raise PictureError(f"DICOM colours of kind {_name_kind(kind)} are not read", "Export it as RGB.")
    if pixels.ndim == 3 and data.get("ICCProfile"):
        pixels, note = _convert_colours(pixels, bytes(data.ICCProfile))
        notes = (*notes, note) if note else notes
    n_bytes = opened.n_bytes if frame is None else int(values.nbytes)
    return Picture(np.ascontiguousarray(pixels), columns, rows, "DICOM", n_bytes, bits, notes)


def _choose_frame(n_frames: int, frame: int | None) -> int:
    if frame is None and n_frames > 1:
        raise PictureError(f"the file holds {n_frames} frames", "Name one, such as file.dcm::frame[0].")
    if frame is not None and frame >= n_frames:
        raise PictureError(f"there is no frame {frame} among {n_frames}", "Frames count from 0.")
    return frame or 0


def _require_pixels(data: FileDataset) -> tuple[int, int]:
    """Rows and columns. Raises PictureError where there are no pixels, or more than may be decoded."""
    if any(name in data for name in ("FloatPixelData", "DoubleFloatPixelData")):
        raise PictureError("the pixels are floating-point numbers", "Export it as whole numbers of 8 or 16 bits.")
    rows, columns = read_number(data, "Rows", 0), read_number(data, "Columns", 0)
    if "PixelData" not in data or rows <= 0 or columns <= 0:
        raise PictureError("the DICOM file holds no picture", "Leave it out: reports and plans have none.")
    samples, allocated = read_number(data, "SamplesPerPixel", 1), read_number(data, "BitsAllocated", 8)
    require_size(columns, rows, max(1, samples) * max(1, allocated // 8))
    return rows, columns


def _read_values(data: FileDataset, index: int) -> Levels:
    """Stored values `(H, W)`, or `(H, W, 3)` RGB."""
    from pydicom.pixels.utils import pixel_array

    from snellen.imaging.dicom_apart import decode_apart
    from snellen.imaging.dicom_frames import require_stream_size

    _assume_syntax(data)
    frame = require_stream_size(data, index)
    _require_decoder(data)
    values = pixel_array(data, index=index) if frame is None else decode_apart(data, frame)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype.kind not in "iu":
        raise PictureError("the pixels are no whole numbers", "Export it as whole numbers of 8 or 16 bits.")
    return values


def _assume_syntax(data: FileDataset) -> None:
    """A file without meta information is uncompressed, in the encoding that it was found to be read with."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if getattr(data, "file_meta", None) is None:
        data.file_meta = FileMetaDataset()
    if not data.file_meta.get("TransferSyntaxUID"):
        is_implicit, is_little = data.original_encoding
        explicit = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit


def _require_decoder(data: FileDataset) -> None:
    from pydicom.pixels.decoders.base import get_decoder

    try:
        is_available = get_decoder(data.file_meta.TransferSyntaxUID).is_available
    except NotImplementedError:
        raise PictureError(
            "the DICOM file is compressed in a way that is not read", "Export it uncompressed."
        ) from None
    if not is_available:
        command = "pip install 'snellen[dicom]'"
        raise PictureError(f"this compression of DICOM needs python-gdcm, which is not installed: {command}", command)


def _look_up(values: Levels, data: FileDataset) -> Levels:
    from pydicom.pixels.processing import apply_color_lut

    colours = apply_color_lut(values, data)[..., :3]
    if colours.dtype == np.uint8:
        return colours
    # entries of 8 bits are often written as 16
    return (colours >> 8 if int(colours.max()) > 0xFF else colours).astype(np.uint8)


def _scale_colour(values: Levels, data: FileDataset) -> tuple[Levels, int]:
    bits = read_number(data, "BitsStored", 8)
    if values.dtype == np.uint8:
        return (values if bits == 8 else values << (8 - bits)), 8
    return values, max(9, bits)


def _convert_colours(pixels: Levels, profile: bytes) -> tuple[Levels, str]:
    from PIL import Image

    from snellen.imaging.colour import convert_to_srgb, is_srgb

    if pixels.dtype != np.uint8:
        return pixels, "" if is_srgb(profile, "RGB") else "icc_ignored"
    image, note = convert_to_srgb(Image.fromarray(np.ascontiguousarray(pixels, np.uint8)), profile)
    return np.asarray(image), note


def _name_kind(kind: str) -> str:
    """The kind where the standard knows it: anything else might be a text that does not belong there."""
    known = ("YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", "ARGB", "CMYK", "HSV", "XYB", "RGB")
    return kind if kind in known else "unknown"
