"""Synthetic PAS-stained glomeruli: tuft, Bowman's space and capsule among tubules, from open to sclerosed.

Knows renal tissue as concentrations of stains; colour follows from Beer and Lambert's law. Lengths are radii
of the capsule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snellen.ingest.phantom_canvas import (
    Field,
    Subject,
    as_field,
    draw_mimicry,
    draw_severity,
    fill_shapes,
    pixel_noise,
    ridges,
    smooth_noise,
    soften,
    step,
    to_bytes,
    turn_and_scale,
    warp,
    wobbly_circle,
)

LABELS = ("non_sclerotic", "sclerotic")

# Partly scarred tufts are common, tufts that are called sclerotic while still open are not.
_EARLY, _PARTIAL = 1.15, 2.0

# Optical density (red, green, blue) of one unit of each stain.
_PAS = (0.34, 1.05, 0.38)  # basement membranes, mesangium, scars: magenta
_CYTOPLASM = (0.26, 0.50, 0.20)  # cells, matrix: lilac
_HAEMATOXYLIN = (1.05, 1.02, 0.55)  # nuclei: blue violet
_BLOOD = (0.24, 0.28, 0.46)  # red cells: olive beige


@dataclass
class _Stains:
    """Concentrations (H, W) of the four stains; painters change them in place."""

    pas: Field
    cytoplasm: Field
    nuclei: Field
    blood: Field

    def lay(self, mask: Field, pas: Field | float, cytoplasm: Field | float) -> None:
        """Replace what lies under `mask` by these concentrations; nuclei and blood are cleared there."""
        self.pas = as_field(self.pas * (1 - mask) + mask * pas)
        self.cytoplasm = as_field(self.cytoplasm * (1 - mask) + mask * cytoplasm)
        self.nuclei = as_field(self.nuclei * (1 - mask))
        self.blood = as_field(self.blood * (1 - mask))


@dataclass(frozen=True)
class _Glomerulus:
    """Where it lies, in pixels, and how far it has scarred: 0 open to 1 obliterated."""

    shape: tuple[int, int]
    centre: tuple[float, float]
    radius_px: float
    scarring: float
    capsule: Field
    tuft: Field

    def fill(self, outline: Field, scale: float = 1.0) -> Field:
        """Return the (H, W) mask of an outline (N, 2) given in radii about the centre."""
        return fill_shapes(
            self.shape,
            [outline * np.float32(scale * self.radius_px) + np.asarray(self.centre, dtype=np.float32)],
        )


def draw_glomeruli(subject: Subject, label: str, size_px: int, difficulty: float) -> NDArray[np.uint8]:
    """Return one crop, (H, W, 3) uint8 RGB; H and W vary between about 0.75 and 1.35 `size_px`."""
    glomerulus = _place(subject, label, size_px, difficulty)
    stains = _paint_interstitium(glomerulus, subject.picture_stream("interstitium"))
    _paint_tubules(stains, glomerulus, subject.picture_stream("tubules"))
    _paint_capsule(stains, glomerulus, subject.picture_stream("capsule"))
    _paint_tuft(stains, glomerulus, subject.picture_stream("tuft"))
    _clear_edge(stains, glomerulus, subject.picture_stream("edge"))
    return _stain_and_scan(stains, glomerulus, subject)


def _place(subject: Subject, label: str, size_px: int, difficulty: float) -> _Glomerulus:
    # Every glomerulus of a patient has scarred in its own measure.
    rng, disease = subject.picture_stream("place"), subject.picture_stream("scarring")
    if label == "sclerotic":
        drawn = 0.25 + 0.75 * draw_severity(disease, difficulty, _EARLY)
    else:
        drawn = draw_mimicry(disease, difficulty, _PARTIAL)
    height = round(size_px * rng.uniform(0.78, 1.28))
    width = round(height * rng.uniform(0.84, 1.18))
    radius = min(height, width) * rng.uniform(0.36, 0.45)
    scarring = float(np.clip(drawn, 0, 1))
    capsule = wobbly_circle(rng, rng.uniform(0.04, 0.13) + 0.04 * scarring, 120) * (
        1.0,
        rng.uniform(0.86, 1.1),
    )
    # Scarring shrinks the tuft; an open one almost fills its capsule.
    share = rng.uniform(0.83, 0.96) - scarring * rng.uniform(0.0, 0.16)
    lobes = wobbly_circle(rng, 0.12, 120, 12)
    offset = rng.normal(0, 0.03, 2)
    return _Glomerulus(
        shape=(height, width),
        centre=(
            width / 2 + float(rng.normal(0, 0.02)) * width,
            height / 2 + float(rng.normal(0, 0.02)) * height,
        ),
        radius_px=radius,
        scarring=scarring,
        capsule=as_field(capsule),
        tuft=as_field(share * (0.6 * capsule + 0.4 * lobes) + offset),
    )


def _noise(glomerulus: _Glomerulus, rng: np.random.Generator, cell: float) -> Field:
    cell_px = cell * glomerulus.radius_px
    return smooth_noise(rng, glomerulus.shape, (cell_px, cell_px))


def _paint_interstitium(glomerulus: _Glomerulus, rng: np.random.Generator) -> _Stains:
    """Return the fibrous ground between the tubules, with gaps where the section has torn."""
    shape, radius = glomerulus.shape, glomerulus.radius_px
    fibres = warp(smooth_noise(rng, shape, (0.03 * radius, 0.12 * radius)), rng, 0.5 * radius, 0.2 * radius)
    fibres = 0.6 * fibres + 0.4 * _noise(glomerulus, rng, 0.035)
    density = 0.55 + 0.15 * fibres + 0.12 * _noise(glomerulus, rng, 0.3)
    torn = step(_noise(glomerulus, rng, 0.2), 1.1, 1.4)
    flat = np.zeros(shape, dtype=np.float32)
    pas = np.clip(0.12 + 0.09 * fibres, 0, 1)
    stains = _Stains(as_field(pas), as_field(np.clip(density, 0.1, 2) * (1 - torn)), flat, flat)
    places = rng.uniform(0, 1, (int(rng.integers(30, 80)), 2)) * (shape[1], shape[0])
    _add_nuclei(stains, places, (0.05 * radius, 0.02 * radius), rng)
    return stains


def _paint_tubules(stains: _Stains, glomerulus: _Glomerulus, rng: np.random.Generator) -> None:
    """Surround the glomerulus with cut tubules: membrane, cells with brush, lumen, round nuclei."""
    shape, radius = glomerulus.shape, glomerulus.radius_px
    membranes, cells, lumens, rings = [], [], [], []
    start, n_tubules = rng.uniform(0, 6.3), int(rng.integers(7, 12))
    for index in range(n_tubules):
        angle = start + 2 * math.pi * (index + rng.uniform(-0.12, 0.12)) / n_tubules
        size = rng.uniform(0.22, 0.36) * radius
        away = radius * rng.uniform(1.14, 1.24) + size
        centre = (
            glomerulus.centre[0] + away * math.cos(angle),
            glomerulus.centre[1] + away * math.sin(angle),
        )
        # As long as its neighbours leave room for, so that no two run into each other.
        axes = (min(size * rng.uniform(0.85, 1.6), 0.8 * math.pi * away / n_tubules), size)
        if rng.random() < 0.2:
            continue
        turn = angle + math.pi / 2 + rng.normal(0, 0.2)
        outline = wobbly_circle(rng, 0.10, 48)
        edge = 0.022 * radius
        membranes.append(turn_and_scale(outline, (axes[0] + edge, axes[1] + edge), turn, centre))
        cells.append(turn_and_scale(outline, (axes[0] - edge, axes[1] - edge), turn, centre))
        opening = (axes[0] * rng.uniform(0.25, 0.5), axes[1] * rng.uniform(0.1, 0.4))
        lumens.append(turn_and_scale(wobbly_circle(rng, 0.3, 40), opening, turn, centre))
        around = rng.uniform(0, 2 * math.pi, int(rng.integers(4, 9)))
        ring = np.stack([np.cos(around), np.sin(around)], axis=1) * rng.uniform(0.6, 0.8, (len(around), 1))
        rings.append(turn_and_scale(as_field(ring), axes, turn, centre))
    if not rings:
        return
    grain = 0.13 * _noise(glomerulus, rng, 0.03)
    stains.lay(soften(fill_shapes(shape, membranes), 0.6), 0.7, 0.4)
    stains.lay(soften(fill_shapes(shape, cells), 0.6), as_field(0.16 + 0.5 * grain), as_field(0.85 + grain))
    stains.lay(soften(fill_shapes(shape, lumens), 0.025 * radius), as_field(0.05 + 0.3 * grain), 0.1)
    _add_nuclei(stains, np.concatenate(rings), (0.046 * radius, 0.04 * radius), rng)


def _paint_capsule(stains: _Stains, glomerulus: _Glomerulus, rng: np.random.Generator) -> None:
    """Lay the capsule's wall, the scar that surrounds it, and the space inside it."""
    scar, radius = glomerulus.scarring, glomerulus.radius_px
    wall = rng.uniform(0.02, 0.06) + 0.04 * scar * rng.random()
    halo = glomerulus.fill(glomerulus.capsule, 1.02 + wall + 0.12 * scar * rng.uniform(0.4, 1.3))
    strands = 0.5 * _noise(glomerulus, rng, 0.05)
    fibrosis = np.clip(0.2 + 0.15 * scar + 0.2 * strands * scar, 0, 1)
    stains.lay(soften(halo, 0.05 * radius), as_field(fibrosis), as_field(0.5 + 0.2 * strands))
    outer = glomerulus.capsule * (1 + wall * (1 + 0.5 * wobbly_circle(rng, 0.5, len(glomerulus.capsule))[:, :1]))
    shade = np.clip(0.78 + 0.2 * _noise(glomerulus, rng, 0.25) + 0.08 * strands, 0.35, 1.2)
    stains.lay(soften(glomerulus.fill(as_field(outer)), 0.5), as_field(shade), 0.35)
    # The space is empty in health; in sclerosis pale collagen takes it up.
    uneven = as_field(scar + 0.12 * _noise(glomerulus, rng, 0.35))
    matrix = step(uneven, 0.3, 0.65)
    fibrous = 0.08 * _noise(glomerulus, rng, 0.05) + 0.05 * _noise(glomerulus, rng, 0.2)
    inside = soften(glomerulus.fill(glomerulus.capsule), 0.6)
    debris = 0.10 * step(_noise(glomerulus, rng, 0.04), 0.8, 1.6)
    pas, cytoplasm = matrix * np.clip(0.28 + fibrous, 0, 1), 0.02 + debris + matrix * (0.55 + fibrous)
    stains.lay(inside, as_field(pas), as_field(cytoplasm))
    angles = rng.uniform(0, 2 * math.pi, int(rng.integers(10, 26)))
    knots = (angles / (2 * math.pi) * len(glomerulus.capsule)).astype(int) % len(glomerulus.capsule)
    at = glomerulus.capsule[knots]
    places = at * np.float32(radius * (1.0 + 0.4 * wall)) + np.asarray(glomerulus.centre, dtype=np.float32)
    along = np.arctan2(at[:, 1], at[:, 0]) + math.pi / 2
    _add_nuclei(stains, as_field(places), (0.046 * radius, 0.018 * radius), rng, along)


