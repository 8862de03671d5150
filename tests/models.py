"""Small plans, networks, features and bundles for tests. No pretrained weights and no real pictures."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from pictures import draw_smooth, make_augment, make_preprocess, make_sample
from snellen.bundle.write import PARITY_SAMPLES, TrainedModel, finish_bundle, write_graph
from snellen.core.storage import compute_sha256
from snellen.imaging.cache import PixelCache
from snellen.inference.load import MANIFEST_FILE, MODEL_FILE
from snellen.inference.session import GraphSession
from snellen.modeling.architectures import Classifier, FrozenBackbone, Normalise
from snellen.modeling.blocks import build_head
from snellen.modeling.graph import export_graph
from snellen.records.bundle import OUTPUTS, Calibration, Manifest, Threshold
from snellen.records.cohort import PatientRule, Sample
from snellen.records.layers import BatchNorm, GlobalAvgPool
from snellen.records.plan import (
    DataPlan,
    EvaluationPlan,
    ImbalancePlan,
    ModelPlan,
    Plan,
    PreprocessPlan,
    StagePlan,
    TrainingPlan,
)
from snellen.records.run import WeightsRecord
from snellen.training.feature_table import FeatureTable
from snellen.training.head import HeadData, fit_head
from snellen.training.probe import fit_baselines

BACKBONE = "test_resnet"  # timm's own for tests: 372 688 parameters, 96 features
SIZE = 64
CLASSES = ("healthy", "sick")
PATIENTS = PatientRule(rule="patient column", origin="column", n=40)
NO_WEIGHTS = WeightsRecord(source="none", origin="random", licence="none", sha256=None, n_parameters=372_688)
HELD_OUT = tuple(make_sample(f"held-out-{row}.png", CLASSES[row % 2]) for row in range(6))
CALIBRATED = Calibration(method="temperature", temperature=1.5, fitted_on="val", n=40)
DEFAULT_POINT = Threshold(name="balanced", rule="youden", threshold=0.5, chosen_on="val", is_default=True)

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


def make_model(**changes: Any) -> ModelPlan:
    """A plan of a tiny backbone with a standardised linear head."""
    plain: dict[str, Any] = {
        "backbone": BACKBONE, "backbone_args": {}, "weights": "none", "mean": (0.5,) * 3, "std": (0.25,) * 3,
        "head": (GlobalAvgPool(), BatchNorm()), "n_classes": 2,
    }  # fmt: skip
    return ModelPlan(**{**plain, **changes})


def make_plan(
    classes: Sequence[str] = CLASSES,
    *,
    stage: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    preprocess: PreprocessPlan | None = None,
    positive: str | None = None,
    imbalance: str = "none",
    seed: int = 0,
) -> Plan:
    """A whole plan with L-BFGS and no early stop, but for what is given."""
    plain_stage: dict[str, Any] = {
        "unfreeze": "none", "optimizer": "lbfgs", "epochs": 100, "batch_size": 32, "lr": 1.0, "weight_decay": (0.01,),
        "schedule": "constant", "patience": 100,
    }  # fmt: skip
    return Plan(
        recipe="test",
        data=DataPlan(
            task="binary" if len(classes) == 2 else "multiclass",
            classes=tuple(classes),
            ordered=False,
            positive=positive,
            fractions=(0.7, 0.15, 0.15),
        ),
        preprocess=preprocess or make_preprocess(size=SIZE),
        augment=make_augment(),
        imbalance=ImbalancePlan.model_validate({"method": imbalance}),
        model=make_model(**{"n_classes": len(classes), **(model or {})}),
        training=TrainingPlan(seed=seed, threads=1, stages=(StagePlan(**{**plain_stage, **(stage or {})}),)),
        evaluation=EvaluationPlan(resamples=100, level=0.95, sensitivity=0.9),
        decisions=(),
    )


class TinyNet(nn.Module):
    """Normalise and one convolution: uint8 `(N, 16, 16, 3)` → embedding `(N, 4)`, feature_map `(N, 4, 7, 7)`."""

    def __init__(self) -> None:
        super().__init__()
        self.normalise = Normalise((0.5,) * 3, (0.25,) * 3)
        self.convolution = nn.Conv2d(3, 4, 3, stride=2)
        self.dropout = nn.Dropout(0.5)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        feature_map = self.dropout(torch.relu(self.convolution(self.normalise(pixels))))
        return feature_map.mean((2, 3)), feature_map


@dataclass(frozen=True)
class TinyGraph:
    """A module and the graph exported from it."""

    module: TinyNet
    path: Path


@functools.cache
def export_tiny_graph(folder: Path) -> TinyGraph:
    """One export a session, in a folder below the session's: it takes a second."""
    torch.manual_seed(0)
    module = TinyNet().train()
    path = folder / "tiny" / "tiny.onnx"
    export_graph(module, path, shape=(16, 16, 3), outputs=("embedding", "feature_map"))
    return TinyGraph(module, path)


