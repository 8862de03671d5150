"""The one decoder: every dress of a picture gives the same pixels, and what is damaged or no picture is refused."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pictures import Pixels, draw_noise, draw_smooth, encode, write_npz
from snellen.core.errors import PictureError
from snellen.imaging.readers import (
    Picture,
    compute_pixels_sha256,
    is_grey,
    list_pictures,
    looks_like_picture,
    open_array,
    read_location,
    read_picture,
)

RGB, GREY = draw_noise(1, 20, 30), draw_noise(2, 20, 30, channels=1)
GREY_AS_RGB = np.repeat(GREY[..., None], 3, axis=2)
ALPHA = np.dstack([RGB, np.where(GREY > 127, 255, 0).astype(np.uint8)])
ON_WHITE = np.where(ALPHA[..., 3:] == 255, RGB, 255).astype(np.uint8)
BITS = np.where(GREY > 127, 255, 0).astype(np.uint8)
WEB = np.asarray(Image.fromarray(RGB).quantize(16).convert("RGB"))
SMOOTH = draw_smooth(3, 90, 120)


def make_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def make_png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(make_chunk(kind, data) for kind, data in chunks)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(RGB), RGB), (encode(GREY), GREY), (encode(RGB, "TIFF"), RGB), (encode(GREY, "TIFF"), GREY),
        (encode(RGB, "TIFF", compression="tiff_lzw"), RGB),
        (encode(ALPHA), ON_WHITE), (encode(ALPHA, "TIFF"), ON_WHITE),
        (encode(BITS, mode="1"), BITS), (encode(BITS, "TIFF", mode="1"), BITS),
        (encode(np.asarray(Image.fromarray(RGB).quantize(16)), "PNG"), np.asarray(Image.fromarray(RGB).quantize(16))),
    ],
    ids=["png", "grey-png", "tiff", "grey-tiff", "lzw", "rgba", "rgba-tiff", "bits", "bits-tiff", "indices"],
)  # fmt: skip
def test_read_picture_gives_exact_pixels(data: bytes, expected: Pixels) -> None:
    assert np.array_equal(read_picture(data).pixels, expected)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "x.png"
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/zero")
    with pytest.raises(PictureError, match=f"it is a {kind}, no file"):
        read_picture(place)
    assert not looks_like_picture(place.rename(tmp_path / "x"))
    assert list_pictures(str(tmp_path / "x")) == [str(tmp_path / "x")]


def test_file_beyond_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "x.png").open("wb") as stream:
        stream.write(encode(RGB))
        stream.truncate(4_000_000_000)  # sparse: it takes no room
    with pytest.raises(PictureError, match="4,000,000,000 bytes, more than the limit of 1,000,000,000"):
        read_picture(tmp_path / "x.png")


def test_read_picture_looks_up_the_palette() -> None:
    stream = io.BytesIO()
    Image.fromarray(RGB).quantize(16).save(stream, "PNG")
    assert np.array_equal(read_picture(stream.getvalue()).pixels, WEB)


def test_read_picture_lays_transparent_palette_on_white() -> None:
    stream = io.BytesIO()
    indices = Image.fromarray(RGB).quantize(16)
    indices.save(stream, "PNG", transparency=0)
    expected = np.where(np.asarray(indices)[..., None] == 0, 255, WEB)
    assert np.array_equal(read_picture(stream.getvalue()).pixels, expected)


def test_read_picture_lays_transparent_grey_level_on_white() -> None:
    level = int(GREY[0, 0])
    pixels = read_picture(encode(GREY, transparency=level)).pixels
    assert pixels[0, 0].min() == 255


def test_read_picture_mixes_half_transparent_pixels_with_white() -> None:
    half = np.full((4, 4, 4), (0, 100, 200, 128), np.uint8)
    # 255 - (255 - x) · 128 / 255; both sides round, so one level of difference may stay
    assert np.allclose(read_picture(encode(half)).pixels[0, 0], (127, 177.2, 227.4), atol=1)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_read_picture_converts_colour_spaces(mode: str) -> None:
    pixels = read_picture(encode(SMOOTH, "TIFF", mode=mode)).pixels
    assert np.abs(pixels.astype(int) - SMOOTH).max() <= 3  # the conversions round to whole levels twice


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"mode": "CMYK"}, {"subsampling": 0}],
    ids=["plain", "progressive", "cmyk", "444"],
)
def test_read_picture_reads_jpeg(options: dict[str, Any]) -> None:
    pixels = read_picture(encode(SMOOTH, "JPEG", quality=95, **options)).pixels
    assert np.abs(pixels.astype(int) - SMOOTH).mean() < 2  # what JPEG of quality 95 loses on soft colours


def test_read_picture_reads_grey_jpeg_as_grey() -> None:
    assert read_picture(encode(SMOOTH[..., 0], "JPEG")).pixels.ndim == 2


def test_read_picture_tells_facts_of_the_file() -> None:
    data = encode(RGB)
    picture = read_picture(data)
    assert (picture.width_px, picture.height_px, picture.format, picture.n_bytes) == (30, 20, "PNG", len(data))


@pytest.mark.parametrize(("pixels", "channels"), [(RGB, 3), (GREY, 1)])
def test_picture_counts_channels(pixels: Pixels, channels: int) -> None:
    assert Picture(pixels, 30, 20, "PNG", 1).channels == channels


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_read_picture_of_path_and_bytes_agree(tmp_path: Path, form: str) -> None:
    data = encode(RGB, form)
    (tmp_path / "x").write_bytes(data)
    assert np.array_equal(read_picture(tmp_path / "x").pixels, read_picture(data).pixels)


def test_read_picture_repeats_in_threads() -> None:
    data = encode(SMOOTH, "JPEG")
    expected = read_picture(data).pixels
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(picture.pixels, expected) for picture in pool.map(read_picture, [data] * 32))


# EXIF 2.3, tag 274: where the stored rows and columns belong
UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


def make_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_read_picture_turns_upright(orientation: int, form: str) -> None:
    pixels = read_picture(encode(RGB, form, exif=make_exif(orientation))).pixels
    assert np.array_equal(pixels, UPRIGHT[orientation](RGB))


@pytest.mark.parametrize("min_side_px", [None, 40])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_read_picture_tells_size_of_the_upright_picture(orientation: int, min_side_px: int | None) -> None:
    data = encode(draw_smooth(1, 320, 640), "JPEG", exif=make_exif(orientation))
    picture = read_picture(data, min_side_px=min_side_px)
    assert (picture.height_px, picture.width_px) == ((320, 640) if orientation < 5 else (640, 320))


@pytest.mark.parametrize("orientation", [0, 9, 6000])
def test_read_picture_takes_unknown_orientation_as_it_is(orientation: int) -> None:
    assert np.array_equal(read_picture(encode(RGB, exif=make_exif(orientation))).pixels, RGB)


def test_read_picture_of_damaged_exif_is_read_without_warning() -> None:
    # warnings are errors here; on a terminal they would be lines between those of the progress bar
    exif = bytearray(make_exif(6).tobytes())
    exif[14] = 200  # entries that are said to follow; there is one
    assert read_picture(encode(RGB, "JPEG", exif=bytes(exif))).pixels.ndim == 3


def test_read_picture_reads_a_phone_s_jpeg_with_a_preview_behind_it() -> None:
    data = encode(SMOOTH, "MPO", save_all=True, append_images=[Image.fromarray(SMOOTH[::4, ::4])])
    assert read_picture(data).pixels.shape == SMOOTH.shape


@pytest.mark.parametrize("min_side_px", [1, 10, 99, 100, 101, 300, 333, 450, 900, 5000])
def test_reduced_scale_keeps_the_shorter_side(min_side_px: int) -> None:
    data = encode(draw_smooth(1, 900, 1200), "JPEG")
    height, width = read_picture(data, min_side_px=min_side_px).pixels.shape[:2]
    assert min(height, width) >= min(min_side_px, 900)


def test_reduced_scale_is_smaller() -> None:
    assert read_picture(encode(draw_smooth(1, 900, 1200), "JPEG"), min_side_px=100).pixels.shape == (113, 150, 3)


def test_reduced_scale_tells_size_of_the_full_picture() -> None:
    picture = read_picture(encode(draw_smooth(1, 900, 1200), "JPEG"), min_side_px=100)
    assert (picture.width_px, picture.height_px) == (1200, 900)


def test_reduced_scale_keeps_grey_grey() -> None:
    assert read_picture(encode(draw_smooth(1, 400, 400)[..., 0], "JPEG"), min_side_px=50).pixels.ndim == 2


def test_png_is_read_at_full_scale() -> None:
    assert read_picture(encode(RGB), min_side_px=2).pixels.shape == RGB.shape


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize(
    ("form", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("TIFF", {})],
    ids=["jpeg", "progressive", "png", "tiff"],
)  # fmt: skip
def test_read_picture_refuses_truncated_file(form: str, options: dict[str, Any], share: float) -> None:
    data = encode(draw_noise(5, 64, 64), form, **options)
    with pytest.raises(PictureError) as caught:
        read_picture(data[: int(share * len(data))])
    assert caught.value.hint


def test_read_picture_refuses_truncated_file_at_reduced_scale() -> None:
    data = encode(draw_noise(5, 512, 512), "JPEG")
    with pytest.raises(PictureError):
        read_picture(data[: len(data) // 2], min_side_px=32)


def test_read_picture_refuses_png_whose_pixels_are_damaged() -> None:
    data = bytearray(encode(draw_noise(5, 64, 64)))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(PictureError, match="damaged"):
        read_picture(bytes(data))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes"), (b"Dear colleague,", "no picture"), (b"<!DOCTYPE html>", "no picture"),
        (b"\xff\xd8\xff", "no picture"),
        (b"%PDF-1.7", "no picture"), (b"\0" * 128 + b"DICM", "no picture"), (b"PK\x03\x04" + b"\0" * 60, "no picture"),
    ],
    ids=["empty", "text", "html", "three-bytes", "pdf", "dicom", "zip"],
)  # fmt: skip
def test_read_picture_refuses_what_is_no_picture(data: bytes, words: str) -> None:
    with pytest.raises(PictureError, match=words):
        read_picture(data)


@pytest.mark.parametrize("form", ["EPS", "TGA", "PPM", "ICO", "JPEG2000"])
def test_read_picture_refuses_formats_that_it_does_not_promise(form: str) -> None:
    # whatever the suffix: each decoder more is a door more, and for EPS Pillow starts Ghostscript on the upload
    with pytest.raises(PictureError, match=r"no picture that Snellen reads \(JPEG, PNG, TIFF, BMP"):
        read_picture(encode(RGB, form))


@pytest.mark.parametrize(("width", "height"), [(200_000, 200_000), (30_000, 6_000), (1, 2_000_000_000)])
def test_read_picture_refuses_bombs_before_decoding(width: int, height: int) -> None:
    with pytest.raises(PictureError, match="pixels"):
        read_picture(make_png(width, height, 8, 2, b"\0" * 1000))


def test_read_picture_refuses_bomb_of_text() -> None:
    png = encode(RGB)
    text = make_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * (100 << 20), 1))
    with pytest.raises(PictureError):
        read_picture(png[:33] + text + png[33:])


def test_read_picture_of_absent_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="does not exist"):
        read_picture(tmp_path / "gone.png")


def test_read_picture_of_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="cannot be read"):
        read_picture(tmp_path)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_read_picture_of_random_damage_is_a_picture_or_a_picture_error(form: str) -> None:
    random = np.random.default_rng(0)
    whole = np.frombuffer(encode(draw_smooth(1, 40, 40), form), np.uint8)
    for _ in range(150):
        data = whole.copy()
        places = random.integers(0, min(len(data), 400), random.integers(1, 6))
        data[places] = random.integers(0, 256, len(places))
        try:
            pixels = read_picture(data.tobytes(), min_side_px=8).pixels
        except PictureError:
            continue
        assert pixels.dtype == np.uint8


@pytest.mark.parametrize("pixels", [RGB, GREY, RGB[:1, :1], GREY[:, :1]])
def test_pixel_hash_repeats(pixels: Pixels) -> None:
    assert compute_pixels_sha256(pixels) == compute_pixels_sha256(pixels.copy(order="F"))


def test_pixel_hash_of_grey_equals_that_of_grey_as_rgb() -> None:
    assert compute_pixels_sha256(GREY) == compute_pixels_sha256(GREY_AS_RGB)


def change(pixels: Pixels, *place: int) -> Pixels:
    changed = pixels.copy()
    changed[place] ^= 1
    return changed


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (RGB, change(RGB, 7, 9, 2)), (GREY, change(GREY, 0, 0)), (GREY, GREY.T), (GREY, GREY.reshape(30, 20)),
        (RGB, RGB[..., ::-1]), (RGB, RGB[:, ::-1]), (GREY_AS_RGB, change(GREY_AS_RGB, 0, 0, 0)),
    ],
    ids=["colour", "grey", "transposed", "reshaped", "bgr", "mirrored", "grey-with-one-tint"],
)  # fmt: skip
def test_pixel_hash_tells_pictures_apart(one: Pixels, other: Pixels) -> None:
    assert compute_pixels_sha256(one) != compute_pixels_sha256(other)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [(GREY, True), (GREY_AS_RGB, True), (RGB, False), (np.dstack([GREY, GREY, GREY ^ 1]), False)],
)
def test_is_grey_needs_equal_channels(pixels: Pixels, expected: bool) -> None:
    assert is_grey(pixels) is expected


def test_read_location_reads_a_file_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "x.png").write_bytes(encode(RGB))
    assert np.array_equal(read_location(tmp_path, "deep/x.png").pixels, RGB)


@pytest.mark.parametrize("shape", [(6, 8, 9), (6, 8, 9, 3)], ids=["grey", "rgb"])
def test_read_location_reads_a_picture_of_an_array(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    write_npz(tmp_path / "toy.npz", val_images=images)
    picture = read_location(tmp_path, "toy.npz::val_images[4]")
    assert np.array_equal(picture.pixels, images[4])
    assert (picture.width_px, picture.height_px, picture.format) == (9, 8, "npz")


def test_read_location_drops_a_trailing_axis(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 9, 1), dtype=np.uint8)
    write_npz(tmp_path / "toy.npz", val_images=images)
    assert np.array_equal(read_location(tmp_path, "toy.npz::val_images[4]").pixels, images[4, ..., 0])


def test_read_location_sees_a_file_that_was_written_anew(tmp_path: Path) -> None:
    for level in (1, 2):
        write_npz(tmp_path / "toy.npz", val_images=np.full((6, 8, 7 + level), level, np.uint8))
        assert read_location(tmp_path, "toy.npz::val_images[0]").pixels[0, 0] == level


@pytest.mark.parametrize(
    "location", ["gone.npz::val_images[0]", "toy.npz::no_such[0]", "toy.npz::val_images[99]", f"toy.npz::{300 * 'a'}"]
)
def test_read_location_of_absent_array_raises_picture_error(tmp_path: Path, location: str) -> None:
    write_npz(tmp_path / "toy.npz")
    with pytest.raises(PictureError):
        read_location(tmp_path, location)


def test_open_array_refuses_pickles(tmp_path: Path) -> None:
    write_npz(tmp_path / "toy.npz", val_images=np.array([{}], object))
    with pytest.raises(PictureError, match="val_images cannot be read"):
        open_array(tmp_path / "toy.npz", "val_images")
