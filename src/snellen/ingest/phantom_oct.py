"""Synthetic OCT B-scans: a layered macula with its pit, choroid, speckle and three diseases.

Knows how thick and how bright each retinal layer is. Lengths are µm in depth and mm across, y runs down.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
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
    smooth_noise,
    soften,
    step,
    to_bytes,
    turn_and_scale,
    wobbly_circle,
)

LABELS = ("normal", "drusen", "cysts", "neovascular")
ASPECT = 1.5
_WIDTH_MM = 6.0
_VITREOUS = 0.035
_OVERLAP = 1.35

# From the vitreous down: thickness (µm) outside and inside the pit, brightness on a log-scaled display
# (0 to 1). The rows without thickness open only in disease.
_LAYERS: dict[str, tuple[float, float, float]] = {
    "nerve_fibre": (26, 3, 0.62),
    "ganglion": (40, 1, 0.41),
    "inner_plexiform": (36, 1, 0.47),
    "inner_nuclear": (34, 3, 0.29),
    "outer_plexiform": (26, 12, 0.45),
    "outer_nuclear": (72, 100, 0.21),
    "limiting_membrane": (7, 7, 0.37),
    "myoid": (17, 22, 0.24),
    "ellipsoid": (17, 18, 0.82),
    "outer_segments": (20, 27, 0.42),
    "fluid": (0, 0, 0.05),
    "scar": (0, 0, 0.66),
    "pigment_epithelium": (21, 21, 0.93),
    "sub_epithelial": (0, 0, 0.40),
    "bruch": (6, 6, 0.62),
}
_ROW = {name: row for row, name in enumerate(_LAYERS)}


@dataclass(frozen=True)
class _Scan:
    """Where the retina lies: `across_mm` (W,) is measured from the pit, `bruch_px` (W,) from the top."""

    shape: tuple[int, int]
    px_per_um: float
    across_mm: Field
    bruch_px: Field
    pit_depth: float


# Across in mm, depth within the middle layers 0 to 1, half width in mm, half height in µm.
_Cyst = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Disease:
    """What lifts or fills the layers, each (W,) in µm; `n_foci` are bright dots."""

    drusen: Field
    scar: Field
    fluid: Field
    swelling: Field
    cysts: tuple[_Cyst, ...] = ()
    n_foci: int = 0


def draw_oct(subject: Subject, label: str, size_px: int, difficulty: float) -> NDArray[np.uint8]:
    """Return one B-scan, (H, W) uint8 with H = `size_px` and W = 1.5 H."""
    scan = _place_retina(subject, size_px)
    disease = _draw_disease(subject, label, difficulty, scan.across_mm)
    thickness = _compute_thickness(subject, scan, disease)
    borders = scan.bruch_px - np.cumsum((thickness * scan.px_per_um)[::-1], axis=0)[::-1]
    picture = _paint_layers(borders, scan, disease)
    picture = _paint_cysts(picture, borders, scan, disease.cysts, subject.lesion_stream("cysts"))
    picture = _paint_foci(picture, borders, scan, disease.n_foci, subject.lesion_stream("foci"))
    picture = _paint_choroid(picture, scan, subject)
    picture = _cast_shadows(picture, borders, scan, subject)
    picture = _paint_vitreous(picture, borders[0], subject)
    return _record(picture, subject)


def _place_retina(subject: Subject, size_px: int) -> _Scan:
    patient, eye, view = (
        subject.patient_stream("place"),
        subject.eye_stream("place"),
        subject.picture_stream("place"),
    )
    height, width = size_px, round(ASPECT * size_px)
    depth_um = patient.uniform(1000, 1500)
    position = np.linspace(-0.5, 0.5, width, dtype=np.float32)
    pit_at = eye.normal(0, 0.05) + view.normal(0, 0.03)
    bend = patient.normal(0.18, 0.14) * position**2
    tilt = (eye.normal(0, 0.10) + view.normal(0, 0.04)) * position
    wobble = 0.006 * smooth_noise(eye, (4, width), (4, width / 3))[0]
    level = eye.uniform(0.56, 0.70) + view.normal(0, 0.025)
    # A scan beside the fovea shows a shallow pit or none; it is as common in health as in disease.
    depth = eye.uniform(0.8, 1.0) if view.random() < 0.8 else view.uniform(0.0, 0.6)
    return _Scan(
        shape=(height, width),
        px_per_um=height / depth_um,
        across_mm=(position - np.float32(pit_at)) * np.float32(_WIDTH_MM),
        bruch_px=as_field(height * (level - bend + tilt + wobble)),
        pit_depth=float(depth),
    )


def _draw_disease(subject: Subject, label: str, difficulty: float, across: Field) -> _Disease:
    rng = subject.lesion_stream("disease")
    flat = np.zeros_like(across)
    none = _Disease(drusen=flat, scar=flat, fluid=flat, swelling=flat, n_foci=int(rng.integers(0, 4)))
    if label == "normal":
        # Ageing eyes resemble early disease, mostly by small drusen.
        extent = draw_mimicry(rng, difficulty, _OVERLAP)
        label = str(rng.choice(LABELS[1:], p=(0.6, 0.25, 0.15)))
    else:
        extent = draw_severity(rng, difficulty, _OVERLAP)
    if label == "drusen":
        return _draw_drusen(rng, across, extent, none)
    if label == "cysts":
        return _draw_oedema(rng, across, extent, none)
    return _draw_neovascular(rng, across, extent, none)


def _draw_drusen(rng: np.random.Generator, across: Field, extent: float, none: _Disease) -> _Disease:
    count = 1 + round(10 * extent * rng.uniform(0.5, 1.2))
    return replace(none, drusen=_domes(rng, across, count, (10 + 78 * extent, 0.17)))


def _draw_oedema(rng: np.random.Generator, across: Field, extent: float, none: _Disease) -> _Disease:
    centre = rng.normal(0, 0.6)
    swelling = 150 * extent * np.exp(-np.square((across - centre) / rng.uniform(0.7, 1.4)))
    has_fluid = rng.random() < 0.25
    return replace(
        none,
        swelling=as_field(swelling),
        fluid=_domes(rng, across, 1, (60 * extent, 0.7)) if has_fluid else none.fluid,
        cysts=_draw_cysts(rng, centre, extent),
        n_foci=none.n_foci + int(rng.poisson(6 * extent)),
    )


def _draw_neovascular(rng: np.random.Generator, across: Field, extent: float, none: _Disease) -> _Disease:
    centre = rng.normal(0, 0.6)
    lift = _domes(rng, across - centre, int(rng.integers(1, 4)), (130 * extent, 0.55), spread=0.5)
    rough = 1 + 0.22 * smooth_noise(rng, (4, len(across)), (4, len(across) / 28))[0]
    scar = _domes(rng, across - centre, int(rng.integers(1, 3)), (85 * extent, 0.4), spread=0.4)
    fluid = np.maximum(_domes(rng, across - centre, 1, (110 * extent, 1.0), spread=0.3) - 0.6 * scar, 0)
    cysts = _draw_cysts(rng, centre, 0.5 * extent) if rng.random() < 0.4 else ()
    return replace(
        none,
        drusen=as_field(lift * rough),
        scar=as_field(scar * rough),
        fluid=as_field(fluid) if rng.random() < 0.75 else none.fluid,
        swelling=as_field(45 * extent * np.exp(-np.square((across - centre) / 1.2))),
        cysts=cysts,
        n_foci=none.n_foci + int(rng.poisson(4 * extent)),
    )


def _domes(
    rng: np.random.Generator, across: Field, count: int, size: tuple[float, float], spread: float = 1.3
) -> Field:
    """Return the height (µm) of `count` domes of about `size` (µm high, mm half wide), (W,)."""
    height = np.zeros_like(across)
    for _ in range(count):
        half_width = size[1] * rng.uniform(0.5, 1.5)
        tall = size[0] * rng.uniform(0.45, 1.1)
        offset = np.abs((across - rng.normal(0, spread)) / half_width)
        height = np.maximum(height, tall * np.exp(-(offset ** rng.uniform(2.0, 4.0))))
    return as_field(height)


def _draw_cysts(rng: np.random.Generator, centre_mm: float, extent: float) -> tuple[_Cyst, ...]:
    count = round(18 * extent * rng.uniform(0.5, 1.2))
    cysts = []
    for _ in range(count):
        away = rng.normal(0, 0.6)
        size = (10 + 88 * extent * rng.beta(1.2, 2.2)) * np.exp(-((away / 1.5) ** 2))
        if rng.random() < 0.5:  # inner nuclear layer: small and round
            depth, tall, wide = rng.normal(0.2, 0.05), 0.55 * size, 0.7 * size
        else:  # Henle's layer: tall, with thin walls between neighbours
            depth, tall, wide = rng.normal(0.66, 0.06), 1.35 * size, 0.85 * size
        # Scans are stretched in depth: what is round on the display is 2 to 3 times as wide as tall.
        cysts.append((centre_mm + away, float(depth), float(2.2e-3 * wide), float(tall)))
    return tuple(cysts)


def _compute_thickness(subject: Subject, scan: _Scan, disease: _Disease) -> Field:
    """Return the thickness of every layer at every A-scan, (K, W) in µm."""
    patient, eye = subject.patient_stream("layers"), subject.eye_stream("layers")
    across = scan.across_mm
    pit = scan.pit_depth * np.exp(-np.square(across / patient.uniform(0.45, 0.7)))
    rim = 1 + 0.14 * np.exp(-np.square((np.abs(across) - 1.1) / 0.7)) - 0.05 * np.abs(across)
    scale = patient.normal(1.0, 0.06) * np.exp(eye.normal(0, 0.05, len(_LAYERS)))
    table = np.asarray(list(_LAYERS.values()), dtype=np.float32)
    thickness = table[:, :1] * (1 - pit) * rim + table[:, 1:2] * pit
    thickness *= scale[:, None]
    # Nerve fibres gather towards the disc, which lies nasally: left in the picture of a left eye.
    towards_disc = across if subject.eye == "right" else -across
    thickness[_ROW["nerve_fibre"]] *= np.clip(1 + 0.32 * towards_disc, 0.35, 2.2)
    for name, share in (("inner_nuclear", 0.35), ("outer_plexiform", 0.15), ("outer_nuclear", 0.5)):
        thickness[_ROW[name]] += share * disease.swelling
    _absorb_lift(thickness, disease, scan)
    thickness[_ROW["sub_epithelial"]] = disease.drusen
    thickness[_ROW["scar"]] = disease.scar
    thickness[_ROW["fluid"]] = disease.fluid
    return as_field(thickness)


def _absorb_lift(thickness: Field, disease: _Disease, scan: _Scan) -> None:
    """Thin the outer retina over lesions: short bumps do not reach the surface, broad ones lift it."""
    lifted = disease.drusen + disease.scar + disease.fluid
    sigma_px = 0.28 * scan.shape[1] / _WIDTH_MM
    surface = as_field(cv2.GaussianBlur(lifted[None], (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE))[0]
    to_absorb = lifted - 0.75 * surface
    for name, thinnest in (("outer_nuclear", 20.0), ("outer_plexiform", 10.0), ("inner_nuclear", 14.0)):
        row = thickness[_ROW[name]]
        absorbed = np.minimum(to_absorb, np.maximum(row - thinnest, 0))
        thickness[_ROW[name]] = row - absorbed
        to_absorb = to_absorb - absorbed


def _paint_layers(borders: Field, scan: _Scan, disease: _Disease) -> Field:
    """Return (H, W): each layer's brightness below its upper border, borders blurred as by a scanner."""
    rows = np.arange(scan.shape[0], dtype=np.float32)[:, None]
    blur = max(1.0, 7.0 * scan.px_per_um)
    # Photoreceptors die over lesions: the ellipsoid and limiting lines fade there.
    fading = 1 - 0.65 * np.clip((disease.scar + 0.5 * disease.drusen) / 70, 0, 1)
    picture = np.full(scan.shape, _VITREOUS, dtype=np.float32)
    above: Field | float = _VITREOUS
    for name, border in zip(_LAYERS, borders, strict=True):
        level: Field | float = _LAYERS[name][2]
        if name in {"ellipsoid", "limiting_membrane", "outer_segments"}:
            level = as_field(0.25 + (_LAYERS[name][2] - 0.25) * fading)
        picture += (level - above) * np.clip((rows - border) / blur + 0.5, 0, 1)
        above = level
    return picture


