"""Synthetic fundus photographs: pigmented ground, optic disc, macula, and five cameras that photograph them.

Knows how a healthy fundus looks and what cameras do to it; vessels and lesions are drawn next door. Anatomy
is laid out in aperture radii about the centre of a right eye, x towards the nose and y down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.ingest.phantom_canvas import (
    Field,
    Subject,
    as_field,
    pixel_noise,
    ridges,
    smooth_noise,
    soften,
    step,
    to_bytes,
    turn_and_scale,
    wobbly_circle,
)
from snellen.ingest.phantom_fundus_lesions import paint_lesions
from snellen.ingest.phantom_fundus_vessels import Lay, paint_vessels

LABELS = ("grade_0", "grade_1", "grade_2", "grade_3", "grade_4")


@dataclass(frozen=True)
class Camera:
    """How one make of camera frames and colours; lengths in picture heights."""

    aspect: float
    radius: float
    gains: tuple[float, float, float]
    blur: float
    noise: float
    jpeg_quality: int
    has_notch: bool


_CAMERAS = (
    Camera(1.5, 0.575, (1.10, 1.02, 0.42), 0.0015, 0.008, 94, True),
    Camera(1.33, 0.485, (1.00, 0.94, 0.95), 0.0030, 0.012, 90, False),
    Camera(1.5, 0.62, (1.12, 0.80, 0.45), 0.0020, 0.010, 92, True),
    Camera(1.0, 0.495, (0.97, 0.93, 1.02), 0.0042, 0.013, 84, False),
    Camera(1.25, 0.56, (0.90, 1.00, 0.72), 0.0036, 0.016, 78, False),
)

# Share of light (red, green, blue) that the macular pigment leaves.
_MACULA = np.asarray([0.66, 0.55, 0.50], dtype=np.float32)


def choose_camera(subject: Subject) -> Camera:
    """Return the camera that photographed this patient; nothing about it depends on the disease."""
    rng = subject.patient_stream("camera")
    return _CAMERAS[int(rng.integers(len(_CAMERAS)))]


def draw_fundus(subject: Subject, label: str, size_px: int, difficulty: float) -> NDArray[np.uint8]:
    """Return one photograph, (H, W, 3) uint8 RGB with H = `size_px` and the camera's own width."""
    camera = choose_camera(subject)
    lay = _lay_out(subject, camera, size_px)
    picture = _paint_ground(lay, subject)
    picture = _paint_disc(picture, lay, subject)
    picture = _paint_macula(picture, lay, subject)
    picture = paint_vessels(picture, lay, subject)
    picture = paint_lesions(picture, lay, subject, (LABELS.index(label), difficulty))
    return _photograph(picture, lay, camera, subject)


def _lay_out(subject: Subject, camera: Camera, size_px: int) -> Lay:
    eye, view = subject.eye_stream("place"), subject.picture_stream("place")
    shape = (size_px, round(camera.aspect * size_px))
    radius_px = camera.radius * size_px
    gaze = view.normal(0, 0.05, 2) * radius_px
    nearness = eye.uniform(0.92, 1.08)
    return Lay(
        shape=shape,
        radius_px=radius_px * nearness,
        centre=(shape[1] / 2 + float(gaze[0]), shape[0] / 2 + float(gaze[1])),
        sign=1 if subject.eye == "right" else -1,
        disc=(float(eye.normal(0.62, 0.05)), float(eye.normal(-0.03, 0.04))),
        disc_radius=float(eye.uniform(0.13, 0.175)),
        fovea=(float(eye.normal(-0.10, 0.03)), float(eye.normal(0.05, 0.02))),
    )


def _paint_ground(lay: Lay, subject: Subject) -> Field:
    """Return (H, W, 3): the pigmented ground with choroidal vessels shining through."""
    patient, eye = subject.patient_stream("ground"), subject.eye_stream("ground")
    pigment = patient.random()
    blond, dark = np.asarray([0.80, 0.45, 0.25]), np.asarray([0.55, 0.25, 0.12])
    colour = (blond + (dark - blond) * pigment) * np.exp(patient.normal(0, 0.05, 3))
    cell = lay.radius_px
    mottle = 0.05 * smooth_noise(eye, lay.shape, (0.5 * cell, 0.5 * cell))
    mottle = mottle + 0.018 * smooth_noise(eye, lay.shape, (0.035 * cell, 0.035 * cell))
    ground = np.exp(mottle)[..., None] * colour.astype(np.float32)
    # A tessellated fundus: choroidal vessels as a net of lighter streaks, mostly away from the macula.
    strength = max(0.0, patient.normal(0.01, 0.07))
    net = ridges(smooth_noise(eye, lay.shape, (0.07 * cell, 0.12 * cell)), 0.55)
    net = net + 0.6 * ridges(smooth_noise(eye, lay.shape, (0.04 * cell, 0.06 * cell)), 0.5)
    net = net * step(lay.away(lay.fovea), 0.1, 0.8)
    net = net * np.clip(0.7 + 0.45 * smooth_noise(eye, lay.shape, (0.5 * cell, 0.5 * cell)), 0, 1.3)
    streaks = np.asarray([0.8, 1.6, 1.0], dtype=np.float32) * np.float32(strength)
    return as_field(ground * (1 + net[..., None] * streaks))


