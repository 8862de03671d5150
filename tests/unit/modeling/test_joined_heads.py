"""Heads of several folds as one head: the same logits, nothing learned."""

from __future__ import annotations

import torch
from torch import nn

from snellen.modeling.joined_heads import join_heads

WIDTH, CLASSES, MEMBERS = 12, 3, 4


def spread(head: nn.Sequential) -> nn.Sequential:
    """Batch norms as training leaves them, one feature of which hardly varied."""
    for module in head:
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean = torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) * 4
            module.running_var[0] = 1e-4
    return head.eval()


def draw_heads(*layers: str) -> list[nn.Sequential]:
    torch.manual_seed(0)
    kinds = {
        "norm": lambda: nn.BatchNorm1d(WIDTH, affine=False),
        "scaled": lambda: nn.BatchNorm1d(WIDTH),
        "dropout": lambda: nn.Dropout(0.5),
        "dense": lambda: nn.Linear(WIDTH, WIDTH),
        "relu": nn.ReLU,
    }
    return [
        spread(nn.Sequential(*(kinds[name]() for name in layers), nn.Linear(WIDTH, CLASSES))) for _ in range(MEMBERS)
    ]


def assert_is_mean(heads: list[nn.Sequential]) -> nn.Sequential:
    features = 2 * torch.randn(50, WIDTH)
    joined = join_heads(heads)
    with torch.no_grad():
        expected = torch.stack([head(features) for head in heads]).mean(0)
        # single precision, relative to the largest logit: the feature that hardly varied is blown up
        assert torch.allclose(joined(features), expected, atol=1e-5 * float(expected.abs().max()))
    return joined


def test_mean_of_linear_heads_is_one_linear_layer() -> None:
    for layers in ([], ["norm"], ["norm", "dropout"], ["scaled"], ["norm", "scaled"]):
        joined = assert_is_mean(draw_heads(*layers))
        assert [type(module) for module in joined] == [nn.Linear]


def test_heads_with_hidden_layers_stay_side_by_side() -> None:
    joined = assert_is_mean(draw_heads("norm", "dense", "relu"))
    assert isinstance(joined[-1], nn.Linear)
    assert joined[-1].out_features == CLASSES


def test_members_stay_as_they_are() -> None:
    heads = draw_heads("norm")
    before = [{name: value.clone() for name, value in head.state_dict().items()} for head in heads]
    join_heads(heads)
    for head, state in zip(heads, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in head.state_dict().items())
