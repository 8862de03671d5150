"""Embedded colour profiles: others than sRGB are converted, sRGB and damaged ones leave the pixels alone."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from pictures import draw_smooth, encode
from snellen.imaging.readers import read_picture

SMOOTH = draw_smooth(1, 40, 50)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def make_profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of version 2 (ICC.1:2001-04) with these tags."""
    head, table, body = bytearray(128), b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        padded = content + b"\0" * (-len(content) % 4)
        table += name + struct.pack(">II", start + len(body), len(content))
        body += padded
    head[8:12], head[12:16], head[16:20], head[20:24], head[36:40] = b"\2\x40\0\0", b"mntr", space, b"XYZ ", b"acsp"
    head[68:80] = struct.pack(">iii", 63190, 65536, 54061)  # the illuminant D50 in 16.16
    head[0:4] = struct.pack(">I", start + len(body))
    return bytes(head) + struct.pack(">I", len(tags)) + table + body


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">iii", *(round(value * 65536) for value in values))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


WHITE = {b"wtpt": xyz(0.9642, 1, 0.8249)}
# linear light, primaries of sRGB adapted to D50: only the curve differs, so the result can be worked by hand
PRIMARIES = {
    b"rXYZ": xyz(0.4361, 0.2225, 0.0139),
    b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
    b"bXYZ": xyz(0.1431, 0.0606, 0.7141),
}
LINEAR = make_profile(b"RGB ", {**WHITE, **PRIMARIES, b"rTRC": gamma(1), b"gTRC": gamma(1), b"bTRC": gamma(1)})
LINEAR_GREY = make_profile(b"GRAY", {**WHITE, b"kTRC": gamma(1)})


def encode_srgb(levels: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1: linear light in 0 … 255 → sRGB levels."""
    light = levels / 255
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_linear_profile_is_converted_to_srgb(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    picture = read_picture(encode(SMOOTH, form, icc_profile=LINEAR, **options))
    assert picture.notes == ("icc",)
    # rounding of the profile's curve and matrix
    assert np.abs(picture.pixels - encode_srgb(SMOOTH.astype(float))).max() < 2.5


def test_grey_profile_is_converted_and_grey_stays_grey() -> None:
    picture = read_picture(encode(SMOOTH[..., 0], icc_profile=LINEAR_GREY))
    assert picture.pixels.ndim == 2
    assert picture.notes == ("icc",)
    assert np.abs(picture.pixels - encode_srgb(SMOOTH[..., 0].astype(float))).max() < 2.5


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_srgb_profile_leaves_pixels_alone(form: str) -> None:
    with_profile = read_picture(encode(SMOOTH, form, icc_profile=SRGB))
    assert np.array_equal(with_profile.pixels, read_picture(encode(SMOOTH, form)).pixels)
    assert with_profile.notes == ()


@pytest.mark.parametrize(
    "profile", [b"\0" * 200, SRGB[:100], LINEAR_GREY, b"x"], ids=["zeros", "truncated", "of grey", "one byte"]
)
def test_profile_that_cannot_be_used_is_told_and_pixels_stay(profile: bytes) -> None:
    picture = read_picture(encode(SMOOTH, icc_profile=profile))
    assert picture.notes == ("icc_ignored",)
    assert np.array_equal(picture.pixels, SMOOTH)


def test_transparency_survives_a_profile() -> None:
    alpha = np.zeros(SMOOTH.shape[:2], np.uint8)
    alpha[:, :25] = 255
    picture = read_picture(encode(np.dstack([SMOOTH, alpha]), icc_profile=LINEAR), background="black")
    assert set(picture.notes) == {"icc", "transparent"}
    assert picture.pixels[:, 25:].max() == 0
    assert np.abs(picture.pixels[:, :25] - encode_srgb(SMOOTH[:, :25].astype(float))).max() < 2.5


def test_palette_with_a_profile_is_converted() -> None:
    stream = io.BytesIO()
    image = Image.fromarray(SMOOTH).quantize(16)
    image.save(stream, "PNG", icc_profile=LINEAR)
    picture = read_picture(stream.getvalue())
    assert picture.notes == ("icc",)
    assert np.abs(picture.pixels - encode_srgb(np.asarray(image.convert("RGB"), float))).max() < 2.5


def test_reduced_jpeg_is_converted_too() -> None:
    data = encode(draw_smooth(1, 400, 400), "JPEG", icc_profile=LINEAR)
    assert read_picture(data, min_side_px=50).notes == ("icc",)


@pytest.mark.parametrize("grey", [False, True])
def test_transparent_colour_is_found_before_colours_change(grey: bool) -> None:
    pixels = np.full((4, 6), 50, np.uint8) if grey else np.full((4, 6, 3), (50, 60, 70), np.uint8)
    pixels[:, 3:] = 200
    data = encode(pixels, icc_profile=LINEAR_GREY if grey else LINEAR, transparency=50 if grey else (50, 60, 70))
    picture = read_picture(data, background="black")
    assert picture.pixels[:, :3].max() == 0
    assert picture.pixels[:, 3:].min() > 220


def test_grey_picture_with_a_profile_of_rgb_is_converted_along_its_greys() -> None:
    picture = read_picture(encode(SMOOTH[..., 0], icc_profile=LINEAR))
    assert picture.pixels.ndim == 2
    assert np.abs(picture.pixels - encode_srgb(SMOOTH[..., 0].astype(float))).max() < 2.5
    assert np.array_equal(read_picture(encode(SMOOTH[..., 0], icc_profile=SRGB)).pixels, SMOOTH[..., 0])
