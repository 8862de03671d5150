"""A head is the recipe's list of layers and nothing else; a list that cannot stand is refused by its place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from snellen.core.errors import UsageError
from snellen.modeling.blocks import MapHead, build_blocks, build_head, describe_head, fix_batch_norm
from snellen.records.layers import (
    Attention,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    HeadLayer,
    MaxPool,
    Prelu,
    Relu,
)

DEEP: tuple[HeadLayer, ...] = (GlobalAvgPool(), BatchNorm(), Dropout(p=0.3), Dense(units=5), Relu())


def count(head: nn.Module) -> int:
    return sum(parameter.numel() for parameter in head.parameters())


MAP = (6, 8, 10)  # D, h, w
REFUSED: list[tuple[tuple[HeadLayer, ...], str, str]] = [
    ((), "model.head ends in a map of 6×8×10", "flatten"),
    ((BatchNorm(),), "model.head ends in a map of 6×8×10", "global_avg_pool"),
    ((Dense(units=4), GlobalAvgPool()), "model.head.0 (dense) takes features, but its input is a map", "flatten"),
    ((GlobalAvgPool(), Relu(), GlobalAvgPool()), "model.head.2 (global_avg_pool) takes a map, but its input is 6", ""),
    ((Flatten(), Conv(channels=3)), "model.head.1 (conv) takes a map, but its input is 480 features", "flatten"),
    ((Flatten(), MaxPool()), "model.head.1 (max_pool) takes a map", "leave it out"),
    ((GlobalAvgPool(), Attention()), "model.head.1 (attention) takes a map", "leave it out"),
    ((MaxPool(size=9), Flatten()), "model.head.0 (max_pool) pools 9 by 9 places, but its input is", "size"),
    ((MaxPool(size=4), MaxPool(size=4), Flatten()), "model.head.1 (max_pool) pools 4 by 4 places", "preprocess.size"),
    ((Flatten(), Dense(units=8192), Dense(units=8192), Conv(channels=1)), "model.head.3 (conv)", "leave it out"),
]  # fmt: skip


@pytest.mark.parametrize(("layers", "told", "hint"), REFUSED, ids=[told[:40] for _, told, _ in REFUSED])
def test_layer_that_cannot_stand_is_named_with_its_input_and_a_way_out(
    layers: tuple[HeadLayer, ...], told: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        build_head(layers, MAP, 2)
    assert told in caught.value.message
    assert caught.value.hint
    assert hint in caught.value.hint


def test_layer_beyond_all_measure_is_refused_before_it_is_made() -> None:
    with pytest.raises(UsageError, match=r"model\.head\.1 \(dense\): it would have 1,644,175,360 parameters") as caught:
        build_head((Flatten(), Dense(units=8192)), (512, 14, 28), 2)
    assert "max_pool" in caught.value.hint


def test_blocks_are_named_by_their_own_key() -> None:
    with pytest.raises(UsageError, match=r"model\.layers\.1 \(max_pool\)"):
        build_blocks((Conv(channels=4), MaxPool(size=16)), (3, 12, 12))


def test_head_on_the_map_is_told_from_one_on_pooled_features() -> None:
    assert isinstance(build_head((Flatten(),), MAP, 2), MapHead)
    assert not isinstance(build_head((GlobalAvgPool(),), MAP, 2), MapHead)


def test_map_head_pools_inside() -> None:
    head = build_head((Relu(), GlobalAvgPool()), MAP, 2).eval()
    maps = torch.randn(3, *MAP)
    assert torch.allclose(head(maps), head[-1](maps.relu().mean((2, 3))))


def test_head_stacks_layers_in_order_and_closes_with_classes() -> None:
    head = build_head(DEEP, 8, 3)
    assert [type(module) for module in head] == [nn.BatchNorm1d, nn.Dropout, nn.Linear, nn.ReLU, nn.Linear]


def test_head_dropout_has_the_asked_share() -> None:
    dropout = build_head(DEEP, 8, 3)[1]
    assert isinstance(dropout, nn.Dropout)
    assert dropout.p == 0.3


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ((GlobalAvgPool(),), 8 * 3 + 3),
        ((GlobalAvgPool(), BatchNorm()), 8 * 3 + 3),  # its statistics are measured, not learned
        (DEEP, 8 * 5 + 5 + 5 * 3 + 3),
        ((GlobalAvgPool(), Dense(units=5), Dense(units=4)), 8 * 5 + 5 + 5 * 4 + 4 + 4 * 3 + 3),
    ],
    ids=["linear", "batch norm", "one dense", "two dense"],
)
def test_head_has_as_many_parameters_as_by_hand(layers: Sequence[HeadLayer], expected: int) -> None:
    assert count(build_head(layers, 8, 3)) == expected


def test_describe_head_counts_what_build_head_builds() -> None:
    assert sum(row.n_parameters for row in describe_head(DEEP, 8, 3)) == count(build_head(DEEP, 8, 3))


def test_describe_head_follows_the_map() -> None:
    layers = (Conv(channels=4), Prelu(per="position"), MaxPool(), Flatten(), Dense(units=5), Attention())
    rows = [(row.name, row.output_shape, row.n_parameters) for row in describe_head(layers[:5], MAP, 3)]
    assert rows == [
        ("head conv", (4, 8, 10), 6 * 9 * 4 + 4),
        ("head prelu", (4, 8, 10), 4 * 8 * 10),
        ("head max_pool", (4, 4, 5), 0),
        ("head flatten", (80,), 0),
        ("head dense", (5,), 80 * 5 + 5),
        ("head dense", (3,), 5 * 3 + 3),
    ]


def test_describe_head_tells_name_and_width_of_each_layer() -> None:
    rows = [(row.name, row.output_shape) for row in describe_head(DEEP, 8, 3)]
    assert rows == [
        ("head global_avg_pool", (8,)),
        ("head batch_norm", (8,)),
        ("head dropout", (8,)),
        ("head dense", (5,)),
        ("head relu", (5,)),
        ("head dense", (3,)),
    ]


def test_fix_batch_norm_standardises_training_features_exactly() -> None:
    features = torch.from_numpy(np.random.default_rng(0).normal(3, 2, (50, 8)).astype(np.float32))
    head = build_head((GlobalAvgPool(), BatchNorm()), 8, 2)
    fix_batch_norm(head, features.mean(0), features.var(0, unbiased=False))
    found = head[0](features).numpy()
    expected = (features.numpy() - features.numpy().mean(0)) / features.numpy().std(0)
    # batch norm adds 1e-5 to a variance of 4: two parts in a million
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_fix_batch_norm_does_not_blow_up_a_constant_feature() -> None:
    features = torch.ones(20, 8)
    head = build_head((GlobalAvgPool(), BatchNorm()), 8, 2)
    fix_batch_norm(head, features.mean(0), features.var(0, unbiased=False))
    # the variance is taken as at least 1e-4: a step of 0.01 becomes at most one
    assert float(head[0](features + 0.01).abs().max()) <= 1.0


def test_fix_batch_norm_leaves_head_without_one_alone() -> None:
    head = build_head((GlobalAvgPool(), Dense(units=4)), 8, 2)
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    fix_batch_norm(head, torch.ones(8), torch.ones(8))
    assert all(torch.equal(before[name], tensor) for name, tensor in head.state_dict().items())
