"""Where a stage stands, so that a killed run goes on: tensors in safetensors, all else as JSON in its header.

For resuming only. A bundle is never made of it without the graph's own proof.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from snellen.core.progress import say
from snellen.core.storage import write_atomic

_FACTS, _SHA256 = "snellen", "sha256"


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` by name and plain `facts`."""

    tensors: Mapping[str, torch.Tensor]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def select(self, part: str) -> dict[str, torch.Tensor]:
        """The tensors below `part/`, without it."""
        begin = f"{part}/"
        return {name.removeprefix(begin): value for name, value in self.tensors.items() if name.startswith(begin)}


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write it whole or not at all. Raises StorageError."""
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in checkpoint.tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    for torn in path.parent.glob(f".{path.name}.????????"):  # of a process that was killed while it wrote
        torn.unlink(missing_ok=True)
    facts = json.dumps(dict(checkpoint.facts))
    write_atomic(path, save(tensors, {_FACTS: facts, _SHA256: _compute_sha256(tensors, facts)}))


def load_checkpoint(path: Path, identity: str) -> Checkpoint | None:
    """What was saved for the same work; None where nothing was, or it is of other work, or damaged, which is told."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as stored:
            held = stored.metadata() or {}
            text = held.get(_FACTS, "{}")
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  # no mapping
        if held.get(_SHA256) == _compute_sha256(tensors, text):
            facts = json.loads(text)
            return Checkpoint(tensors, facts) if facts.get("identity") == identity else None
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, ValueError):
        pass
    say(f"Warning: {path} is damaged, or of another version of Snellen: what it holds is learned anew")
    return None


def _compute_sha256(tensors: Mapping[str, torch.Tensor], facts: str) -> str:
    """Of names, kinds, shapes, values and facts: a flipped bit would go on as another training."""
    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"\0{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
