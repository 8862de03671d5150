"""Copies among the samples: which pictures show the same picture again, exactly or transformed, and in what groups.

The search reads sketches only. What it found is kept in the cache by the pictures' content: asked again, it answers at
once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from snellen.core.errors import StorageError
from snellen.core.storage import compute_digest, read_json, write_atomic
from snellen.imaging.copy_search import SEARCH_VERSION, CopySearch, Match
from snellen.imaging.sketch import SKETCH_VERSION, SketchStore
from snellen.records.cohort import CopyLink, Sample
from snellen.records.recipe import CopyScope, CopySearchWish

# chosen by measurement: docs/explanation/copies.md
LEAST_ALIKE, LEAST_ALIKE_COARSE = 0.90, 0.87
LEAST_SPOILT, LEAST_SPOILT_COARSE, LEAST_SPOILT_IN_PLACE = 0.78, 0.98, 0.975
LEAST_OVERLAP = 0.5
SURE_CORRELATION = 0.95
MOST_SEARCHED = 4000
_KEPT_CORRELATION = 0.5
_IN_PLACE_DEG, _IN_PLACE_SCALE = 0.5, 0.01


def choose_search(wish: CopySearchWish | None, n: int) -> CopyScope | None:
    """What `auto` means for `n` pictures: all copies are looked for where that takes minutes."""
    if wish != "auto":
        return wish
    return "all" if n <= MOST_SEARCHED else "exact"


def find_copies(samples: Sequence[Sample], sketches: SketchStore, cache: Path, threads: int) -> tuple[CopyLink, ...]:
    """Pairs of samples of different pixels that show one picture, in the order of their names."""
    named: dict[str, str] = {}
    for sample in samples:
        named[sample.pixels_sha256] = min(sample.name, named.get(sample.pixels_sha256, sample.name))
    hashes = sorted(named)
    found = [
        link.model_copy(update={"first": named[link.first], "second": named[link.second]})
        for link in search_alike(hashes, sketches, cache, threads)
        if is_copy(link)
    ]
    return tuple(sorted(found, key=lambda link: (link.first, link.second)))


def search_alike(hashes: list[str], sketches: SketchStore, cache: Path, threads: int) -> list[CopyLink]:
    """All pairs of hashes that are alike, copies or not. Raises StorageError where a sketch is missing."""
    kept = cache / "copies" / f"{compute_digest([SEARCH_VERSION, SKETCH_VERSION, *hashes])[:24]}.json"
    known = _load(kept)
    if known is not None:
        return known

    def load(number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return next(sketches.load(hashes[number : number + 1]))

    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # pictures share the processors; several threads a product of small matrices would fight
        matches = CopySearch(load, len(hashes), threads).run() if len(hashes) > 1 else ()
        links = [describe_match(match, hashes) for match in matches if match.correlation >= _KEPT_CORRELATION]
    write_atomic(kept, json.dumps([link.to_dict() for link in links]))
    return links


def _load(kept: Path) -> list[CopyLink] | None:
    if not kept.is_file():
        return None
    try:
        return [CopyLink.model_validate(row) for row in read_json(kept)]
    except (StorageError, ValidationError, TypeError):
        return None


def is_copy(link: CopyLink) -> bool:
    """Whether both show too much alike for two photographs.

    Either all details agree, or fine ones are spoilt and coarse ones agree all but perfectly, as noise and compression
    leave them. Between two photographs of one eye the coarse ones differ too, because light, focus and place do.
    Where less than half of a picture is common, strips of different patients can agree by chance: all must be sure.
    """
    if link.overlap < LEAST_OVERLAP and link.correlation < SURE_CORRELATION:
        return False
    if link.correlation >= LEAST_ALIKE and link.coarse >= LEAST_ALIKE_COARSE:
        return True
    least = LEAST_SPOILT_IN_PLACE if _lies_in_place(link) else LEAST_SPOILT_COARSE
    return link.correlation >= LEAST_SPOILT and link.coarse >= least


def is_sure(link: CopyLink) -> bool:
    """Whether a person need not look at both to know that they are one picture."""
    return link.correlation >= SURE_CORRELATION and link.overlap >= LEAST_OVERLAP


def _lies_in_place(link: CopyLink) -> bool:
    """Neither mirrored, turned nor cropped, as compression and noise leave a picture; others lie so by rare chance."""
    is_turned = link.is_mirrored or abs(link.rotation_deg) > _IN_PLACE_DEG
    return not is_turned and abs(link.scale - 1) <= _IN_PLACE_SCALE


def describe_match(match: Match, names: Sequence[str]) -> CopyLink:
    """The same in a person's terms: the turn and size of the second picture as seen from the first."""
    a, _, _, c, _, _ = match.found.transform.ravel()
    return CopyLink(
        first=names[match.first],
        second=names[match.second],
        correlation=round(match.correlation, 3),
        coarse=round(float(match.found.correlations[-1]), 3),
        is_mirrored=match.is_mirrored,
        rotation_deg=round(math.degrees(math.atan2(c, a)), 1),
        scale=round(float(np.sqrt(np.linalg.det(match.found.transform[:, :2]))), 3),
        overlap=round(min(1.0, match.found.overlap), 3),
        found_by=match.found_by,
    )


def group_copies(samples: Sequence[Sample], links: Sequence[CopyLink]) -> tuple[tuple[str, ...], ...]:
    """Groups of two samples or more, each sorted, in the order of their first sample in `samples`.

    Identical pixels are one picture. Links join pictures, the surest first. What joins two groups that hold several
    pictures each needs a sure link or a second one: a single false pair must not chain two groups.
    """
    of_pixels: dict[str, list[str]] = {}
    for sample in samples:
        of_pixels.setdefault(sample.pixels_sha256, []).append(sample.name)
    pixels_of = {sample.name: sample.pixels_sha256 for sample in samples}
    part_of = _join(pixels_of, links)
    groups: dict[str, list[str]] = {}
    for pixels, names in of_pixels.items():
        groups.setdefault(part_of[pixels], []).extend(names)
    return tuple(tuple(sorted(names)) for names in groups.values() if len(names) > 1)


def _join(pixels_of: Mapping[str, str], links: Sequence[CopyLink]) -> dict[str, str]:
    """Picture → the picture that names its group."""
    part_of = {pixels: pixels for pixels in pixels_of.values()}
    members = {pixels: [pixels] for pixels in part_of}
    doubted: list[tuple[str, str]] = []

    for link in sorted(links, key=lambda link: (-link.correlation, link.first, link.second)):
        pair = (pixels_of[link.first], pixels_of[link.second])
        parts = {part_of[pair[0]], part_of[pair[1]]}
        if len(parts) == 1:
            continue
        is_bridge = min(len(members[part]) for part in parts) > 1
        has_second = any({part_of[one], part_of[other]} == parts for one, other in doubted)
        if is_bridge and link.correlation < SURE_CORRELATION and not has_second:
            doubted.append(pair)
            continue
        kept, gone = min(parts), max(parts)
        for pixels in members.pop(gone):
            part_of[pixels] = kept
            members[kept].append(pixels)
    return part_of
