"""The layer and parameter table of a plan: what the network is made of, and what of it learns."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from snellen.modeling.architectures import LISTED, FrozenBackbone, compute_map_shape
from snellen.modeling.blocks import LayerRow, describe_blocks, describe_head
from snellen.modeling.cut import cut_backbone
from snellen.records.plan import ModelPlan, PreprocessPlan


def describe_layers(plan: ModelPlan, preprocess: PreprocessPlan, share: float = 0.0) -> list[LayerRow]:
    """The rows, top down. `share` is the largest part of the backbone's multiplications that any stage lets learn."""
    frozen = FrozenBackbone(plan)
    shape = compute_map_shape(frozen, preprocess)
    planes = (len(plan.mean), preprocess.size, preprocess.size)
    return [
        LayerRow("input uint8", (preprocess.size, preprocess.size, preprocess.channels), 0, False),
        LayerRow("normalise", planes, 0, False),
        *_describe_backbone(plan, frozen, (preprocess, shape), share),
        *describe_head(plan.head, shape, plan.n_classes),
        LayerRow("softmax(logits / temperature + bias)", (plan.n_classes,), 0, False),
    ]


def _describe_backbone(
    plan: ModelPlan, frozen: FrozenBackbone, seen: tuple[PreprocessPlan, tuple[int, int, int]], share: float
) -> Sequence[LayerRow]:
    preprocess, shape = seen
    if plan.backbone == LISTED and share in (0, 1):
        planes = (len(plan.mean), preprocess.size, preprocess.size)
        return describe_blocks(plan.layers, planes, is_trainable=share == 1)
    total = _count(frozen.backbone)
    if share in (0, 1):
        return [LayerRow(f"{plan.backbone} ({'learns' if share else 'frozen'})", shape, total, share == 1)]
    pixels = (preprocess.size, preprocess.size, preprocess.channels)
    upper = _count(cut_backbone(frozen, pixels, share).upper)
    return [LayerRow(f"{plan.backbone} (its upper part learns)", shape, total, True, upper)]


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
