"""From a file, bytes or an array in a file to pixels and the facts of the picture: the one way in.

What decodes is chosen by content. Knows nothing of labels, plans or models.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from pathlib import Path

from snellen.core.errors import PictureError
from snellen.core.regular_files import NotRegularError, is_file, open_regular, read_small
from snellen.imaging.arrays import ARRAY_SUFFIXES, open_array, read_array_picture
from snellen.imaging.encoded import decode_picture
from snellen.imaging.kinds import DICOM_SUFFIXES, PICTURE_SUFFIXES, find_kind, looks_like_picture
from snellen.imaging.picture import Background, Levels, Picture, compute_pixels_sha256, is_grey, require_file_size

__all__ = [
    "PICTURE_SUFFIXES", "Background", "Levels", "Picture", "compute_pixels_sha256", "is_grey", "list_pictures",
    "looks_like_picture", "open_array", "read_location", "read_picture",
]  # fmt: skip
_FRAME = re.compile(r"frame\[(\d{1,9})\]")
_KIND_BYTES = 132
_LARGE_FILE = 100_000_000
_one_large_file = threading.Lock()


def read_picture(
    source: Path | bytes, *, min_side_px: int | None = None, background: Background = "white", frame: int | None = None
) -> Picture:
    """Decode one JPEG, PNG, TIFF, BMP, WebP, GIF or DICOM.

    With `min_side_px` a JPEG may be decoded at 1/2, 1/4 or 1/8 scale, with both sides still at
    least that long. Transparent parts are laid on `background`. `frame` counts from 0 and is asked for where a DICOM
    holds several. Raises PictureError that says what is wrong with the file.
    """
    if isinstance(source, Path) and frame is None and source.suffix.lower() not in DICOM_SUFFIXES:
        source = _read_small(source) or source
    begin = source[:_KIND_BYTES] if isinstance(source, bytes) else _read_bytes(source, _KIND_BYTES)
    if not begin:
        raise PictureError("the file is empty (0 bytes)", "Copy it again from its source.")
    kind = find_kind(begin)
    has_suffix = isinstance(source, Path) and source.suffix.lower() in DICOM_SUFFIXES
    if kind == "DICOM" or frame is not None or (has_suffix and not kind):
        from snellen.imaging.dicom_pixels import decode_dicom

        return decode_dicom(source, frame=frame)
    if isinstance(source, bytes):
        require_file_size(len(source))
        return decode_picture(source, min_side_px=min_side_px, background=background)
    with _hold_if_large(source):
        return decode_picture(_read_bytes(source), min_side_px=min_side_px, background=background)


def read_location(
    root: Path, location: str, *, min_side_px: int | None = None, background: Background = "white"
) -> Picture:
    """The picture of a sample: a file below `root`, `file.npz::name[index]`, `file.h5::group/name[index]` or
    `file.dcm::frame[index]`.
    """
    if "::" not in location or is_file(root / location):
        return read_picture(root / location, min_side_px=min_side_px, background=background)
    file, _, entry = location.rpartition("::")
    if (frame := _FRAME.fullmatch(entry)) and not file.lower().endswith(ARRAY_SUFFIXES):
        return read_picture(root / file, frame=int(frame[1]))
    name, _, index = entry.removesuffix("]").rpartition("[")
    if not index.isdecimal():
        raise PictureError(f"{file} holds no {entry}", "It changed since it was read: start again.")
    pixels = read_array_picture(root / file, name, int(index))
    bits = 8 * pixels.dtype.itemsize
    return Picture(pixels, pixels.shape[1], pixels.shape[0], Path(file).suffix[1:], pixels.nbytes, bits)


def list_pictures(file: str) -> list[str]:
    """The pictures in a file: itself, or `file::frame[index]` for a DICOM that holds several.

    A file that cannot be read stays as it is: reading it says why.
    """
    path = Path(file)
    try:
        if path.suffix.lower() not in DICOM_SUFFIXES and find_kind(_read_bytes(path, _KIND_BYTES)) != "DICOM":
            return [file]
        from snellen.imaging.dicom import count_frames

        n_frames = count_frames(path)
    except PictureError:
        return [file]
    return [f"{file}::frame[{index}]" for index in range(n_frames)] if n_frames > 1 else [file]


def _hold_if_large(path: Path) -> contextlib.AbstractContextManager[object]:
    """Large files are in memory one at a time. Who holds this may wait for `reserve`, never the other way round."""
    try:
        is_large = path.stat().st_size > _LARGE_FILE
    except OSError:
        is_large = False  # opening it says why
    return _one_large_file if is_large else contextlib.nullcontext()


def _read_small(path: Path) -> bytes | None:
    """The whole of an ordinary picture, read at once; None of what is empty, large or cannot be read."""
    try:
        return read_small(path, _LARGE_FILE)
    except OSError:
        return None  # asked again below, it is told why


def _read_bytes(path: Path, n_bytes: int | None = None) -> bytes:
    """The first `n_bytes` of a file, or all that it had when it was opened."""
    try:
        with open_regular(path) as stream:
            if n_bytes is None:
                n_bytes = os.fstat(stream.fileno()).st_size
                require_file_size(n_bytes)
            return stream.read(n_bytes)
    except NotRegularError as error:
        raise PictureError(f"the path cannot be read: {error.strerror}", "Name a file.") from error
    except FileNotFoundError as error:
        raise PictureError("the file does not exist", "Check the path.") from error
    except OSError as error:
        raise PictureError(f"the file cannot be read: {error.strerror}", "Check its permissions.") from error
