"""Mixed pictures hold what their shares say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snellen.training.mixing import mix


def draw_values(n: int = 6, side: int = 10) -> torch.Tensor:
    """Picture `k` is `k` everywhere, so that a mean tells what it is made of."""
    return torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1).expand(n, 2, side, side).contiguous()


def test_without_both_nothing_is_mixed_and_nothing_drawn() -> None:
    random = np.random.default_rng(0)
    values = draw_values()
    mixed = mix(values, random, mixup=0, cutmix=0)
    assert (mixed.partner, mixed.kept) == (None, 1.0)
    assert mixed.values is values
    assert random.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("seed", range(5))
def test_picture_is_the_kept_share_of_itself_and_the_rest_of_its_partner(
    mixup: float, cutmix: float, seed: int
) -> None:
    values = draw_values()
    before = values.clone()
    mixed = mix(values, np.random.default_rng(seed), mixup=mixup, cutmix=cutmix)
    assert mixed.partner is not None
    own, other = torch.arange(6.0), mixed.partner.float()
    expected = mixed.kept * own + (1 - mixed.kept) * other
    torch.testing.assert_close(mixed.values.mean((1, 2, 3)), expected)
    assert torch.equal(values, before)


@pytest.mark.parametrize("seed", range(5))
def test_cutmix_lays_a_rectangle_whose_area_is_the_partners_share(seed: int) -> None:
    mixed = mix(draw_values(side=12), np.random.default_rng(seed), mixup=0, cutmix=1)
    assert mixed.partner is not None
    picture = next(number for number, partner in enumerate(mixed.partner.tolist()) if partner != number)
    foreign = (mixed.values[picture, 0] == float(mixed.partner[picture])).numpy()
    assert foreign.mean() == pytest.approx(1 - mixed.kept)
    rows, columns = np.flatnonzero(foreign.any(1)), np.flatnonzero(foreign.any(0))
    assert foreign.sum() == len(rows) * len(columns)  # a full rectangle


def test_equal_seeds_mix_equally_and_others_do_not() -> None:
    one, same, other = (mix(draw_values(), np.random.default_rng(seed), mixup=1, cutmix=0) for seed in (3, 3, 4))
    assert torch.equal(one.values, same.values)
    assert one.kept != other.kept


def test_both_take_turns() -> None:
    random = np.random.default_rng(0)
    ways = set()
    for _ in range(20):
        mixed = mix(draw_values(), random, mixup=1, cutmix=1)
        assert mixed.partner is not None
        ways.add(bool((mixed.values == mixed.values.round()).all()))  # cut pictures hold whole numbers only
    assert ways == {True, False}
