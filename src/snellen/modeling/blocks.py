"""Head layers: from the recipe's typed list to torch modules, with shapes checked before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from snellen.core.errors import UsageError
from snellen.records.recipe import BatchNorm, Dense, Dropout, GlobalAvgPool, HeadLayer, Relu


@dataclass(frozen=True)
class LayerRow:
    """One row of the layer table: what it is, its output shape without N, its parameters."""

    name: str
    output_shape: tuple[int, ...]
    n_parameters: int
    is_trainable: bool


def build_head(layers: Sequence[HeadLayer], n_features: int, n_classes: int) -> nn.Sequential:
    """Layers after the global average pool, `(N, n_features)` → logits `(N, n_classes)`.

    The closing dense layer to the classes is added here. Raises UsageError that names a layer
    which cannot stand where it stands.
    """
    if not layers or not isinstance(layers[0], GlobalAvgPool):
        raise UsageError(
            "model.head must begin with global_avg_pool, which turns the feature map into features.",
            'Put {type = "global_avg_pool"} first.',
        )
    modules: list[nn.Module] = []
    width = n_features
    for position, layer in enumerate(layers[1:], start=1):
        if isinstance(layer, GlobalAvgPool):
            raise UsageError(
                f"model.head.{position} is a global_avg_pool, but its input has no height and width any more.",
                "Keep only the first one.",
            )
        modules.append(_build_layer(layer, width))
        if isinstance(layer, Dense):
            width = layer.units
    modules.append(nn.Linear(width, n_classes))
    return nn.Sequential(*modules)


class HeadEnsemble(nn.Module):
    """Heads of several folds on one backbone: features `(N, D)` → logits of each member `(N, K, C)`."""

    def __init__(self, members: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.stack([member(features) for member in self.members], dim=1)


def describe_head(layers: Sequence[HeadLayer], n_features: int, n_classes: int) -> list[LayerRow]:
    """Rows of the layer table for the head."""
    head = build_head(layers, n_features, n_classes)
    rows = [LayerRow("head global_avg_pool", (n_features,), 0, False)]
    width = n_features
    for module in head:
        if isinstance(module, nn.Linear):
            width = module.out_features
        n_parameters = sum(parameter.numel() for parameter in module.parameters())
        rows.append(LayerRow(f"head {_name(module)}", (width,), n_parameters, n_parameters > 0))
    return rows


def _build_layer(layer: HeadLayer, width: int) -> nn.Module:
    if isinstance(layer, BatchNorm):
        # no affine part: the dense layer that follows has its own scale and offset
        return nn.BatchNorm1d(width, affine=False)
    if isinstance(layer, Dropout):
        return nn.Dropout(layer.p)
    if isinstance(layer, Dense):
        return nn.Linear(width, layer.units)
    if isinstance(layer, Relu):
        return nn.ReLU()
    raise TypeError(f"no module for {layer}")


def _name(module: nn.Module) -> str:
    names = {nn.BatchNorm1d: "batch_norm", nn.Dropout: "dropout", nn.Linear: "dense", nn.ReLU: "relu"}
    return names.get(type(module), type(module).__name__.lower())


def fix_batch_norm(head: nn.Sequential, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Set a leading batch norm's statistics to those of the training features, `(D,)` each, once and exactly."""
    first = head[0]
    if isinstance(first, nn.BatchNorm1d) and first.running_mean is not None and first.running_var is not None:
        first.running_mean.copy_(mean)
        # a feature that hardly varies in training must not be blown up on new pictures
        first.running_var.copy_(variance.clamp_min(1e-4))
        first.eval()
