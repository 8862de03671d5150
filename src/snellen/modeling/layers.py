"""The layers that a recipe lists, as torch modules, and what each makes of the shape of its input.

Only modules live here: `modeling/cut.py` takes each of them whole.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from timm.layers.cbam import CbamModule
from timm.layers.eca import EcaModule
from timm.layers.squeeze_excite import SEModule
from torch import nn

from snellen.records.layers import (
    Attention,
    AttentionKind,
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

Shape = tuple[int, ...]
_GATE_WIDTHS = (64, 16, 8)
_SMALLEST_GATE = 1e-6


class PlaceMean(nn.Module):
    """Mean over the map: `(N, D, h, w)` → `(N, D)`."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values.mean((2, 3))


class PositionPrelu(nn.Module):
    """Negative values times a slope of their own: `shape` is that of one input, without N."""

    def __init__(self, shape: Shape, initial: float = 0.25) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full(shape, initial))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values.clamp_min(0) + self.weight * values.clamp_max(0)


class AddedNoise(nn.Module):
    """Normal noise of standard deviation `sigma` in training, nothing afterwards."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + self.sigma * torch.randn_like(values) if self.training and self.sigma else values


class GatedPlaces(nn.Module):
    """A map `(N, D, h, w)` times one gate a place, over the gates' mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (channels, *_GATE_WIDTHS)
        layers: list[nn.Module] = []
        for before, behind in pairwise(widths):
            layers += [nn.Conv2d(before, behind, 1), nn.ReLU()]
        self.gate = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 1), nn.Sigmoid())

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        gate: torch.Tensor = self.gate(values)
        return values * (gate / gate.mean((2, 3), keepdim=True).clamp_min(_SMALLEST_GATE))


def build_layer(layer: HeadLayer, shape: Shape) -> nn.Module:
    """One layer for inputs `(N, *shape)`. The shape was checked before: see `modeling/blocks.py`."""
    module: nn.Module
    match layer:
        case GlobalAvgPool():
            module = PlaceMean()
        case Flatten():
            module = nn.Flatten()
        case BatchNorm():
            module = (nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d)(shape[0], affine=layer.affine)
        case MaxPool():
            module = nn.MaxPool2d(layer.size)
        case Conv():
            module = nn.Conv2d(shape[0], layer.channels, layer.kernel, padding=layer.kernel // 2)
        case Dense():
            module = nn.Linear(shape[0], layer.units)
        case Relu():
            module = nn.ReLU()
        case Prelu():
            module = PositionPrelu(shape) if layer.per == "position" else nn.PReLU(_count_slopes(layer, shape))
        case Dropout():
            module = nn.Dropout(layer.p)
        case GaussianNoise():
            module = AddedNoise(layer.sigma)
        case Attention():
            module = _build_attention(layer.kind, shape[0])
    return module


def _count_slopes(layer: Prelu, shape: Shape) -> int:
    return shape[0] if layer.per == "channel" else 1


def _build_attention(kind: AttentionKind, channels: int) -> nn.Module:
    if kind == "gap":
        return GatedPlaces(channels)
    build = {"se": SEModule, "cbam": CbamModule, "eca": EcaModule}[kind]
    module: nn.Module = build(channels)
    return module


def compute_output_shape(layer: HeadLayer, shape: Shape) -> Shape:
    """Of one input, without N, that the layer can take."""
    if isinstance(layer, GlobalAvgPool):
        return shape[:1]
    if isinstance(layer, Flatten):
        return (int(torch.Size(shape).numel()),)
    if isinstance(layer, MaxPool):
        return shape[0], shape[1] // layer.size, shape[2] // layer.size
    if isinstance(layer, Conv):
        return layer.channels, *shape[1:]
    if isinstance(layer, Dense):
        return (layer.units,)
    return shape
