"""Layers that a recipe lists: those of a head, and the blocks of a small backbone. Inert: nothing is built here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, get_args

from pydantic import Field

from snellen.records.base import Record

Slopes = Literal["channel", "position", "all"]
AttentionKind = Literal["gap", "se", "cbam", "eca"]


class GlobalAvgPool(Record):
    """Mean over the feature map: (N, D, h, w) → (N, D). A head that begins with it learns on pooled features."""

    type: Literal["global_avg_pool"] = "global_avg_pool"


class Flatten(Record):
    """All values of the map in one row: (N, D, h, w) → (N, D·h·w)."""

    type: Literal["flatten"] = "flatten"


class BatchNorm(Record):
    """Standardises each feature, or each channel of a map, by statistics of the training part.

    `affine` adds a scale and an offset to each, which learn.
    """

    type: Literal["batch_norm"] = "batch_norm"
    affine: bool = False


class MaxPool(Record):
    """The largest value of each square of `size` by `size` places; what is left over at the edge goes."""

    type: Literal["max_pool"] = "max_pool"
    size: Annotated[int, Field(ge=2, le=16)] = 2


class Conv(Record):
    """A convolution with `channels` outputs and a square `kernel`; the map keeps its size."""

    type: Literal["conv"] = "conv"
    channels: Annotated[int, Field(ge=1, le=4096)]
    kernel: Literal[1, 3, 5, 7, 9, 11] = 3


class Dense(Record):
    """A fully connected layer with `units` outputs."""

    type: Literal["dense"] = "dense"
    units: Annotated[int, Field(ge=1, le=8192)]


class Relu(Record):
    """Negative values become 0."""

    type: Literal["relu"] = "relu"


class Prelu(Record):
    """Negative values are multiplied by a slope that learns (He et al. 2015): one a `channel`, one for `all`, or one
    for every `position`, that is for each single value of the input.
    """

    type: Literal["prelu"] = "prelu"
    per: Slopes = "channel"


class Dropout(Record):
    """Sets a share `p` of the values to 0 in training."""

    type: Literal["dropout"] = "dropout"
    p: Annotated[float, Field(ge=0, lt=1)] = 0.2


class GaussianNoise(Record):
    """Adds normal noise of standard deviation `sigma` in training; does nothing afterwards."""

    type: Literal["gaussian_noise"] = "gaussian_noise"
    sigma: Annotated[float, Field(ge=0, le=10)] = 0.1


class Attention(Record):
    """Weighs the map by what it shows. `gap`: one gate a place by 1×1 convolutions, over its mean, so that a pool
    behind it is the gate-weighted mean of the places; `se`, `cbam`, `eca`: as timm builds them.
    """

    type: Literal["attention"] = "attention"
    kind: AttentionKind = "gap"


HeadLayer = Annotated[
    GlobalAvgPool | Flatten | BatchNorm | MaxPool | Conv | Dense | Relu | Prelu | Dropout | GaussianNoise | Attention,
    Field(discriminator="type"),
]
BackboneLayer = Annotated[Conv | BatchNorm | Relu | Prelu | MaxPool | Dropout | Attention, Field(discriminator="type")]

# the type of a layer → its keys
LAYER_KEYS: dict[str, list[str]] = {
    kind.model_fields["type"].default: [key for key in kind.model_fields if key != "type"]
    for kind in get_args(get_args(HeadLayer)[0])
}


def takes_map(head: Sequence[HeadLayer]) -> bool:
    """Whether a head asks for the feature map; one that begins with a pool takes pooled features."""
    return not (head and isinstance(head[0], GlobalAvgPool))
