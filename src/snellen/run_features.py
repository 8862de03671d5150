"""From a plan to features: weights into the backbone, the backbone into a graph, pictures through it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from snellen.core.progress import say
from snellen.core.storage import compute_digest, hold_lock
from snellen.imaging.cache import PixelCache
from snellen.modeling.architectures import FrozenBackbone
from snellen.modeling.graph import export_graph
from snellen.modeling.weights import compute_state_sha256
from snellen.records.cohort import Sample
from snellen.records.plan import Plan
from snellen.run_preparation import Prepared
from snellen.run_resampling import find_pictures, with_further_views
from snellen.training.crossval import FoldData
from snellen.training.features import FeatureStore
from snellen.training.head import HeadData

_GRAPH_VERSION = "graph-2"


def build_frozen(plan: Plan) -> FrozenBackbone:
    """The backbone as timm builds it; what stays random (`model.weights = none`) follows from the plan's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.training.seed)
        return FrozenBackbone(plan.model)


def measure_need(samples: Sequence[Sample], plan: Plan, width: int) -> dict[str, int]:
    """Bytes of the pixel cache and of the features of all views, were nothing there yet."""
    n = len({sample.pixels_sha256 for sample in samples})
    pixels = n * plan.preprocess.size**2 * plan.preprocess.channels
    features = n * width * np.dtype(np.float32).itemsize * (1 + count_feature_views(plan))
    return {"pixels": pixels, "features": features}


def count_feature_views(plan: Plan) -> int:
    """Augmented views whose pooled features are learned from; a first stage on the map draws views of its own."""
    return plan.augment.views if plan.training.begins_on_features else 0


def export_backbone(frozen: FrozenBackbone, plan: Plan, cache: Path) -> Path:
    """The frozen backbone as a graph, kept in the cache by its weights and input."""
    shape = (plan.preprocess.size, plan.preprocess.size, plan.preprocess.channels)
    key = compute_digest(
        [
            _GRAPH_VERSION,
            compute_state_sha256(frozen),
            plan.model.backbone,
            repr(sorted(plan.model.backbone_args.items())),
            *(layer.model_dump_json() for layer in plan.model.layers),
            repr(plan.model.mean),
            repr(plan.model.std),
            repr(shape),
        ]
    )
    path = cache / "graphs" / f"{key[:24]}.onnx"
    with hold_lock(cache / "locks" / f"{key[:24]}.lock"):
        if not path.exists():
            say("Exporting the backbone to ONNX (once for these weights and this size)")
            export_graph(frozen, path, shape=shape, outputs=("embedding", "feature_map"))
    return path


def collect_features(prepared: Prepared, pixels: PixelCache, store: FeatureStore) -> HeadData:
    """Features of training pictures with their views, and of validation pictures as they are."""
    train, val = prepared.members("train"), prepared.members("val")
    labels = encode_labels(train, prepared.plan)
    table = store.compute(pixels.select(train), count_feature_views(prepared.plan))
    return HeadData(
        train=with_further_views(table, labels, prepared.plan, store).hold_small(),
        train_labels=labels,
        val=store.compute(pixels.select(val), 0).load()[0],
        val_labels=encode_labels(val, prepared.plan),
        pictures=find_pictures(table, prepared.plan, store),
    )


def collect_fold_features(prepared: Prepared, pixels: PixelCache, store: FeatureStore) -> FoldData:
    """Features of all pictures in folds, with their views."""
    samples, folds = prepared.held_out()
    labels = encode_labels(samples, prepared.plan)
    table = store.compute(pixels.select(samples), count_feature_views(prepared.plan))
    held = with_further_views(table, labels, prepared.plan, store, folds).hold_small()
    return FoldData(held, labels, folds, pictures=find_pictures(table, prepared.plan, store))


def encode_labels(samples: Sequence[Sample], plan: Plan) -> NDArray[np.int64]:
    return np.array([plan.data.classes.index(sample.label) for sample in samples], np.int64)
