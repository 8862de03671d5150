"""Heads and small backbones: from the recipe's typed list to torch modules, with shapes checked before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from snellen.core.errors import UsageError
from snellen.modeling.layers import Shape, build_layer, compute_output_shape
from snellen.records.layers import (
    Attention,
    BackboneLayer,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    HeadLayer,
    MaxPool,
    takes_map,
)

HEAD = "model.head"
LAYERS = "model.layers"
_MOST_PARAMETERS = 200_000_000


@dataclass(frozen=True)
class LayerRow:
    """One row of the layer table: what it is, its output shape without N, its parameters.

    `n_upper` are those of them that learn where not all do.
    """

    name: str
    output_shape: tuple[int, ...]
    n_parameters: int
    is_trainable: bool
    n_upper: int | None = None

    @property
    def n_trained(self) -> int:
        """Parameters that learn."""
        whole = self.n_parameters if self.n_upper is None else self.n_upper
        return whole if self.is_trainable else 0


class MapHead(nn.Sequential):
    """A head that takes the feature map `(N, D, h, w)`; a plain Sequential takes pooled features `(N, D)`."""


def build_head(layers: Sequence[HeadLayer], shape: int | Shape, n_classes: int) -> nn.Sequential:
    """A head for maps of `shape` `(D, h, w)` → logits `(N, n_classes)`; the closing dense layer is added here.

    One that begins with global_avg_pool takes pooled features `(N, D)`: then D alone will do for `shape`. Others are a
    MapHead. Raises UsageError that names a layer which cannot stand where it stands.
    """
    whole = (shape, 1, 1) if isinstance(shape, int) else shape
    shapes = follow_head(layers, whole, n_classes)
    modules = [build_layer(layer, before) for layer, before in zip(layers, shapes, strict=False)]
    closing = nn.Linear(shapes[-1][0], n_classes)
    return MapHead(*modules, closing) if takes_map(layers) else nn.Sequential(*modules[1:], closing)


def build_blocks(layers: Sequence[BackboneLayer], shape: Shape) -> nn.Sequential:
    """The blocks of a small backbone for inputs `(N, *shape)`. Raises UsageError as `build_head` does."""
    shapes = follow_layers(layers, shape, LAYERS)
    return nn.Sequential(*(build_layer(layer, before) for layer, before in zip(layers, shapes, strict=False)))


def follow_head(layers: Sequence[HeadLayer], shape: Shape, n_classes: int) -> list[Shape]:
    """As `follow_layers` for a head on a map of `shape`, whose last layer the classes follow."""
    shapes = follow_layers(layers, shape, HEAD)
    if len(shapes[-1]) == 3:
        raise UsageError(
            f"{HEAD} ends in a map of {_show(shapes[-1])}, and the {n_classes} classes need features.",
            'Put {type = "global_avg_pool"} or {type = "flatten"} behind its last layer.',
        )
    _require_size(HEAD, "closing dense layer", (shapes[-1][0] + 1) * n_classes)
    return shapes


def follow_layers(layers: Sequence[HeadLayer], shape: Shape, place: str) -> list[Shape]:
    """The shape before each layer of the list at `place`, and behind the last. Raises UsageError that names the layer
    which cannot take its input.
    """
    shapes = [shape]
    for number, layer in enumerate(layers):
        _require_fitting(layer, shapes[-1], f"{place}.{number} ({layer.type})")
        shapes.append(compute_output_shape(layer, shapes[-1]))
    return shapes


def _require_fitting(layer: HeadLayer, shape: Shape, name: str) -> None:
    is_map = len(shape) == 3
    if isinstance(layer, Dense) and is_map:
        raise UsageError(
            f"{name} takes features, but its input is a map of {_show(shape)}.",
            'Put {type = "flatten"} or {type = "global_avg_pool"} before it.',
        )
    if isinstance(layer, GlobalAvgPool | Flatten | MaxPool | Conv | Attention) and not is_map:
        raise UsageError(
            f"{name} takes a map, but its input is {shape[0]} features, without height and width.",
            "Put it before the layer global_avg_pool or flatten, or leave it out.",
        )
    if isinstance(layer, MaxPool) and min(shape[1:]) < layer.size:
        raise UsageError(
            f"{name} pools {layer.size} by {layer.size} places, but its input is a map of {_show(shape)}.",
            "Leave it out, choose a smaller size for it, or a larger preprocess.size.",
        )
    if isinstance(layer, Dense):
        _require_size(name, "it", (shape[0] + 1) * layer.units)
    if isinstance(layer, Conv):
        _require_size(name, "it", (shape[0] * layer.kernel**2 + 1) * layer.channels)


def _require_size(name: str, what: str, n_parameters: int) -> None:
    if n_parameters > _MOST_PARAMETERS:
        raise UsageError(
            f"{name}: {what} would have {n_parameters:,} parameters; {_MOST_PARAMETERS:,} are the most.",
            "Put max_pool or global_avg_pool before it, or give it fewer outputs.",
        )


def _show(shape: Shape) -> str:
    return "×".join(map(str, shape))


class HeadEnsemble(nn.Module):
    """Heads of several folds on one backbone: what each takes → logits of each member `(N, K, C)`."""

    def __init__(self, members: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.stack([member(features) for member in self.members], dim=1)


def choose_input(head: nn.Module, embedding: torch.Tensor, feature_map: torch.Tensor) -> torch.Tensor:
    """What `head`, or each member of it, takes: pooled features `(N, D)` or the map `(N, D, h, w)`."""
    first = head.members[0] if isinstance(head, HeadEnsemble) else head
    return feature_map if isinstance(first, MapHead) else embedding


def describe_head(layers: Sequence[HeadLayer], shape: int | Shape, n_classes: int) -> list[LayerRow]:
    """Rows of the layer table for the head."""
    whole = (shape, 1, 1) if isinstance(shape, int) else shape
    shapes = follow_head(layers, whole, n_classes)
    rows = _describe(layers, shapes, "head ")
    closing = LayerRow("head dense", (n_classes,), (shapes[-1][0] + 1) * n_classes, True)
    return [*rows, closing]


def describe_blocks(layers: Sequence[BackboneLayer], shape: Shape, *, is_trainable: bool) -> list[LayerRow]:
    """Rows of the layer table for a small backbone."""
    rows = _describe(layers, follow_layers(layers, shape, LAYERS), "layers ")
    return [LayerRow(row.name, row.output_shape, row.n_parameters, row.is_trainable and is_trainable) for row in rows]


def _describe(layers: Sequence[HeadLayer], shapes: Sequence[Shape], prefix: str) -> list[LayerRow]:
    rows = []
    for layer, before, behind in zip(layers, shapes, shapes[1:], strict=False):
        n_parameters = sum(parameter.numel() for parameter in build_layer(layer, before).parameters())
        name = f"{layer.type} {layer.kind}" if isinstance(layer, Attention) else layer.type
        rows.append(LayerRow(f"{prefix}{name}", behind, n_parameters, n_parameters > 0))
    return rows


def fix_batch_norm(head: nn.Sequential, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Set the statistics of a batch norm that leads a head on pooled features to those of the training features, `(D,)`
    each, once and exactly.
    """
    first = head[0]
    if isinstance(first, nn.BatchNorm1d) and first.running_mean is not None and first.running_var is not None:
        first.running_mean.copy_(mean)
        # a feature that hardly varies in training must not be blown up on new pictures
        first.running_var.copy_(variance.clamp_min(1e-4))
        first.eval()