def draw_pixels(n: int, size: int, seed: int = 0) -> Pixels:
    """Noise `(N, size, size, 3)`."""
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def make_pixel_cache(pixels: Pixels, folder: Path) -> tuple[PixelCache, list[Sample]]:
    """A pixel cache of these rows, and a sample for each."""
    samples = [make_sample(f"picture-{row}.png", CLASSES[row % 2]) for row in range(len(pixels))]
    return PixelCache(pixels, tuple(sample.pixels_sha256 for sample in samples), "cache-key", folder), samples


def draw_features(n: int, n_classes: int = 2, n_features: int = 8, *, seed: int = 0, distance: float = 1.0) -> HeadData:
    """Gaussian clouds, `distance` times a standard normal apart: `n` rows to train, as many to validate, no views."""
    random = np.random.default_rng(seed)
    centres = distance * random.normal(size=(n_classes, n_features))
    labels = np.arange(2 * n) % n_classes
    rows = (centres[labels] + random.normal(size=(2 * n, n_features))).astype(np.float32)
    return HeadData(FeatureTable.hold(rows[None, :n]), labels[:n], rows[n:], labels[n:])


def compute_probabilities(head: nn.Module, features: Floats) -> Floats:
    """Softmax of a head's logits."""
    with torch.no_grad():
        return np.asarray(torch.softmax(head(torch.from_numpy(features)), dim=1).numpy())


def draw_class_pictures(n: int, first_seed: int = 0) -> tuple[Pixels, Labels]:
    """Soft blobs, `(N, 64, 64, 3)`; those of class 1 are redder."""
    labels = np.arange(n) % 2
    pictures = []
    for row, label in enumerate(labels):
        picture = draw_smooth(first_seed + row, SIZE, SIZE).astype(np.int16)
        picture[..., 0] += 35 * label
        pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
    return np.stack(pictures), labels


@dataclass(frozen=True)
class Delivered:
    """A finished bundle in `run/bundle`, with what it was made from."""

    run: Path
    model: TrainedModel
    session: GraphSession
    manifest: Manifest
    train_pixels: Pixels
    train_labels: Labels

    @property
    def folder(self) -> Path:
        return self.run / "bundle"


@functools.cache
def deliver_bundle(folder: Path) -> Delivered:
    """The real way from pictures to a bundle on a tiny random network; once a session: the export takes seconds."""
    run = folder / "delivered" / "run"
    plan = make_plan(positive="sick")
    torch.manual_seed(0)
    frozen = FrozenBackbone(plan.model)
    pixels, labels = draw_class_pictures(160)
    with torch.no_grad():
        features = frozen(torch.from_numpy(pixels))[0].numpy()
    head = fit_head(
        HeadData(FeatureTable.hold(features[None, :120]), labels[:120], features[120:], labels[120:]), plan
    ).head
    classifier = Classifier(frozen, head, CALIBRATED.temperature).eval()
    samples = [make_sample(f"{row}.png", CLASSES[labels[row]], f"P{row // 4}") for row in range(len(labels))]
    model = TrainedModel(
        name="tiny eyes",
        created="2025-01-31T12:00:00+00:00",
        snellen_version="0.0.test",
        plan=plan,
        classifier=classifier,
        weights=NO_WEIGHTS,
        calibration=CALIBRATED,
        pixels=pixels[:PARITY_SAMPLES],
        read_train_embedding=lambda: [features[:120]],
        val_embedding=features[120:],
        baselines=dict(fit_baselines(FeatureTable.hold(features[None, :120]), labels[:120], 2).__dict__),
        trained_on=tuple(samples),
        held_out=HELD_OUT,
        patients=PATIENTS,
    )
    session = write_graph(model, run / "bundle")
    manifest = finish_bundle(model, session, (DEFAULT_POINT,), run / "bundle")
    return Delivered(run, model, session, manifest, pixels, labels)


