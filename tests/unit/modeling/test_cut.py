"""A network cut in two says what the whole says; the parts learn apart."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import nn

from models import draw_pixels, make_model
from pictures import make_preprocess
from snellen.core.errors import UsageError
from snellen.modeling.architectures import FrozenBackbone
from snellen.modeling.cut import count_multiplications, cut_backbone

SIZES = {"tf_efficientnet_lite0": 64, "mobilenetv2_100": 64, "resnet18": 64, "vgg16": 32, "test_convnext": 64}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def build(backbone: str = "test_resnet", **arguments: float) -> FrozenBackbone:
    torch.manual_seed(0)
    return FrozenBackbone(make_model(backbone=backbone, backbone_args=arguments)).eval()


build_once = functools.cache(build)  # VGG's dense layers take seconds to draw, and are thrown away


@pytest.mark.parametrize("backbone", SIZES)
def test_lower_then_upper_is_the_whole_at_a_share_near_the_wish(backbone: str) -> None:
    frozen, size = build_once(backbone), SIZES[backbone]
    pixels = torch.from_numpy(draw_pixels(2, size))
    with torch.no_grad():
        whole = frozen(pixels)[1]
        shares = []
        for wish in (0.35, 0.6):
            halves = cut_backbone(frozen, (size, size, 3), wish)
            # the same layers on the same values in the same order
            assert torch.equal(halves.upper(halves.lower(pixels)), whole)
            # networks can be cut between blocks only
            assert halves.share == pytest.approx(wish, abs=0.07)
            shares.append(sum(parameter.numel() for parameter in halves.upper.parameters()))
    n_all = sum(parameter.numel() for parameter in frozen.backbone.parameters())
    assert 0 < shares[0] <= shares[1] < n_all


def test_whole_share_cuts_nothing_off() -> None:
    frozen = build()
    halves = cut_backbone(frozen, (64, 64, 3), 1.0)
    assert halves.share == 1
    assert halves.lower(torch.from_numpy(draw_pixels(1, 64))).shape == (1, 3, 64, 64)
    names = {id(parameter) for parameter in halves.upper.parameters()}
    assert names == {id(parameter) for parameter in frozen.backbone.parameters()}


def test_tiny_share_leaves_a_layer_that_learns() -> None:
    halves = cut_backbone(build(), (64, 64, 3), 1e-6)
    assert halves.share > 0
    assert any(True for _ in halves.upper.parameters())


def test_multiplications_are_those_of_the_layers() -> None:
    # 13 convolutions of Simonyan and Zisserman 2015 at 32×32, 3×3 weights each
    widths = [(3, 64, 32), (64, 64, 32), (64, 128, 16), (128, 128, 16), (128, 256, 8), (256, 256, 8), (256, 256, 8),
              (256, 512, 4), (512, 512, 4), (512, 512, 4), (512, 512, 2), (512, 512, 2), (512, 512, 2)]  # fmt: skip
    expected = sum(9 * before * after * side**2 for before, after, side in widths)
    assert cut_backbone(build_once("vgg16"), (32, 32, 3), 1.0).multiplications == expected


def test_multiplications_are_counted_from_the_plan() -> None:
    found = count_multiplications(make_model(), make_preprocess(size=64))
    assert found == cut_backbone(build(), (64, 64, 3), 0.5).multiplications > 0


def test_what_the_upper_part_learns_the_backbone_has_learned() -> None:
    frozen = build()
    pixels = torch.from_numpy(draw_pixels(1, 64))
    halves = cut_backbone(frozen, (64, 64, 3), 0.5)
    with torch.no_grad():
        activation, before = halves.lower(pixels), frozen(pixels)[1]
        for parameter in halves.upper.parameters():
            parameter.mul_(1.1)
        assert torch.equal(halves.lower(pixels), activation)
        assert not torch.allclose(frozen(pixels)[1], before)


def test_uppers_of_two_networks_are_independent() -> None:
    frozen = build()
    pixels = torch.from_numpy(draw_pixels(1, 64))
    one, other = (cut_backbone(copy.deepcopy(frozen), (64, 64, 3), 0.5) for _ in range(2))
    with torch.no_grad():
        before = other.upper(other.lower(pixels))
        for parameter in one.upper.parameters():
            parameter.zero_()
        assert torch.equal(other.upper(other.lower(pixels)), before)
        assert not torch.equal(one.upper(one.lower(pixels)), before)


def test_stochastic_depth_is_active_only_in_training() -> None:
    halves = cut_backbone(build("test_convnext", drop_path_rate=0.5), (64, 64, 3), 1.0)
    activation = halves.lower(torch.from_numpy(draw_pixels(2, 64)))
    with torch.no_grad():
        halves.upper.eval()
        assert torch.equal(halves.upper(activation), halves.upper(activation))
        halves.upper.train()
        torch.manual_seed(0)
        assert not torch.equal(halves.upper(activation), halves.upper(activation))


class Branching(nn.Module):
    """Its way depends on its values, which no trace can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward_features(self, planes: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layer(planes if planes.sum() > 0 else -planes)
        return found


def test_network_that_cannot_be_traced_is_refused_with_a_way_out() -> None:
    frozen = build()
    frozen.backbone = Branching()
    with pytest.raises(UsageError, match="cannot be cut") as caught:
        cut_backbone(frozen, (64, 64, 3), 0.5)
    assert 'unfreeze = "all"' in caught.value.hint


def test_network_that_cannot_be_traced_can_learn_as_a_whole() -> None:
    frozen = build()
    frozen.backbone = Branching()
    halves = cut_backbone(frozen, (64, 64, 3), 1.0)
    pixels = torch.from_numpy(draw_pixels(2, 64))
    with torch.no_grad():
        assert torch.equal(halves.upper(halves.lower(pixels)), frozen(pixels)[1])
    assert (halves.share, halves.multiplications) == (1.0, 0.0)
