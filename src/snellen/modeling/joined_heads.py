"""Heads of several folds on one backbone, made one head without learning anything. Knows modules, no data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def join_heads(members: Sequence[nn.Sequential]) -> nn.Sequential:
    """One head whose logits are the mean of the members', as they are in evaluation.

    The mean of linear heads is a linear head: batch norms are folded in, in double precision. Heads with hidden layers
    stay side by side behind one door.
    """
    folded = [fold_linear(member) for member in members]
    known = [each for each in folded if each is not None]
    if len(known) < len(folded):
        return nn.Sequential(_Mean(members), _build_linear(torch.eye(_count_classes(members[0])), None)).eval()
    weight = torch.stack([each[0] for each in known]).mean(0)
    bias = torch.stack([each[1] for each in known]).mean(0)
    return nn.Sequential(_build_linear(weight, bias)).eval()


def fold_linear(head: nn.Sequential) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Weight `(C, D)` and bias `(C,)` in float64 of a head that is linear in evaluation; None of another."""
    scale: torch.Tensor | None = None
    shift: torch.Tensor | None = None
    *before, last = head
    for module in before:
        if isinstance(module, nn.Dropout):
            continue
        if not isinstance(module, nn.BatchNorm1d) or module.running_mean is None or module.running_var is None:
            return None
        own = 1 / torch.sqrt(module.running_var.double() + module.eps)
        offset = -module.running_mean.double() * own
        if module.affine:
            own, offset = own * module.weight.double(), offset * module.weight.double() + module.bias.double()
        scale, shift = (own, offset) if scale is None or shift is None else (scale * own, shift * own + offset)
    if not isinstance(last, nn.Linear):
        return None
    weight, bias = last.weight.detach().double(), last.bias.detach().double()
    if scale is None or shift is None:
        return weight, bias
    return weight * scale.detach(), bias + weight @ shift.detach()


class _Mean(nn.Module):
    """Features → mean of the logits of several heads `(N, C)`."""

    def __init__(self, members: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.stack([member(features) for member in self.members]).mean(0)


def _count_classes(head: nn.Sequential) -> int:
    last = head[-1]
    if not isinstance(last, nn.Linear):
        raise TypeError("a head ends in a linear layer")
    return last.out_features


def _build_linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    """A head ends in a linear layer; of what is a mean already it is the identity."""
    found = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        found.weight.copy_(weight)
        found.bias.copy_(torch.zeros(len(weight)) if bias is None else bias)
    return found
