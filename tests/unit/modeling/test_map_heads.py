"""Heads on the feature map, and backbones that a recipe lists: counted, cut, joined and exported like all others."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]  # timm marks no exports
from torch import nn

from models import draw_pixels, make_model
from pictures import make_preprocess
from snellen.inference.session import GraphSession
from snellen.modeling.architectures import (
    LISTED,
    Classifier,
    FrozenBackbone,
    NetworkEnsemble,
    compute_map_shape,
    read_backbone_facts,
)
from snellen.modeling.blocks import HeadEnsemble, MapHead, build_head
from snellen.modeling.cut import count_multiplications, cut_backbone
from snellen.modeling.graph import export_graph
from snellen.modeling.layer_table import describe_layers
from snellen.planning.recipe_files import load_recipe
from snellen.records.layers import (
    Attention,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GaussianNoise,
    GlobalAvgPool,
    HeadLayer,
    MaxPool,
    Prelu,
    Relu,
)
from snellen.records.plan import ModelPlan

SHAPE = (64, 64, 3)
PIXELS = draw_pixels(5, 64)
HEADS: dict[str, tuple[HeadLayer, ...]] = {
    **{
        kind: (Attention.model_validate({"kind": kind}), GlobalAvgPool(), BatchNorm(affine=True), Dense(units=6))
        for kind in ("gap", "se", "cbam", "eca")
    },
    "prelu": (Conv(channels=5), Prelu(per="position"), Flatten(), Dense(units=7), Prelu(per="position"), Prelu()),
    "pools": (BatchNorm(affine=True), MaxPool(), GlobalAvgPool(), GaussianNoise(sigma=1.0), Dropout(p=0.5)),
}  # fmt: skip
BLOCKS = (
    Conv(channels=8), BatchNorm(affine=True), Relu(), MaxPool(), Conv(channels=12), Prelu(per="position"),
    Attention(kind="se"), Dropout(p=0.3), MaxPool(),
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def fill(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights large enough that the logits of two pictures differ."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return module.eval()


def build_classifier(head: tuple[HeadLayer, ...]) -> Classifier:
    torch.manual_seed(0)
    frozen = FrozenBackbone(make_model()).eval()
    built = build_head(head, compute_map_shape(frozen, make_preprocess(size=64)), 3)
    fill(built)
    return Classifier(frozen, built).eval()


def make_listed(channels: int = 1, size: int = 20) -> ModelPlan:
    return make_model(
        backbone=LISTED, layers=BLOCKS, side_px=size, mean=(0.4,) * channels, std=(0.2,) * channels,
        head=(Flatten(), Dense(units=4)), n_classes=3,
    )  # fmt: skip


def run(model: nn.Module, pixels: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        return [found.numpy() for found in model(torch.from_numpy(pixels))]


def test_map_head_works_on_the_feature_map_and_the_embedding_stays_its_mean() -> None:
    classifier = build_classifier(HEADS["prelu"])
    _, logits, embedding, feature_map = run(classifier, PIXELS)
    with torch.no_grad():
        expected = classifier.head(torch.from_numpy(feature_map)).numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(embedding, feature_map.mean((2, 3)), rtol=1e-4, atol=1e-6)
    assert np.ptp(logits, axis=0).max() > 1e-3


@pytest.mark.parametrize("name", HEADS)
def test_exported_head_says_the_same(name: str, tmp_path: Path) -> None:
    classifier = build_classifier(HEADS[name])
    export_graph(classifier, tmp_path / "head.onnx", shape=SHAPE, outputs=classifier.outputs)
    found = GraphSession(tmp_path / "head.onnx", threads=1).run(PIXELS, classifier.outputs)
    for output, expected in zip(classifier.outputs, run(classifier, PIXELS), strict=True):
        np.testing.assert_allclose(found[output], expected, rtol=1e-3, atol=1e-4)  # as a bundle's parity asks
    assert np.ptp(found["logits"], axis=0).max() > 1e-3


def test_map_heads_of_folds_share_a_backbone() -> None:
    alone = [build_classifier(HEADS["gap"]) for _ in range(3)]
    for seed, each in enumerate(alone):
        fill(each.head, seed + 1)
    together = Classifier(alone[0].frozen, HeadEnsemble([each.head for each in alone])).eval()  # type: ignore[misc]  # Sequential
    found = dict(zip(together.outputs, run(together, PIXELS), strict=True))
    expected = np.stack([run(each, PIXELS)[1] for each in alone], 1)
    np.testing.assert_allclose(found["member_logits"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["logits"], expected.mean(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_networks_of_folds_have_map_heads_of_their_own(share: float) -> None:
    alone = [build_classifier(HEADS["gap"]) for _ in range(3)]
    for seed, each in enumerate(alone):
        fill(each.head, seed + 1)
    uppers = [cut_backbone(each.frozen, SHAPE, share).upper for each in alone]
    members = [[(at, each.head)] for at, each in enumerate(alone)]
    lower = cut_backbone(alone[0].frozen, SHAPE, share).lower
    ensemble = NetworkEnsemble(lower, uppers, members).eval()  # type: ignore[arg-type]  # each head is a Sequential
    found = dict(zip(ensemble.outputs, run(ensemble, PIXELS), strict=True))
    expected = np.stack([run(each, PIXELS)[1] for each in alone], 1)
    np.testing.assert_allclose(found["member_logits"], expected, rtol=1e-3, atol=1e-4)


def test_cut_of_share_0_leaves_the_whole_network_below() -> None:
    frozen = FrozenBackbone(make_model()).eval()
    halves = cut_backbone(frozen, SHAPE, 0.0)
    assert list(halves.upper.parameters()) == []
    with torch.no_grad():
        pixels = torch.from_numpy(PIXELS)
        assert torch.equal(halves.upper(halves.lower(pixels)), frozen(pixels)[1])


def test_listed_backbone_takes_grey_pictures_in_one_channel() -> None:
    frozen = FrozenBackbone(make_listed())
    assert compute_map_shape(frozen, make_preprocess(size=20, channels=1)) == (12, 5, 5)
    assert next(frozen.backbone.parameters()).shape == (8, 1, 3, 3)


def test_listed_backbone_takes_colours_in_three() -> None:
    frozen = FrozenBackbone(make_listed(channels=3))
    assert next(frozen.backbone.parameters()).shape == (8, 3, 3, 3)


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_listed_backbone_can_be_cut(share: float) -> None:
    frozen = FrozenBackbone(make_listed()).eval()
    fill(frozen.backbone)
    halves = cut_backbone(frozen, (20, 20, 1), share)
    pixels = torch.from_numpy(draw_pixels(3, 20)[..., :1].copy())
    with torch.no_grad():
        assert torch.allclose(halves.upper(halves.lower(pixels)), frozen(pixels)[1], atol=1e-5)
    assert halves.share == pytest.approx(share, abs=0.3)


def test_multiplications_of_a_listed_backbone_are_counted_by_hand() -> None:
    layers = (Conv(channels=8), MaxPool(), Conv(channels=4))
    plan = make_model(backbone=LISTED, layers=layers, side_px=20, mean=(0.0,), std=(1.0,))
    found = count_multiplications(plan, make_preprocess(size=20, channels=1))
    assert found == 9 * 8 * 400 + 8 * 9 * 4 * 100


def test_dropout_of_a_listed_backbone_works_in_training_behind_a_cut() -> None:
    plan = make_model(backbone=LISTED, layers=(Conv(channels=8), Dropout(p=0.5)), side_px=8, mean=(0.0,), std=(1.0,))
    upper = cut_backbone(FrozenBackbone(plan), (8, 8, 1), 1.0).upper.train()
    planes = torch.rand(2, 1, 8, 8)
    assert not torch.equal(upper(planes), upper(planes))
    assert torch.equal(upper.eval()(planes), upper(planes))


def test_listed_backbone_is_exported_as_trained(tmp_path: Path) -> None:
    plan = make_listed()
    frozen = FrozenBackbone(plan).eval()
    fill(frozen.backbone)
    head = build_head(plan.head, (12, 5, 5), 3)
    classifier = Classifier(frozen, head).eval()
    export_graph(classifier, tmp_path / "small.onnx", shape=(20, 20, 1), outputs=classifier.outputs)
    pixels = draw_pixels(4, 20)[..., :1].copy()
    found = GraphSession(tmp_path / "small.onnx", threads=1).run(pixels, classifier.outputs)
    for output, expected in zip(classifier.outputs, run(classifier, pixels), strict=True):
        np.testing.assert_allclose(found[output], expected, rtol=1e-3, atol=1e-4)


def test_timm_sorts_a_listed_backbone_by_depth() -> None:
    backbone = FrozenBackbone(make_listed()).backbone
    groups = param_groups_layer_decay(backbone, weight_decay=0.1, layer_decay=0.5)
    first, last = backbone.layers[0].weight, backbone.layers[6].fc2.weight  # type: ignore[union-attr,index]  # by their places

    def find(wanted: torch.Tensor) -> float:
        return next(group["lr_scale"] for group in groups if any(each is wanted for each in group["params"]))

    assert find(first) < find(last)


def test_nobody_published_weights_of_a_listed_backbone() -> None:
    assert (read_backbone_facts(LISTED).hub_id, read_backbone_facts(LISTED).mean) == ("", (0.0, 0.0, 0.0))


def count(recipe: str, *, size: int, channels: int, share: float) -> tuple[int, int]:
    """Parameters that learn and that are frozen, with four classes."""
    wish = load_recipe(recipe).recipe.model
    is_listed = wish.backbone == LISTED
    planes = channels if is_listed else 3
    plan = make_model(
        backbone=wish.backbone, layers=wish.layers, side_px=size if is_listed else 0, mean=(0.0,) * planes,
        std=(1.0,) * planes, head=wish.head, n_classes=4,
    )  # fmt: skip
    rows = describe_layers(plan, make_preprocess(size=size, channels=channels), share)
    trained = sum(row.n_trained for row in rows)
    return trained, sum(row.n_parameters for row in rows) - trained


def test_kermany_vgg16_has_the_published_parameters() -> None:
    assert count("kermany-vgg16", size=256, channels=3, share=0.0) == (1_086_236, 14_714_688)


def test_octmnist_cnn_has_the_published_parameters() -> None:
    assert count("octmnist-cnn", size=28, channels=1, share=1.0) == (167_172, 0)


def test_frozen_listed_backbone_is_told_as_frozen() -> None:
    trained, frozen = count("octmnist-cnn", size=28, channels=1, share=0.0)
    assert trained + frozen == 167_172
    assert trained == 1152 * 64 + 64 + 64 * 4 + 4


def test_map_head_is_copied_as_one() -> None:
    assert isinstance(copy.deepcopy(build_head(HEADS["gap"], (96, 2, 2), 3)), MapHead)
