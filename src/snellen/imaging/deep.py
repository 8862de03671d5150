"""PNG and TIFF with more than 8 bits a channel, as the wide integers that they hold.

Pillow opens and checks the file. Where it hands over the upper 8 bits of a colour only, OpenCV reads the same bytes
again, and its upper 8 bits must be Pillow's.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from snellen.core.errors import PictureError
from snellen.imaging.picture import Background, Levels

_BITS_PER_SAMPLE = 258
_FLOATS = 3
_SAMPLE_FORMAT = 339
_ORIENTATION = 274
_PHOTOMETRIC = 262
_COLOURS = ("RGB", "RGBA", "LA")


def count_bits(image: Image.Image) -> int:
    """Bits a channel that the opened file holds; 8 also for fewer."""
    if image.mode == "F":
        return 32
    if image.format == "TIFF":
        found = image.tag_v2.get(_BITS_PER_SAMPLE, 8)  # type: ignore[attr-defined]  # of Pillow's TIFF pictures
        bits = found[0] if isinstance(found, tuple) and found else found
        return max(8, int(bits)) if isinstance(bits, int) else 8
    if image.format == "PNG" and (image.mode.startswith("I") or ";16" in str(getattr(image, "tile", ""))):
        return 16
    return 8


def decode_deep(image: Image.Image, data: bytes, background: Background) -> tuple[Levels, bool]:
    """Upright values of an opened `image` of more than 8 bits, `(H, W)` or `(H, W, 3)`; whether any is transparent.

    uint16, or int32 where the values need it. Raises PictureError for floats and rare colour spaces.
    """
    if image.mode == "F" or (image.format == "TIFF" and _is_float(image)):
        raise PictureError("the pixels are floating-point numbers", "Export it as whole numbers of 8 or 16 bits.")
    if image.mode.startswith("I"):
        image.load()
        values = _shrink(np.asarray(image))
        if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0:  # type: ignore[attr-defined]  # as above
            # white is zero: Pillow turns that round with 8 bits only
            values = np.asarray((1 << count_bits(image)) - 1 - values.astype(np.int64)).astype(values.dtype)
    elif image.mode in _COLOURS:
        values = _read_colour(image, data)
    else:
        raise PictureError(
            f"pictures of mode {image.mode} with more than 8 bits a channel are not read", "Export it as RGB or grey."
        )
    values, is_transparent = _lay_on(values, background)
    return turn_upright(values, int(image.getexif().get(_ORIENTATION, 1) or 1)), is_transparent


def turn_upright(values: Levels, orientation: int) -> Levels:
    """EXIF 2.3, tag 274: rows and columns where they belong. What it does not name stays as it is."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return np.ascontiguousarray(values)


def _is_float(image: Image.Image) -> bool:
    found = image.tag_v2.get(_SAMPLE_FORMAT, 1)  # type: ignore[attr-defined]  # as above
    return _FLOATS in (found if isinstance(found, tuple) else (found,))


def _shrink(values: Levels) -> Levels:
    """uint16 where all values fit, so that equal pictures are equal whatever the file's integers are."""
    if values.dtype == np.uint16:
        return values
    if values.size and int(values.min()) >= 0 and int(values.max()) <= 0xFFFF:
        return values.astype(np.uint16)
    return values.astype(np.int32)


def _read_colour(image: Image.Image, data: bytes) -> NDArray[np.uint16]:
    upper = np.asarray(image)  # raises where the file is truncated or damaged
    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        found = None
    if found is None or found.dtype != np.uint16:
        raise PictureError("its 16-bit channels cannot be read", "Export it as plain 16-bit RGB, or with 8 bits.")
    values = np.asarray(found, np.uint16)
    if values.ndim == 3:
        order = {2: [0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[values.shape[2]]
        values = values[..., order]
        if image.mode == "LA" and values.shape[2] == 4:
            values = values[..., [0, 3]]
    if values.shape != upper.shape or not np.array_equal(values >> 8, upper):
        raise PictureError("two decoders disagree on its 16-bit channels", "Export it anew, or with 8 bits.")
    return values


def _lay_on(values: Levels, background: Background) -> tuple[Levels, bool]:
    """Two or four channels → one or three, the last being how opaque a pixel is."""
    if values.ndim == 2 or values.shape[2] == 3:
        return values, False
    if int(values[..., -1].min()) == 0xFFFF:
        return (values[..., 0] if values.shape[2] == 2 else np.ascontiguousarray(values[..., :-1])), False
    alpha = values[..., -1:].astype(np.float32) / 0xFFFF
    ground = 0xFFFF if background == "white" else 0
    laid = np.rint(values[..., :-1] * alpha + ground * (1 - alpha)).astype(np.uint16)
    return (laid[..., 0] if laid.shape[2] == 1 else laid), True