def _paint_cysts(
    picture: Field, borders: Field, scan: _Scan, cysts: tuple[_Cyst, ...], rng: np.random.Generator
) -> Field:
    """Return the picture with dark ovals between inner nuclear layer and limiting membrane."""
    if not cysts:
        return picture
    upper, lower = borders[_ROW["inner_nuclear"]], borders[_ROW["limiting_membrane"]]
    px_per_mm = scan.shape[1] / _WIDTH_MM
    outlines = []
    for x_mm, depth, half_width, half_height in cysts:
        column = (x_mm - float(scan.across_mm[0])) * px_per_mm
        inside = int(np.clip(round(column), 0, scan.shape[1] - 1))
        row = upper[inside] + depth * (lower[inside] - upper[inside])
        room = 0.40 * (lower[inside] - upper[inside])
        axes = (half_width * px_per_mm, min(half_height * scan.px_per_um, float(room)))
        outlines.append(turn_and_scale(wobbly_circle(rng, 0.16), axes, 0.0, (column, float(row))))
    mask = soften(fill_shapes(scan.shape, outlines), 0.003 * scan.shape[0])
    wall = np.clip(soften(mask, 0.008 * scan.shape[0]) * 2, 0, 1) * (1 - mask)
    return as_field((picture * (1 - mask) + 0.075 * mask) * (1 + 0.18 * wall))


