"""Wide values through the plan's window."""

from __future__ import annotations

import numpy as np
import pytest

from pictures import draw_noise, make_preprocess
from snellen.core.errors import PictureError
from snellen.imaging.preprocess import preprocess
from snellen.imaging.window import apply_window, measure_levels


def test_window_maps_its_ends_to_black_and_white() -> None:
    values = np.array([[0, 100, 350, 600, 65535]], np.uint16)
    assert apply_window(values, (100, 600)).tolist() == [[0, 0, 128, 255, 255]]


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint32, np.int64])
def test_window_is_the_same_for_every_integer(kind: type) -> None:
    values = np.arange(0, 30_000, 7)
    expected = apply_window(values.astype(np.uint16), (1000, 20_000))
    assert np.array_equal(apply_window(values.astype(kind), (1000, 20_000)), expected)


def test_window_takes_negative_values() -> None:
    assert apply_window(np.array([-1000, -500, 0], np.int16), (-1000, 0)).tolist() == [0, 128, 255]


def test_8_bit_pictures_pass_unwindowed() -> None:
    pixels = draw_noise(1)
    assert np.array_equal(apply_window(pixels, (0, 100)), pixels)
    assert np.array_equal(apply_window(pixels, None), pixels)


def test_wide_values_without_a_window_are_refused_with_a_way_out() -> None:
    with pytest.raises(PictureError, match="more than 8 bits") as caught:
        preprocess(np.zeros((9, 9), np.uint16), make_preprocess())
    assert "preprocess.window" in caught.value.hint


def test_preprocess_of_wide_values_equals_that_of_windowed_ones() -> None:
    values = np.random.default_rng(0).integers(0, 4096, (50, 40), dtype=np.uint16)
    plan = make_preprocess(window=(100.0, 4000.0))
    assert np.array_equal(preprocess(values, plan), preprocess(apply_window(values, plan.window), plan))


def test_measured_levels_are_values_of_the_picture() -> None:
    values = np.random.default_rng(0).integers(0, 4096, (50, 40), dtype=np.uint16)
    levels = measure_levels(values, 100)
    assert 100 <= len(levels) <= 200
    assert set(levels) <= set(values.reshape(-1).tolist())
