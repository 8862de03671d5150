"""Each layer that a recipe may list does what its name says, held against plain torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.layers.cbam import CbamModule
from timm.layers.eca import EcaModule
from timm.layers.squeeze_excite import SEModule
from torch import nn
from torch.nn import functional

from snellen.modeling.layers import GatedPlaces, PositionPrelu, Shape, build_layer, compute_output_shape
from snellen.records.layers import (
    Attention,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GaussianNoise,
    GlobalAvgPool,
    HeadLayer,
    MaxPool,
    Prelu,
    Relu,
)

MAP: Shape = (6, 5, 7)
FEATURES: Shape = (9,)


def draw(shape: Shape, n: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (n, *shape)).astype(np.float32))


def build(layer: HeadLayer, shape: Shape) -> nn.Module:
    torch.manual_seed(0)
    return build_layer(layer, shape)


ON_MAPS = [
    GlobalAvgPool(), Flatten(), BatchNorm(), BatchNorm(affine=True), MaxPool(), MaxPool(size=3), Conv(channels=4),
    Conv(channels=3, kernel=1), Conv(channels=2, kernel=7), Relu(), Prelu(), Prelu(per="position"), Prelu(per="all"),
    Dropout(p=0.4), GaussianNoise(sigma=0.3), Attention(kind="gap"), Attention(kind="se"), Attention(kind="cbam"),
    Attention(kind="eca"),
]  # fmt: skip
ON_FEATURES = [
    BatchNorm(), BatchNorm(affine=True), Dense(units=3), Relu(), Prelu(), Prelu(per="position"), Prelu(per="all"),
    Dropout(p=0.4), GaussianNoise(sigma=0.3),
]  # fmt: skip
BOTH = [*((layer, MAP) for layer in ON_MAPS), *((layer, FEATURES) for layer in ON_FEATURES)]


@pytest.mark.parametrize(("layer", "shape"), BOTH, ids=str)
def test_output_has_the_shape_that_is_told(layer: HeadLayer, shape: Shape) -> None:
    with torch.no_grad():
        found = build(layer, shape).eval()(draw(shape))
    assert tuple(found.shape[1:]) == compute_output_shape(layer, shape)


def test_global_avg_pool_is_the_mean_of_the_places() -> None:
    assert torch.allclose(build(GlobalAvgPool(), MAP)(draw(MAP)), draw(MAP).mean((2, 3)))


def test_flatten_keeps_the_order_of_channels_rows_and_columns() -> None:
    assert torch.equal(build(Flatten(), MAP)(draw(MAP)), draw(MAP).reshape(4, -1))


def test_max_pool_takes_the_largest_of_each_square() -> None:
    found = build(MaxPool(), MAP)(draw(MAP))
    expected = draw(MAP)[:, :, :4, :6].reshape(4, 6, 2, 2, 3, 2).amax((3, 5))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_convolution_keeps_the_size_and_pads_with_nothing(kernel: int) -> None:
    layer = build(Conv(channels=4, kernel=kernel), MAP)  # type: ignore[arg-type]  # pydantic checks it
    assert isinstance(layer, nn.Conv2d)
    expected = functional.conv2d(draw(MAP), layer.weight, layer.bias, padding=kernel // 2)
    assert torch.equal(layer(draw(MAP)), expected)
    assert expected.shape[2:] == draw(MAP).shape[2:]


@pytest.mark.parametrize("shape", [MAP, FEATURES], ids=str)
@pytest.mark.parametrize("affine", [False, True])
def test_batch_norm_standardises_each_channel(shape: Shape, affine: bool) -> None:
    layer = build(BatchNorm(affine=affine), shape).train()
    values = draw(shape, n=50)
    axes = (0, 2, 3) if len(shape) == 3 else (0,)
    found = layer(values).detach()
    assert torch.allclose(found.mean(axes), torch.zeros(shape[0]), atol=1e-4)
    assert torch.allclose(found.std(axes, unbiased=False), torch.ones(shape[0]), atol=1e-3)
    assert sum(parameter.numel() for parameter in layer.parameters()) == (2 * shape[0] if affine else 0)


@pytest.mark.parametrize("shape", [MAP, FEATURES], ids=str)
def test_prelu_per_channel_is_torch_s_own(shape: Shape) -> None:
    layer = build(Prelu(), shape)
    assert isinstance(layer, nn.PReLU)
    slopes = torch.linspace(-1, 1, shape[0])
    layer.weight.data = slopes
    assert torch.equal(layer(draw(shape)), functional.prelu(draw(shape), slopes))


@pytest.mark.parametrize("shape", [MAP, FEATURES], ids=str)
def test_prelu_per_position_has_a_slope_for_every_value(shape: Shape) -> None:
    layer = build(Prelu(per="position"), shape)
    assert isinstance(layer, PositionPrelu)
    slopes = draw(shape, n=1, seed=1)[0]
    layer.weight.data = slopes
    values = draw(shape)
    assert torch.allclose(layer(values), torch.where(values > 0, values, slopes * values))
    assert sum(parameter.numel() for parameter in layer.parameters()) == int(np.prod(shape))


def test_prelu_per_position_learns_only_where_values_are_negative() -> None:
    layer = build(Prelu(per="position"), (2, 2, 2))
    values = torch.ones(1, 2, 2, 2)
    values[0, 1, 0, 1] = -3.0
    layer(values).sum().backward()
    gradient = next(iter(layer.parameters())).grad
    assert gradient is not None
    assert gradient[1, 0, 1] == -3.0
    assert int((gradient != 0).sum()) == 1


def test_prelu_for_all_has_one_slope() -> None:
    assert sum(parameter.numel() for parameter in build(Prelu(per="all"), MAP).parameters()) == 1


def test_gaussian_noise_is_added_in_training_only() -> None:
    layer = build(GaussianNoise(sigma=0.5), FEATURES)
    zeros = torch.zeros(20_000, 9)
    torch.manual_seed(0)
    noise = layer.train()(zeros)
    # 180,000 draws: the standard deviation is known to two parts in a thousand
    assert float(noise.std()) == pytest.approx(0.5, abs=0.005)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.01)
    assert torch.equal(layer.eval()(zeros), zeros)


@pytest.mark.parametrize(("kind", "timm"), [("se", SEModule), ("cbam", CbamModule), ("eca", EcaModule)])
def test_attention_is_timm_s_where_timm_has_it(kind: str, timm: type[nn.Module]) -> None:
    assert isinstance(build(Attention.model_validate({"kind": kind}), MAP), timm)


def test_gated_pool_is_the_gate_weighted_mean_of_the_places() -> None:
    layer = build(Attention(kind="gap"), MAP)
    assert isinstance(layer, GatedPlaces)
    values = draw(MAP)
    with torch.no_grad():
        gate = layer.gate(values)
        pooled = layer(values).mean((2, 3))
        expected = (values * gate).sum((2, 3)) / gate.sum((2, 3))
    assert gate.shape == (4, 1, 5, 7)
    assert bool(((gate > 0) & (gate < 1)).all())
    assert torch.allclose(pooled, expected, rtol=1e-4, atol=1e-5)  # float32 sums in another order


def test_gate_that_is_even_leaves_the_map_as_it_is() -> None:
    layer = build(Attention(kind="gap"), MAP)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    assert torch.allclose(layer(draw(MAP)), draw(MAP))


@pytest.mark.parametrize("kind", ["gap", "se", "cbam", "eca"])
def test_attention_learns(kind: str) -> None:
    layer = build(Attention.model_validate({"kind": kind}), MAP).train()
    (layer(draw(MAP)) * draw(MAP, seed=2)).sum().backward()
    gradients = [parameter.grad for parameter in layer.parameters()]
    assert gradients
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)
    assert any(bool((gradient != 0).any()) for gradient in gradients if gradient is not None)
