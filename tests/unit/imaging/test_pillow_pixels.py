"""Pillow's pixels without its packing: the same values, whichever way they come."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from snellen.imaging.pillow_pixels import copy_rgb


def draw(width: int, height: int) -> Image.Image:
    levels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(levels)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (640, 480), (2500, 2500)])  # the last: several blocks
def test_copy_rgb_gives_pillows_own_values(width: int, height: int) -> None:
    image = draw(width, height)
    np.testing.assert_array_equal(copy_rgb(image), np.asarray(image))


def test_copy_rgb_owns_its_memory() -> None:
    image = draw(64, 64)
    copied, before = copy_rgb(image), np.asarray(image).copy()
    image.paste((0, 0, 0), (0, 0, 64, 64))
    np.testing.assert_array_equal(copied, before)
    copied[:] = 7  # and may be written to
    assert np.asarray(image).max() == 0


def test_copy_rgb_without_pillows_loan_packs_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    image = draw(16, 8)

    def refuse(self: Image.Image) -> None:
        raise AttributeError

    monkeypatch.setattr(Image.Image, "__arrow_c_array__", refuse, raising=False)
    np.testing.assert_array_equal(copy_rgb(image), np.asarray(image))
