"""What decoding a picture takes, asked before it is taken, and that threads together do not take too much.

The factors were measured (peaks of 20 megapixels, Pillow 13, less the file): bytes a pixel, results included.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from snellen.imaging.picture import MAX_BYTES, read_decoding_limits

if TYPE_CHECKING:
    from PIL import Image

_LARGE = 100_000_000
_SMALL_PART = 8
_ONE_BYTE = {"L": 4, "1": 6, "P": 6}
_FOUR_BYTES = 9  # Pillow keeps RGB, LA and the like in four; the result takes three
_CONVERTED = {"L": 11, "RGB": 13, "CMYK": 13}  # with a colour profile
_CONVERTED_LAYERS = 24
_OF_FORMAT = {"WEBP": 20, "GIF": 10}  # their decoders draw on canvases of their own
_DEEP_GREY, _DEEP_WIDE, _DEEP_COLOUR, _DEEP_ALPHA = 7, 14, 30, 46
_condition = threading.Condition()
_in_use = [0.0]


def compute_working_bytes(image: Image.Image, data: bytes, full_size: tuple[int, int]) -> float:
    """Peak of decoding an opened picture of 8 bits a channel, at the scale that it will be decoded at."""
    width, height = image.size
    factor = _ONE_BYTE.get(image.mode, _FOUR_BYTES)
    if image.info.get("icc_profile"):
        plain = "transparency" not in image.info
        factor = _CONVERTED.get(image.mode, _CONVERTED_LAYERS) if plain else _CONVERTED_LAYERS
    need = float(width * height * max(factor, _OF_FORMAT.get(image.format or "", 0)) + len(data))
    if image.format in ("JPEG", "MPO") and not _is_one_scan(data):
        # the coefficients of all scans are kept, of the full picture whatever the scale is
        need += 2.0 * len(image.getbands()) * full_size[0] * full_size[1]
    return need


def compute_deep_bytes(image: Image.Image, data: bytes) -> float:
    """Peak of decoding an opened picture of more than 8 bits a channel."""
    factor = _DEEP_ALPHA if image.mode in ("RGBA", "LA") else _DEEP_COLOUR
    if image.mode.startswith(("I", "F")):
        factor = _DEEP_GREY if image.mode.startswith("I;16") else _DEEP_WIDE
    return image.size[0] * image.size[1] * factor + len(data)


@contextmanager
def reserve(n_bytes: float) -> Iterator[None]:
    """Wait until large pictures that other threads decode leave room for this one. Small ones never wait."""
    most = min(MAX_BYTES, read_decoding_limits()[1])
    if n_bytes <= min(_LARGE, most // _SMALL_PART):
        yield
        return
    with _condition:
        _condition.wait_for(lambda: _in_use[0] == 0 or _in_use[0] + n_bytes <= most)
        _in_use[0] += n_bytes
    try:
        yield
    finally:
        with _condition:
            _in_use[0] -= n_bytes
            _condition.notify_all()


def _is_one_scan(data: bytes) -> bool:
    """Whether a JPEG is sequential with all colours in one scan, so that it is decoded row by row."""
    place, n_components = 2, 0
    while place + 9 < len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # filling
            place += 1
            continue
        if marker in (0xC0, 0xC1):
            n_components = data[place + 9]
        if marker == 0xDA:
            return n_components > 0 and data[place + 4] == n_components
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return False
