"""What a bad or odd input is, and small cohorts to put it into. Nothing here comes from real data."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Build = Callable[[Path], Sequence[str]]
N_A_CLASS = 8


@dataclass(frozen=True)
class Case:
    """`build` writes the input into an empty folder and returns the words of the command that reads it.

    `given` says in words what is odd. `exit_code` is the promised one; `says` stands in what the user is told, or
    `issue` is the code that the audit must name. `n` pictures or rows were given: read and set aside must sum to it.
    """

    given: str
    build: Build
    exit_code: int = 0
    says: str = ""
    issue: str = ""
    n: int | None = None


def draw(seed: int, height: int = 20, width: int = 20, channels: int = 3) -> NDArray[np.uint8]:
    """Noise that no other seed has."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(pixels: NDArray[Any], form: str = "PNG", *, mode: str | None = None, **options: Any) -> bytes:
    """A picture as a file's bytes."""
    image = Image.fromarray(pixels)
    stream = io.BytesIO()
    (image.convert(mode) if mode else image).save(stream, form, **options)
    return stream.getvalue()


def write(path: Path, content: bytes | str) -> Path:
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_classes(
    folder: Path, classes: Iterable[str] = ("amd", "normal"), n: int = N_A_CLASS, *, first_seed: int = 0
) -> Path:
    """Class folders of `n` sound pictures, a patient each."""
    for number, name in enumerate(classes):
        for k in range(n):
            write(folder / name / f"p{k:03}.png", encode(draw(first_seed + 1000 * number + k)))
    return folder


def with_file(name: str, content: Callable[[], bytes | str]) -> Build:
    """Two sound classes, and one more file in the class amd."""

    def build(folder: Path) -> Sequence[str]:
        write(write_classes(folder / "data") / "amd" / name, content())
        return ["audit", "data"]

    return build


def with_table(text: str | bytes, *options: str, name: str = "labels.csv", n: int = 6) -> Build:
    """Pictures p000.png … in a folder, and a table beside it with this text."""

    def build(folder: Path) -> Sequence[str]:
        for k in range(n):
            write(folder / "data" / "images" / f"p{k:03}.png", encode(draw(k)))
        write(folder / "data" / name, text)
        return ["audit", f"data/{name}", *options]

    return build


def rows(*lines: str, n: int = 6, head: str = "image,label") -> str:
    """A sound table of `n` pictures with two labels, and more lines."""
    sound = [f"p{k:03}.png,{('amd', 'normal')[k % 2]}" for k in range(n)]
    return "\n".join([head, *sound, *lines]) + "\n"