def _paint_foci(picture: Field, borders: Field, scan: _Scan, n_foci: int, rng: np.random.Generator) -> Field:
    """Return the picture with small bright dots (lipid, migrated pigment) inside the retina."""
    upper, lower = borders[_ROW["inner_plexiform"]], borders[_ROW["limiting_membrane"]]
    dots = []
    for _ in range(n_foci):
        column = float(np.clip(rng.normal(0.5, 0.18), 0.02, 0.98)) * scan.shape[1]
        top, bottom = upper[int(column)], lower[int(column)]
        radius = rng.uniform(4, 10) * scan.px_per_um
        centre = (column, float(top + rng.uniform(0.2, 0.95) * (bottom - top)))
        dots.append(turn_and_scale(wobbly_circle(rng, 0.15, 16), (radius, 0.8 * radius), 0.0, centre))
    mask = fill_shapes(scan.shape, dots)
    return as_field(picture + (0.85 - picture) * mask)


def _paint_choroid(picture: Field, scan: _Scan, subject: Subject) -> Field:
    """Return the picture with the vessels of the choroid below Bruch's membrane, fading into the sclera."""
    patient, eye = subject.patient_stream("choroid"), subject.eye_stream("choroid")
    height, width = scan.shape
    rows = np.arange(height, dtype=np.float32)[:, None]
    depth_um = (rows - scan.bruch_px) / scan.px_per_um
    thick_um = patient.uniform(130, 340) * (1 + 0.12 * smooth_noise(eye, (4, width), (4, width / 4))[0])
    brightness = patient.uniform(0.42, 0.58)
    # The grain is drawn on flat ground and laid along the curved membrane.
    large = smooth_noise(eye, scan.shape, (52 * scan.px_per_um, 0.2 * width / _WIDTH_MM))
    small = smooth_noise(eye, scan.shape, (20 * scan.px_per_um, 0.07 * width / _WIDTH_MM))
    lumen = step(large, 0.1, 0.9)
    columns = np.broadcast_to(np.arange(width, dtype=np.float32), scan.shape)
    flat_rows = as_field(np.maximum(rows - scan.bruch_px, 0))
    lumen = as_field(cv2.remap(lumen, columns, flat_rows, cv2.INTER_LINEAR))
    small = as_field(cv2.remap(small, columns, flat_rows, cv2.INTER_LINEAR))
    deep = step(as_field(depth_um), 15, 70)
    within = step(as_field(depth_um - thick_um), 45, -45)
    tissue = brightness * (1 - 0.42 * lumen * deep + 0.11 * small) * np.exp(-np.maximum(depth_um, 0) / 700)
    sclera = 0.8 * brightness * np.exp(-np.maximum(depth_um - 0.4 * thick_um, 0) / patient.uniform(130, 420))
    below = np.clip((depth_um - 2) / 9, 0, 1)
    mixed = within * tissue + (1 - within) * np.maximum(sclera, _VITREOUS)
    return as_field(picture * (1 - below) + mixed * below)


