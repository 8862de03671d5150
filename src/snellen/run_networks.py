"""Networks that fine-tuning makes: their states, what they say of pictures, and the module that becomes the graph."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snellen.imaging.cache import PixelCache
from snellen.modeling.architectures import Calibrated, Classifier, FrozenBackbone, NetworkEnsemble
from snellen.modeling.cut import cut_backbone
from snellen.records.plan import Plan
from snellen.run_preparation import Prepared

State = dict[str, torch.Tensor]
_STEP = 8


@dataclass(frozen=True)
class Bench:
    """Everything that all stages and folds share. `frozen` is the network with pretrained weights."""

    prepared: Prepared
    pixels: PixelCache
    frozen: FrozenBackbone
    folder: Path
    device: torch.device

    @property
    def plan(self) -> Plan:
        return self.prepared.plan

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(H, W, C)` of the network's input."""
        preprocess = self.plan.preprocess
        return preprocess.size, preprocess.size, preprocess.channels


@dataclass(frozen=True)
class Branch:
    """State of a whole backbone after fine-tuning, or as it was (`is_frozen`), and the head on it."""

    backbone: State
    head: nn.Sequential
    is_frozen: bool = False


@dataclass(frozen=True)
class Network:
    """One model: the mean of the logits of its branches, one or two."""

    branches: tuple[Branch, ...]


def copy_state(state: State) -> State:
    """The same values on the processor, in memory of their own."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}


def compute_network_logits(bench: Bench, network: Network, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Logits `(n, C)` of rows of the pixel cache, from pixels: what the exported graph will say."""
    return np.asarray(np.mean([compute_branch_logits(bench, branch, rows) for branch in network.branches], axis=0))


def compute_branch_logits(bench: Bench, branch: Branch, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """The same of one branch."""
    own = copy.deepcopy(bench.frozen)
    own.backbone.load_state_dict(branch.backbone)
    whole = Classifier(own, branch.head).eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), _STEP):
            pixels = torch.from_numpy(np.ascontiguousarray(bench.pixels.take(rows[start : start + _STEP])))
            parts.append(whole(pixels)[1].double().numpy())
    return np.concatenate(parts)


def build_tuned_classifier(bench: Bench, networks: Sequence[Network]) -> Calibrated:
    """One network, or several that share the part which no stage changed; the frozen upper part stands there once."""
    if len(networks) == 1 and len(networks[0].branches) == 1:
        (branch,) = networks[0].branches
        bench.frozen.backbone.load_state_dict(branch.backbone)
        return Classifier(bench.frozen, branch.head)
    share = max(stage.share for stage in bench.plan.training.finetune_stages)
    lower = cut_backbone(bench.frozen, bench.shape, share).lower
    uppers: list[nn.Module] = []
    frozen_at: int | None = None
    members = []
    for network in networks:
        branches = []
        for branch in network.branches:
            at = len(uppers) if not branch.is_frozen or frozen_at is None else frozen_at
            if at == len(uppers):
                own = copy.deepcopy(bench.frozen)
                own.backbone.load_state_dict(branch.backbone)
                uppers.append(cut_backbone(own, bench.shape, share).upper)
            frozen_at = at if branch.is_frozen else frozen_at
            branches.append((at, branch.head))
        members.append(branches)
    return NetworkEnsemble(lower, uppers, members)
