"""Pictures with more than 8 bits a channel: every bit arrives, or it is said why not."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from pictures import encode
from snellen.core.errors import PictureError
from snellen.imaging.deep import turn_upright
from snellen.imaging.readers import compute_pixels_sha256, read_picture

DEEP = np.random.default_rng(1).integers(0, 1 << 16, (20, 30), dtype=np.uint16)
COLOUR = np.random.default_rng(2).integers(0, 1 << 16, (20, 30, 3), dtype=np.uint16)
ALPHA = np.dstack([COLOUR, np.where(np.arange(30) < 15, 0xFFFF, 0)[None].repeat(20, 0).astype(np.uint16)])


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def encode_cv2(rgb: np.ndarray, suffix: str) -> bytes:
    order = [2, 1, 0, 3][: rgb.shape[2]] if rgb.ndim == 3 else None
    done, data = cv2.imencode(suffix, rgb if order is None else np.ascontiguousarray(rgb[..., order]))
    assert done
    return bytes(data)


def encode_png(values: np.ndarray, colour: int) -> bytes:
    """A 16-bit PNG written by the book (PNG 1.2): colour type 0 grey, 2 RGB, 4 grey with alpha, 6 RGBA."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(DEEP), DEEP), (encode(DEEP, "TIFF"), DEEP), (encode_png(DEEP, 0), DEEP),
        (encode(DEEP.astype(np.int32), "TIFF"), DEEP), (encode(DEEP, "TIFF", compression="tiff_lzw"), DEEP),
        (encode_png(COLOUR, 2), COLOUR), (encode_cv2(COLOUR, ".png"), COLOUR), (encode_cv2(COLOUR, ".tiff"), COLOUR),
        (encode_png(np.dstack([DEEP, np.full_like(DEEP, 0xFFFF)]), 4), np.repeat(DEEP[..., None], 3, 2)),
        (encode_png(np.dstack([COLOUR, np.full_like(DEEP, 0xFFFF)]), 6), COLOUR),
    ],
    ids=["png", "tiff", "png-by-hand", "int32-tiff", "lzw", "rgb", "rgb-cv2", "rgb-tiff", "grey-alpha", "rgba"],
)  # fmt: skip
def test_deep_pictures_keep_every_bit(data: bytes, expected: np.ndarray) -> None:
    picture = read_picture(data)
    assert picture.pixels.dtype == np.uint16
    assert np.array_equal(picture.pixels, expected)
    assert picture.bits in (16, 32)


def test_big_endian_tiff_keeps_every_bit() -> None:
    entries = [(256, 30), (257, 20), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 20), (279, 1200)]
    body = DEEP.astype(">u2").tobytes()
    table = struct.pack(">H", len(entries)) + b"".join(struct.pack(">HHIHH", tag, 3, 1, v, 0) for tag, v in entries)
    data = b"MM\0*" + struct.pack(">I", 8 + len(body)) + body + table + b"\0\0\0\0"
    assert np.array_equal(read_picture(data).pixels, DEEP)


def test_integers_beyond_16_bits_are_kept() -> None:
    values = np.array([[-5, 0, 1 << 20]], np.int32).repeat(4, 0)
    picture = read_picture(encode(values, "TIFF"))
    assert picture.pixels.dtype == np.int32
    assert np.array_equal(picture.pixels, values)


@pytest.mark.parametrize(("background", "level"), [("white", 0xFFFF), ("black", 0)])
def test_transparent_parts_of_deep_pictures_lie_on_the_background(background: Any, level: int) -> None:
    picture = read_picture(encode_png(ALPHA, 6), background=background)
    assert np.array_equal(picture.pixels[:, :15], COLOUR[:, :15])
    assert (picture.pixels[:, 15:] == level).all()
    assert "transparent" in picture.notes


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turn_upright_agrees_with_pillow(orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(turn_upright(values, orientation), read_picture(encode(values, exif=exif)).pixels)


def test_deep_picture_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[274] = 6
    stream = io.BytesIO()
    Image.fromarray(DEEP).save(stream, "PNG", exif=exif)
    picture = read_picture(stream.getvalue())
    assert np.array_equal(picture.pixels, np.rot90(DEEP, -1))
    assert (picture.width_px, picture.height_px) == (20, 30)


@pytest.mark.parametrize("form", ["float32", "float-in-colour"])
def test_floats_are_refused_clearly(form: str) -> None:
    values = np.random.default_rng(0).random((9, 9, 3) if form == "float-in-colour" else (9, 9)).astype(np.float32)
    data = encode(values, "TIFF") if form == "float32" else encode_cv2(values, ".tiff")
    with pytest.raises(PictureError):
        read_picture(data)


def test_float_picture_says_what_it_is() -> None:
    with pytest.raises(PictureError, match="floating-point"):
        read_picture(encode(np.zeros((4, 4), np.float32), "TIFF"))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("data", [encode(DEEP), encode_png(COLOUR, 2), encode_cv2(COLOUR, ".tiff")])
def test_truncated_deep_picture_is_refused(data: bytes, share: float) -> None:
    with pytest.raises(PictureError):
        read_picture(data[: int(share * len(data))])


def test_random_damage_of_deep_pictures_gives_a_picture_or_a_picture_error() -> None:
    random = np.random.default_rng(3)
    for whole in (encode_png(ALPHA, 6), encode_cv2(COLOUR, ".tiff"), encode(DEEP, "TIFF")):
        for _ in range(60):
            data = np.frombuffer(whole, np.uint8).copy()
            places = random.integers(0, len(data), random.integers(1, 6))
            data[places] = random.integers(0, 256, len(places))
            try:
                read_picture(data.tobytes())
            except PictureError:
                continue


def test_hash_tells_depths_apart() -> None:
    values = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert compute_pixels_sha256(values) != compute_pixels_sha256(values.astype(np.uint16))


def test_hash_does_not_depend_on_the_byte_order() -> None:
    assert compute_pixels_sha256(DEEP) == compute_pixels_sha256(DEEP.astype(">u2"))


def make_tiff(values: np.ndarray, *, photometric: int, bits: int = 16) -> bytes:
    """A grey TIFF 6.0 of one strip; photometric 0 means that white is zero."""
    height, width = values.shape
    body = values.astype("<u2").tobytes()
    entries = [
        (256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height),
        (279, len(body)),
    ]  # fmt: skip
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHIHH", tag, 3, 1, v, 0) for tag, v in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + table + b"\0\0\0\0"


@pytest.mark.parametrize(("photometric", "expected"), [(1, DEEP), (0, 0xFFFF - DEEP)])
def test_tiff_whose_white_is_zero_is_turned_round(photometric: int, expected: np.ndarray) -> None:
    picture = read_picture(make_tiff(DEEP, photometric=photometric))
    assert picture.pixels.dtype == np.uint16
    assert np.array_equal(picture.pixels, expected)


def test_profile_beside_16_bits_is_told_unless_it_is_srgb() -> None:
    for profile, notes in ((SRGB, ()), (b"x" * 200, ("icc_ignored",))):
        stream = io.BytesIO()
        Image.fromarray(DEEP).save(stream, "TIFF", icc_profile=profile)
        assert read_picture(stream.getvalue()).notes == notes
