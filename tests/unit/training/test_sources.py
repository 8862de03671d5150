"""Kept activations are what the frozen part says of the same views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models import TinyGraph, TinyNet, draw_pixels, make_pixel_cache
from pictures import make_augment
from snellen.training.features import FeatureStore
from snellen.training.sources import Joined, KeptActivations, LivePixels

N = 10
ROWS = np.array([7, 2, 5, 0, 9, 4])
MOVED = make_augment(flip_horizontal=True, rotation_deg=20.0, translation=0.1, brightness=0.2)


class MapOnly(nn.Module):
    def __init__(self, whole: TinyNet) -> None:
        super().__init__()
        self.whole = whole.eval()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.whole(pixels)[1]  # type: ignore[no-any-return]  # a tensor


def open_both(tiny: TinyGraph, folder: Path, randaugment: int = 0) -> tuple[KeptActivations, LivePixels]:
    cache, _ = make_pixel_cache(draw_pixels(N, 16), folder)
    store = FeatureStore(tiny.path, cache, MOVED, folder, 0, 1, "feature_map", True, randaugment)
    kept = KeptActivations(store.fill(ROWS, 2, "Computing activations"), ROWS)
    return kept, LivePixels(store, ROWS, MapOnly(tiny.module), torch.device("cpu"))


@pytest.mark.parametrize("randaugment", [0, 9])
def test_kept_and_live_agree_on_the_same_views(tiny: TinyGraph, tmp_path: Path, randaugment: int) -> None:
    kept, live = open_both(tiny, tmp_path, randaugment)
    positions, views = np.array([0, 5, 5, 3, 1, 0]), np.array([0, 2, 1, 1, 0, 2])
    one, other = kept.take(positions, views), live.take(positions, views)
    assert one.dtype == other.dtype == torch.float32
    # float16 keeps 11 bits
    torch.testing.assert_close(one, other, rtol=2**-10, atol=1e-4)


def test_views_differ_from_the_picture_and_from_each_other(tiny: TinyGraph, tmp_path: Path) -> None:
    kept, _ = open_both(tiny, tmp_path)
    found = [kept.take(np.arange(6), np.full(6, view)) for view in range(3)]
    assert all((found[one] - found[other]).abs().amax((1, 2, 3)).min() > 1e-2 for one, other in ((0, 1), (1, 2)))


def test_stronger_augmentation_changes_views_and_spares_the_pictures(tiny: TinyGraph, tmp_path: Path) -> None:
    plain, strong = (open_both(tiny, tmp_path, magnitude)[0] for magnitude in (0, 9))
    here = np.arange(6)
    assert torch.equal(plain.take(here, np.zeros(6, int)), strong.take(here, np.zeros(6, int)))
    assert not torch.allclose(plain.take(here, np.ones(6, int)), strong.take(here, np.ones(6, int)))


def test_stronger_augmentation_is_fixed_and_leaves_the_random_state_alone(tiny: TinyGraph, tmp_path: Path) -> None:
    _, live = open_both(tiny, tmp_path, 9)
    before = torch.random.get_rng_state()
    one, other = (live.take(np.arange(6), np.ones(6, int)) for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("kind", [0, 1], ids=["kept", "live"])
def test_joined_sources_are_one_behind_the_other(tiny: TinyGraph, tmp_path: Path, kind: int) -> None:
    first = open_both(tiny, tmp_path)[kind]
    store = FeatureStore(
        tiny.path, make_pixel_cache(draw_pixels(3, 16, seed=5), tmp_path)[0], MOVED, tmp_path, 0, 1, "feature_map", True
    )
    here = np.arange(3)
    kept = KeptActivations(store.fill(here, 2, "Computing activations"), here)
    second = (kept, LivePixels(store, here, MapOnly(tiny.module), torch.device("cpu")))[kind]
    joined = Joined(first, second, len(ROWS))
    views = np.array([0, 2, 1, 1])
    found = joined.take(np.array([6, 0, 8, 5]), views)
    assert torch.equal(found[[1, 3]], first.take(np.array([0, 5]), views[[1, 3]]))
    assert torch.equal(found[[0, 2]], second.take(np.array([0, 2]), views[[0, 2]]))
    for positions, alone in ((np.array([3, 4]), first.take(np.array([3, 4]), views[:2])),
                             (np.array([7, 8]), second.take(np.array([1, 2]), views[:2]))):  # fmt: skip
        assert torch.equal(joined.take(positions, views[:2]), alone)