def _cast_shadows(picture: Field, borders: Field, scan: _Scan, subject: Subject) -> Field:
    """Return the picture darkened below the retinal vessels, whose walls shine in the inner retina."""
    eye, view = subject.eye_stream("vessels"), subject.picture_stream("vessels")
    width = scan.shape[1]
    column = np.arange(width, dtype=np.float32)
    shade = np.zeros(width, dtype=np.float32)
    cores = []
    vessel_row = 0.5 * (borders[_ROW["nerve_fibre"]] + borders[_ROW["inner_plexiform"]])
    for _ in range(int(eye.integers(3, 9))):
        away = eye.choice([-1, 1]) * eye.uniform(0.7, 3.2)
        at = (away - float(scan.across_mm[0])) / _WIDTH_MM * width
        radius = eye.uniform(0.012, 0.045) / _WIDTH_MM * width
        shade = np.maximum(shade, eye.uniform(0.12, 0.5) * np.exp(-np.square((column - at) / (1.3 * radius + 0.4))))
        if 0 <= at < width:
            axes = (1.2 * radius + 0.5, 1.6 * radius + 0.5)
            cores.append(turn_and_scale(wobbly_circle(eye, 0.05, 16), axes, 0.0, (at, float(vessel_row[int(at)]))))
    picture = as_field(picture * (1 + 0.3 * soften(fill_shapes(scan.shape, cores), 0.6)))
    uneven = 0.10 * smooth_noise(view, (4, width), (4, width / 6))[0] + 0.025 * pixel_noise(view, (1, width), 0.7)[0]
    below = np.clip((np.arange(scan.shape[0], dtype=np.float32)[:, None] - vessel_row) / (40 * scan.px_per_um), 0, 1)
    return as_field(picture * (1 - shade * below) * np.exp(uneven))


