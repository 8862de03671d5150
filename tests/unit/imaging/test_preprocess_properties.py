"""Whatever shape comes in: the plan's shape goes out."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pictures import draw_noise, make_preprocess
from properties import BOUNDED
from snellen.imaging.preprocess import find_content, preprocess

SIDES = st.integers(1, 90) | st.sampled_from([1, 2, 3, 257, 400])
PLANS = st.builds(
    make_preprocess,
    size=st.integers(16, 64),
    fit=st.sampled_from(["stretch", "pad", "crop"]),
    crop_border=st.booleans(),
    clahe=st.sampled_from([0.0, 2.0]),
    channels=st.sampled_from([1, 3]),
)


@BOUNDED
@given(height=SIDES, width=SIDES, channels=st.sampled_from([1, 3]), plan=PLANS, dark=st.booleans())
def test_preprocess_of_any_shape_gives_the_plan_s_shape(height, width, channels, plan, dark) -> None:  # type: ignore[no-untyped-def]  # drawn
    pixels = draw_noise(0, height, width, channels)
    if dark:
        pixels = pixels // 32
    before = pixels.copy()
    found = preprocess(pixels, plan)
    assert found.shape == (plan.size, plan.size, plan.channels)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert np.array_equal(pixels, before)
    assert np.array_equal(found, preprocess(pixels, plan))


@BOUNDED
@given(height=SIDES, width=SIDES, channels=st.sampled_from([1, 3]), border=st.integers(0, 30))
def test_find_content_lies_within_the_picture(height: int, width: int, channels: int, border: int) -> None:
    pixels = draw_noise(1, height, width, channels)
    pixels[:border] = 0
    top, bottom, left, right = find_content(pixels)
    assert 0 <= top < bottom <= height
    assert 0 <= left < right <= width
