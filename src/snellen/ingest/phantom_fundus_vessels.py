"""Where the anatomy of a synthetic fundus lies, and the retinal vessels as branching trees.

Lengths are aperture radii about the centre of a right eye, x towards the nose and y down; a left eye is its
mirror picture. Colours of anything but vessels are known elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from snellen.ingest.phantom_canvas import Field, Subject, as_field, fill_shapes, soften

# Share of light (red, green, blue) that is left where a vessel lies over the fundus.
ARTERY = np.asarray([0.92, 0.62, 0.60], dtype=np.float32)
VEIN = np.asarray([0.76, 0.44, 0.50], dtype=np.float32)

_FINEST = 0.0045
_MAX_DEPTH = 3


@dataclass(frozen=True)
class Lay:
    """Where this picture's anatomy lies: pixels a radius, centre, mirror sign; disc and fovea in radii."""

    shape: tuple[int, int]
    radius_px: float
    centre: tuple[float, float]
    sign: int
    disc: tuple[float, float]
    disc_radius: float
    fovea: tuple[float, float]

    def to_px(self, points: Field) -> Field:
        """Return points (N, 2) in radii as pixels (x, y)."""
        scale = np.asarray([self.sign * self.radius_px, self.radius_px], dtype=np.float32)
        return as_field(points * scale + np.asarray(self.centre, dtype=np.float32))

    def away(self, point: tuple[float, float]) -> Field:
        """Return the distance (H, W) of every pixel from `point`, in radii."""
        x, y = self.to_px(np.asarray([point], dtype=np.float32))[0]
        rows = (np.arange(self.shape[0], dtype=np.float32)[:, None] - y) / np.float32(self.radius_px)
        columns = (np.arange(self.shape[1], dtype=np.float32)[None, :] - x) / np.float32(self.radius_px)
        return as_field(np.sqrt(rows**2 + columns**2))

    def fill(self, outlines: list[Field], levels: list[float] | None = None) -> Field:
        """Return the (H, W) mask of outlines given in radii, each at its level (1 without levels)."""
        return fill_shapes(self.shape, [self.to_px(outline) for outline in outlines], levels)


@dataclass(frozen=True)
class Branch:
    """One vessel to grow; angles in radians. `depth` 0 is a trunk.

    `bend` is how far it turns within the first `climb` radii or so, `drift` how far in every further radius.
    """

    start: tuple[float, float]
    heading: float
    width: float
    length: float
    bend: float = 0.0
    drift: float = 0.0
    climb: float = 0.36
    depth: int = 0


def paint_vessels(picture: Field, lay: Lay, subject: Subject) -> Field:
    """Return the picture (H, W, 3) with arteries over veins; thin ones faint, wide ones with a reflex."""
    eye = subject.eye_stream("vessels")
    tortuosity = eye.uniform(0.5, 1.4)
    ribbons: dict[bool, list[tuple[float, Field]]] = {True: [], False: []}
    cores: list[Field] = []
    for branch, is_vein in _plant_roots(eye, lay):
        for path, width in _grow(branch, eye, lay, tortuosity):
            level = float(np.clip(0.42 + 22 * width[0], 0, 1))
            ribbons[is_vein].append((level, make_ribbon(path, width)))
            if width[0] > 0.018:
                cores.append(make_ribbon(path, 0.3 * width))
    edge = 0.0028 * lay.radius_px
    for is_vein, colour in ((True, VEIN), (False, ARTERY)):
        # Faint ones first: a later outline replaces an earlier one, and a twig must not cut its trunk.
        faint_first = sorted(ribbons[is_vein], key=lambda ribbon: ribbon[0])
        mask = lay.fill([ribbon for _, ribbon in faint_first], [level for level, _ in faint_first])
        picture = as_field(picture * (1 - soften(mask, edge)[..., None] * (1 - colour)))
    return as_field(picture * (1 + 0.14 * soften(lay.fill(cores), edge)[..., None]))


