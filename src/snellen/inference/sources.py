"""What a caller may give as a picture, and what the readers take of it. Decodes nothing."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

import numpy as np

from snellen.core.errors import PictureError, UsageError
from snellen.core.quiet import hush_warnings
from snellen.imaging.readers import Levels

if TYPE_CHECKING:
    from PIL import Image

PictureSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | Levels | Image.Image"
_ORIENTATION = 0x0112
_TAKEN = "a path, the bytes of a file, an array (H, W) or (H, W, 3), or a Pillow image"


def to_readable(source: PictureSource) -> str | bytes | Levels:
    """A location, a file's bytes, or an array. Raises PictureError for what is no picture."""
    if isinstance(source, np.ndarray):
        return source
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, (str, os.PathLike)):
        if location := os.fsdecode(source):
            return location
        raise PictureError("the path is empty", "Name a file.")
    if _is_pillow(source):
        return _encode(source)
    kind = type(source).__name__
    raise PictureError(f"a picture must be {_TAKEN}, not {kind}", "Convert it; arrays are RGB, channels last.")


def name_source(source: PictureSource) -> str:
    """The path as it was given; nothing for what came without one."""
    return os.fsdecode(source) if isinstance(source, (str, os.PathLike)) else ""


def list_sources(sources: PictureSource | Iterable[PictureSource]) -> Iterable[PictureSource]:
    """One picture as a list of one; several as they are. Raises UsageError for what is neither."""
    if isinstance(sources, (str, os.PathLike, bytes, bytearray, memoryview)) or _is_pillow(sources):
        return [sources]
    if isinstance(sources, np.ndarray) and sources.ndim < 4:
        return [sources]
    if not isinstance(sources, Iterable):
        raise UsageError(f"Pictures are a list, not {type(sources).__name__}.", f"Each must be {_TAKEN}.")
    return sources


def _is_pillow(source: object) -> TypeGuard[Image.Image]:
    from PIL import Image

    return isinstance(source, Image.Image)


def _encode(image: Image.Image) -> bytes:
    """As a file without loss, so that colours, transparency and orientation go the way of all files."""
    from PIL import Image

    stream = io.BytesIO()
    try:
        with hush_warnings():  # of damaged EXIF
            turned = Image.Exif()
            if (orientation := image.getexif().get(_ORIENTATION)) is not None:
                turned[_ORIENTATION] = orientation
            image.save(stream, "PNG", compress_level=1, exif=turned)
    except Exception as error:  # of damaged and closed images Pillow may raise anything
        raise PictureError(
            f"the Pillow image (mode {image.mode}) cannot be read: {error}", "Give the file, or convert it to RGB."
        ) from error
    return stream.getvalue()
