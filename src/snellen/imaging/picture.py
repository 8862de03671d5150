"""What a decoded picture is, how large it may be, and its fingerprint. Knows no file format."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import PictureError
from snellen.records.recipe import Background

# uint8 as a rule; wider integers where the file holds more than 8 bits a channel
Levels = NDArray[np.integer[Any]]

__all__ = [
    "MAX_BYTES",
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "Background",
    "Levels",
    "Picture",
    "compute_pixels_sha256",
    "is_blank",
    "is_grey",
    "limit_decoding",
    "read_decoding_limits",
    "require_file_size",
    "require_memory",
    "require_size",
]
MAX_PIXELS = 178_000_000
MAX_BYTES = 1 << 30
MAX_FILE_BYTES = 1_000_000_000
_BLANK_LEVELS = 8
_asked: list[tuple[int, int]] = []


@dataclass(frozen=True)
class Picture:
    """`pixels` is `(H, W)` for grey or `(H, W, 3)` RGB, upright; the sizes are those of the full picture.

    `bits` is 8 where `pixels` is uint8, else how many a channel the file says to hold. `notes` are short codes of what
    was done or left out: animated, multi_page, transparent, icc, icc_ignored, dicom_window, dicom_window_ignored;
    reading a cohort adds blank.
    """

    pixels: Levels
    width_px: int
    height_px: int
    format: str
    n_bytes: int
    bits: int = 8
    notes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        return 1 if self.pixels.ndim == 2 else 3


def limit_decoding(pixels: int, n_bytes: int) -> None:
    """From now on this process decodes less than it could, so that a server's memory is bounded whatever it is sent."""
    _asked[:] = [(pixels, n_bytes)]


def read_decoding_limits() -> tuple[int, int]:
    """The most pixels of a picture, and the most bytes of memory that decoding may take."""
    pixels, n_bytes = _asked[0] if _asked else (MAX_PIXELS, MAX_BYTES)
    return min(pixels, MAX_PIXELS), min(n_bytes, MAX_BYTES)


def require_size(width: int, height: int, bytes_a_pixel: int = 1) -> None:
    """Raise PictureError where a picture is larger than Snellen decodes. To be asked before memory is taken."""
    most_pixels, most_bytes = read_decoding_limits()
    if width * height > most_pixels:
        raise PictureError(
            f"{width}×{height} pixels are more than the limit of {most_pixels:,}", "Scale the picture down first."
        )
    if width * height * bytes_a_pixel > most_bytes:
        raise PictureError(
            f"{width}×{height} pixels of {bytes_a_pixel} bytes are more than the limit of {_show_bytes(most_bytes)}",
            "Scale the picture down first.",
        )


def require_memory(width: int, height: int, n_bytes: float) -> None:
    """Raise PictureError where decoding a picture would take more memory than one may."""
    _, most_bytes = read_decoding_limits()
    if n_bytes > most_bytes:
        raise PictureError(
            f"{width}×{height} pixels of this kind would take {n_bytes / (1 << 30):.2f} GB of memory to decode, "
            f"more than the limit of {_show_bytes(most_bytes)}",
            "Scale it down, or export it as baseline JPEG of 8 bits.",
        )


def require_file_size(n_bytes: int) -> None:
    """Raise PictureError where a file is larger than Snellen reads. To be asked before it is read."""
    if n_bytes > MAX_FILE_BYTES:
        raise PictureError(
            f"the file has {n_bytes:,} bytes, more than the limit of {MAX_FILE_BYTES:,}",
            "Scale the picture down, or export it as JPEG.",
        )


def _show_bytes(n_bytes: int) -> str:
    return f"{n_bytes / (1 << 30):.3g} GB"


def compute_pixels_sha256(pixels: Levels) -> str:
    """Hash of what is seen: grey stored as RGB has the hash of the grey picture."""
    seen = pixels[..., 0] if is_grey(pixels) and pixels.ndim == 3 else pixels
    kind = "" if seen.dtype == np.uint8 else f"{seen.dtype.name} "
    digest = hashlib.sha256(f"{kind}{seen.shape}".encode())
    digest.update(np.ascontiguousarray(seen, seen.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def is_blank(pixels: Levels) -> bool:
    """Whether `(H, W)` or `(H, W, C)` is all one colour, or so nearly that nothing can be seen (of 256 levels).

    Of more than 8 bits only what is quite constant is blank: which levels a plan will tell apart is not known here.
    """
    limit = _BLANK_LEVELS if pixels.dtype == np.uint8 else 1
    planes = pixels.reshape(pixels.shape[0] * pixels.shape[1], -1)
    # most pictures are told by a few of their rows
    if (np.ptp(planes[:: max(1, len(planes) // 997)], axis=0) >= limit).any():
        return False
    return bool((np.ptp(planes, axis=0) < limit).all())


def is_grey(pixels: Levels) -> bool:
    """Whether all channels are equal everywhere."""
    if pixels.ndim == 2:
        return True
    return bool(np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 1], pixels[..., 2]))
