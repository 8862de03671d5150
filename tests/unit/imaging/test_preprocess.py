"""From pixels to the model's input: shapes, proportions, borders, contrast; the same each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pictures import Pixels, draw_noise, draw_smooth, encode, make_preprocess, write_npz
from snellen.imaging.preprocess import (
    choose_min_side_px,
    find_content,
    preprocess,
    preprocess_location,
    preprocess_picture,
)
from snellen.imaging.readers import read_picture

FITS = ("stretch", "pad", "crop")


def frame(height: int, width: int, box: tuple[int, int, int, int], level: int = 200) -> Pixels:
    """Black but for the box (top, bottom, left, right)."""
    pixels = np.zeros((height, width, 3), np.uint8)
    top, bottom, left, right = box
    pixels[top:bottom, left:right] = level
    return pixels


@pytest.mark.parametrize("shape", [(50, 70, 3), (70, 50), (32, 32, 3), (8, 8), (1, 1), (1, 90, 3), (90, 1), (700, 20)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("crop_border", [False, True])
def test_preprocess_gives_the_model_s_shape(shape: tuple[int, ...], channels: int, fit: str, crop_border: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    out = preprocess(pixels, make_preprocess(fit=fit, channels=channels, crop_border=crop_border))
    assert (out.shape, out.dtype) == ((32, 32, channels), np.uint8)


@pytest.mark.parametrize("clahe", [0.0, 2.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_preprocess_gives_contiguous_pixels(channels: int, clahe: float) -> None:
    assert preprocess(draw_noise(1, 50, 70), make_preprocess(channels=channels, clahe=clahe)).flags.c_contiguous


@pytest.mark.parametrize("fit", FITS)
def test_preprocess_leaves_its_input_alone(fit: str) -> None:
    pixels = draw_noise(1, 40, 32)
    before = pixels.copy()
    preprocess(pixels, make_preprocess(fit=fit, crop_border=True, clahe=2.0))
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("fit", FITS)
def test_preprocess_takes_pixels_that_may_not_be_written(fit: str) -> None:
    pixels = draw_noise(1, 40, 60)
    pixels.setflags(write=False)
    assert preprocess(pixels, make_preprocess(fit=fit, clahe=2.0, crop_border=True)).shape == (32, 32, 3)


@pytest.mark.parametrize("fit", FITS)
def test_preprocess_repeats(fit: str) -> None:
    plan = make_preprocess(fit=fit, clahe=2.0, crop_border=True)
    pixels = draw_smooth(1, 300, 400)
    assert np.array_equal(preprocess(pixels, plan), preprocess(pixels.copy(), plan))


@pytest.mark.parametrize("fit", FITS)
def test_preprocess_of_picture_of_the_right_size_changes_nothing(fit: str) -> None:
    pixels = draw_noise(1, 32, 32)
    assert np.array_equal(preprocess(pixels, make_preprocess(fit=fit)), pixels)


@pytest.mark.parametrize("clahe", [0.0, 2.0])
def test_preprocess_gives_grey_three_equal_channels(clahe: float) -> None:
    out = preprocess(draw_smooth(1, 50, 60)[..., 0], make_preprocess(clahe=clahe)).astype(int)
    # the way through Lab and back may leave one or two levels of tint
    assert np.ptp(out, axis=2).max() <= (0 if clahe == 0 else 2)


def test_preprocess_weighs_colours_for_grey() -> None:
    green = np.zeros((32, 32, 3), np.uint8)
    green[..., 1] = 255
    # ITU-R BT.601 gives green 0.587, and 0.587 · 255 = 149.7
    assert np.unique(preprocess(green, make_preprocess(channels=1))).tolist() == [150]


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [(20, 40, slice(8, 24), slice(0, 32)), (40, 20, slice(0, 32), slice(8, 24)), (96, 24, slice(0, 32), slice(12, 20))],
)
def test_pad_keeps_proportions_and_centres(height: int, width: int, rows: slice, columns: slice) -> None:
    expected = np.zeros((32, 32, 3), np.uint8)
    expected[rows, columns] = 255
    out = preprocess(np.full((height, width, 3), 255, np.uint8), make_preprocess(fit="pad"))
    assert np.array_equal(out, expected)


def test_stretch_fills_the_square() -> None:
    assert preprocess(np.full((20, 40), 255, np.uint8), make_preprocess(fit="stretch")).min() == 255


def test_stretch_keeps_both_ends() -> None:
    halves = np.zeros((16, 64), np.uint8)
    halves[:, 32:] = 255
    out = preprocess(halves, make_preprocess(fit="stretch", channels=1))
    assert (out[:, 0].max(), out[:, -1].min()) == (0, 255)


@pytest.mark.parametrize("turned", [False, True])
def test_crop_keeps_the_centre(turned: bool) -> None:
    pixels = np.zeros((32, 64), np.uint8)
    pixels[:, 16:48] = draw_noise(1, 32, 32, channels=1)
    out = preprocess(pixels.T if turned else pixels, make_preprocess(fit="crop", channels=1))[..., 0]
    centre = pixels[:, 16:48]
    assert np.array_equal(out, centre.T if turned else centre)


@pytest.mark.parametrize("box", [(10, 90, 20, 130), (0, 90, 20, 150), (30, 100, 0, 90)])
def test_find_content_finds_the_box(box: tuple[int, int, int, int]) -> None:
    assert find_content(frame(100, 150, box)) == box


@pytest.mark.parametrize("colour", [(200, 0, 0), (0, 200, 0), (0, 0, 200)])
def test_find_content_sees_any_colour(colour: tuple[int, int, int]) -> None:
    pixels = frame(100, 150, (10, 90, 20, 130))
    assert find_content(np.where(pixels > 0, colour, 0).astype(np.uint8)) == (10, 90, 20, 130)


def test_find_content_of_large_picture_is_near() -> None:
    # large pictures are looked at every seventh row here, so an edge may be off by as many
    found = np.array(find_content(frame(1500, 2000, (203, 1301, 402, 1603))))
    assert np.abs(found - (203, 1301, 402, 1603)).max() <= 7


def test_find_content_overlooks_hot_pixels_and_noise() -> None:
    pixels = frame(100, 150, (10, 90, 20, 130))
    pixels[2, 5:8] = 255
    pixels[95, 140] = 255
    pixels[pixels == 0] = draw_noise(1, 100, 150)[pixels == 0] % 12
    assert find_content(pixels) == (10, 90, 20, 130)


@pytest.mark.parametrize(
    "pixels",
    [
        frame(60, 80, (0, 0, 0, 0)),
        frame(60, 80, (30, 35, 40, 45)),
        frame(60, 80, (0, 60, 0, 80), 10),
        frame(1, 1, (0, 0, 0, 0)),
    ],
    ids=["black", "spot", "dark", "one-pixel"],
)
def test_find_content_leaves_dark_pictures_whole(pixels: Pixels) -> None:
    height, width = pixels.shape[:2]
    assert find_content(pixels) == (0, height, 0, width)


def test_crop_border_cuts_black_frame() -> None:
    out = preprocess(frame(100, 150, (10, 90, 20, 130)), make_preprocess(crop_border=True))
    assert out.min() == 200


def test_crop_border_that_is_off_keeps_black_frame() -> None:
    assert preprocess(frame(100, 150, (10, 90, 20, 130)), make_preprocess())[0, 0].max() == 0


def test_crop_border_leaves_black_picture_whole() -> None:
    assert preprocess(np.zeros((60, 80, 3), np.uint8), make_preprocess(crop_border=True)).max() == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_clahe_raises_low_contrast(channels: int) -> None:
    dull = (100 + draw_smooth(1, 64, 64) // 16).astype(np.uint8)
    plain, equalised = (preprocess(dull, make_preprocess(size=64, channels=channels, clahe=c)) for c in (0.0, 4.0))
    assert equalised.std() > 1.5 * plain.std()


def test_clahe_grows_with_its_limit() -> None:
    dull = (100 + draw_smooth(1, 64, 64) // 16).astype(np.uint8)
    weak, strong = (preprocess(dull, make_preprocess(size=64, clahe=c)).std() for c in (1.5, 8.0))
    assert strong > weak


@pytest.mark.parametrize(
    ("fit", "crop_border"), [("stretch", False), ("pad", False), ("crop", False), ("stretch", True), ("pad", True)]
)
@pytest.mark.parametrize("grey", [False, True])
def test_reduced_decode_gives_nearly_the_full_result(fit: str, crop_border: bool, grey: bool) -> None:
    plan = make_preprocess(size=128, fit=fit, crop_border=crop_border)
    pixels = draw_smooth(2, 1000, 1400)
    if crop_border:
        pixels = np.pad(pixels, ((104, 96), (200, 208), (0, 0)))
    data = encode(pixels[..., 0] if grey else pixels, "JPEG", quality=95)
    full = preprocess(read_picture(data).pixels, plan).astype(int)
    reduced = preprocess_picture(data, plan)[0].astype(int)
    # reduced decoding averages blocks in frequency space and soft content keeps its levels to about one; where a border
    # is cut, the edge is found to one per cent of the side, which moves all by about a pixel
    assert np.abs(full - reduced).mean() <= (4.5 if crop_border else 0.5)


def test_reduced_decode_happens() -> None:
    data = encode(draw_smooth(2, 1000, 1400), "JPEG")
    _, picture = preprocess_picture(data, make_preprocess(size=64))
    assert picture.pixels.shape[0] < picture.height_px == 1000


@pytest.mark.parametrize(("crop_border", "expected"), [(False, 224), (True, 448)])
def test_choose_min_side_leaves_room_for_the_border(crop_border: bool, expected: int) -> None:
    assert choose_min_side_px(make_preprocess(size=224, crop_border=crop_border)) == expected


def test_preprocess_picture_of_path_and_bytes_agree(tmp_path: Path) -> None:
    data = encode(draw_smooth(2, 300, 400), "JPEG")
    (tmp_path / "x.jpg").write_bytes(data)
    plan = make_preprocess(fit="pad")
    assert np.array_equal(preprocess_picture(tmp_path / "x.jpg", plan)[0], preprocess_picture(data, plan)[0])


def test_preprocess_location_equals_preprocess_picture(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(encode(draw_smooth(2, 300, 400), "JPEG"))
    plan = make_preprocess(fit="pad", crop_border=True)
    by_path = preprocess_picture(tmp_path / "x.jpg", plan)[0]
    assert np.array_equal(preprocess_location(tmp_path, "x.jpg", plan), by_path)


def test_preprocess_location_reads_arrays(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32), dtype=np.uint8)
    write_npz(tmp_path / "toy.npz", train_images=images)
    out = preprocess_location(tmp_path, "toy.npz::train_images[3]", make_preprocess(channels=1))
    assert np.array_equal(out[..., 0], images[3])
