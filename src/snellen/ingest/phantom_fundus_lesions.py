"""Diabetic retinopathy on a synthetic fundus, from a few microaneurysms to new vessels.

Knows which lesions a grade brings, how many, where they lie and what colour they have. Lengths are aperture
radii.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from snellen.ingest.phantom_canvas import (
    Field,
    Subject,
    as_field,
    draw_mimicry,
    draw_severity,
    pixel_noise,
    soften,
    turn_and_scale,
    wobbly_circle,
)
from snellen.ingest.phantom_fundus_vessels import VEIN, Branch, Lay, make_ribbon, trace

# Small lesions are hard by themselves: little overlap between the grades is enough.
_OVERLAP = 0.5

# Share of light that is left under blood; colours that pale lesions and pooled blood turn to.
_BLOOD = np.asarray([0.66, 0.32, 0.38], dtype=np.float32)
_LIPID = np.asarray([1.0, 0.86, 0.42], dtype=np.float32)
_COTTON = np.asarray([0.95, 0.80, 0.55], dtype=np.float32)
_POOL = np.asarray([0.38, 0.07, 0.04], dtype=np.float32)


@dataclass(frozen=True)
class _Lesions:
    """How many of each lesion one eye carries, and how clearly they stand out (0 to 1)."""

    clarity: float
    aneurysms: int = 0
    blots: int = 0
    flames: int = 0
    exudates: int = 0
    cotton: int = 0
    tangles: int = 0
    boats: int = 0


def paint_lesions(picture: Field, lay: Lay, subject: Subject, stage: tuple[int, float]) -> Field:
    """Return the picture (H, W, 3) with the lesions of `stage`: grade 0 to 4 and difficulty 0 to 1."""
    grade, difficulty = stage
    rng = subject.lesion_stream("lesions")
    extent = (draw_severity if grade else draw_mimicry)(rng, difficulty, _OVERLAP)
    lesions = _count_lesions(grade, extent, rng)
    picture = _paint_cotton(picture, lay, lesions, rng)
    picture = _paint_exudates(picture, lay, lesions, rng)
    picture = _paint_blood(picture, lay, lesions, rng)
    picture = _paint_tangles(picture, lay, lesions, rng)
    return _paint_boats(picture, lay, lesions, rng)


def _count_lesions(grade: int, extent: float, rng: np.random.Generator) -> _Lesions:
    """Return lesion numbers that grow with the grade (International Clinical DR scale, Wilkinson 2003)."""

    def about(mean: float) -> int:
        return int(rng.poisson(mean * extent))

    clarity = float(np.clip(0.6 + 0.45 * extent, 0, 1))
    if grade == 0:
        return _Lesions(clarity, aneurysms=about(4), exudates=int(rng.random() < 0.3 * extent))
    if grade == 1:
        return _Lesions(clarity, aneurysms=4 + about(9))
    if grade == 2:
        return _Lesions(clarity, about(20), 2 + about(8), about(1), 2 + about(4), about(0.6))
    if grade == 3:
        return _Lesions(clarity, about(50), 18 + about(28), 3 + about(9), about(4), 2 + about(4))
    tangles, boats = 2 + about(3), int(rng.random() < 0.85 * extent)
    return _Lesions(clarity, about(20), 3 + about(10), about(3), about(3), about(2), tangles, boats)


def _choose_place(rng: np.random.Generator, lay: Lay, near: float, far: float) -> tuple[float, float]:
    """Return a place between `near` and `far` from the fovea, off the disc."""
    while True:
        away, angle = rng.uniform(near, far), rng.uniform(0, 2 * math.pi)
        x, y = lay.fovea[0] + away * math.cos(angle), lay.fovea[1] + 0.85 * away * math.sin(angle)
        if math.hypot(x - lay.disc[0], y - lay.disc[1]) > 1.3 * lay.disc_radius:
            return x, y


def _draw_blob(rng: np.random.Generator, radius: float, place: tuple[float, float], roughness: float) -> Field:
    axes = (radius * rng.uniform(0.75, 1.5), radius)
    n_points = 12 if roughness < 0.1 else 28
    return turn_and_scale(wobbly_circle(rng, roughness, n_points), axes, rng.uniform(0, 3.1), place)


def _paint_cotton(picture: Field, lay: Lay, lesions: _Lesions, rng: np.random.Generator) -> Field:
    if not lesions.cotton:
        return picture
    spots = []
    for _ in range(lesions.cotton):
        place, radius = _choose_place(rng, lay, 0.35, 0.8), rng.uniform(0.014, 0.03)
        for _ in range(3):
            beside = rng.normal(0, 0.8 * radius, 2)
            shifted = (place[0] + float(beside[0]), place[1] + float(beside[1]))
            spots.append(_draw_blob(rng, radius, shifted, 0.3))
    wool = soften(lay.fill(spots), 0.014 * lay.radius_px) * np.float32(0.55 * lesions.clarity)
    return as_field(picture + (_COTTON - picture) * wool[..., None])


def _paint_exudates(picture: Field, lay: Lay, lesions: _Lesions, rng: np.random.Generator) -> Field:
    """Return the picture with groups of yellow dots, some as a ring about the leak that feeds them."""
    if not lesions.exudates:
        return picture
    dots, levels = [], []
    for _ in range(lesions.exudates):
        centre = _choose_place(rng, lay, 0.12, 0.6)
        is_ring = rng.random() < 0.35
        spread = rng.uniform(0.07, 0.15) if is_ring else rng.uniform(0.04, 0.14)
        first, arc = rng.uniform(0, 6.3), rng.uniform(2.5, 6.3)
        for _ in range(int(rng.integers(6, 36))):
            angle = first + arc * rng.random()
            away = spread * (rng.normal(1, 0.15) if is_ring else abs(rng.normal(0, 0.7)))
            place = (centre[0] + away * math.cos(angle), centre[1] + 0.8 * away * math.sin(angle))
            dots.append(_draw_blob(rng, rng.lognormal(math.log(0.0052), 0.55), place, 0.28))
            levels.append(rng.uniform(0.45, 1.0))
    lipid = soften(lay.fill(dots, levels), 0.0025 * lay.radius_px) * np.float32(0.9 * lesions.clarity)
    return as_field(picture + (_LIPID - picture) * lipid[..., None])


def _paint_blood(picture: Field, lay: Lay, lesions: _Lesions, rng: np.random.Generator) -> Field:
    """Return the picture with microaneurysms, blots in deep layers and flames along the nerve fibres."""
    spots, levels = [], []
    smallest = 0.75 / lay.radius_px
    for _ in range(lesions.aneurysms):
        radius = max(smallest, rng.uniform(0.006, 0.0105))
        spots.append(_draw_blob(rng, radius, _choose_place(rng, lay, 0.08, 0.8), 0.05))
        levels.append(rng.uniform(0.6, 1.0))
    for _ in range(lesions.blots):
        radius = max(1.2 * smallest, rng.lognormal(math.log(0.0135), 0.5))
        spots.append(_draw_blob(rng, radius, _choose_place(rng, lay, 0.12, 0.92), 0.28))
        levels.append(rng.uniform(0.55, 1.0))
    for _ in range(lesions.flames):
        place = _choose_place(rng, lay, 0.3, 0.9)
        angle = math.atan2(place[1] - lay.disc[1], place[0] - lay.disc[0]) + rng.normal(0, 0.25)
        length = rng.uniform(0.025, 0.06)
        for _ in range(5):
            beside = rng.normal(0, 0.22 * length, 2)
            axes = (length * rng.uniform(0.5, 1.1), 0.12 * length)
            shifted = (place[0] + float(beside[0]), place[1] + float(beside[1]))
            spots.append(turn_and_scale(wobbly_circle(rng, 0.2, 24), axes, angle, shifted))
            levels.append(rng.uniform(0.5, 0.9))
    mask = soften(lay.fill(spots, levels), 0.0035 * lay.radius_px) * np.float32(lesions.clarity)
    return as_field(picture * (1 - mask[..., None] * (1 - _BLOOD)))


def _paint_tangles(picture: Field, lay: Lay, lesions: _Lesions, rng: np.random.Generator) -> Field:
    """Return the picture with fans of fine new vessels, on the disc or along the arcades."""
    ribbons = []
    for index in range(lesions.tangles):
        on_disc = index == 0 and rng.random() < 0.5
        origin = lay.disc if on_disc else _choose_place(rng, lay, 0.45, 0.8)
        for _ in range(int(rng.integers(9, 20))):
            beside = rng.normal(0, 0.015, 2)
            start = (origin[0] + float(beside[0]), origin[1] + float(beside[1]))
            length, bend = rng.uniform(0.08, 0.22), rng.normal(0, 2.0)
            branch = Branch(start, rng.uniform(0, 6.3), 0.006, length, bend, rng.normal(0, 7.0))
            path = trace(branch, rng, 2.5)
            ribbons.append(make_ribbon(path, np.full(len(path), 0.0055, dtype=np.float32)))
    if not ribbons:
        return picture
    mask = soften(lay.fill(ribbons), 0.0025 * lay.radius_px) * np.float32(0.62 * lesions.clarity)
    return as_field(picture * (1 - mask[..., None] * (1 - VEIN)))


def _paint_boats(picture: Field, lay: Lay, lesions: _Lesions, rng: np.random.Generator) -> Field:
    """Return the picture with blood in front of the retina: it settles under a level upper border."""
    if not lesions.boats:
        return picture
    outline = wobbly_circle(rng, 0.10, 64)
    outline[:, 1] = np.where(outline[:, 1] < 0, 0.15 * outline[:, 1], outline[:, 1])
    axes = (rng.uniform(0.09, 0.24), rng.uniform(0.07, 0.18))
    boat = turn_and_scale(outline, axes, rng.normal(0, 0.12), _choose_place(rng, lay, 0.35, 0.7))
    pool = soften(lay.fill([boat]), 0.010 * lay.radius_px) * np.float32(0.9 * lesions.clarity)
    # Thinner towards the rim, where the ground shines through.
    depth = 0.7 + 0.3 * soften(pool, 0.05 * lay.radius_px) + 0.04 * pixel_noise(rng, lay.shape, 0.03 * lay.radius_px)
    return as_field(picture + (_POOL - picture) * (pool * depth)[..., None])
