"""Which files look like pictures: by suffix, else by their first bytes. Decodes nothing."""

from __future__ import annotations

from pathlib import Path

from snellen.core.regular_files import open_regular

DICOM_SUFFIXES = (".dcm", ".dicom")
PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".tif", ".tiff", ".bmp", ".webp", ".gif", *DICOM_SUFFIXES,
)  # fmt: skip
_DICOM_MARK = slice(128, 132)
_BEGINS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),  # this and the next are BigTIFF
    (b"MM\0+", "TIFF"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
)
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_NEEDED = 132


def looks_like_picture(path: Path) -> bool:
    """Whether the name ends like a picture's or, with another or no suffix, the content begins like one's.

    A DICOM directory file is none. A file that cannot be read is none, unless its name says so.
    """
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return True
    if path.name.upper() == "DICOMDIR":
        return False
    try:
        with open_regular(path) as stream:
            return find_kind(stream.read(_NEEDED)) != ""
    except OSError:
        return False


def find_kind(begin: bytes) -> str:
    """JPEG, PNG, TIFF, BMP, WEBP, GIF or DICOM by the first 132 bytes, else nothing."""
    if begin[_DICOM_MARK] == b"DICM":
        return "DICOM"
    for mark, kind in _BEGINS:
        if begin.startswith(mark):
            return kind
    if begin.startswith(b"RIFF") and begin[8:12] == b"WEBP":
        return "WEBP"
    # two letters begin many a text: the header's length tells a bitmap from it
    is_bitmap = begin.startswith(b"BM") and int.from_bytes(begin[14:18], "little") in _BMP_HEADERS
    return "BMP" if is_bitmap else ""
