"""An evidence map drawn beside its picture, never over it alone. Knows arrays and no files but the PNG it encodes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.inference.explain import EvidenceMap

_GAP_PX = 8
_LEAST_PX = 256
_OUTLINED = 0.5
_CAPTION_PX = 22
Pixels = NDArray[np.uint8]


def draw_panels(found: EvidenceMap) -> Pixels:
    """`(H, 3 W + gaps, 3)` RGB: the picture untouched, the map, and the picture with what is above half outlined.

    The map's lightness rises with the evidence, so that it reads the same in grey print.
    """
    picture = to_rgb(found.picture)
    factor = max(1, -(-_LEAST_PX // min(picture.shape[:2])))
    size = (picture.shape[1] * factor, picture.shape[0] * factor)
    picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    values = np.asarray(cv2.resize(found.array, size, interpolation=cv2.INTER_LINEAR), np.float32)
    gap = np.full((size[1], _GAP_PX, 3), 255, np.uint8)
    return np.concatenate([picture, gap, colour_map(values), gap, outline(picture, values)], axis=1)


def encode_panels(found: EvidenceMap, note: str = "") -> bytes:
    """The panels above one line that says what is shown, as PNG."""
    from PIL import Image, ImageDraw, ImageFont

    panels = draw_panels(found)
    told = f"evidence for {found.class_name} (probability {found.probability:.2f}), {found.method}; 1 is the most here"
    sheet = Image.new("RGB", (panels.shape[1], panels.shape[0] + _CAPTION_PX), "white")
    sheet.paste(Image.fromarray(panels), (0, 0))
    font = ImageFont.load_default(13)
    line = "; ".join(filter(None, (told, note)))
    # the built-in letters are few; what they lack must not end the command
    shown = line.encode("latin-1", "replace").decode("latin-1")
    ImageDraw.Draw(sheet).text((4, panels.shape[0] + 3), shown, fill="black", font=font)
    _, encoded = cv2.imencode(".png", np.asarray(sheet)[:, :, ::-1])
    return encoded.tobytes()


def colour_map(values: NDArray[np.float32]) -> Pixels:
    """`(H, W)` within 0 and 1 → RGB of the scale viridis, from dark blue to light yellow."""
    levels = np.clip(np.rint(255 * values), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)[:, :, ::-1])


def outline(picture: Pixels, values: NDArray[np.float32]) -> Pixels:
    """The picture `(H, W, 3)` with a line, light on dark, around what has at least half of the most evidence."""
    found = np.ascontiguousarray(picture.copy())
    lines, _ = cv2.findContours((values >= _OUTLINED).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.drawContours(found, lines, -1, colour, width)
    return found


def to_rgb(pixels: Pixels) -> Pixels:
    """`(H, W)`, `(H, W, 1)` or `(H, W, 3)` → `(H, W, 3)`."""
    grey = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    return np.repeat(grey[..., None], 3, axis=2) if grey.ndim == 2 else grey
