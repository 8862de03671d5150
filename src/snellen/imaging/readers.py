"""From a file, bytes or an array in a file to uint8 pixels and the facts of the picture.

The one decoder is Pillow: it refuses truncated files, where faster ones return grey rows in silence.
Knows nothing of labels, plans or models.
"""

from __future__ import annotations

import functools
import hashlib
import io
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import PictureError
from snellen.imaging.pillow_pixels import copy_rgb

if TYPE_CHECKING:
    from PIL import Image

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
MAX_PIXELS = 178_000_000
_EIGHT_BIT_MODES = ("1", "L", "P", "LA", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV")
_FORMATS = ("JPEG", "PNG", "TIFF")  # EPS, for one, would start Ghostscript on whatever was sent
_DAMAGED = (
    OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError,
)  # fmt: skip
_WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Picture:
    """`pixels` is uint8 `(H, W)` for grey or `(H, W, 3)` RGB, upright; the sizes are those of the full picture."""

    pixels: NDArray[np.uint8]
    width_px: int
    height_px: int
    format: str
    n_bytes: int

    @property
    def channels(self) -> int:
        return 1 if self.pixels.ndim == 2 else 3


def read_picture(source: Path | bytes, *, min_side_px: int | None = None) -> Picture:
    """Decode one JPEG, PNG or TIFF.

    With `min_side_px` a JPEG may be decoded at 1/2, 1/4 or 1/8 scale, with both sides still at
    least that long. Raises PictureError that says what is wrong with the file.
    """
    data = source if isinstance(source, bytes) else _read_bytes(source)
    if not data:
        raise PictureError("the file is empty (0 bytes)", "Copy it again from its source.")
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise PictureError(
            "the content is no picture that Snellen reads (JPEG, PNG, TIFF)", "Check what the file really is."
        ) from error
    except Exception as error:  # of a damaged header Pillow's plugins may raise anything; fuzzing found TypeError
        raise PictureError(f"the picture cannot be opened: {error}", "Copy or export it again.") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PictureError(
            f"{width}×{height} pixels are more than the limit of {MAX_PIXELS:,}", "Scale the picture down first."
        )
    # Pillow opens colour of 16 bits as RGB and drops the lower 8
    if image.mode not in _EIGHT_BIT_MODES or ";16" in str(image.tile):
        raise PictureError(
            f"pictures with more than 8 bits a channel are not read yet (mode {image.mode})",
            "Export it with 8 bits a channel.",
        )
    try:
        if min_side_px is not None:
            image.draft(None, (min_side_px, min_side_px))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF beside sound pixels
            # in place: a copy would cost a third of the decoding
            ImageOps.exif_transpose(image, in_place=True)
            pixels = _to_pixels(image)
    except Exception as error:  # as above
        raise PictureError(f"the picture is damaged: {error}", "Copy or export it again.") from error
    if image.size[0] != image.size[1] and (image.size[0] > image.size[1]) != (width > height):
        width, height = height, width
    return Picture(pixels, width, height, image.format or "", len(data))


def read_location(root: Path, location: str, *, min_side_px: int | None = None) -> Picture:
    """The picture of a sample: a file below `root`, or `file.npz::name[index]`."""
    if "::" not in location:
        return read_picture(root / location, min_side_px=min_side_px)
    file, _, entry = location.partition("::")
    name, _, index = entry.rstrip("]").partition("[")
    array = open_array(root / file, name)
    if not index.isdecimal() or int(index) >= len(array):
        raise PictureError(f"{file} holds no {entry}", "It changed since it was read: start again.")
    pixels = array[int(index)]
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    return Picture(np.ascontiguousarray(pixels), pixels.shape[1], pixels.shape[0], Path(file).suffix[1:], pixels.nbytes)


def open_array(path: Path, name: str) -> NDArray[np.uint8]:
    """One array of an `.npz` file, `(N, H, W)` or `(N, H, W, 3)`. Objects inside (pickles) are refused."""
    try:
        found = path.stat()
        return _load_array(path, name, found.st_size, found.st_mtime_ns)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        EOFError,
    ) as error:
        raise PictureError(f"{path}: {name} cannot be read: {error}", "Download or export the file again.") from error


@functools.lru_cache(maxsize=4)
def _load_array(path: Path, name: str, _size: int, _changed_ns: int) -> NDArray[np.uint8]:
    # size and date are part of the key, so that a file that was written anew is read anew
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        array: NDArray[np.uint8] = archive[name]
        return array


def compute_pixels_sha256(pixels: NDArray[np.uint8]) -> str:
    """Hash of what is seen: grey stored as RGB has the hash of the grey picture."""
    seen = pixels[..., 0] if is_grey(pixels) and pixels.ndim == 3 else pixels
    digest = hashlib.sha256(f"{seen.shape}".encode())
    digest.update(np.ascontiguousarray(seen).data)
    return digest.hexdigest()


def is_grey(pixels: NDArray[np.uint8]) -> bool:
    """Whether all channels are equal everywhere."""
    if pixels.ndim == 2:
        return True
    return bool(np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 1], pixels[..., 2]))


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise PictureError("the file does not exist", "Check the path.") from error
    except OSError as error:
        raise PictureError(f"the file cannot be read: {error.strerror}", "Check its permissions.") from error


def _to_pixels(image: Image.Image) -> NDArray[np.uint8]:
    from PIL import Image

    is_opaque = "transparency" not in image.info
    if image.mode == "RGB" and is_opaque:
        return copy_rgb(image)
    if image.mode == "L" and is_opaque:
        return np.asarray(image)
    if image.mode == "1" and is_opaque:
        return np.asarray(image.convert("L"))
    if image.mode in ("RGBA", "LA", "PA") or not is_opaque:
        layer = image.convert("RGBA")
        background = Image.new("RGBA", layer.size, (*_WHITE, 255))
        return np.asarray(Image.alpha_composite(background, layer).convert("RGB"))
    return np.asarray(image.convert("RGB"))