def _paint_disc(picture: Field, lay: Lay, subject: Subject) -> Field:
    eye, patient = subject.eye_stream("disc"), subject.patient_stream("disc")
    oval = turn_and_scale(
        wobbly_circle(eye, 0.02),
        (lay.disc_radius * eye.uniform(0.86, 0.98), lay.disc_radius),
        eye.normal(0, 0.2),
        lay.disc,
    )
    rim = soften(lay.fill([oval]), 0.012 * lay.radius_px)
    cup_ratio = patient.uniform(0.25, 0.62)
    # The cup sits a little temporally, where the neural rim is thinnest.
    cup_centre = (lay.disc[0] - 0.18 * lay.disc_radius, lay.disc[1])
    cup = soften(
        lay.fill([turn_and_scale(wobbly_circle(eye, 0.03), (cup_ratio * lay.disc_radius,) * 2, 0.0, cup_centre)]),
        0.022 * lay.radius_px,
    )
    away = lay.away(lay.disc) / lay.disc_radius
    halo = eye.uniform(0.02, 0.16) * np.exp(-np.square(np.maximum(away - 1, 0) / 0.45))
    crescent = (
        eye.uniform(0.0, 0.3) * step(away, 1.35, 1.1) * step(lay.away((lay.disc[0] - 0.25, lay.disc[1])), 0.26, 0.18)
    )
    picture = picture * (1 + (halo + crescent)[..., None])
    nerve = np.asarray([0.98, 0.68, 0.42]) * eye.uniform(0.93, 1.05)
    pale = np.asarray([1.05, 0.90, 0.66]) * eye.uniform(0.94, 1.04)
    picture = picture + (nerve.astype(np.float32) - picture) * (0.88 * rim)[..., None]
    return as_field(picture + (pale.astype(np.float32) - picture) * (0.8 * cup)[..., None])


def _paint_macula(picture: Field, lay: Lay, subject: Subject) -> Field:
    eye, view = subject.eye_stream("macula"), subject.picture_stream("macula")
    away = lay.away(lay.fovea)
    depth = eye.uniform(0.45, 0.95)
    shade = depth * (0.55 * np.exp(-np.square(away / 0.24)) + 0.3 * np.exp(-np.square(away / 0.085)))
    picture = picture * (1 - shade[..., None] * (1 - _MACULA))
    reflex = max(0.0, view.normal(0.0, 0.10)) * np.exp(-np.square(away / 0.016))
    ring = max(0.0, view.normal(0.0, 0.03)) * np.exp(-np.square((away - 0.2) / 0.04))
    return as_field(picture * (1 + (reflex + ring)[..., None]))


def _photograph(picture: Field, lay: Lay, camera: Camera, subject: Subject) -> NDArray[np.uint8]:
    """Return what the camera stores: uneven light, haze, colour cast, focus, aperture, noise."""
    view, patient = subject.picture_stream("photograph"), subject.patient_stream("photograph")
    height, width = lay.shape
    radius = camera.radius * height
    rows = (np.arange(height, dtype=np.float32)[:, None] - height / 2) / radius
    columns = (np.arange(width, dtype=np.float32)[None, :] - width / 2) / radius
    away = np.sqrt(rows**2 + columns**2)
    aim = view.normal(0, 0.25, 2)
    light = 1.08 - 0.30 * np.square(rows - aim[0]) - 0.30 * np.square(columns - aim[1])
    light = (
        np.clip(light, 0.3, None)
        * view.uniform(0.88, 1.12)
        * (1 + 0.04 * smooth_noise(view, lay.shape, (radius, radius)))
    )
    haze = max(0.0, patient.normal(0.03, 0.04)) + max(0.0, view.normal(0.0, 0.03))
    # Light that leaks in past the iris: a pale crescent at the rim of some pictures.
    leak = view.uniform(0.1, 0.5) if view.random() < 0.3 else 0.0
    angle = view.uniform(0, 6.3)
    crescent = leak * step(as_field(columns * math.cos(angle) + rows * math.sin(angle)), 0.72, 1.05)
    lit = picture * light[..., None] * (1 - haze) + haze * np.asarray([0.75, 0.55, 0.42], dtype=np.float32)
    lit = lit + crescent[..., None] * np.asarray([0.55, 0.36, 0.22], dtype=np.float32)
    lit = lit * np.asarray(camera.gains, dtype=np.float32)
    sigma = height * camera.blur * view.uniform(0.6, 1.6)
    lit = as_field(cv2.GaussianBlur(lit, (0, 0), max(sigma, 0.25)))
    lit = lit * _aperture(away, rows, columns, camera)[..., None] + 0.008
    return to_bytes(as_field(lit + camera.noise * pixel_noise(view, lit.shape, 0.5 * height / 256)))


def _aperture(away: Field, rows: Field, columns: Field, camera: Camera) -> Field:
    disc = step(away, 1.006, 0.994)
    if camera.has_notch:
        # The tab that tells up from down, at about two o'clock.
        outward = 0.85 * columns - 0.53 * rows
        along = 0.53 * columns + 0.85 * rows
        tab = (outward > 0.9) & (outward < 1.035) & (np.abs(along) < 0.035)
        disc = np.maximum(disc, tab.astype(np.float32))
    return as_field(disc)
