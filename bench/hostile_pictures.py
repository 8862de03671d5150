"""Files that a stranger may send for a picture, and how sound ones are mutated. Shared by bench and tests."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Random = np.random.Generator
Pixels = NDArray[np.uint8]


def encode(pixels: NDArray[np.generic], form: str = "PNG", mode: str | None = None) -> bytes:
    """`pixels` as a file; `mode` converts with Pillow before."""
    stream, image = io.BytesIO(), Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(stream, form)
    return stream.getvalue()


def draw(seed: int, height: int = 60, width: int = 80) -> Pixels:
    """Soft RGB blobs."""
    coarse = np.random.default_rng(seed).integers(40, 216, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def draw_deep(seed: int = 0) -> bytes:
    """A PNG of 16 bits."""
    first, last = sorted(int(value) for value in np.random.default_rng(seed).integers(0, 65536, 2))
    return encode(np.linspace(first, last, 60 * 60, dtype=np.uint16).reshape(60, 60))


def draw_animation(seed: int = 0) -> bytes:
    """A GIF of three frames."""
    frames = [Image.fromarray(draw(seed + number, 20, 20)) for number in range(3)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    return stream.getvalue()


def make_png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says to be of this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 100_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def make_zip(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of these entries."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def make_dicom(n_frames: int, n_bytes: int) -> bytes:
    """A DICOM that claims compressed frames, padded to this size."""

    def element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HH", group, number) + kind + struct.pack("<H", len(value)) + value

    syntax = element(2, 0x10, b"UI", b"1.2.840.10008.1.2.4.50")
    head = element(2, 0, b"UL", struct.pack("<I", len(syntax))) + syntax
    body = b"".join(
        (
            element(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.7"),
            element(0x28, 2, b"US", struct.pack("<H", 1)),
            element(0x28, 8, b"IS", str(n_frames).encode()),
            element(0x28, 0x10, b"US", struct.pack("<H", 8)),
            element(0x28, 0x11, b"US", struct.pack("<H", 8)),
            element(0x28, 0x100, b"US", struct.pack("<H", 8)),
        )
    )
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    start = b"\0" * 128 + b"DICM" + head + body + pixels + item
    left = max(2, n_bytes - len(start) - 16)
    last = struct.pack("<HHI", 0xFFFE, 0xE000, left + left % 2) + b"\0" * (left + left % 2)
    return start + last + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def truncate(content: bytes, random: Random) -> bytes:
    """Its beginning."""
    return content[: int(random.integers(0, len(content)))]


def flip(content: bytes, random: Random) -> bytes:
    """One to eight bits differ."""
    changed = bytearray(content)
    for place in random.integers(0, len(content), int(random.integers(1, 9))):
        changed[place] ^= 1 << int(random.integers(8))
    return bytes(changed)


def splice(content: bytes, other: bytes, random: Random) -> bytes:
    """The beginning of one and the end of another."""
    return content[: int(random.integers(0, len(content)))] + other[int(random.integers(0, len(other))) :]


def stuff(content: bytes, random: Random) -> bytes:
    """Random bytes inserted or written over, up to 64."""
    place, n = int(random.integers(0, len(content))), int(random.integers(1, 65))
    return content[:place] + random.bytes(n) + content[place + n * int(random.integers(2)) :]


def list_sound(seed: int = 0) -> dict[str, bytes]:
    """A small picture in every format."""
    pixels = draw(seed)
    grey = pixels[..., 0]
    return {
        "rgb.jpg": encode(pixels, "JPEG"), "rgb.png": encode(pixels), "rgb.tif": encode(pixels, "TIFF"),
        "rgb.bmp": encode(pixels, "BMP"), "rgb.webp": encode(pixels, "WEBP"), "rgb.gif": encode(pixels, "GIF"),
        "grey.png": encode(grey), "cmyk.jpg": encode(pixels, "JPEG", "CMYK"), "palette.png": encode(pixels, mode="P"),
        "rgba.png": encode(pixels, mode="RGBA"), "one-bit.tif": encode(grey, "TIFF", "1"), "deep.png": draw_deep(seed),
        "deep.tif": encode(grey.astype(np.uint16) * 257, "TIFF"), "animated.gif": draw_animation(seed),
    }  # fmt: skip


PLAIN_PNG = encode(draw(2))
PLAIN_JPEG = encode(draw(1), "JPEG")
UNREADABLE = {
    "header-bomb.png": make_png_header(50_000, 50_000),
    "truncated.jpg": PLAIN_JPEG[: len(PLAIN_JPEG) // 2],
    "truncated.png": PLAIN_PNG[: len(PLAIN_PNG) // 2],
    "svg.svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "svg.png": b"<svg onload='alert(1)' xmlns='http://www.w3.org/2000/svg'/>" + b" " * 200,
    "page.html": b"<!doctype html><script>alert(1)</script>" + b" " * 200,
    "text.jpg": b"This is no picture, whatever its name says. " * 20,
    "zip.png": make_zip({"a.png": PLAIN_PNG}),
    "postscript.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n" + b"showpage\n" * 50,
    "empty.png": b"",
    "one-byte.png": b"\x89",
    "dicom.dcm": b"\0" * 128 + b"DICM" + b"\0" * 400,
}
HOSTILE_NAMES = (
    "../../etc/passwd", "C:\\windows\\x.png", "/etc/passwd", "a\u202egnp.exe", "x" * 3000, "<script>.png", "",
)  # fmt: skip


def list_mutations(sound: Sequence[bytes]) -> dict[str, Callable[[Random], bytes]]:
    """Kinds of mutated files, each drawn anew by its function."""

    def choose(random: Random) -> bytes:
        return sound[int(random.integers(len(sound)))]

    return {
        "truncated": lambda random: truncate(choose(random), random),
        "bits flipped": lambda random: flip(choose(random), random),
        "two spliced": lambda random: splice(choose(random), choose(random), random),
        "bytes inserted": lambda random: stuff(choose(random), random),
        "PNG bomb, 50,000 × 50,000": lambda random: (
            flip(make_png_header(50_000, 50_000), random) if random.integers(2) else make_png_header(50_000, 50_000)
        ),
        "a polyglot: picture and zip": lambda random: choose(random) + make_zip({"../x.png": choose(random)}),
        "16 bit": lambda random: draw_deep(int(random.integers(1 << 30))),
        "CMYK": lambda random: encode(draw(int(random.integers(1 << 30))), "JPEG", "CMYK"),
        "animated": lambda random: draw_animation(int(random.integers(1 << 30))),
        "no picture: SVG, HTML, text named .jpg": lambda random: list(UNREADABLE.values())[
            int(random.integers(len(UNREADABLE)))
        ],
        "random bytes": lambda random: random.bytes(int(random.integers(0, 5000))),
    }