def _paint_tuft(stains: _Stains, glomerulus: _Glomerulus, rng: np.random.Generator) -> None:
    """Fill the tuft with capillary loops, or with the folded membranes and matrix that replace them."""
    scar, radius = glomerulus.scarring, glomerulus.radius_px
    loops = warp(_noise(glomerulus, rng, 0.07), rng, 0.25 * radius, 0.09 * radius)
    patchy = as_field(scar + 0.35 * min(scar, 1 - scar) * _noise(glomerulus, rng, 0.5))
    share = step(patchy, 0.15, 0.85)
    mask = soften(glomerulus.fill(glomerulus.tuft), 0.012 * radius)
    lobes = ridges(warp(_noise(glomerulus, rng, 0.42), rng, 0.4 * radius, 0.1 * radius), 0.13 * (1 - scar))
    clefts = step(as_field(lobes * (0.75 + 0.3 * _noise(glomerulus, rng, 0.2))), 0.45, 0.8)
    mask = as_field(mask * (1 - 0.95 * clefts * (1 - share)))
    lumen = step(as_field(loops - 1.5 * patchy), 0.40, 0.72)
    thread = ridges(as_field(loops - 0.36), 0.22)  # the wall of each lumen
    second = ridges(warp(_noise(glomerulus, rng, 0.05), rng, 0.15 * radius, 0.06 * radius), 0.28)
    mesangium = step(as_field(-loops), 0.3, 1.1)
    opened = 0.18 + 0.62 * thread + 0.34 * second * (1 - lumen) + 0.30 * mesangium
    closed = 0.62 + 0.42 * second + 0.16 * thread + 0.14 * _noise(glomerulus, rng, 0.22)
    pas = (1 - share) * opened + share * closed
    body = 0.48 + 0.14 * _noise(glomerulus, rng, 0.035)
    stains.lay(mask, as_field(pas * (1 - 0.96 * lumen)), as_field(body * (1 - 0.9 * lumen)))
    red = step(_noise(glomerulus, rng, 0.25), 0.8, 1.1) * step(_noise(glomerulus, rng, 0.035), -0.1, 0.3)
    stains.blood = as_field(stains.blood + 0.75 * red * lumen * mask)
    places = _scatter_in_tuft(glomerulus, loops, rng)
    _add_nuclei(stains, places, (0.042 * radius, 0.033 * radius), rng)


