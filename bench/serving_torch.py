"""The network of a bundle's backbone in torch, behind the servers of bench/serving_peers.py that use it."""

from __future__ import annotations

from typing import IO

import timm
import torch
from PIL import Image
from torchvision.transforms import v2

from snellen.inference.load import load_bundle


class TorchNetwork:
    """Resized and normalised pixels in, probabilities out. Its weights are random: they do not change its time."""

    def __init__(self, run: str) -> None:
        manifest = load_bundle(run).manifest
        self._classes = manifest.classes
        self._network = timm.create_model(manifest.backbone, pretrained=False, num_classes=len(manifest.classes)).eval()
        self._prepare = v2.Compose(
            [
                v2.Resize((manifest.input.height_px, manifest.input.width_px)),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize((0.5,) * 3, (0.5,) * 3),
            ]
        )

    def prepare(self, file: IO[bytes]) -> torch.Tensor:
        prepared: torch.Tensor = self._prepare(Image.open(file).convert("RGB"))
        return prepared

    @torch.inference_mode()
    def predict(self, pictures: torch.Tensor) -> torch.Tensor:
        """Shapes (N, 3, H, W) and (N, classes)."""
        return torch.softmax(self._network(pictures), dim=1)

    def name(self, probabilities: torch.Tensor) -> dict[str, float]:
        return dict(zip(self._classes, probabilities.tolist(), strict=True))
