"""The gate: is this picture of the kind the model was trained on, and good enough to be judged? NumPy only.

Two distances (Lee et al. 2018, Mahalanobis, here without classes, in the leading principal components, with what lies
outside them added as one more component; Ren et al. 2021 show why both parts are needed): of the embedding, which is
what the network makes of the picture, and of its look, a thumbnail, because a network may be blind to what it was never
shown. Facts of the picture's quality are held against their quantiles in training.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import BundleError
from snellen.imaging.quality import FACTS, compute_facts, compute_look

GATE_FILE = "gate.npz"
UNLIKE = "unlike those the model was trained on"
WORDS = {
    "brightness": ("too dark", "too bright"),
    "highlights": ("without bright parts", "too bright"),
    "contrast": ("of too little contrast", "of too much contrast"),
    "sharpness": ("blurred", "too noisy"),
    "colour": ("of too little colour", "of too much colour"),
    "tint": ("of another tint", "of another tint"),
}
_BLOCK = 1024
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cloud:
    """`mean` `(D,)`, `components` `(D, K)` orthonormal, `scale` `(K + 1,)` their standard deviations, and that of what
    lies outside them.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    scale: NDArray[np.float32]

    def compute_distances(self, points: NDArray[np.float32]) -> Floats:
        """`(N, D)` → `(N,)`, root mean square of standardised components: about 1 for a picture as in training."""
        blocks = [points[start : start + _BLOCK] for start in range(0, len(points), _BLOCK)]
        return np.concatenate([np.zeros(0), *(self._compute_block(block) for block in blocks)])

    def _compute_block(self, points: NDArray[np.float32]) -> Floats:
        centred = points.astype(np.float64) - self.mean
        inside = centred @ self.components
        outside = np.sqrt(np.maximum((centred**2).sum(1) - (inside**2).sum(1), 0))
        parts = np.column_stack([inside, outside]) / self.scale
        mean_square = (parts[:, :-1] ** 2).mean(1)
        return np.asarray(np.sqrt((mean_square + parts[:, -1] ** 2) / 2))


@dataclass(frozen=True)
class Look:
    """What pictures of training look like: thumbnails `cloud` with its `limit`, and `FACTS` within `low` and `high`."""

    cloud: Cloud
    limit: float
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Reference:
    """Quantiles of what pictures of the cohort measure that the measure was not fitted on, each `(Q,)`, by name."""

    quantiles: dict[str, Floats]


@dataclass(frozen=True)
class Verdicts:
    """Why there is no answer for each of N pictures, empty where there is one; what was `measured` of them `(N,)`."""

    reasons: list[str]
    measured: dict[str, Floats]


@dataclass(frozen=True)
class Gate(Cloud):
    """The cloud of embeddings with the distance beyond which a picture is foreign. Gates of earlier versions have
    neither `look` nor `reference`.
    """

    limit: float
    look: Look | None = None
    reference: Reference | None = None

    def judge(self, pixels: NDArray[np.uint8], embedding: NDArray[np.float32]) -> Verdicts:
        """Preprocessed pixels `(N, H, W, C)` and embeddings `(N, D)` → why there is no answer for each, or nothing."""
        measured = self.measure(pixels, embedding)
        return Verdicts([describe(*parts) for parts in self._judge(measured)], measured)

    def measure(self, pixels: NDArray[np.uint8], embedding: NDArray[np.float32]) -> dict[str, Floats]:
        """Each distance and fact, `(N,)`, by name; only the first of a gate without a look."""
        found = {"embedding": self.compute_distances(embedding)}
        if self.look is None:
            return found
        looks = np.array([compute_look(picture) for picture in pixels]).reshape(len(pixels), len(self.look.cloud.mean))
        facts = np.array([compute_facts(picture) for picture in pixels]).reshape(len(pixels), len(FACTS))
        return {**found, "look": self.look.cloud.compute_distances(looks), **dict(zip(FACTS, facts.T, strict=True))}

    def _judge(self, measured: dict[str, Floats]) -> list[tuple[bool, list[str]]]:
        # turned round, so that a distance which is no number is foreign too
        is_unlike = ~(measured["embedding"] <= self.limit)
        if self.look is None:
            return [(bool(each), []) for each in is_unlike]
        is_unlike |= ~(measured["look"] <= self.look.limit)
        words: list[list[str]] = [[] for _ in is_unlike]
        for at, name in enumerate(FACTS):
            for row, value in enumerate(measured[name]):
                if value < self.look.low[at] or value > self.look.high[at]:
                    words[row].append(WORDS[name][int(value > self.look.high[at])])
        return [(bool(each), list(dict.fromkeys(found))) for each, found in zip(is_unlike, words, strict=True)]


def describe(is_unlike: bool, words: list[str]) -> str:
    """`the picture is too dark and unlike those the model was trained on`; nothing where it is as in training."""
    parts = [*words, *([UNLIKE] if is_unlike else [])]
    if not parts:
        return ""
    told = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"the picture is {told}"


def load_gate(folder: Path) -> Gate:
    """Raises BundleError where the file does not hold a gate."""
    try:
        # opened here: NumPy leaves the file open where the archive is damaged
        with (folder / GATE_FILE).open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return _read(dict(stored))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f"{folder / GATE_FILE} cannot be read: {error}", "Get the bundle again.") from error


def _read(stored: dict[str, NDArray[np.float32]]) -> Gate:
    gate = Gate(stored["mean"], stored["components"], stored["scale"], float(stored["limit"]))
    if "look_mean" not in stored:  # of an earlier version
        return gate
    if tuple(str(name) for name in stored["facts"]) != FACTS:
        raise ValueError("it holds other facts of pictures than this version measures")
    cloud = Cloud(stored["look_mean"], stored["look_components"], stored["look_scale"])
    look = Look(cloud, float(stored["look_limit"]), stored["fact_low"].astype(float), stored["fact_high"].astype(float))
    names = [str(name) for name in stored["reference_names"]]
    quantiles = dict(zip(names, stored["reference"].astype(np.float64), strict=True))
    return Gate(gate.mean, gate.components, gate.scale, gate.limit, look, Reference(quantiles))


def pack_gate(gate: Gate) -> dict[str, NDArray[np.generic]]:
    """What `gate.npz` holds of a gate."""
    stored: dict[str, NDArray[np.generic]] = {
        "mean": gate.mean, "components": gate.components, "scale": gate.scale, "limit": np.array(gate.limit),
    }  # fmt: skip
    if gate.look is not None and gate.reference is not None:
        cloud, names = gate.look.cloud, list(gate.reference.quantiles)
        stored |= {
            "look_mean": cloud.mean, "look_components": cloud.components, "look_scale": cloud.scale,
            "look_limit": np.array(gate.look.limit), "facts": np.array(FACTS),
            "fact_low": gate.look.low, "fact_high": gate.look.high, "reference_names": np.array(names),
            "reference": np.stack([gate.reference.quantiles[name] for name in names]),
        }  # fmt: skip
    return stored
