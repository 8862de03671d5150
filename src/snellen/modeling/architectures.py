"""Backbones and the classifier around them, built from a plan's plain values. Knows no files."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import nn

from snellen.core.errors import UsageError
from snellen.modeling.blocks import HeadEnsemble, build_blocks, choose_input
from snellen.modeling.joined_heads import fold_linear
from snellen.records.bundle import CLASS_MAP, MEMBER_OUTPUTS, OUTPUTS
from snellen.records.layers import BackboneLayer
from snellen.records.plan import ModelPlan, PreprocessPlan

LISTED = "layers"


@dataclass(frozen=True)
class BackboneFacts:
    """What timm tells of a backbone's pretrained weights: `mean` and `std` of [0, 1] RGB, and their origin."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    hub_id: str
    licence: str


def read_backbone_facts(name: str) -> BackboneFacts:
    """Raises UsageError for a name that timm does not have. Nobody published weights of the backbone `layers`."""
    if name == LISTED:
        return BackboneFacts((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 224, "", "none")
    require_backbone(name)
    try:
        config = timm.models.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        raise UsageError(f'model.backbone = "{name}": {error}', "Leave out what follows the dot.") from error
    if config is None:
        return BackboneFacts((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224, "", "unknown")
    return BackboneFacts(
        mean=tuple(config.mean),
        std=tuple(config.std),
        size=int(config.input_size[-1]),
        hub_id=config.hf_hub_id or "",
        licence=config.license or "unknown",
    )


def require_backbone(name: str, key: str = "model.backbone") -> None:
    """Raise UsageError with near names where timm has no such architecture; `key` of the recipe asked for it."""
    architecture = name.split(".", 1)[0]
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"Did you mean {', '.join(near)}?" if near else "See timm.list_models() for the names."
        raise UsageError(f'{key}: "{name}" is no architecture of timm.', hint)


def build_backbone(name: str, arguments: dict[str, Any] | None = None) -> nn.Module:
    """A timm network with random weights. Its `forward_features` gives the map `(N, C, H, W)`."""
    require_backbone(name)
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **(arguments or {}))
    except (TypeError, ValueError, LookupError, AssertionError, AttributeError, RuntimeError) as error:
        # timm refuses arguments in all these ways
        reason = f"{type(error).__name__} {error}"
        raise UsageError(f"model.backbone_args do not fit {name}: {reason}", "Remove the unknown argument.") from error
    if hasattr(backbone, "pre_logits"):
        # VGG keeps its two large dense layers here, which the feature map never meets
        backbone.pre_logits = nn.Identity()
    return backbone.eval()


class ListedBackbone(nn.Module):
    """The blocks of `model.layers`, for inputs `(N, *shape)`, called as timm's networks are."""

    def __init__(self, layers: Sequence[BackboneLayer], shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.layers = build_blocks(layers, shape)
        self.num_features = next((layer.channels for layer in reversed(layers) if layer.type == "conv"), shape[0])

    def forward_features(self, planes: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` → the map `(N, D, h, w)`."""
        found: torch.Tensor = self.layers(planes)
        return found

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:  # noqa: ARG002  # timm calls it so
        """How timm sorts the parameters by depth."""
        return {"stem": r"^layers\.0\.", "blocks": r"^layers\.(\d+)"}


class Normalise(nn.Module):
    """uint8 `(N, H, W, 1 or 3)` → float `(N, C, H, W)`, grey repeated for three values, minus mean, over std."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        planes = pixels.permute(0, 3, 1, 2).to(torch.float32)
        return (planes - self.mean) / self.std


class FrozenBackbone(nn.Module):
    """uint8 pixels → (embedding `(N, D)`, feature_map `(N, D, h, w)`)."""

    def __init__(self, plan: ModelPlan) -> None:
        super().__init__()
        self.normalise = Normalise(plan.mean, plan.std)
        if plan.backbone == LISTED:
            shape = (len(plan.mean), plan.side_px, plan.side_px)
            self.backbone: nn.Module = ListedBackbone(plan.layers, shape).eval()
        else:
            self.backbone = build_backbone(plan.backbone, dict(plan.backbone_args))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        feature_map = self.backbone.forward_features(self.normalise(pixels))  # type: ignore[operator]  # timm's own method
        return feature_map.mean((2, 3)), feature_map


class Calibrated(nn.Module):
    """Between logits and probabilities lies `probabilities = softmax(logits / temperature + bias)`, `bias` `(C,)`.

    `n_members` is 1 for a single network. The logits of an ensemble are the mean of its members'. `map_weight`
    `(U, C, D)` are the linear heads on each of U upper parts, once `add_class_map` found that all are linear.
    """

    n_members = 1

    def __init__(self, n_classes: int, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature: torch.Tensor
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.bias: torch.Tensor
        self.register_buffer("bias", torch.zeros(n_classes))
        self.map_weight: torch.Tensor | None
        # it repeats what the heads hold, and is no part of the weights
        self.register_buffer("map_weight", None, persistent=False)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `forward` gives."""
        members = MEMBER_OUTPUTS if self.n_members > 1 else ()
        return (*OUTPUTS, *members, *((CLASS_MAP,) if self.map_weight is not None else ()))

    def add_class_map(self) -> None:
        """From now on also give `class_map` `(N, C, h, w)`, whose mean over places is the logits but for a constant.

        Nothing changes where a head is not linear in pooled features. For when the heads have learned.
        """
        found = self._collect_heads()
        folded = [(at, share, fold_linear(head)) for at, share, head in found]
        weights: dict[int, torch.Tensor] = {}
        for at, share, linear in folded:
            if linear is None:
                return
            weights[at] = weights.get(at, torch.zeros_like(linear[0])) + share * linear[0]
        self.map_weight = torch.stack([weights[at] for at in sorted(weights)]).float()

    def _collect_heads(self) -> list[tuple[int, float, nn.Sequential]]:
        """Each head with the number of the upper part it reads and its share in the mean; here none is known."""
        raise NotImplementedError

    def calibrate(self, temperature: float, bias: Sequence[float]) -> None:
        """Set what lies between logits and probabilities; `bias` has one entry a class."""
        self.temperature.fill_(temperature)
        self.bias.copy_(torch.tensor(list(bias)))

    def answer(self, found: torch.Tensor, embedding: torch.Tensor, maps: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """All outputs, from logits `(N, C)`, or from those of each member `(N, K, C)`, and each upper part's map
        `(N, U, D, h, w)`.
        """
        logits = found if found.ndim == 2 else found.mean(1)
        told: tuple[torch.Tensor, ...] = (self._calibrate(logits), logits, embedding, maps.mean(1))
        if found.ndim == 3:
            told = (*told, self._calibrate(found), found)
        if self.map_weight is None:
            return told
        parts = [torch.einsum("ndhw,cd->nchw", maps[:, at], weight) for at, weight in enumerate(self.map_weight)]
        return (*told, torch.stack(parts).sum(0))

    def _calibrate(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.softmax(logits / self.temperature + self.bias, dim=-1)


class Classifier(Calibrated):
    """The whole of the bundle's graph: uint8 pixels → probabilities, logits, embedding, feature_map, and those of the
    members `(N, K, C)` where heads of several folds share the backbone.
    """

    def __init__(self, frozen: FrozenBackbone, head: nn.Sequential | HeadEnsemble, temperature: float = 1.0) -> None:
        heads = list(head.members) if isinstance(head, HeadEnsemble) else [head]
        super().__init__(_count_classes(heads[0]), temperature)
        self.frozen = frozen
        self.head = head
        self.n_members = len(heads)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        embedding, feature_map = self.frozen(pixels)
        found = self.head(choose_input(self.head, embedding, feature_map))
        return self.answer(found, embedding, feature_map[:, None])

    def _collect_heads(self) -> list[tuple[int, float, nn.Sequential]]:
        heads = list(self.head.members) if isinstance(self.head, HeadEnsemble) else [self.head]
        return [(0, 1 / len(heads), head) for head in heads if isinstance(head, nn.Sequential)]


class NetworkEnsemble(Calibrated):
    """Several upper parts on one common `lower` part. A member says the mean of the logits of its branches, each the
    number of an upper part and a head on it; several members are those of folds.

    `embedding` and `feature_map` are the mean of the upper parts'.
    """

    def __init__(
        self,
        lower: nn.Module,
        uppers: Sequence[nn.Module],
        members: Sequence[Sequence[tuple[int, nn.Sequential]]],
    ) -> None:
        super().__init__(_count_classes(members[0][0][1]))
        self.lower = lower
        self.uppers = nn.ModuleList(uppers)
        self.heads = nn.ModuleList(nn.ModuleList(head for _, head in branches) for branches in members)
        self.places = tuple(tuple(at for at, _ in branches) for branches in members)
        self.n_members = len(members)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        activation = self.lower(pixels)
        maps = torch.stack([upper(activation) for upper in self.uppers], dim=1)
        embeddings = maps.mean((3, 4))
        found = torch.stack(
            [self._ask(heads, places, embeddings, maps) for heads, places in zip(self.heads, self.places, strict=True)],
            dim=1,
        )
        return self.answer(found if self.n_members > 1 else found[:, 0], embeddings.mean(1), maps)

    def _ask(
        self, heads: nn.Module, places: Sequence[int], embeddings: torch.Tensor, maps: torch.Tensor
    ) -> torch.Tensor:
        branches = zip(heads.children(), places, strict=True)
        each = [head(choose_input(head, embeddings[:, at], maps[:, at])) for head, at in branches]
        return torch.stack(each).mean(0)

    def _collect_heads(self) -> list[tuple[int, float, nn.Sequential]]:
        return [
            (at, 1 / (self.n_members * len(places)), head)
            for heads, places in zip(self.heads, self.places, strict=True)
            for head, at in zip(heads.children(), places, strict=True)
            if isinstance(head, nn.Sequential)
        ]


def _count_classes(head: nn.Module) -> int:
    last = head[-1] if isinstance(head, nn.Sequential) else None
    if not isinstance(last, nn.Linear):
        raise TypeError("a head ends in a linear layer")
    return last.out_features


def compute_map_shape(frozen: FrozenBackbone, preprocess: PreprocessPlan) -> tuple[int, int, int]:
    """`(D, h, w)` of the feature map. Raises UsageError where the backbone gives no map or the input is too small."""
    pixels = torch.zeros(1, preprocess.size, preprocess.size, preprocess.channels, dtype=torch.uint8)
    try:
        with torch.no_grad():
            feature_map = frozen.backbone.forward_features(frozen.normalise(pixels))  # type: ignore[operator]  # timm's own method
    except (RuntimeError, AssertionError, AttributeError) as error:
        raise UsageError(
            f"The backbone cannot take pictures of {preprocess.size}×{preprocess.size}: {error}",
            "Choose another preprocess.size or model.backbone.",
        ) from error
    if feature_map.ndim != 4:
        raise UsageError(
            f"The backbone gives features of shape {tuple(feature_map.shape)}, no map with height and width.",
            "Choose a convolutional backbone such as tf_efficientnet_lite0, mobilenetv2_100 or vgg16.",
        )
    if feature_map.shape[1] != frozen.backbone.num_features:
        raise UsageError(
            f"The backbone gives a map of shape {tuple(feature_map.shape)} whose channels do not come second.",
            "Choose a convolutional backbone such as tf_efficientnet_lite0, mobilenetv2_100 or vgg16.",
        )
    return feature_map.shape[1], feature_map.shape[2], feature_map.shape[3]


def foresee_map_shape(plan: ModelPlan, preprocess: PreprocessPlan) -> tuple[int, int, int]:
    """The same of a network that need not be there: where torch can do so, no weight is drawn, nothing multiplied."""
    try:
        with torch.device("meta"):
            return compute_map_shape(FrozenBackbone(plan), preprocess)
    except (UsageError, RuntimeError, NotImplementedError):
        # a network whose code looks at values, or one that cannot take its input: told by the network itself
        return compute_map_shape(FrozenBackbone(plan), preprocess)