def _clear_edge(stains: _Stains, glomerulus: _Glomerulus, rng: np.random.Generator) -> None:
    """Leave bare glass on one side of some crops, where the biopsy core ends."""
    bare, angle = rng.random() < 0.3, rng.uniform(0, 2 * math.pi)
    reach = rng.uniform(1.12, 1.5)
    if not bare:
        return
    height, width = glomerulus.shape
    rows = (np.arange(height, dtype=np.float32)[:, None] - glomerulus.centre[1]) / glomerulus.radius_px
    columns = (np.arange(width, dtype=np.float32)[None, :] - glomerulus.centre[0]) / glomerulus.radius_px
    outward = columns * math.cos(angle) + rows * math.sin(angle) + 0.06 * _noise(glomerulus, rng, 0.3)
    glass = step(as_field(outward), reach, reach + 0.03)
    glass = as_field(glass * (np.hypot(rows, columns) > 1.1))
    stains.lay(glass, 0.0, 0.01)


def _scatter_in_tuft(glomerulus: _Glomerulus, loops: Field, rng: np.random.Generator) -> Field:
    """Return places (N, 2) of nuclei on a jittered grid, between the lumens; scarring leaves few."""
    pitch = 0.125
    grid = np.mgrid[-1:1:pitch, -1:1:pitch].reshape(2, -1).T
    grid = grid + rng.uniform(-0.45, 0.45, grid.shape) * pitch
    places = as_field(grid * glomerulus.radius_px + np.asarray(glomerulus.centre))
    columns = np.clip(places[:, 0].astype(int), 0, glomerulus.shape[1] - 1)
    rows = np.clip(places[:, 1].astype(int), 0, glomerulus.shape[0] - 1)
    inside = glomerulus.fill(glomerulus.tuft, 0.95)[rows, columns] > 0.5
    keep = rng.random(len(places)) < 0.72 * (1 - 0.85 * glomerulus.scarring)
    return as_field(places[inside & keep & (loops[rows, columns] < 0.7)])


