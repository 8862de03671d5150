"""Synthetic cohorts in the layout of class folders, for the demo, the tests and the documentation's pictures.

Knows patients, labels and file names; the pictures themselves are drawn next door. Nothing in here was
photographed: every file name begins with `synthetic_`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import UsageError
from snellen.ingest import phantom_fundus, phantom_glomeruli, phantom_oct
from snellen.ingest.phantom_canvas import Subject, build_stream

KINDS = ("oct", "fundus", "glomeruli")
SMALLEST_PX = 24

_LABELS = {"oct": phantom_oct.LABELS, "fundus": phantom_fundus.LABELS, "glomeruli": phantom_glomeruli.LABELS}
_DRAW: dict[str, Callable[[Subject, str, int, float], NDArray[np.uint8]]] = {
    "oct": phantom_oct.draw_oct,
    "fundus": phantom_fundus.draw_fundus,
    "glomeruli": phantom_glomeruli.draw_glomeruli,
}
# Shares of patients, unequal as in clinics.
_FREQUENCY = {
    "oct": (0.40, 0.22, 0.20, 0.18),
    "fundus": (0.42, 0.14, 0.22, 0.11, 0.11),
    "glomeruli": (0.66, 0.34),
}
_FEWEST_A_CLASS = 3


@dataclass(frozen=True)
class PhantomSpec:
    """What cohort to write; equal specs give byte-identical files.

    `size_px` is the height of a picture (OCT is 1.5 times as wide, fundus as its camera has it, glomeruli
    vary around it). `classes` keeps a subset of the kind's labels. `difficulty` runs from 0 (florid disease)
    to 1 (early disease, and healthy pictures that resemble it).
    """

    kind: str = "oct"
    n_patients: int = 120
    size_px: int = 256
    seed: int = 0
    classes: tuple[str, ...] | None = None
    difficulty: float = 0.5


def draw_picture(
    kind: str,
    label: str,
    *,
    patient_seed: int,
    picture: int = 0,
    eye: str = "left",
    size_px: int = 256,
    difficulty: float = 0.5,
) -> NDArray[np.uint8]:
    """Return one picture: (H, W) for `oct`, (H, W, 3) RGB otherwise; equal arguments give equal pixels.

    Pictures of one `patient_seed` and `eye` share their anatomy. Raises UsageError for what it cannot draw.
    """
    known = list_labels(kind)
    if label not in known:
        raise UsageError(f"Unknown {kind} label {label!r}.", f"Labels of {kind}: {', '.join(known)}.")
    if eye not in {"left", "right"}:
        raise UsageError(f"Unknown eye {eye!r}.", "Use 'left' or 'right'.")
    _require_drawable(patient_seed, size_px, difficulty)
    if picture < 0:
        raise UsageError(f"Picture number {picture} is negative.", "Count pictures from 0.")
    return _DRAW[kind](Subject(patient_seed, eye, picture), label, size_px, difficulty)


def list_labels(kind: str) -> tuple[str, ...]:
    """Return the labels of a kind, the healthy one first."""
    if kind not in KINDS:
        raise UsageError(f"Unknown kind of phantom {kind!r}.", f"Kinds: {', '.join(KINDS)}.")
    return _LABELS[kind]


def write_cohort(spec: PhantomSpec, folder: Path, *, progress: Callable[[int, int], None] | None = None) -> list[Path]:
    """Write `folder/<label>/synthetic_….png` (fundus: `.jpg`) and return the paths in the order of patients.

    A patient has one label and two eyes with one to three pictures each (glomeruli: one to three crops).
    `progress` is told pictures done and pictures in all. Raises UsageError before anything is written.
    """
    labels = _require_writable(spec)
    planned = [
        picture
        for patient, label in enumerate(_assign_labels(spec, labels), start=1)
        for picture in _plan_patient(spec, patient, label)
    ]
    paths = []
    for label in labels:
        (folder / label).mkdir(parents=True, exist_ok=True)
    for done, (label, subject, name) in enumerate(planned, start=1):
        pixels = _DRAW[spec.kind](subject, label, spec.size_px, spec.difficulty)
        path = folder / label / name
        path.write_bytes(_encode(pixels, path.suffix, subject))
        paths.append(path)
        if progress is not None:
            progress(done, len(planned))
    return paths


def _require_drawable(seed: int, size_px: int, difficulty: float) -> None:
    if seed < 0:
        raise UsageError(f"Seed {seed} is negative.", "Use 0 or a positive whole number.")
    if size_px < SMALLEST_PX:
        raise UsageError(f"Size {size_px} px is too small to draw.", f"Use at least {SMALLEST_PX} px.")
    if not 0 <= difficulty <= 1:
        raise UsageError(f"Difficulty {difficulty} lies outside 0 to 1.", "0 is easy, 1 is hard.")


def _require_writable(spec: PhantomSpec) -> tuple[str, ...]:
    """Return the cohort's labels in the kind's order."""
    known = list_labels(spec.kind)
    _require_drawable(spec.seed, spec.size_px, spec.difficulty)
    wanted = known if spec.classes is None else spec.classes
    unknown = [label for label in wanted if label not in known]
    if unknown:
        raise UsageError(
            f"Unknown {spec.kind} label {', '.join(map(repr, unknown))}.",
            f"Labels of {spec.kind}: {', '.join(known)}.",
        )
    if not wanted:
        raise UsageError("No classes asked for.", f"Name at least one of: {', '.join(known)}.")
    labels = tuple(label for label in known if label in wanted)
    if spec.n_patients < len(labels):
        raise UsageError(
            f"{spec.n_patients} patients are too few for {len(labels)} classes.",
            f"Ask for at least {len(labels)}, better {4 * len(labels)} or more: a patient has one label.",
        )
    return labels


def _assign_labels(spec: PhantomSpec, labels: tuple[str, ...]) -> list[str]:
    """Return one label a patient: a floor for every class, the rest by clinical frequency, then shuffled."""
    known = list_labels(spec.kind)
    weights = np.asarray([_FREQUENCY[spec.kind][known.index(label)] for label in labels])
    weights = weights / weights.sum()
    floor = _FEWEST_A_CLASS if spec.n_patients >= 4 * len(labels) else 1
    counts = np.maximum(np.floor(weights * spec.n_patients).astype(int), floor)
    while counts.sum() > spec.n_patients:
        counts[int(np.argmax(counts))] -= 1
    while counts.sum() < spec.n_patients:
        counts[int(np.argmax(weights * spec.n_patients - counts))] += 1
    assigned = [label for label, count in zip(labels, counts, strict=True) for _ in range(count)]
    order = build_stream(spec.seed, KINDS.index(spec.kind)).permutation(len(assigned))
    return [assigned[position] for position in order]


def _plan_patient(spec: PhantomSpec, patient: int, label: str) -> list[tuple[str, Subject, str]]:
    """Return label, subject and file name of every picture of one patient."""
    rng = build_stream(spec.seed, KINDS.index(spec.kind), patient)
    # Drawn from cohort seed and number, so that patient 2 of seed 1 is not patient 1 of seed 2.
    patient_seed = int(rng.integers(1 << 62))
    if spec.kind == "glomeruli":
        n_slides = int(rng.integers(1, 4))
        crops = []
        for picture in range(int(rng.integers(1, 4))):
            slide = int(rng.integers(1, n_slides + 1))
            name = f"synthetic_P{patient}_PAS_{slide}of{n_slides}_{rng.bytes(12).hex()}.png"
            crops.append((label, Subject(patient_seed, "left", picture), name))
        return crops
    suffix = ".jpg" if spec.kind == "fundus" else ".png"
    return [
        (
            label,
            Subject(patient_seed, eye, picture),
            f"synthetic_{spec.kind}_P{patient:04d}_{eye}_{picture + 1}{suffix}",
        )
        for eye in ("left", "right")
        for picture in range(int(rng.integers(1, 4)))
    ]


def _encode(pixels: NDArray[np.uint8], suffix: str, subject: Subject) -> bytes:
    # Encoded in memory: cv2.imwrite cannot write to paths with non-ASCII letters on Windows.
    options = [cv2.IMWRITE_PNG_COMPRESSION, 4]
    if suffix == ".jpg":
        options = [cv2.IMWRITE_JPEG_QUALITY, phantom_fundus.choose_camera(subject).jpeg_quality]
    ordered = pixels if pixels.ndim == 2 else pixels[..., ::-1]
    _, encoded = cv2.imencode(suffix, np.ascontiguousarray(ordered), options)
    return encoded.tobytes()
