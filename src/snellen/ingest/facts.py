"""Facts of every picture, read once: sizes, depth, a hash of what is seen. They are kept by file, size and date."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from snellen.core.errors import DataError, PictureError, StorageError
from snellen.core.progress import follow
from snellen.core.storage import compute_digest, read_json, write_atomic
from snellen.imaging.picture import is_blank
from snellen.imaging.readers import Picture, compute_pixels_sha256, is_grey, read_location
from snellen.imaging.sketch import SketchStore, encode_sketch, make_sketch
from snellen.ingest.patients import RawSample

FACTS_VERSION = "facts-4"
# at this side a JPEG of 12 megapixels is still read at half scale: eight times faster, and no two pictures look equal
_SCAN_SIDE_PX = 1024
_PIECE = 512


@dataclass(frozen=True)
class Facts:
    """What reading one picture told; `error` is set where it could not be read."""

    width_px: int = 0
    height_px: int = 0
    channels: int = 0
    format: str = ""
    n_bytes: int = 0
    pixels_sha256: str = ""
    error: str = ""
    bits: int = 8
    notes: tuple[str, ...] = ()


def read_facts(
    root: Path, samples: Sequence[RawSample], threads: int, cache: Path, sketches: SketchStore | None = None
) -> list[Facts]:
    """Facts of every picture; those of unchanged files come from the last time.

    With `sketches`, that store holds a sketch of every picture that can be read afterwards.
    """
    store = cache / "facts" / f"{compute_digest([FACTS_VERSION, str(root)])[:24]}.json"
    known = _load_facts(store)
    stamps = [_stamp(root, sample.location) for sample in samples]
    missing = [
        index
        for index, (sample, stamp) in enumerate(zip(samples, stamps, strict=True))
        if stamp is None or known.get(sample.location, [None])[0] != stamp
    ]
    fresh: dict[int, Facts] = {}
    with ThreadPoolExecutor(threads) as pool:
        read = _read_in_pieces(pool, root, samples, missing, sketches)
        for index, fact in follow(read, "Reading pictures", len(missing)):
            fresh[index] = fact
    facts = []
    for index, (sample, stamp) in enumerate(zip(samples, stamps, strict=True)):
        fact = fresh.get(index) or _restore(known[sample.location][1])
        if not fact.error:  # what could not be read is tried again: a copy may keep size and date
            known[sample.location] = [stamp, list(fact.__dict__.values())]
        facts.append(fact)
    if fresh:
        _save_facts(store, known)
    if sketches is not None:
        _sketch_others(root, samples, facts, threads, sketches)
    return facts


def _sketch_others(
    root: Path, samples: Sequence[RawSample], facts: Sequence[Facts], threads: int, sketches: SketchStore
) -> None:
    """Pictures whose facts were known already, but whose sketches were never made, or cleared."""
    place = {fact.pixels_sha256: at for at, fact in enumerate(facts) if not fact.error}
    missing = sorted(place[name] for name in sketches.find_missing(place))
    if not missing:
        return
    with ThreadPoolExecutor(threads) as pool:
        read = _read_in_pieces(pool, root, samples, missing, sketches)
        for index, fact in follow(read, "Reading pictures", len(missing)):
            if fact.pixels_sha256 != facts[index].pixels_sha256:
                raise DataError(
                    f"{samples[index].name} changed while it was read", "Repeat the step once nobody writes the data."
                )


def _read_in_pieces(
    pool: ThreadPoolExecutor,
    root: Path,
    samples: Sequence[RawSample],
    missing: Sequence[int],
    sketches: SketchStore | None,
) -> Iterator[tuple[int, Facts]]:
    for start in range(0, len(missing), _PIECE):
        piece = missing[start : start + _PIECE]
        read = pool.map(lambda index: _read_one(root, samples[index].location, sketches is not None), piece)
        encoded: dict[str, bytes] = {}
        for index, (fact, sketch) in zip(piece, read, strict=True):
            if sketch:
                encoded[fact.pixels_sha256] = sketch
            yield index, fact
        if sketches is not None:
            sketches.add(encoded)


def _read_one(root: Path, location: str, is_sketched: bool) -> tuple[Facts, bytes]:
    """The facts of a picture, and its encoded sketch where one is wanted and the picture can be read."""
    try:
        picture = read_location(root, location, min_side_px=_SCAN_SIDE_PX)
    except PictureError as error:
        return Facts(error=error.message), b""
    fact = _tell_facts(root, location, picture)
    return fact, encode_sketch(make_sketch(picture.pixels)) if is_sketched else b""


def _tell_facts(root: Path, location: str, picture: Picture) -> Facts:
    return Facts(
        width_px=picture.width_px,
        height_px=picture.height_px,
        channels=1 if is_grey(picture.pixels) else 3,
        format=picture.format,
        n_bytes=picture.n_bytes,
        pixels_sha256=_compute_hash(root, location, picture),
        bits=picture.bits,
        notes=(*picture.notes, "blank") if is_blank(picture.pixels) else picture.notes,
    )


def _compute_hash(root: Path, location: str, picture: Picture) -> str:
    """Of what is seen; with transparent parts of what is seen on white and on black, since a plan may choose either."""
    seen = compute_pixels_sha256(picture.pixels)
    if "transparent" not in picture.notes:
        return seen
    on_black = read_location(root, location, background="black", min_side_px=_SCAN_SIDE_PX)
    return compute_digest([seen, compute_pixels_sha256(on_black.pixels)])


def _restore(stored: list[Any]) -> Facts:
    """Facts as JSON gives them back."""
    facts = Facts(*stored)
    return replace(facts, notes=tuple(facts.notes))


def _stamp(root: Path, location: str) -> list[int] | None:
    try:
        found = (root / location.partition("::")[0]).stat()
    except OSError:
        return None
    # two files of one size and date that trade names have other inodes or change times
    return [found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns]


def _load_facts(store: Path) -> dict[str, list]:  # type: ignore[type-arg]  # location → [stamp, facts], as JSON gives it
    if not store.is_file():
        return {}
    try:
        loaded = read_json(store)
    except StorageError:
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _save_facts(store: Path, known: dict[str, list]) -> None:  # type: ignore[type-arg]  # as above
    write_atomic(store, json.dumps(known))