def write_plain_graph(
    path: Path, weight: Floats, bias: Floats, temperature: float = 1.0, *, full: float = 255.0, planes: int = 3
) -> Path:
    """A bundle's graph that can be worked out by hand, written without torch.

    embedding = mean RGB over `full`, `(N, planes)`; logits = embedding @ weight `(planes, C)` + bias `(C,)`;
    probabilities = softmax(logits / temperature); feature_map = the planes over `full`.
    """

    def constant(name: str, value: NDArray[Any]) -> TensorProto:
        return numpy_helper.from_array(value, name)

    nodes = [
        helper.make_node("Cast", ["pixels"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["levels", "full"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["feature_map"], perm=[0, 3, 1, 2]),
        helper.make_node("ReduceMean", ["feature_map", "axes"], ["embedding"], keepdims=0),
        helper.make_node("MatMul", ["embedding", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
        helper.make_node("Div", ["logits", "temperature"], ["cooled"]),
        helper.make_node("Softmax", ["cooled"], ["probabilities"], axis=1),
    ]
    constants = [
        constant("full", np.float32(full).reshape(1)),
        constant("axes", np.array([2, 3], np.int64)),
        constant("weight", weight.astype(np.float32)),
        constant("bias", bias.astype(np.float32)),
        constant("temperature", np.float32(temperature).reshape(1)),
    ]
    shapes: dict[str, list[str | int]] = {
        "probabilities": ["N", len(bias)],
        "logits": ["N", len(bias)],
        "embedding": ["N", planes],
        "feature_map": ["N", planes, "H", "W"],
    }
    graph = helper.make_graph(
        nodes,
        "plain",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", "H", "W", planes])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in OUTPUTS],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


def deliver_plain_bundle(
    folder: Path,
    classes: Sequence[str] = CLASSES,
    *,
    positive: str | None = None,
    weight: Floats | None = None,
    bias: Floats | None = None,
    **changes: Any,
) -> Manifest:
    """A bundle around a plain graph of 8 px pictures; with two classes, P(second) = sigmoid of mean red over 255."""
    n = len(classes)
    folder.mkdir(parents=True, exist_ok=True)
    weight = np.eye(3, n, 1, dtype=np.float32) if weight is None else weight
    bias = np.zeros(n, np.float32) if bias is None else bias
    plan = make_plan(classes, positive=positive, preprocess=make_preprocess(size=8))
    write_plain_graph(folder / MODEL_FILE, weight, bias)
    embedding = np.random.default_rng(0).normal(0.5, 0.1, (90, 3)).astype(np.float32)
    labels = np.arange(90) % n
    plain: dict[str, Any] = {
        "name": "plain",
        "created": "2025-01-31T12:00:00+00:00",
        "snellen_version": "0.0.test",
        "plan": plan,
        # its graph is the plain one: the network is never looked at
        "classifier": Classifier(FrozenBackbone(plan.model), build_head(plan.model.head, 96, n)),
        "weights": NO_WEIGHTS,
        "calibration": Calibration(method="none", temperature=1.0, fitted_on="val", n=0),
        "pixels": np.zeros((1, 8, 8, 3), np.uint8),
        "read_train_embedding": lambda: [embedding[:60]],
        "val_embedding": embedding[60:],
        "baselines": dict(fit_baselines(FeatureTable.hold(embedding[None, :60]), labels[:60], n).__dict__),
        "trained_on": tuple(make_sample(f"{row}.png", classes[label]) for row, label in enumerate(labels)),
        "held_out": (),
        "patients": PATIENTS,
    }
    model = TrainedModel(**{**plain, **changes})
    points = (DEFAULT_POINT,) if positive else ()
    return finish_bundle(model, GraphSession(folder / MODEL_FILE, threads=1), points, folder)


def copy_bundle(source: Path, to: Path) -> Path:
    """A bundle that a test may damage."""
    return Path(shutil.copytree(source, to))


def edit_manifest(folder: Path, **changes: Any) -> None:
    """Replace top-level keys of `manifest.json`."""
    path = folder / MANIFEST_FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")


def seal(folder: Path) -> None:
    """List the files as they now are, as whoever altered them on purpose would."""
    files = {
        path.relative_to(folder).as_posix(): compute_sha256(path)
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST_FILE
    }
    edit_manifest(folder, files=files)
