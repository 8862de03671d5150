"""Writes a prepared cohort as one HDF5 file: preprocessed pictures with everything that training asks of them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import StorageError
from snellen.core.progress import follow
from snellen.core.storage import explain_os_error, require_space
from snellen.imaging.augment import draw_view
from snellen.imaging.packed_pixels import IMAGES
from snellen.ingest.packed import (
    DIGEST_KEY,
    NUMBERS,
    OWN_FACTS,
    RECORDS,
    SCHEMA,
    SCHEMA_KEY,
    TEXTS,
    VIEWS,
    compute_facts_sha256,
)
from snellen.records.cohort import Cohort, Sample, Split
from snellen.records.plan import Fingerprint, Plan

# smallest of those that every HDF5 library reads (docs/decisions/0007-packed-files.md); the checksum finds damage
_PICTURES = {"compression": "gzip", "compression_opts": 1, "fletcher32": True}
PixelsOf = Callable[[Sample], NDArray[np.uint8]]


@dataclass(frozen=True)
class Packing:
    """What is written. `pixels_of` gives a sample's preprocessed uint8 `(size, size, channels)`."""

    cohort: Cohort
    splits: Sequence[Split]
    fingerprint: Fingerprint
    plan: Plan
    pixels_of: PixelsOf


def write_packed(packing: Packing, path: Path, *, n_views: int = 0) -> int:
    """Write `path` at once or not at all; return its size in bytes. A file that is there is replaced.

    `n_views` augmented views of each training picture go into the group `views`; no other part is augmented.
    Raises StorageError before writing where the disk has no room for the uncompressed whole.
    """
    require_space(
        path.parent, estimate_bytes(packing, n_views), f"The packed file {path.name}", hint="Choose another --out."
    )
    with _replaced(path) as temporary:
        import h5py

        with h5py.File(temporary, "w") as file:
            _write_records(file, packing)
            _write_samples(file, packing)
            file.attrs[DIGEST_KEY] = compute_facts_sha256(file)
            if n_views:
                _write_views(file, packing, n_views)
    return path.stat().st_size


def estimate_bytes(packing: Packing, n_views: int) -> int:
    """Upper bound: the pictures without compression."""
    plan = packing.plan.preprocess
    n_train = sum(row.split == "train" for row in packing.splits)
    return (len(packing.cohort.samples) + n_views * n_train) * plan.size**2 * plan.channels


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed at the end. What a killed process left there is overwritten."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        # a full disk shows while writing (OSError) or only while closing (RuntimeError)
        if isinstance(error, OSError) and error.errno:
            raise explain_os_error(error, path) from error
        raise StorageError(f"{path} cannot be written: {error}", "Is the disk full? Choose another --out.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_records(file: Any, packing: Packing) -> None:
    cohort = packing.cohort
    file.attrs[SCHEMA_KEY] = SCHEMA
    file.attrs["classes"] = json.dumps(cohort.classes, ensure_ascii=False)
    file.attrs["preprocess"] = packing.plan.preprocess.model_dump_json()
    facts = {
        "layout": cohort.layout,
        "class_origin": cohort.class_origin,
        "is_ordered": cohort.is_ordered,
        "has_settled_order": cohort.has_settled_order,
        "patients": cohort.patients.to_dict(),
    }
    file.attrs["cohort"] = json.dumps(facts, ensure_ascii=False)
    records = file.create_group(RECORDS)
    # as datasets: an attribute holds 64 kB, and an audit names samples
    records["audit"] = cohort.audit.to_json().encode("utf-8", "backslashreplace").decode()
    records["fingerprint"] = packing.fingerprint.to_json()


def _write_samples(file: Any, packing: Packing) -> None:
    import h5py

    samples = packing.cohort.samples
    part_of = {row.sample: row.split for row in packing.splits}
    labels = {name: number for number, name in enumerate(packing.cohort.classes)}
    columns: dict[str, Sequence[str] | Sequence[int]] = {
        "names": [item.name for item in samples],
        "patients": [item.patient for item in samples],
        "splits": [part_of[item.name] for item in samples],
        "pixels_sha256": [item.pixels_sha256 for item in samples],
        "formats": [item.format for item in samples],
        "labels": [labels[item.label] for item in samples],
        "width_px": [item.width_px for item in samples],
        "height_px": [item.height_px for item in samples],
        "channels": [item.channels for item in samples],
        "n_bytes": [item.n_bytes for item in samples],
    }
    for key in TEXTS:
        file.create_dataset(key, data=columns[key], dtype=h5py.string_dtype("utf-8"))
    more = [json.dumps(item.model_dump(mode="json", exclude=set(OWN_FACTS))) for item in samples]
    if any(text != "{}" for text in more):
        file[RECORDS].create_dataset("more", data=more, dtype=h5py.string_dtype("utf-8"))
    for key in NUMBERS:
        file.create_dataset(key, data=np.array(columns[key], np.int64))
    images = _create_pictures(file, IMAGES, len(samples), packing)
    for row, sample in enumerate(follow(samples, "Packing", len(samples))):
        images[row] = packing.pixels_of(sample)


def _write_views(file: Any, packing: Packing, n_views: int) -> None:
    """View `view` of the sample in row `source`. Of training samples only: nothing else may be learned from."""
    plan = packing.plan
    train = {row.sample for row in packing.splits if row.split == "train"}
    rows = [row for row, sample in enumerate(packing.cohort.samples) if sample.name in train]
    group = file.create_group(VIEWS)
    numbered = [(row, view) for row in rows for view in range(1, n_views + 1)]
    group.create_dataset("source", data=np.array([row for row, _ in numbered], np.int64))
    group.create_dataset("view", data=np.array([view for _, view in numbered], np.int64))
    images = _create_pictures(group, IMAGES, len(numbered), packing)
    for position, (row, view) in enumerate(follow(numbered, "Drawing views", len(numbered), "views")):
        sample = packing.cohort.samples[row]
        pixels = packing.pixels_of(sample)
        images[position] = draw_view(pixels, plan.augment, seed=plan.training.seed, view=view, key=sample.pixels_sha256)


def _create_pictures(group: Any, key: str, n: int, packing: Packing) -> Any:
    plan = packing.plan.preprocess
    shape = (plan.size, plan.size, plan.channels)
    return group.create_dataset(key, (n, *shape), np.uint8, chunks=(1, *shape), **_PICTURES)