def _paint_vitreous(picture: Field, surface: Field, subject: Subject) -> Field:
    """Return the picture with, in some eyes, the detached hyaloid as a thin line above the retina."""
    eye = subject.eye_stream("vitreous")
    height, width = picture.shape
    if eye.random() > 0.4:
        return picture
    lift = eye.uniform(0.02, 0.14) + 0.03 * smooth_noise(eye, (4, width), (4, width / 2))[0]
    level = as_field(cv2.GaussianBlur(surface[None], (0, 0), 0.08 * width, borderType=cv2.BORDER_REPLICATE))[0]
    line = np.minimum(level - height * np.maximum(lift, 0.006), surface - 1)
    rows = np.arange(height, dtype=np.float32)[:, None]
    glow = eye.uniform(0.1, 0.28) * np.exp(-np.square((rows - line) / max(0.8, 0.0035 * height)))
    broken = step(smooth_noise(eye, (4, width), (4, width / 7))[:1], -0.8, 0.6)
    return as_field(np.maximum(picture, picture + (glow * broken) * (rows < surface)))


def _record(picture: Field, subject: Subject) -> NDArray[np.uint8]:
    """Return what the scanner stores: focus, speckle, electronic noise, display contrast."""
    patient, view = subject.patient_stream("scanner"), subject.picture_stream("scanner")
    speckle, grain_px = patient.uniform(0.10, 0.26), patient.uniform(0.35, 0.8) * picture.shape[0] / 256
    floor, noise = patient.uniform(0.02, 0.09), patient.uniform(0.012, 0.035)
    gain, gamma = patient.uniform(0.85, 1.1) * view.uniform(0.9, 1.08), patient.uniform(0.9, 1.25)
    focus = view.uniform(0.0, 0.9) * picture.shape[0] / 256
    picture = soften(picture, focus)
    picture = picture * np.exp(speckle * pixel_noise(view, picture.shape, grain_px) - 0.5 * speckle**2)
    picture = np.clip(gain * picture, 0, 1) ** gamma * (1 - floor) + floor
    return to_bytes(as_field(picture + noise * pixel_noise(view, picture.shape, 0.5 * grain_px)))
