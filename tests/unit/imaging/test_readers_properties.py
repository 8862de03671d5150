"""Whatever bytes come: pixels of the promised shape, or a PictureError."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pictures import draw_noise, encode
from properties import BOUNDED
from snellen.core.errors import PictureError
from snellen.imaging.readers import compute_pixels_sha256, is_grey, read_picture

_RGB, _GREY = draw_noise(1, 17, 23), draw_noise(2, 17, 23, 1)
ENCODED = {
    "png": encode(_RGB),
    "jpeg": encode(_RGB, "JPEG"),
    "progressive": encode(_RGB, "JPEG", progressive=True),
    "cmyk": encode(_RGB, "JPEG", mode="CMYK"),
    "tiff": encode(_RGB, "TIFF"),
    "tiff-lzw": encode(_RGB, "TIFF", compression="tiff_lzw"),
    "palette": encode(_RGB, mode="P"),
    "grey": encode(_GREY),
    "rgba": encode(_RGB, mode="RGBA"),
    "one-bit": encode(_GREY, mode="1"),
}
MAX_MUTATED = 60


def require_promise(data: bytes, min_side_px: int | None = None) -> None:
    """Fails by any other exception, and by any other shape or type."""
    try:
        picture = read_picture(data, min_side_px=min_side_px)
    except PictureError:
        return
    pixels = picture.pixels
    assert np.issubdtype(pixels.dtype, np.integer)
    assert pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    assert min(pixels.shape[:2]) >= 1
    assert picture.width_px >= pixels.shape[1]
    assert picture.height_px >= pixels.shape[0]
    assert len(compute_pixels_sha256(pixels)) == 64
    assert is_grey(pixels) in (True, False)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An encoded picture that was cut, overwritten here and there, or joined with another."""
    data = bytearray(draw(st.sampled_from(list(ENCODED.values()))))
    how = draw(st.sampled_from(["cut", "flip", "splice", "insert"]))
    if how == "cut":
        return bytes(data[: draw(st.integers(0, len(data)))])
    if how == "splice":
        other = draw(st.sampled_from(list(ENCODED.values())))
        return bytes(data[: draw(st.integers(0, len(data)))]) + other[draw(st.integers(0, len(other))) :]
    if how == "insert":
        at = draw(st.integers(0, len(data)))
        return bytes(data[:at]) + draw(st.binary(max_size=40)) + bytes(data[at:])
    # headers decide most: half of the flips fall into the first bytes
    last = draw(st.sampled_from([min(MAX_MUTATED, len(data) - 1), len(data) - 1]))
    for at, value in draw(st.dictionaries(st.integers(0, last), st.integers(0, 255), min_size=1, max_size=6)).items():
        data[at] = value
    return bytes(data)


@BOUNDED
@given(data=mutated(), min_side_px=st.sampled_from([None, 1, 8, 4000]))
def test_read_picture_of_mutated_files_is_a_picture_or_a_picture_error(data: bytes, min_side_px: int | None) -> None:
    require_promise(data, min_side_px)


@BOUNDED
@given(head=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0", b"MM\0*"]), data=st.binary())
def test_read_picture_of_arbitrary_bytes_is_a_picture_or_a_picture_error(head: bytes, data: bytes) -> None:
    require_promise(head + data)


@pytest.mark.parametrize("name", ENCODED)
def test_read_picture_of_every_seed_reads(name: str) -> None:
    assert read_picture(ENCODED[name]).pixels.shape[:2] == (17, 23)


def test_read_picture_refuses_tiff_with_fractional_offsets() -> None:
    # found by bench/fuzz.py: Pillow raises a TypeError
    entry = b"\x11\x01\x04\x00"
    assert entry in ENCODED["tiff"]
    with pytest.raises(PictureError, match=r"damaged|opened"):
        read_picture(ENCODED["tiff"].replace(entry, b"\x11\x01\x0c\x00"))
