"""What bench/serving_peers.py gives to LitServe, which pickles the classes by name: the same Predictor, or torch; in
batches.

Without `from __future__ import annotations`: LitServe takes a form only where the annotation is the class itself.
"""

import io
import json
from typing import Any

import litserve
from fastapi import Request
from serving_torch import TorchNetwork

from snellen.inference.load import load_bundle
from snellen.records.bundle import Prediction


class Api(litserve.LitAPI):  # type: ignore[misc]
    """One picture a request, scored by the Predictor."""

    run = ""

    def setup(self, _device: str) -> None:
        self.predictor = load_bundle(self.run)

    def decode_request(self, request: Request) -> Any:
        return request["images"].file.read()

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        return inputs

    def unbatch(self, output: list[Prediction]) -> list[Prediction]:
        return output

    def predict(self, pictures: list[bytes]) -> list[Prediction]:
        return self.predictor.predict(pictures)

    def encode_response(self, output: Prediction) -> dict:
        return dict(json.loads(output.model_dump_json()))


class TorchApi(litserve.LitAPI):  # type: ignore[misc]
    """One picture a request, as LitServe's users write it: Pillow, torchvision, torch."""

    run = ""

    def setup(self, _device: str) -> None:
        self.network = TorchNetwork(self.run)

    def decode_request(self, request: Request) -> Any:
        return self.network.prepare(io.BytesIO(request["images"].file.read()))

    def predict(self, pictures: Any) -> Any:
        return self.network.predict(pictures)

    def encode_response(self, output: Any) -> dict:
        return self.network.name(output)
