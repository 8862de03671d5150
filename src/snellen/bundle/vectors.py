"""Drawn inputs with what they must become: a check of decoder, preprocessing and runtime on any machine."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen.core.storage import write_atomic
from snellen.imaging.preprocess import preprocess_picture
from snellen.inference.session import GraphSession
from snellen.records.plan import PreprocessPlan


def write_vectors(session: GraphSession, plan: PreprocessPlan, folder: Path) -> None:
    """Inputs are drawn, not taken from patients: a bundle travels further than its data may."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = draw_inputs() if plan.window is None else {**draw_inputs(), **draw_deep_input(plan.window)}
    for name, data in pictures.items():
        write_atomic(folder / name, data)
    pixels = np.stack([preprocess_picture(data, plan)[0] for data in pictures.values()])
    probabilities = session.run(pixels, ("probabilities",))["probabilities"]
    np.savez(folder / "expected.npz", names=np.array(list(pictures)), pixels=pixels, probabilities=probabilities)


def draw_deep_input(window: tuple[float, float]) -> dict[str, bytes]:
    """A grey PNG of 16 bits whose values reach a little beyond `window`, as far as 16 bits go."""
    y, x = np.mgrid[0:200, 0:300].astype(np.float64)
    low, high = window
    values = low + (high - low) * (1.2 * (x + y) / 500 - 0.1)
    return {"deep.png": _encode(np.clip(np.rint(values), 0, 0xFFFF).astype(np.uint16), "PNG")}


def draw_inputs() -> dict[str, bytes]:
    """Name → encoded picture: a grey PNG, a colour PNG with a black border, a colour JPEG, each of another shape."""
    y, x = np.mgrid[0:300, 0:400].astype(np.float64)
    radius = np.hypot(x - 200, y - 150)
    waves = (127 + 90 * np.sin(x / 17) * np.cos(y / 23)).astype(np.uint8)
    disc = np.where(radius[..., None] < 140, np.stack([waves, waves // 2, 255 - waves], -1), 0).astype(np.uint8)
    ramp = np.stack([x * 255 / 400, y * 255 / 300, (x + y) * 255 / 700], -1).astype(np.uint8)
    inputs: tuple[tuple[str, NDArray[np.uint8], str], ...] = (
        ("grey.png", waves[:260, :200], "PNG"),
        ("disc.png", disc, "PNG"),
        ("ramp.jpg", ramp, "JPEG"),
    )
    return {name: _encode(pixels, kind) for name, pixels, kind in inputs}


def _encode(pixels: NDArray[np.uint8] | NDArray[np.uint16], kind: str) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, kind)
    return stream.getvalue()
