"""Names and arguments are checked in words; what a backbone and a classifier compute is what their plan says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models import draw_pixels, make_model
from pictures import make_preprocess
from snellen.core.errors import UsageError
from snellen.modeling.architectures import (
    Classifier,
    FrozenBackbone,
    Normalise,
    build_backbone,
    compute_map_shape,
    foresee_map_shape,
    read_backbone_facts,
    require_backbone,
)
from snellen.modeling.blocks import build_head
from snellen.modeling.layer_table import describe_layers
from snellen.records.layers import BatchNorm, Dense, GlobalAvgPool, Relu


def fill_head(head: nn.Sequential, seed: int = 0) -> nn.Sequential:
    """Weights large enough that the logits of two pictures differ."""
    torch.manual_seed(seed)
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=3.0)
    return head.eval()


def build_small(temperature: float = 1.0) -> Classifier:
    torch.manual_seed(0)
    plan = make_model(n_classes=3)
    return Classifier(FrozenBackbone(plan), fill_head(build_head(plan.head, 96, 3)), temperature).eval()


@pytest.fixture(scope="module")
def vgg16() -> FrozenBackbone:
    return FrozenBackbone(make_model(backbone="vgg16"))


def test_unknown_backbone_names_near_ones() -> None:
    with pytest.raises(UsageError, match="mobilenetv2_100"):
        require_backbone("mobilenet_v2_100")


def test_backbone_unlike_any_points_to_the_list() -> None:
    with pytest.raises(UsageError, match="list_models"):
        require_backbone("zzzzzzzzzzzzzzzz")


def test_unknown_pretrained_tag_raises_usage_error() -> None:
    with pytest.raises(UsageError, match="nowhere"):
        read_backbone_facts("tf_efficientnet_lite0.nowhere")


def test_backbone_facts_are_those_of_the_weights() -> None:
    facts = read_backbone_facts("tf_efficientnet_lite0")
    assert (facts.mean, facts.std, facts.size) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 224)


def test_backbone_facts_name_origin_and_licence() -> None:
    facts = read_backbone_facts("mobilenetv2_100")
    assert facts.hub_id.startswith("timm/mobilenetv2_100")
    assert facts.licence == "apache-2.0"


@pytest.mark.parametrize(
    "arguments", [{"bogus": 1}, {"num_classes": 3}, {"act_layer": "bogus"}, {"global_pool": "bogus"}], ids=str
)
def test_backbone_arguments_that_do_not_fit_raise_usage_error(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="backbone_args"):
        build_backbone("test_efficientnet", arguments)


def test_backbone_arguments_that_take_the_map_away_raise_usage_error() -> None:
    plan = make_model(backbone="test_efficientnet", backbone_args={"features_only": True})
    with pytest.raises(UsageError):
        compute_map_shape(FrozenBackbone(plan), make_preprocess(size=64))


def test_backbone_arguments_reach_the_network() -> None:
    plan = make_model(backbone="test_efficientnet", backbone_args={"output_stride": 8})
    assert compute_map_shape(FrozenBackbone(plan), make_preprocess(size=64)) == (256, 8, 8)


def test_backbone_is_built_for_inference() -> None:
    assert not any(module.training for module in build_backbone("test_resnet").modules())


def test_vgg16_leaves_out_the_dense_layers(vgg16: FrozenBackbone) -> None:
    # 13 convolutions of Simonyan and Zisserman 2015; both dense layers would add 119.5 million
    assert sum(parameter.numel() for parameter in vgg16.backbone.parameters()) == 14_714_688


def test_vgg16_gives_map_of_its_last_pooling(vgg16: FrozenBackbone) -> None:
    assert compute_map_shape(vgg16, make_preprocess(size=32)) == (512, 1, 1)


def test_input_too_small_for_backbone_names_the_size(vgg16: FrozenBackbone) -> None:
    with pytest.raises(UsageError, match="16×16"):
        compute_map_shape(vgg16, make_preprocess(size=16))


@pytest.mark.parametrize(
    ("backbone", "shape"), [("tf_efficientnet_lite0", (1280, 3, 3)), ("mobilenetv2_100", (1280, 3, 3))]
)
def test_map_shape_is_a_thirty_second_of_the_input(backbone: str, shape: tuple[int, int, int]) -> None:
    assert compute_map_shape(FrozenBackbone(make_model(backbone=backbone)), make_preprocess(size=96)) == shape


def test_map_shape_of_grey_input_is_that_of_colour() -> None:
    frozen = FrozenBackbone(make_model())
    colour, grey = (make_preprocess(size=64, channels=channels) for channels in (3, 1))
    assert compute_map_shape(frozen, grey) == compute_map_shape(frozen, colour)


def test_transformer_without_map_is_refused_in_words() -> None:
    frozen = FrozenBackbone(make_model(backbone="test_vit"))
    with pytest.raises(UsageError, match=r"(?s)no map with height and width.*convolutional"):
        compute_map_shape(frozen, make_preprocess(size=160))


def test_backbone_with_channels_last_is_refused() -> None:
    # its map is (N, h, w, 64): taken as (N, D, h, w), the pool would average over columns and channels
    with pytest.raises(UsageError, match="channels"):
        compute_map_shape(FrozenBackbone(make_model(backbone="test_mambaout")), make_preprocess(size=64))


def test_normalise_is_level_minus_mean_over_std() -> None:
    pixels = torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)
    found = Normalise((0.5, 0.2, 0.4), (0.25, 0.1, 0.3))(pixels)
    # float32 keeps 7 digits
    np.testing.assert_allclose(found.flatten(), [(0 - 0.5) / 0.25, (0.2 - 0.2) / 0.1, (1 - 0.4) / 0.3], atol=1e-6)


def test_normalise_puts_channels_before_rows() -> None:
    pixels = torch.arange(2 * 4 * 5 * 3, dtype=torch.uint8).view(2, 4, 5, 3)
    found = Normalise((0.0,) * 3, (1 / 255,) * 3)(pixels)
    # 255 / 255 is not exact in float32
    np.testing.assert_allclose(found.numpy(), pixels.numpy().transpose(0, 3, 1, 2), rtol=1e-6)


def test_grey_input_equals_rgb_of_the_same_grey() -> None:
    frozen = FrozenBackbone(make_model(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)))
    grey = torch.from_numpy(draw_pixels(2, 64)[..., :1].copy())
    with torch.no_grad():
        one, other = frozen(grey)[0], frozen(grey.repeat(1, 1, 1, 3))[0]
    # the planes lie otherwise in memory, and a convolution may sum them in another order: float32
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_embedding_is_mean_of_the_feature_map() -> None:
    frozen = FrozenBackbone(make_model())
    with torch.no_grad():
        embedding, feature_map = frozen(torch.from_numpy(draw_pixels(2, 64)))
    np.testing.assert_allclose(embedding, feature_map.numpy().mean((2, 3)), rtol=1e-5)  # float32 sums in another order


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_classifier_probabilities_are_softmax_of_cooled_logits(temperature: float) -> None:
    with torch.no_grad():
        probabilities, logits, _, _ = build_small(temperature)(torch.from_numpy(draw_pixels(4, 64)))
    raised = np.exp(logits.numpy().astype(np.float64) / temperature)
    # float32 probabilities carry 7 digits
    np.testing.assert_allclose(probabilities, raised / raised.sum(1, keepdims=True), atol=1e-6)


def test_classifier_adds_the_bias_after_cooling() -> None:
    classifier = build_small()
    classifier.calibrate(2.0, (0.5, 0.0, -0.5))
    with torch.no_grad():
        probabilities, logits, _, _ = classifier(torch.from_numpy(draw_pixels(4, 64)))
    raised = np.exp(logits.numpy().astype(np.float64) / 2 + np.array([0.5, 0.0, -0.5]))
    np.testing.assert_allclose(probabilities, raised / raised.sum(1, keepdims=True), atol=1e-6)  # as above


def test_classifier_logits_do_not_depend_on_temperature() -> None:
    pixels = torch.from_numpy(draw_pixels(2, 64))
    with torch.no_grad():
        assert torch.equal(build_small(1.0)(pixels)[1], build_small(3.0)(pixels)[1])


def test_classifier_logits_are_those_of_the_head_on_the_embedding() -> None:
    classifier = build_small()
    with torch.no_grad():
        _, logits, embedding, _ = classifier(torch.from_numpy(draw_pixels(2, 64)))
        assert torch.equal(logits, classifier.head(embedding))


@pytest.mark.parametrize(("backbone", "size"), [("test_resnet", 64), ("vgg16", 96), ("efficientnet_b0", 100)])
def test_foreseen_shape_is_that_of_the_network(backbone: str, size: int) -> None:
    plan, preprocess = make_model(backbone=backbone), make_preprocess(size=size)
    assert foresee_map_shape(plan, preprocess) == compute_map_shape(FrozenBackbone(plan), preprocess)


def test_foreseen_network_that_cannot_take_its_input_is_refused_as_the_real_one() -> None:
    with pytest.raises(UsageError, match="no map with height and width"):
        foresee_map_shape(make_model(backbone="test_vit"), make_preprocess(size=160))


def test_describe_layers_counts_every_parameter() -> None:
    plan = make_model(head=(GlobalAvgPool(), BatchNorm(), Dense(units=7), Relu()), n_classes=3)
    preprocess = make_preprocess(size=64)
    classifier = Classifier(FrozenBackbone(plan), build_head(plan.head, 96, plan.n_classes))
    total = sum(parameter.numel() for parameter in classifier.parameters())
    assert sum(row.n_parameters for row in describe_layers(plan, preprocess)) == total


def test_describe_layers_calls_only_the_head_trainable() -> None:
    rows = describe_layers(make_model(n_classes=3), make_preprocess(size=64))
    # a linear layer from 96 features to 3 classes: 96·3 weights and 3 offsets
    assert [(row.name, row.n_parameters) for row in rows if row.is_trainable] == [("head dense", 96 * 3 + 3)]


def test_describe_layers_says_how_much_of_the_network_learns() -> None:
    plan, preprocess = make_model(n_classes=3), make_preprocess(size=64)
    whole = next(row for row in describe_layers(plan, preprocess, 1.0) if row.name.startswith("test_resnet"))
    upper = next(row for row in describe_layers(plan, preprocess, 0.5) if row.name.startswith("test_resnet"))
    assert whole.n_trained == whole.n_parameters == upper.n_parameters
    assert 0 < upper.n_trained < upper.n_parameters


def test_describe_layers_goes_from_pixels_to_classes() -> None:
    rows = describe_layers(make_model(n_classes=3), make_preprocess(size=64, channels=1))
    shapes = [row.output_shape for row in rows]
    assert shapes == [(64, 64, 1), (3, 64, 64), (96, 2, 2), (96,), (96,), (3,), (3,)]
