"""Where a stage stands, so that a killed run goes on: tensors in safetensors, all else as JSON in its header.

For resuming only. A bundle is never made of it without the graph's own proof.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from snellen.core.storage import write_atomic

_FACTS = "snellen"


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
    write_atomic(path, save(tensors, {_FACTS: json.dumps(dict(checkpoint.facts))}))


def load_checkpoint(path: Path, identity: str) -> Checkpoint | None:
    """What was saved for the same work; None where nothing was, where it is damaged, or of other work."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as stored:
            facts = json.loads((stored.metadata() or {}).get(_FACTS, "{}"))
            if facts.get("identity") != identity:
                return None
            return Checkpoint({name: stored.get_tensor(name) for name in stored.keys()}, facts)  # noqa: SIM118  # no mapping
    except (OSError, SafetensorError, ValueError):
        return None
