"""Picture files as they come: formats, transparency, pages, turned ones, damaged ones."""

from __future__ import annotations

import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pictures import draw_noise, draw_smooth, encode
from snellen.core.errors import PictureError
from snellen.imaging.readers import read_picture

RGB = draw_noise(1, 20, 30)
GREY = draw_noise(2, 20, 30, channels=1)
SMOOTH = draw_smooth(1, 64, 96)
HALF = np.dstack([RGB, np.where(np.arange(30) < 15, 255, 0)[None].repeat(20, 0).astype(np.uint8)])


def save_pages(form: str, *, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    pages = [Image.fromarray(draw_smooth(seed, 24, 32)).convert(mode) for seed in (1, 2, 3)]
    pages[0].save(stream, form, save_all=True, append_images=pages[1:], **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(RGB, "BMP"), RGB), (encode(GREY, "BMP"), GREY),
        (encode(RGB, "WEBP", lossless=True), RGB),
        (encode(GREY, "GIF"), np.repeat(GREY[..., None], 3, 2)),
        (encode(RGB, "TIFF", compression="tiff_deflate"), RGB), (encode(RGB, "TIFF", big_tiff=True), RGB),
    ],
    ids=["bmp", "grey-bmp", "webp", "grey-gif", "deflated-tiff", "big-tiff"],
)  # fmt: skip
def test_lossless_formats_give_exact_pixels(data: bytes, expected: np.ndarray) -> None:
    picture = read_picture(data)
    assert np.array_equal(picture.pixels, expected)
    assert (picture.bits, picture.notes) == (8, ())


def test_lossy_webp_is_close() -> None:
    pixels = read_picture(encode(SMOOTH, "WEBP", quality=95)).pixels
    assert np.abs(pixels.astype(int) - SMOOTH).mean() < 3  # what WebP loses on soft colours


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(("background", "level"), [("white", 255), ("black", 0)])
def test_transparent_parts_lie_on_the_background(form: str, background: Any, level: int) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    picture = read_picture(encode(HALF, form, **options), background=background)
    assert np.array_equal(picture.pixels[:, :15], RGB[:, :15])
    assert (picture.pixels[:, 15:] == level).all()
    assert picture.notes == ("transparent",)


def test_grey_with_alpha_stays_grey_in_value() -> None:
    picture = read_picture(encode(np.dstack([GREY, HALF[..., 3]])), background="black")
    expected = np.where(HALF[..., 3] > 0, GREY, 0)
    assert np.array_equal(picture.pixels, np.repeat(expected[..., None], 3, 2))


def test_opaque_alpha_is_not_told() -> None:
    assert read_picture(encode(np.dstack([RGB, np.full_like(GREY, 255)]))).notes == ()


def test_transparent_gif_lies_on_the_background() -> None:
    stream = io.BytesIO()
    image = Image.fromarray(np.full((4, 6), 3, np.uint8)).convert("P")
    image.save(stream, "GIF", transparency=image.getpixel((0, 0)))
    assert read_picture(stream.getvalue(), background="black").pixels.max() == 0
    assert read_picture(stream.getvalue(), background="white").pixels.min() == 255


@pytest.mark.parametrize(
    ("form", "note"), [("GIF", "animated"), ("WEBP", "animated"), ("PNG", "animated"), ("TIFF", "multi_page")]
)
def test_first_of_several_pictures_is_read_and_told(form: str, note: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    picture = read_picture(save_pages(form, **options))
    assert picture.notes == (note,)
    first = draw_smooth(1, 24, 32).astype(int)
    assert np.abs(picture.pixels.astype(int) - first).mean() < (12 if form == "GIF" else 1)  # a GIF has 256 colours


def test_single_picture_of_a_format_that_can_hold_more_is_not_told() -> None:
    assert read_picture(encode(GREY, "GIF")).notes == ()


def test_adobe_cmyk_jpeg_is_not_negative() -> None:
    # Photoshop stores CMYK inverted and says so in an APP14 marker, which Pillow writes as well
    data = encode(SMOOTH, "JPEG", mode="CMYK", quality=95)
    assert b"Adobe" in data
    assert np.abs(read_picture(data).pixels.astype(int) - SMOOTH).mean() < 3


@pytest.mark.parametrize("form", ["WEBP", "TIFF", "JPEG"])
def test_orientation_is_applied(form: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    options: dict[str, Any] = {"lossless": True} if form == "WEBP" else {}
    picture = read_picture(encode(SMOOTH, form, exif=exif, **options))
    assert picture.pixels.shape == (96, 64, 3)
    assert (picture.width_px, picture.height_px) == (64, 96)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("form", ["BMP", "WEBP", "GIF"])
def test_truncated_file_is_refused(form: str, share: float) -> None:
    data = encode(draw_noise(5, 64, 64), form)
    with pytest.raises(PictureError) as caught:
        read_picture(data[: int(share * len(data))])
    assert caught.value.hint


@pytest.mark.parametrize("form", ["BMP", "WEBP", "GIF", "PNG", "TIFF"])
def test_random_damage_gives_a_picture_or_a_picture_error(form: str) -> None:
    random = np.random.default_rng(1)
    pages = save_pages(form) if form != "BMP" else encode(RGB, "BMP")
    whole = np.frombuffer(pages, np.uint8)
    for _ in range(100):
        data = whole.copy()
        places = random.integers(0, min(len(data), 300), random.integers(1, 6))
        data[places] = random.integers(0, 256, len(places))
        try:
            picture = read_picture(data.tobytes())
        except PictureError:
            continue
        assert picture.pixels.ndim in (2, 3)


def test_reading_in_threads_leaves_warnings_as_they_were() -> None:
    before = list(warnings.filters)
    data = encode(SMOOTH, "JPEG")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read_picture, [data] * 64))
    assert list(warnings.filters) == before


def test_size_limit_holds_for_every_format() -> None:
    header = bytearray(encode(GREY, "BMP"))
    header[18:26] = (60_000).to_bytes(4, "little") * 2
    with pytest.raises(PictureError, match="pixels"):
        read_picture(bytes(header))


def test_preview_behind_a_phone_s_jpeg_is_no_animation() -> None:
    data = encode(SMOOTH, "MPO", save_all=True, append_images=[Image.fromarray(SMOOTH[::4, ::4])])
    assert read_picture(data).notes == ()
