"""A head is the recipe's list of layers and nothing else; a list that cannot stand is refused by its place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from snellen.core.errors import UsageError
from snellen.modeling.blocks import build_head, describe_head, fix_batch_norm
from snellen.records.recipe import BatchNorm, Dense, Dropout, GlobalAvgPool, HeadLayer, Relu

DEEP: tuple[HeadLayer, ...] = (GlobalAvgPool(), BatchNorm(), Dropout(p=0.3), Dense(units=5), Relu())


def count(head: nn.Module) -> int:
    return sum(parameter.numel() for parameter in head.parameters())


@pytest.mark.parametrize("layers", [(), (BatchNorm(),), (Dense(units=4), GlobalAvgPool())], ids=["none", "bn", "late"])
def test_head_without_leading_pool_is_refused(layers: Sequence[HeadLayer]) -> None:
    with pytest.raises(UsageError, match="begin with global_avg_pool"):
        build_head(layers, 8, 2)


def test_second_pool_is_refused_by_its_place() -> None:
    with pytest.raises(UsageError, match=r"model\.head\.2 is a global_avg_pool"):
        build_head((GlobalAvgPool(), Relu(), GlobalAvgPool()), 8, 2)


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
