"""Augmented views: fixed by seed, view and picture; what is switched off changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pictures import Pixels, draw_noise, draw_smooth, make_augment
from snellen.imaging.augment import draw_view
from snellen.records.plan import AugmentPlan

KEY = "0123456789abcdef" * 4
OTHER_KEY = "fedcba9876543210" * 4
FULL = make_augment(
    flip_horizontal=True, flip_vertical=True, rotation_deg=20.0, scale=0.2, translation=0.1, brightness=0.2,
    contrast=0.3,
)  # fmt: skip
PICTURE = draw_smooth(1, 48, 48)


def view(
    plan: AugmentPlan, pixels: Pixels = PICTURE, *, seed: int = 0, number: int = 1, key: str = KEY
) -> Pixels:  # fmt: skip
    return draw_view(pixels, plan, seed=seed, view=number, key=key)


def test_draw_view_repeats() -> None:
    assert np.array_equal(view(FULL), view(FULL))


def test_draw_view_does_not_depend_on_views_drawn_before() -> None:
    fifth = view(FULL, number=5)
    for number in range(1, 5):
        view(FULL, number=number)
    assert np.array_equal(view(FULL, number=5), fifth)


@pytest.mark.parametrize("other", [{"seed": 1}, {"number": 2}, {"key": OTHER_KEY}], ids=str)
def test_draw_view_differs_for_another(other: dict[str, Any]) -> None:
    assert not np.array_equal(view(FULL), view(FULL, **other))


def test_draw_view_gives_pictures_of_equal_pixels_and_other_keys_other_views() -> None:
    views = {view(FULL, key=f"{number:016x}" * 4).tobytes() for number in range(20)}
    assert len(views) == 20


@pytest.mark.parametrize("shape", [(32, 32, 3), (32, 32, 1), (17, 17, 3), (1, 1, 3), (2, 2, 1)])
def test_draw_view_keeps_shape_and_type(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    out = view(FULL, pixels)
    assert (out.shape, out.dtype) == (shape, np.uint8)


@pytest.mark.parametrize("size", [31, 32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_draw_view_with_all_at_zero_is_the_picture(size: int, channels: int, number: int) -> None:
    pixels = draw_noise(1, size, size, channels).reshape(size, size, channels)
    assert np.array_equal(view(make_augment(), pixels, number=number), pixels)


def test_draw_view_leaves_its_input_alone() -> None:
    before = PICTURE.copy()
    view(FULL)
    assert np.array_equal(PICTURE, before)


def count_views(plan: AugmentPlan, pixels: Pixels) -> dict[bytes, int]:
    """How often each of the views comes among forty."""
    found: dict[bytes, int] = {}
    for number in range(1, 41):
        out = view(plan, pixels, number=number).tobytes()
        found[out] = found.get(out, 0) + 1
    return found


@pytest.mark.parametrize("size", [31, 32])
@pytest.mark.parametrize(("name", "axis"), [("flip_horizontal", 1), ("flip_vertical", 0)])
def test_flip_is_exact(name: str, axis: int, size: int) -> None:
    pixels = draw_noise(1, size, size)
    found = count_views(make_augment(**{name: True}), pixels)
    assert set(found) == {pixels.tobytes(), np.flip(pixels, axis).tobytes()}


def test_flip_comes_in_about_half_of_the_views() -> None:
    counts = count_views(make_augment(flip_horizontal=True), draw_noise(1, 32, 32)).values()
    assert min(counts) >= 10  # a fair coin falls short of 10 in 40 throws less than once in a thousand draws


def test_both_flips_come_independently() -> None:
    assert len(count_views(make_augment(flip_horizontal=True, flip_vertical=True), draw_noise(1, 32, 32))) == 4


@pytest.mark.parametrize(
    "change",
    [{"rotation_deg": 20.0}, {"scale": 0.3}, {"translation": 0.2}, {"brightness": 0.3}, {"contrast": 0.5}],
    ids=lambda change: next(iter(change)),
)
def test_each_change_alone_shows(change: dict[str, float]) -> None:
    assert not np.array_equal(view(make_augment(**change)), PICTURE)


@pytest.mark.parametrize("number", range(1, 9))
def test_brightness_stays_within_its_share(number: int) -> None:
    flat = np.full((8, 8, 3), 128, np.uint8)
    out = view(make_augment(brightness=0.1), flat, number=number).astype(int)
    assert np.abs(out - 128).max() <= 0.1 * 255 + 1  # levels are whole


@pytest.mark.parametrize("number", range(1, 9))
def test_contrast_stays_within_its_share(number: int) -> None:
    flat = np.full((8, 8, 3), 227, np.uint8)  # about 100 above the middle
    out = view(make_augment(contrast=0.2), flat, number=number).astype(int)
    assert np.abs(out - 227).max() <= 0.2 * 99.5 + 1  # levels are whole


@pytest.mark.parametrize("number", range(1, 9))
def test_light_does_not_wrap_around(number: int) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, 0)
    row = view(make_augment(brightness=0.5, contrast=0.5), ramp, number=number)[0, :, 0].astype(int)
    assert (np.diff(row) >= 0).all()


@pytest.mark.parametrize("number", range(1, 9))
def test_translation_stays_within_its_share(number: int) -> None:
    dot = np.zeros((41, 41, 1), np.uint8)
    dot[20, 20] = 255
    out = view(make_augment(translation=0.1), dot, number=number)[..., 0].astype(float)
    centre = np.array([(out.sum(axis) * np.arange(41)).sum() / out.sum() for axis in (0, 1)])
    assert np.abs(centre - 20).max() <= 0.1 * 41 + 0.1  # a tenth of a pixel for the rounding of levels


@pytest.mark.parametrize(
    "plan", [make_augment(rotation_deg=180.0), make_augment(translation=0.5), make_augment(scale=0.5)]
)
def test_no_black_corners_come_in(plan: AugmentPlan) -> None:
    bright = np.full((32, 32, 3), 180, np.uint8)
    assert min(view(plan, bright, number=number).min() for number in range(1, 9)) == 180


@pytest.mark.parametrize("number", [0, -1])
def test_view_zero_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="view 0 is the picture itself"):
        view(FULL, number=number)


def test_noise_has_the_asked_strength_and_hits_every_value() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    noisy = view(make_augment(noise=0.04), grey).astype(np.float64) - 128
    # 12,288 draws of standard deviation 10.2: known to a hundredth
    assert noisy.std() == pytest.approx(0.04 * 255, rel=0.05)
    assert abs(noisy.mean()) < 0.5
    assert not np.array_equal(noisy[..., 0], noisy[..., 1])


def test_noise_stays_within_the_range() -> None:
    white = view(make_augment(noise=0.3), np.full((32, 32, 1), 255, np.uint8))
    assert white.max() == 255
    assert white.min() < 255


def test_noise_leaves_all_else_of_the_view_as_it_was() -> None:
    still, noisy = view(FULL), view(FULL.model_copy(update={"noise": 0.01}))
    assert np.abs(noisy.astype(int) - still).max() < 20
    assert not np.array_equal(noisy, still)
