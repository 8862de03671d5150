"""Small synthetic pictures, tables and cohorts for tests. Nothing here comes from real data."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from snellen.core.storage import compute_digest
from snellen.records.cohort import Audit, Cohort, PatientRule, Sample
from snellen.records.plan import AugmentPlan, PreprocessPlan

Pixels = NDArray[np.uint8]


def draw_noise(seed: int, height: int = 24, width: int = 24, channels: int = 3) -> Pixels:
    """Random pixels, `(H, W)` for one channel, else `(H, W, C)`: no two seeds look alike."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def draw_smooth(seed: int, height: int, width: int) -> Pixels:
    """Soft RGB blobs, which JPEG and scaling hardly change."""
    coarse = np.random.default_rng(seed).integers(40, 216, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def encode(pixels: Pixels, form: str = "PNG", *, mode: str | None = None, **options: Any) -> bytes:
    """`pixels` as a file's bytes; `mode` converts with Pillow before."""
    image = Image.fromarray(pixels)
    stream = io.BytesIO()
    (image.convert(mode) if mode else image).save(stream, form, **options)
    return stream.getvalue()


def write_picture(path: Path, seed: int = 0, **shape: int) -> Path:
    """A picture of noise, of the format that the name's suffix tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw_noise(seed, **shape)).save(path)
    return path


def write_pictures(folder: Path, names: Iterable[str], *, first_seed: int = 0) -> Path:
    """A different picture for every name."""
    for seed, name in enumerate(names, first_seed):
        write_picture(folder / name, seed)
    return folder


def write_table(
    folder: Path,
    text: str,
    pictures: Iterable[str] = ("a.png", "b.png", "c.png", "d.png"),
    *,
    name: str = "labels.csv",
    encoding: str = "utf-8",
) -> Path:
    """A table with this `text` beside `pictures`."""
    write_pictures(folder, pictures)
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def write_npz(path: Path, **arrays: NDArray[Any]) -> Path:
    """A MedMNIST file: six grey pictures of two classes in each part, but for the `arrays` given."""
    content: dict[str, NDArray[Any]] = {}
    for seed, part in enumerate(("train", "val", "test")):
        content[f"{part}_images"] = np.random.default_rng(seed).integers(0, 256, (6, 8, 8), dtype=np.uint8)
        content[f"{part}_labels"] = np.array([[0], [1], [0], [1], [0], [1]], np.uint8)
    np.savez_compressed(path, **{**content, **arrays})
    return path


def make_sample(name: str, label: str, patient: str | None = None, **facts: Any) -> Sample:
    """A sample whose pixels nobody shares, unless `pixels_sha256` is given."""
    defaults: dict[str, Any] = {
        "location": name,
        "width_px": 24,
        "height_px": 24,
        "channels": 3,
        "format": "PNG",
        "pixels_sha256": compute_digest([name]),
    }
    return Sample(name=name, label=label, patient=patient or name, **{**defaults, **facts})


def make_cohort(samples: Sequence[Sample], classes: Sequence[str] | None = None, **facts: Any) -> Cohort:
    """A cohort of `samples`, whose audit found nothing."""
    names = tuple(classes or sorted({sample.label for sample in samples}))
    rule = PatientRule(rule="patient column", origin="column", n=len({sample.patient for sample in samples}))
    counts = {name: sum(sample.label == name for sample in samples) for name in names}
    audit = Audit(n_samples=len(samples), n_read=len(samples), n_set_aside=0, classes=counts, patients=rule)
    given: dict[str, Any] = {"root": "/data/eyes", "layout": "class folders", "class_origin": "folder names", **facts}
    return Cohort(classes=names, samples=tuple(samples), patients=rule, audit=audit, **given)


def make_preprocess(**changes: Any) -> PreprocessPlan:
    """A plain plan of preprocessing: 32 px RGB, stretched."""
    plain: Mapping[str, Any] = {
        "size": 32, "fit": "stretch", "crop_border": False, "clahe": 0.0, "channels": 3, "normalize": "weights",
    }  # fmt: skip
    return PreprocessPlan(**{**plain, **changes})


def make_augment(**changes: Any) -> AugmentPlan:
    """A plan of views that changes nothing, but for `changes`."""
    still: Mapping[str, Any] = {
        "views": 1, "flip_horizontal": False, "flip_vertical": False, "rotation_deg": 0.0, "scale": 0.0,
        "translation": 0.0, "brightness": 0.0, "contrast": 0.0,
    }  # fmt: skip
    return AugmentPlan(**{**still, **changes})
