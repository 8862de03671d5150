"""Which pictures the report shows, and as what: the surest errors, and a few of every class.

This room knows scores and arrays of pixels. It must not know files, figures or HTML.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.records.evaluation import Score

N_ERRORS = 12
N_OF_A_CLASS = 6
MAX_SAMPLES = 96
THUMBNAIL_PX = 160
JPEG_QUALITY = 80

LoadThumbnail = Callable[[str], NDArray[np.uint8] | None]
LoadMap = Callable[[str, str], NDArray[np.uint8] | None]


@dataclass(frozen=True)
class Exhibit:
    """A picture with what is true and what the model said. `source` and `map_source` are data URIs, or empty."""

    score: Score
    confidence: float
    probability_of_label: float | None
    source: str
    map_source: str = ""

    @property
    def is_right(self) -> bool:
        return self.score.prediction == self.score.label


def choose_worst_errors(scores: Sequence[Score], classes: Sequence[str]) -> list[Score]:
    """The wrong predictions, most confident first; ties by name."""
    wrong = [score for score in scores if score.prediction != score.label]
    return sorted(wrong, key=lambda score: (-_probability(score, score.prediction, classes), score.sample))[:N_ERRORS]


def choose_samples(scores: Sequence[Score], classes: Sequence[str]) -> dict[str, list[Score]]:
    """Class → a few of its pictures, drawn by the hash of their names: random, and every time the same."""
    per_class = max(1, min(N_OF_A_CLASS, MAX_SAMPLES // max(1, len(classes))))
    chosen = {}
    for name in classes[:MAX_SAMPLES]:
        own = [score for score in scores if score.label == name]
        own.sort(key=lambda score: hashlib.sha256(score.sample.encode()).digest())
        if own:
            chosen[name] = own[:per_class]
    return chosen


def build_exhibit(
    score: Score, classes: Sequence[str], load_thumbnail: LoadThumbnail, load_map: LoadMap | None = None
) -> Exhibit:
    """`score` with its picture, if there is one, and where the evidence for what it was called lies in it."""
    pixels = load_thumbnail(score.sample)
    evidence = None if pixels is None or load_map is None else load_map(score.sample, score.prediction)
    return Exhibit(
        score=score,
        confidence=_probability(score, score.prediction, classes),
        probability_of_label=_probability(score, score.label, classes) if score.label in classes else None,
        source="" if pixels is None or not pixels.size else encode_thumbnail(pixels),
        map_source="" if evidence is None else encode_thumbnail(evidence),
    )


def _probability(score: Score, name: str, classes: Sequence[str]) -> float:
    return score.probabilities[classes.index(name)]


def encode_thumbnail(pixels: NDArray[np.uint8], side_px: int = THUMBNAIL_PX) -> str:
    """RGB (H, W, 3), (H, W, 1) or grey (H, W) as the data URI of a small JPEG; it is never enlarged."""
    height, width = pixels.shape[:2]
    factor = side_px / max(height, width)
    if factor < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        pixels = np.ascontiguousarray(pixels[:, :, ::-1])
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
