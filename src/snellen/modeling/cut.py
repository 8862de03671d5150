"""A network cut in two: a frozen lower part, whose output can be kept, and an upper part that learns.

The forward pass is traced once; a cut is allowed where a single tensor crosses it, so that any convolutional network
of timm can be cut, whatever its blocks are called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import get_notrace_functions, get_notrace_modules  # type: ignore[attr-defined]  # timm marks no exports
from torch import fx, nn

from snellen.core.errors import UsageError
from snellen.modeling.architectures import FrozenBackbone
from snellen.records.plan import ModelPlan, PreprocessPlan

_LEAVES = ("torch.nn", "timm.layers", "snellen.modeling.layers")


@dataclass(frozen=True)
class Halves:
    """`lower`: uint8 pixels → activation `(N, C, h, w)`; `upper`: activation → feature map. They share the backbone's
    own layers, so that what `upper` learns the backbone has learned.

    `share` is the part of a picture's `multiplications` that `upper` does.
    """

    lower: nn.Module
    upper: nn.Module
    share: float
    multiplications: float


class _Tracer(fx.Tracer):
    """Layers of torch and timm stay whole: what they do in training is asked at each pass, not when traced."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))  # type: ignore[no-untyped-call]  # as above
        self._leaves = tuple(get_notrace_modules())  # type: ignore[no-untyped-call]  # as above

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002  # torch calls it so
        if isinstance(m, nn.Sequential | nn.ModuleList):
            return False
        return isinstance(m, self._leaves) or m.__module__.startswith(_LEAVES)


class _Features(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.backbone.forward_features(planes)  # type: ignore[operator]  # timm's own method
        return found


class _Lower(nn.Module):
    def __init__(self, normalise: nn.Module, layers: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.layers = layers

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layers(self.normalise(pixels))
        return found


def cut_backbone(frozen: FrozenBackbone, pixels_shape: tuple[int, int, int], share: float) -> Halves:
    """Cut where `upper` does about `share` of the multiplications, never less than one layer; 1 cuts nothing off, and
    of 0 `upper` is the feature map itself.

    `pixels_shape` is `(H, W, C)`. Raises UsageError for a network whose forward pass cannot be traced, unless it stays
    whole; its multiplications are then not known: 0.
    """
    whole = _Features(frozen.backbone).eval()
    if share <= 0:
        return Halves(_Lower(frozen.normalise, whole), nn.Identity(), 0.0, 0.0)
    try:
        graph = _Tracer().trace(whole)
    except Exception as error:  # whatever a network's own code raises on traced values
        if share >= 1:
            return Halves(_Lower(frozen.normalise, nn.Identity()), whole, 1.0, 0.0)
        raise UsageError(
            f"The backbone's forward pass cannot be cut: {type(error).__name__}: {error}",
            'Fine-tune the whole network (unfreeze = "all"), or choose another model.backbone.',
        ) from error
    example = frozen.normalise(torch.zeros(1, *pixels_shape, dtype=torch.uint8))
    costs = _Counter(fx.GraphModule(whole, graph)).count(example)
    nodes = list(graph.nodes)
    total = sum(costs.values())
    best, best_gap = nodes[0], abs(1 - share)
    after = float(total)
    for node in nodes:
        after -= costs.get(node, 0)
        if node.op not in ("placeholder", "output") and _crosses_alone(nodes, node):
            gap = abs(after / total - share)
            if after > 0 and gap <= best_gap:
                best, best_gap = node, gap
    lower, upper = _split(whole, graph, best)
    done = sum(costs.get(node, 0) for node in nodes[nodes.index(best) + 1 :]) if best.op != "placeholder" else total
    return Halves(_Lower(frozen.normalise, lower), upper, done / total, total)


def count_multiplications(plan: ModelPlan, preprocess: PreprocessPlan) -> float:
    """Of one picture's forward pass through the backbone; of a network that cannot be traced, none are known: 0."""
    shape = (preprocess.size, preprocess.size, preprocess.channels)
    return cut_backbone(FrozenBackbone(plan), shape, 1.0).multiplications


class _Counter(fx.Interpreter):
    """Multiplications of each node: a weight's size times the places where it is laid."""

    def count(self, example: torch.Tensor) -> dict[fx.Node, float]:
        self._costs: dict[fx.Node, float] = {}
        with torch.no_grad():
            self.run(example)
        return self._costs

    def run_node(self, n: fx.Node) -> Any:
        found = super().run_node(n)
        if n.op == "call_module" and isinstance(found, torch.Tensor):
            module = self.fetch_attr(str(n.target))
            weights = sum(parameter.numel() for parameter in module.parameters() if parameter.ndim > 1)
            places = found.shape[2:].numel() if found.ndim == 4 else 1
            self._costs[n] = float(weights * places)
        return found


def _crosses_alone(nodes: Sequence[fx.Node], node: fx.Node) -> bool:
    """Whether nothing computed before `node` is used behind it."""
    at = nodes.index(node)
    before, behind = nodes[:at], set(nodes[at + 1 :])
    return not any(other.op != "get_attr" and behind & set(other.users) for other in before)


def _split(whole: nn.Module, graph: fx.Graph, node: fx.Node) -> tuple[nn.Module, nn.Module]:
    nodes = list(graph.nodes)
    at = nodes.index(node)
    lower, upper = fx.Graph(), fx.Graph()
    known: dict[fx.Node, fx.Node] = {}
    for each in nodes[: at + 1]:
        known[each] = lower.node_copy(each, lambda old: known[old])
    lower.output(known[node])
    known = {node: upper.placeholder("activation")}
    for each in nodes[at + 1 :]:
        known[each] = upper.node_copy(each, lambda old: known[old])
    return fx.GraphModule(whole, lower), fx.GraphModule(whole, upper)
