"""Adds what the bundle's evidence maps are worth to an evaluation; also draws those that the report shows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from snellen.evaluation.evaluate import Scored
from snellen.evaluation.evidence_check import check_evidence
from snellen.imaging.cache import PixelCache
from snellen.inference.evidence_picture import colour_map
from snellen.inference.explain import OCCLUSION
from snellen.inference.predictor import Predictor
from snellen.records.evaluation import Evaluation

_LOOKED_AT = 64
_MOST_OCCLUDED = 6


def add_evidence(evaluation: Evaluation, predictor: Predictor, scored: Scored, pixels: PixelCache) -> Evaluation:
    """The evaluation with both checks of evidence maps, on a few of its pictures drawn by the hash of their names."""
    chosen = sorted(scored.samples, key=lambda sample: hashlib.sha256(sample.name.encode()).digest())[:_LOOKED_AT]
    pictures = [np.asarray(pixels.pixels[row]) for row in pixels.select(chosen)]
    check = check_evidence(predictor, pictures, evaluation.intervals.seed)
    return evaluation.model_copy(update={"evidence": check})


def build_maps(
    predictor: Predictor, scored: Scored, pixels: PixelCache
) -> Callable[[str, str], NDArray[np.uint8] | None]:
    """Sample and class → the evidence map as RGB `(H, W, 3)`. By occlusion there are few: each takes long."""
    left = _MOST_OCCLUDED if predictor.open_explainer().method == OCCLUSION else len(scored.samples)
    rows = dict(zip((sample.name for sample in scored.samples), pixels.select(scored.samples), strict=True))

    def load(name: str, class_name: str) -> NDArray[np.uint8] | None:
        nonlocal left
        if name not in rows or not left:
            return None
        left -= 1
        return colour_map(predictor.explain_pixels(np.asarray(pixels.pixels[rows[name]]), class_name).array)

    return load
