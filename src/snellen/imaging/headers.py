"""What a file says of itself without its pixels: how it was compressed, and by what it was made. Names no one.

Only headers are read. What cannot be read has no facts here: the reader of the pixels says why.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from snellen.core.quiet import hush_warnings
from snellen.core.regular_files import open_regular

if TYPE_CHECKING:
    from PIL import Image

_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF")
_MAKER_TAGS = (0x010F, 0x0110, 0x0131)  # make, model, software
_CODES = 1 << 24  # so many are exact in float32


@dataclass(frozen=True)
class Header:
    """Compression and origin. Sums of quantisation tables are 0 where the file has none.

    `maker` is a number that stands for what EXIF says of make, model and software, 0 where it says nothing: equal
    numbers mean equal words, and the words themselves are not kept.
    """

    quantisation_luma: int = 0
    quantisation_chroma: int = 0
    is_progressive: bool = False
    subsampling: int = 0
    has_exif: bool = False
    maker: int = 0
    has_profile: bool = False
    density: int = 0
    mode: int = 0


def read_header(path: Path) -> Header:
    """The header of a picture file; an empty one for what is none."""
    from PIL import Image

    try:
        with hush_warnings(), open_regular(path) as stream, Image.open(stream, formats=_FORMATS) as image:
            return _describe(image)
    except Exception:  # Pillow's plugins raise anything at damaged headers; the pixels were read or set aside elsewhere
        return Header()


def encode_text(text: str) -> int:
    """A number from 1 on that stands for `text`, the same on every machine; 0 for nothing."""
    if not text:
        return 0
    return 1 + int.from_bytes(hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()[:4]) % (_CODES - 2)


def _describe(image: Image.Image) -> Header:
    tables = getattr(image, "quantization", None) or {}
    sums = [sum(tables[key]) for key in sorted(tables)]
    # of a PNG, Pillow would decode the pixels to look for EXIF behind them
    exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
    maker = " ".join(str(exif[tag]).strip() for tag in _MAKER_TAGS if tag in exif).strip()
    density = image.info.get("dpi") or image.info.get("jfif_density") or (0, 0)
    return Header(
        quantisation_luma=sums[0] if sums else 0,
        quantisation_chroma=sums[1] if len(sums) > 1 else 0,
        is_progressive=bool(image.info.get("progressive")),
        subsampling=_read_subsampling(image),
        has_exif=len(exif) > 0,
        maker=encode_text(maker),
        has_profile="icc_profile" in image.info,
        density=round(float(density[0])),
        mode=encode_text(image.mode),
    )


def _read_subsampling(image: Image.Image) -> int:
    """How often the first channel is sampled against the second, as `10 * across + down`; 0 where not told."""
    layers = getattr(image, "layer", None) or []
    return 10 * int(layers[0][1]) + int(layers[0][2]) if len(layers) > 1 else 0