def _add_nuclei(
    stains: _Stains,
    places: Field | NDArray[np.float64],
    axes_px: tuple[float, float],
    rng: np.random.Generator,
    angles: Field | NDArray[np.float64] | None = None,
) -> None:
    """Add nuclei of half axes `axes_px` at `places` (N, 2), each dark in its own measure."""
    height, width = stains.pas.shape
    n = len(places)
    turn = (rng.uniform(0, math.pi, n) if angles is None else angles)[:, None]
    # All outlines at once, (N, 16): a crop has two hundred nuclei.
    around = np.linspace(0, 2 * math.pi, 16, endpoint=False)
    radius = 1 + 0.1 * np.sin(2 * around + rng.uniform(0, 6.3, (n, 1))) + 0.05 * rng.standard_normal((n, 16))
    x = radius * np.cos(around) * axes_px[0] * rng.uniform(0.75, 1.25, (n, 1))
    y = radius * np.sin(around) * axes_px[1] * rng.uniform(0.75, 1.2, (n, 1))
    columns = places[:, :1] + x * np.cos(turn) - y * np.sin(turn)
    rows = places[:, 1:] + x * np.sin(turn) + y * np.cos(turn)
    darkness = np.where(rng.random(n) < 0.55, rng.uniform(0.72, 1.0, n), rng.uniform(0.42, 0.68, n))
    outlines = list(as_field(np.stack([columns, rows], axis=-1)))
    mask = soften(fill_shapes((height, width), outlines, darkness.tolist()), 0.4)
    cell = 0.4 * axes_px[1]
    chromatin = 0.86 + 0.2 * smooth_noise(rng, (height, width), (cell, cell))
    stains.nuclei = as_field(np.maximum(stains.nuclei, mask * chromatin))
    stains.pas = as_field(stains.pas * (1 - 0.7 * mask))


def _stain_and_scan(stains: _Stains, glomerulus: _Glomerulus, subject: Subject) -> NDArray[np.uint8]:
    """Return the colours that the laboratory's stain and the slide scanner make of the concentrations."""
    patient, view = subject.patient_stream("scanner"), subject.picture_stream("scanner")
    vectors = np.asarray([_PAS, _CYTOPLASM, _HAEMATOXYLIN, _BLOOD]) * np.exp(patient.normal(0, 0.07, (4, 3)))
    vectors *= np.exp(np.clip(patient.normal(0.03, 0.13, (4, 1)), -0.3, 0.25))
    vectors *= math.exp(view.normal(0, 0.05))
    amounts = np.stack([stains.pas, stains.cytoplasm, stains.nuclei, stains.blood], axis=-1)
    amounts *= np.float32(1) + np.float32(0.07) * smooth_noise(view, glomerulus.shape, (2.0, 2.0))[..., None]
    density = np.maximum(amounts, 0) @ vectors.astype(np.float32)
    white = np.asarray([0.955, 0.945, 0.955]) * patient.uniform(0.97, 1.02)
    picture = soften(
        as_field(np.exp(-density) * white.astype(np.float32)),
        view.uniform(0.2, 0.8) * glomerulus.radius_px / 110,
    )
    return to_bytes(as_field(picture + 0.012 * pixel_noise(view, picture.shape, 0.4)))
