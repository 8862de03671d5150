"""What all phantom pictures are drawn with: seeded streams, smooth noise, soft outlines, lesion severity.

Knows numbers and pixels only; what an eye or a glomerulus looks like is known by the modules that draw them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

_PATIENT, _EYE, _PICTURE, _LESION = range(4)
_SHIFT_BITS = 6
_FINE_PX = 220


@dataclass(frozen=True)
class Subject:
    """Which picture of which eye of which patient is drawn.

    Each stream of random numbers has a part, such as "camera" or "choroid", and shares no number with any
    other: the camera cannot correlate with the disease, and a change of one part leaves the others alone.
    """

    patient_seed: int
    eye: str = "left"
    picture: int = 0

    def patient_stream(self, part: str) -> np.random.Generator:
        """Return random numbers that all pictures of the patient share: pigment, camera, stain."""
        return build_stream(self.patient_seed, _PATIENT, _number(part))

    def eye_stream(self, part: str) -> np.random.Generator:
        """Return random numbers that all pictures of one eye share: its anatomy."""
        return build_stream(self.patient_seed, _EYE, _number(part), self._eye_index())

    def lesion_stream(self, part: str) -> np.random.Generator:
        """Return random numbers for the disease of one eye, apart from its anatomy."""
        return build_stream(self.patient_seed, _LESION, _number(part), self._eye_index())

    def picture_stream(self, part: str) -> np.random.Generator:
        """Return random numbers of this picture alone: gaze, focus, illumination, noise."""
        return build_stream(self.patient_seed, _PICTURE, _number(part), self._eye_index(), self.picture)

    def _eye_index(self) -> int:
        return 1 if self.eye == "right" else 0


def _number(part: str) -> int:
    # Not hash(): that differs from run to run.
    return int.from_bytes(part.encode(), "big")


def build_stream(seed: int, *keys: int) -> np.random.Generator:
    """Return the generator that belongs to `seed` and `keys` (all ≥ 0) on every machine."""
    # Keys come shifted by one and the number of keys goes along: SeedSequence pads with zeros, so that
    # [7] and [7, 0] would be one stream.
    words = [seed, len(keys), *(key + 1 for key in keys)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def draw_severity(rng: np.random.Generator, difficulty: float, overlap: float) -> float:
    """Return how far a disease has gone, up to about 1: the harder, the more early cases.

    `overlap` (about 0.5 to 2) says how much the early cases count that make this kind of picture hard.
    """
    earliest = max(0.85 - overlap * difficulty, 0.06)
    return float(rng.uniform(earliest, 1.15 - 0.3 * difficulty))


def draw_mimicry(rng: np.random.Generator, difficulty: float, overlap: float) -> float:
    """Return how far a healthy picture resembles a diseased one: most do so hardly at all.

    `overlap` as for `draw_severity`, here for the look-alikes.
    """
    return float(0.65 * overlap * difficulty * rng.random() ** 2)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell_px: tuple[float, float]) -> Field:
    """Return an (H, W) field of zero mean and unit spread whose blobs measure `cell_px` (down, across)."""
    # Drawn coarse and enlarged: a picture-sized blur would cost ten times as much. Two knots a cell and a
    # little blur hide the lattice that plain bicubic enlargement shows.
    rows, columns = (
        max(4, math.ceil(2 * length / max(cell, 0.5))) for length, cell in zip(shape, cell_px, strict=True)
    )
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    coarse = as_field(cv2.GaussianBlur(coarse, (0, 0), 0.9))
    coarse = (coarse - coarse.mean()) / (coarse.std() + 1e-6)
    return as_field(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC))


def pixel_noise(rng: np.random.Generator, shape: tuple[int, ...], blur_px: float) -> Field:
    """Return white noise of unit spread, `(H, W)` or `(H, W, C)`, made coarser by a blur of `blur_px`."""
    grain = rng.standard_normal(shape, dtype=np.float32)
    if blur_px < 0.2:
        return grain
    grain = as_field(cv2.GaussianBlur(grain, (0, 0), blur_px))
    return np.asarray(grain / (grain.std() + 1e-6), dtype=np.float32)


def warp(field: Field, rng: np.random.Generator, cell_px: float, strength_px: float) -> Field:
    """Return `field` (H, W) bent by a smooth random displacement, so that its grain flows."""
    height, width = field.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    cell = (cell_px, cell_px)
    rows += strength_px * smooth_noise(rng, (height, width), cell)
    columns += strength_px * smooth_noise(rng, (height, width), cell)
    return as_field(cv2.remap(field, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def ridges(field: Field, width: float) -> Field:
    """Return 1 where `field` crosses zero, falling to 0 about `width` away: a net of closed lines."""
    return np.asarray(np.exp(-np.square(field / max(width, 1e-6))), dtype=np.float32)


def step(field: Field, low: float, high: float) -> Field:
    """Return a smooth step of `field`: 0 below `low`, 1 above `high` (`low` > `high` falls instead)."""
    ramp = np.clip((field - low) / (high - low), 0.0, 1.0)
    return np.asarray(ramp * ramp * (3.0 - 2.0 * ramp), dtype=np.float32)


def wobbly_circle(rng: np.random.Generator, roughness: float, n_points: int = 72, waves: int = 7) -> Field:
    """Return an `(n_points, 2)` closed outline about the unit circle; `roughness` is its relative spread."""
    angle = np.linspace(0.0, 2.0 * np.pi, n_points, endpoint=False)
    order = np.arange(2, 2 + waves)
    weight = rng.standard_normal(waves) / order
    ripples = np.sin(np.outer(order, angle) + rng.uniform(0, 6.3, (waves, 1)))
    radius = 1.0 + roughness * (weight[:, None] * ripples).sum(0)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)


def turn_and_scale(outline: Field, axes: tuple[float, float], angle: float, centre: tuple[float, float]) -> Field:
    """Return `outline` (N, 2) with half `axes`, turned by `angle` (radians), moved to `centre` (x, y)."""
    cosine, sine = math.cos(angle), math.sin(angle)
    stretched = outline * np.asarray(axes, dtype=np.float32)
    turned = stretched @ np.asarray([[cosine, sine], [-sine, cosine]], dtype=np.float32)
    return np.asarray(turned + np.asarray(centre, dtype=np.float32), dtype=np.float32)


def fill_shapes(shape: tuple[int, int], outlines: list[Field], levels: list[float] | None = None) -> Field:
    """Return an (H, W) mask of filled outlines (N, 2) in pixels, exact to a fraction of a pixel.

    Each outline is filled with its level, 0 to 1; without levels with 1. Later ones replace earlier ones.
    """
    # cv2 widens a smooth-edged shape by half a pixel: small pictures are filled larger and then shrunk.
    finer = math.ceil(_FINE_PX / max(shape))
    canvas = np.zeros((finer * shape[0], finer * shape[1]), dtype=np.uint8)
    for index, outline in enumerate(outlines):
        # One call a shape: in a shared call cv2 takes overlaps for holes.
        enlarged = (outline + 0.5) * finer - 0.5
        knots = np.round(enlarged * (1 << _SHIFT_BITS)).astype(np.int32)
        level = 255.0 if levels is None else round(255 * levels[index])
        cv2.fillPoly(canvas, [knots], level, lineType=cv2.LINE_AA, shift=_SHIFT_BITS)
    if finer > 1:
        canvas = np.asarray(cv2.resize(canvas, shape[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return canvas * np.float32(1 / 255)


def soften(mask: Field, sigma_px: float) -> Field:
    """Return `mask` blurred by `sigma_px`; a sigma too small to matter returns it as it is."""
    return mask if sigma_px < 0.2 else as_field(cv2.GaussianBlur(mask, (0, 0), sigma_px))


def as_field(array: object) -> Field:
    """Return what cv2 gave, which its stubs type loosely, as float32."""
    return np.asarray(array, dtype=np.float32)


def to_bytes(picture: Field) -> NDArray[np.uint8]:
    """Return a picture of range 0 to 1 as uint8; what lies outside is clipped."""
    return np.asarray(np.clip(picture * 255.0 + 0.5, 0, 255), dtype=np.uint8)
