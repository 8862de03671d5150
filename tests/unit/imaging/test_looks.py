"""Looks: numbers that say how sharp, bright and whole a picture is, and whether letters are burnt into its rim."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pictures import draw_noise, draw_smooth, encode
from snellen.imaging.burnt_text import count_letters
from snellen.imaging.headers import Header, read_header
from snellen.imaging.looks import LOOKS, measure_looks
from snellen.ingest.phantom import draw_picture, list_labels

OCT = draw_picture("oct", list_labels("oct")[0], patient_seed=3, size_px=256)
FUNDUS = draw_picture("fundus", "grade_0", patient_seed=3, size_px=256)


def look(pixels: np.ndarray, name: str) -> float:  # type: ignore[type-arg]  # any levels
    return float(measure_looks(pixels)[LOOKS.index(name)])


@pytest.mark.parametrize("picture", [OCT, FUNDUS], ids=["oct", "fundus"])
def test_blur_lowers_sharpness_and_brightness_does_not(picture: np.ndarray) -> None:  # type: ignore[type-arg]  # as above
    blurred = cv2.GaussianBlur(picture, (0, 0), 4)
    darker = (picture * 0.7).astype(np.uint8)
    assert look(blurred, "sharpness") < look(picture, "sharpness") - 0.6
    assert look(darker, "sharpness") == pytest.approx(look(picture, "sharpness"), abs=0.15)
    assert look(darker, "brightness") < 0.8 * look(picture, "brightness")


def test_band_is_the_share_of_the_side_that_ends_early() -> None:
    cut = draw_noise(1, 80, 60)
    cut[60:] = 128
    assert look(cut, "band") == pytest.approx(0.25)
    assert look(draw_noise(1, 80, 60), "band") == 0
    framed = draw_noise(1, 80, 60)
    framed[:20] = framed[60:] = 0
    assert look(framed, "band") == 0  # both sides alike: a mask, not a fault


@pytest.mark.parametrize("row", [320, 267, 203])
def test_picture_that_ends_early_in_grey_is_told_wherever_its_last_block_ends(row: int) -> None:
    cut = cv2.resize(FUNDUS, (400, 400))
    cut[row:] = 128
    saved = cv2.imdecode(cv2.imencode(".jpg", cut, [cv2.IMWRITE_JPEG_QUALITY, 85])[1], cv2.IMREAD_COLOR)
    assert look(np.asarray(saved), "band") == pytest.approx(1 - row / 400, abs=0.05)


def test_picture_that_fades_into_one_shade_is_not_cut_off() -> None:
    fades = draw_noise(1, 80, 60).astype(float)
    fades[40:] = 200 + (fades[40:] - 128) * np.linspace(0.1, 0, 40)[:, None, None]
    assert look(np.clip(fades, 0, 255).astype(np.uint8), "band") == 0


def test_deep_grey_and_tiny_pictures_have_finite_looks() -> None:
    deep = draw_noise(2, 30, 40, 1).astype(np.uint16) * 200
    for pixels in (
        deep,
        draw_noise(3, 30, 40, 1),
        draw_noise(4, 1, 1, 1),
        draw_noise(5, 2, 7),
        np.zeros((9, 9), np.uint8),
    ):
        assert np.isfinite(measure_looks(pixels)).all()


@pytest.mark.parametrize("picture", [OCT, FUNDUS, draw_smooth(1, 256, 256), draw_noise(1, 256, 256)])
def test_anatomy_noise_and_blobs_hold_no_letters(picture: np.ndarray) -> None:  # type: ignore[type-arg]  # as above
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    assert count_letters(grey) < 4


@pytest.mark.parametrize("corner", [(6, 20), (150, 20), (6, 246)])
def test_letters_at_the_rim_are_counted_and_those_in_the_middle_are_not(corner: tuple[int, int]) -> None:
    named = np.zeros((256, 256), np.uint8)
    named[60:200, 60:200] = draw_smooth(2, 140, 140)[..., 0]
    cv2.putText(named, "DOE JANE", corner, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1, cv2.LINE_AA)
    assert count_letters(named) >= 4
    middle = np.full((256, 256), 20, np.uint8)
    cv2.putText(middle, "DOE JANE", (90, 130), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1, cv2.LINE_AA)
    assert count_letters(middle) == 0


@pytest.mark.parametrize("height", [0.5, 0.7])
def test_name_that_begins_on_the_black_surround_and_goes_on_over_the_retina_is_found(height: float) -> None:
    wide = cv2.resize(FUNDUS, (512, 512))
    grey = np.asarray(cv2.cvtColor(wide, cv2.COLOR_RGB2GRAY))
    assert count_letters(grey) < 4
    cv2.putText(grey, "SMITH, JOHN 12-03-1954", (4, 60), cv2.FONT_HERSHEY_SIMPLEX, height, 255, 1, cv2.LINE_AA)
    assert count_letters(grey) >= 4


def test_stamp_of_one_colour_is_found() -> None:
    stamped = np.zeros((256, 256, 3), np.uint8)
    cv2.circle(stamped, (128, 128), 100, (150, 80, 40), -1)
    cv2.putText(stamped, "12/07/18 09:51", (4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 255), 1, cv2.LINE_AA)
    assert look(stamped, "letters") >= 4


def test_header_tells_compression_and_origin_without_keeping_words(tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0110] = "Camera of Dr. Doe"
    plain, made = tmp_path / "plain.jpg", tmp_path / "made.jpg"
    plain.write_bytes(encode(draw_smooth(1, 32, 32), "JPEG", quality=50))
    made.write_bytes(encode(draw_smooth(1, 32, 32), "JPEG", quality=95, exif=exif, dpi=(300, 300)))
    first, second = read_header(plain), read_header(made)
    assert first.quantisation_luma > 3 * second.quantisation_luma > 0
    assert (first.has_exif, second.has_exif) == (False, True)
    assert first.maker == 0 < second.maker < 1 << 24
    assert second.density == 300


def test_header_of_what_is_no_picture_is_empty(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    assert read_header(tmp_path / "x.jpg") == Header()
    assert read_header(tmp_path / "missing.jpg") == Header()
    assert read_header(tmp_path) == Header()
