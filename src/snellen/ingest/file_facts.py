"""Facts of files as tables of numbers, one kind at a time, and each kind in words. No pixel is looked at.

This room knows samples and headers. It must not know labels but to describe classes.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from statistics import median

import numpy as np
from numpy.typing import NDArray

from snellen.core.letters import reveal
from snellen.ingest.picture_looks import Looks
from snellen.records.cohort import Sample

Table = NDArray[np.float32]
_MOST_VALUES = 20
_MANY_SIZES = 0.5

# what a fact is called on the page, in the order in which ties are shown
BYTES, NAME = "file size in bytes", "form of the name"
KINDS = ("format and colour mode", "width and height", "compression", "camera and embedded data", NAME, BYTES)


def build_fact_tables(samples: Sequence[Sample], looks: Looks) -> dict[str, Table]:
    """Kind → `(N, D)`."""
    width = np.array([max(1, sample.width_px) for sample in samples], np.float32)
    height = np.array([max(1, sample.height_px) for sample in samples], np.float32)
    n_bytes = np.array([max(1, sample.n_bytes) for sample in samples], np.float32)
    tables = (
        (
            _mark_values([sample.format for sample in samples]),
            np.array([[sample.channels, sample.bits] for sample in samples], np.float32),
            _mark_values([str(value) for value in looks.column("mode")]),
        ),
        (np.log(width)[:, None], np.log(height)[:, None], (width / height)[:, None]),
        (looks.columns(("quantisation_luma", "quantisation_chroma", "is_progressive", "subsampling")),),
        (
            looks.columns(("has_exif", "has_profile", "density")),
            _mark_values([str(value) for value in looks.column("maker")]),
        ),
        (_mark_values([shape_name(sample.name) for sample in samples]),),
        (np.log(n_bytes)[:, None], (n_bytes / (width * height))[:, None]),
    )
    return {kind: np.concatenate(parts, axis=1) for kind, parts in zip(KINDS, tables, strict=True)}


def shape_name(name: str) -> str:
    """The form of a file's name without its words and numbers: `cataract/_12_345.jpg` → `_9_9.jpg`.

    Folders are left out: they may be the class. Letters become `a`, so that a class in the name does not count.
    """
    path = PurePosixPath(name.partition("::")[0])
    stem = re.sub(r"[0-9a-f]{12,}|(?<![A-Za-z])(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}", "#", path.stem)
    stem = re.sub(r"[^\W\d_]+", "a", stem)
    return re.sub(r"\d+", "9", stem) + path.suffix.lower()


def describe_by_class(kind: str, samples: Sequence[Sample], looks: Looks) -> dict[str, str]:
    """Class → what its files have, in a few words."""
    members: dict[str, list[int]] = defaultdict(list)
    for at, sample in enumerate(samples):
        members[sample.label].append(at)
    tell = _TELL[kind]
    return {label: tell([samples[at] for at in own], looks, np.array(own)) for label, own in members.items()}


def _mark_values(values: Sequence[str]) -> Table:
    """A column of 0 and 1 for each of the most frequent values."""
    common = [value for value, _ in sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))]
    chosen = common[:_MOST_VALUES]
    return np.array([[value == each for each in chosen] for value in values], np.float32).reshape(len(values), -1)


def _share_most(values: Sequence[str], at_most: int = 2) -> str:
    """`JPEG 80 %, PNG 20 %`."""
    found = Counter(values).most_common()
    shown = [f"{value} {100 * n / len(values):.0f} %" for value, n in found[:at_most]]
    more = len(found) - at_most
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _tell_format(own: Sequence[Sample], _looks: Looks, _rows: NDArray[np.intp]) -> str:
    return _share_most([f"{each.format or 'unknown'} {'grey' if each.channels == 1 else 'colour'}" for each in own])


def _tell_size(own: Sequence[Sample], _looks: Looks, _rows: NDArray[np.intp]) -> str:
    sizes = [f"{each.width_px} × {each.height_px}" for each in own]
    if Counter(sizes).most_common(1)[0][1] >= _MANY_SIZES * len(own) or len(set(sizes)) <= 3:
        return _share_most(sizes)
    widths, heights = [each.width_px for each in own], [each.height_px for each in own]
    return f"{len(set(sizes))} sizes, median {median(widths):.0f} × {median(heights):.0f}"


def _tell_compression(_own: Sequence[Sample], looks: Looks, rows: NDArray[np.intp]) -> str:
    luma = looks.column("quantisation_luma")[rows]
    names = ["no JPEG" if not value else f"JPEG tables of sum {value:.0f}" for value in luma]
    return _share_most(names)


def _tell_origin(_own: Sequence[Sample], looks: Looks, rows: NDArray[np.intp]) -> str:
    exif = float(np.mean(looks.column("has_exif")[rows] > 0))
    makers = len({float(value) for value in looks.column("maker")[rows] if value})
    density = _share_most(
        ["no density" if not value else f"{value:.0f} dpi" for value in looks.column("density")[rows]], 1
    )
    told = f"EXIF in {100 * exif:.0f} %" + (f", {makers} maker{'s' * (makers > 1)}" if makers else "")
    return f"{told}; {density}"


def _tell_name(own: Sequence[Sample], _looks: Looks, _rows: NDArray[np.intp]) -> str:
    return reveal(_share_most([shape_name(each.name) for each in own]))


def _tell_bytes(own: Sequence[Sample], _looks: Looks, _rows: NDArray[np.intp]) -> str:
    size = median(each.n_bytes for each in own)
    dense = median(each.n_bytes / max(1, each.width_px * each.height_px) for each in own)
    return f"median {size / 1000:,.0f} kB, {dense:.2f} bytes a pixel"


_TELL: dict[str, Callable[[Sequence[Sample], Looks, NDArray[np.intp]], str]] = dict(
    zip(KINDS, (_tell_format, _tell_size, _tell_compression, _tell_origin, _tell_name, _tell_bytes), strict=True)
)