def _plant_roots(eye: np.random.Generator, lay: Lay) -> list[tuple[Branch, bool]]:
    """Return the trunks that leave the disc, and whether each is a vein: arcades, nasal pairs, twigs."""
    roots: list[tuple[Branch, bool]] = []
    calibre = eye.uniform(0.88, 1.1)
    for side in (-1, 1):  # up, down
        for is_vein in (True, False):
            width = calibre * (0.031 if is_vein else 0.023)
            aside = eye.normal(0.0, 0.014) + (0.012 if is_vein else -0.012)
            start = (lay.disc[0] + aside, lay.disc[1] + side * 0.025)
            arcade = Branch(
                start,
                side * (math.radians(92) + eye.normal(0, 0.10) + (0.12 if is_vein else 0.0)),
                width,
                eye.uniform(1.6, 1.9),
                side * (1.42 + eye.normal(0, 0.14)),
                side * eye.uniform(-0.25, 0.16),
                eye.uniform(0.28, 0.46),
            )
            nasal = Branch(
                start,
                side * (math.radians(58) + eye.normal(0, 0.2)),
                0.6 * width,
                eye.uniform(0.6, 0.9),
                side * eye.normal(-0.2, 0.2),
                eye.normal(0, 0.3),
                depth=1,
            )
            roots += [(arcade, is_vein), (nasal, is_vein)]
    for _ in range(int(eye.integers(4, 9))):
        heading = math.pi + eye.normal(0, 0.8) if eye.random() < 0.7 else eye.normal(0, 0.6)
        twig = Branch(lay.disc, heading, eye.uniform(0.006, 0.012), eye.uniform(0.3, 0.55), depth=2)
        roots.append((twig, bool(eye.random() < 0.5)))
    return roots


def _grow(branch: Branch, eye: np.random.Generator, lay: Lay, tortuosity: float) -> list[tuple[Field, Field]]:
    """Return the paths (N, 2) and widths (N,) of a vessel and of all that leave it."""
    whole = trace(branch, eye, tortuosity)
    path = _spare_fovea(whole, branch, lay)
    taper = np.linspace(1.0, 0.45 if branch.depth == 0 else 0.3, len(path), dtype=np.float32)
    vessels = [(path, as_field(branch.width * taper))]
    if branch.depth >= _MAX_DEPTH or branch.width < _FINEST or len(path) < 8:
        return vessels
    side = int(eye.choice([-1, 1]))
    spacing = (0.13, 0.24, 0.4)[branch.depth]
    for share in np.arange(0.16 + spacing * eye.random(), 0.9, spacing):
        at = max(1, int(len(whole) * (share + eye.normal(0, 0.03))))
        if at > len(path) - 2:
            break
        ahead = path[at + 1] - path[at]
        side = -side if eye.random() < 0.7 else side
        fork = side * eye.uniform(0.5, 1.05)
        child = Branch(
            start=(float(path[at, 0]), float(path[at, 1])),
            heading=math.atan2(float(ahead[1]), float(ahead[0])) + fork,
            width=branch.width * float(taper[at]) * eye.uniform(0.34, 0.66),
            length=eye.uniform(0.45, 0.95) * (0.72, 0.42, 0.26)[branch.depth],
            # A side branch leaves steeply and then swings round to run along with its parent.
            bend=-fork * eye.uniform(0.1, 0.9),
            drift=eye.normal(0, 0.5),
            depth=branch.depth + 1,
        )
        vessels += _grow(child, eye, lay, tortuosity)
    return vessels


def _spare_fovea(path: Field, branch: Branch, lay: Lay) -> Field:
    """Return the path without a crossing of the fovea: trunks swing round it, twigs end before it."""
    offset = path - np.asarray(lay.fovea, dtype=np.float32)
    away = np.hypot(offset[:, 0], offset[:, 1])
    if branch.depth == 0:
        push = 0.24 * np.exp(-np.square(away / 0.3)) / (away + 1e-6)
        return as_field(path + offset * push[:, None])
    near = away < 0.08 + 2.0 * branch.width
    return path[: max(2, int(np.argmax(near)))] if near.any() else path


def trace(branch: Branch, rng: np.random.Generator, tortuosity: float) -> Field:
    """Return the centre line (N, 2) of one vessel, side branches left out."""
    n = max(6, int(branch.length / 0.028))
    along = np.linspace(0.0, branch.length, n)
    wander = np.cumsum(rng.standard_normal(n)) * 0.036
    wave = rng.uniform(0.08, 0.26) * np.sin(along * rng.uniform(7, 19) + rng.uniform(0, 6.3))
    # An arcade first climbs, then runs level past the macula.
    heading = branch.heading + branch.bend * (1 - np.exp(-along / branch.climb)) + branch.drift * along
    heading = heading + tortuosity * (wander + wave)
    steps = branch.length / n * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    steps[0] = 0.0
    return as_field(np.cumsum(steps, axis=0) + np.asarray(branch.start))


def make_ribbon(path: Field, width: Field) -> Field:
    """Return the outline (2N, 2) of a line (N, 2) of changing width (N,)."""
    ahead = np.empty_like(path)
    ahead[1:-1] = path[2:] - path[:-2]
    ahead[0], ahead[-1] = path[1] - path[0], path[-1] - path[-2]
    across = ahead[:, ::-1] * np.asarray([-0.5, 0.5], dtype=np.float32)
    across *= (width / (np.hypot(ahead[:, 0], ahead[:, 1]) + 1e-9))[:, None]
    return np.concatenate([path + across, (path - across)[::-1]])
