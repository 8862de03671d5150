"""Networks of several folds in one graph: the mean of their logits, and what each says."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models import draw_pixels, make_model
from snellen.inference.session import GraphSession
from snellen.modeling.architectures import Classifier, FrozenBackbone, NetworkEnsemble
from snellen.modeling.blocks import build_head
from snellen.modeling.cut import cut_backbone
from snellen.modeling.graph import export_graph
from snellen.records.bundle import MEMBER_OUTPUTS, OUTPUTS

SHAPE = (64, 64, 3)
PIXELS = draw_pixels(5, 64)


@pytest.fixture(scope="module")
def built() -> tuple[NetworkEnsemble, list[Classifier]]:
    """Three networks that differ above one common cut, together and each alone."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    plan = make_model(n_classes=3)
    frozen = FrozenBackbone(plan).eval()
    uppers, members, alone = [], [], []
    for _ in range(3):
        own = copy.deepcopy(frozen)
        upper = cut_backbone(own, SHAPE, 0.5).upper
        head = build_head(plan.head, 96, 3).eval()
        with torch.no_grad():
            for parameter in upper.parameters():
                parameter.mul_(1 + 0.2 * torch.randn(()))
        for parameter in head.parameters():
            nn.init.normal_(parameter, std=3.0)
        uppers.append(upper)
        members.append([(len(uppers) - 1, head)])
        alone.append(Classifier(own, head).eval())
    ensemble = NetworkEnsemble(cut_backbone(frozen, SHAPE, 0.5).lower, uppers, members).eval()
    return ensemble, alone


def run(model: nn.Module) -> list[np.ndarray]:
    with torch.no_grad():
        return [found.numpy() for found in model(torch.from_numpy(PIXELS))]


def test_logits_are_the_mean_of_those_of_the_networks_alone(built: tuple[NetworkEnsemble, list[Classifier]]) -> None:
    ensemble, alone = built
    found = dict(zip(ensemble.outputs, run(ensemble), strict=True))
    each = [dict(zip(member.outputs, run(member), strict=True)) for member in alone]
    for name in ("logits", "embedding", "feature_map"):
        # float32 sums in another order
        np.testing.assert_allclose(found[name], np.mean([one[name] for one in each], 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["member_logits"], np.stack([one["logits"] for one in each], 1), atol=1e-4)
    assert np.ptp(found["member_logits"], axis=1).max() > 0.1


def test_outputs_are_named_and_shaped(built: tuple[NetworkEnsemble, list[Classifier]]) -> None:
    ensemble, _ = built
    assert ensemble.n_members == 3
    assert ensemble.outputs == (*OUTPUTS, *MEMBER_OUTPUTS)
    assert [found.shape for found in run(ensemble)] == [(5, 3), (5, 3), (5, 96), (5, 96, 2, 2), (5, 3, 3), (5, 3, 3)]


def test_members_are_calibrated_as_the_whole(built: tuple[NetworkEnsemble, list[Classifier]]) -> None:
    ensemble = copy.deepcopy(built[0])
    ensemble.calibrate(2.0, (0.5, 0.0, -0.5))
    found = dict(zip(ensemble.outputs, run(ensemble), strict=True))
    for logits, probabilities in (("logits", "probabilities"), ("member_logits", "member_probabilities")):
        raised = np.exp(found[logits].astype(np.float64) / 2 + np.array([0.5, 0.0, -0.5]))
        # float32 probabilities carry 7 digits
        np.testing.assert_allclose(found[probabilities], raised / raised.sum(-1, keepdims=True), atol=1e-6)


def test_exported_ensemble_says_the_same(built: tuple[NetworkEnsemble, list[Classifier]], tmp_path: Path) -> None:
    ensemble, _ = built
    export_graph(ensemble, tmp_path / "ensemble.onnx", shape=SHAPE, outputs=ensemble.outputs)
    found = GraphSession(tmp_path / "ensemble.onnx", threads=1).run(PIXELS, ensemble.outputs)
    for name, expected in zip(ensemble.outputs, run(ensemble), strict=True):
        np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=1e-4)  # as a bundle's parity asks


def test_common_part_is_stored_once(built: tuple[NetworkEnsemble, list[Classifier]]) -> None:
    ensemble, alone = built
    one = sum(parameter.numel() for parameter in alone[0].parameters())
    together = sum(parameter.numel() for parameter in ensemble.parameters())
    assert one < together < 3 * one


@pytest.fixture(scope="module")
def averaged(built: tuple[NetworkEnsemble, list[Classifier]]) -> NetworkEnsemble:
    """The first two networks as one model: two branches of a single member."""
    ensemble, alone = built
    branches = [(at, classifier.head) for at, classifier in enumerate(alone[:2])]
    return NetworkEnsemble(ensemble.lower, list(ensemble.uppers)[:2], [branches]).eval()


def test_branches_of_one_member_are_averaged(
    averaged: NetworkEnsemble, built: tuple[NetworkEnsemble, list[Classifier]]
) -> None:
    found = dict(zip(averaged.outputs, run(averaged), strict=True))
    each = [dict(zip(member.outputs, run(member), strict=True)) for member in built[1][:2]]
    assert (averaged.n_members, averaged.outputs) == (1, OUTPUTS)
    for name in ("logits", "embedding", "feature_map"):
        np.testing.assert_allclose(found[name], np.mean([one[name] for one in each], 0), rtol=1e-4, atol=1e-5)


def test_an_upper_part_may_serve_several_members(built: tuple[NetworkEnsemble, list[Classifier]]) -> None:
    ensemble, alone = built
    heads = [classifier.head for classifier in alone]
    members = [[(0, heads[0]), (1, heads[1])], [(0, heads[2])]]
    shared = NetworkEnsemble(ensemble.lower, list(ensemble.uppers)[:2], members).eval()
    found = dict(zip(shared.outputs, run(shared), strict=True))
    with torch.no_grad():
        on_first = heads[2](torch.from_numpy(run(alone[0])[2])).numpy()
    np.testing.assert_allclose(found["member_logits"][:, 1], on_first, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["logits"], found["member_logits"].mean(1), rtol=1e-4, atol=1e-4)


def test_exported_average_says_the_same(averaged: NetworkEnsemble, tmp_path: Path) -> None:
    export_graph(averaged, tmp_path / "averaged.onnx", shape=SHAPE, outputs=averaged.outputs)
    found = GraphSession(tmp_path / "averaged.onnx", threads=1).run(PIXELS, averaged.outputs)
    for name, expected in zip(averaged.outputs, run(averaged), strict=True):
        np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["members", "branches", "shared"])
def test_class_map_adds_up_to_the_mean_logits(
    kind: str, averaged: NetworkEnsemble, built: tuple[NetworkEnsemble, list[Classifier]]
) -> None:
    ensemble, alone = built
    heads = [classifier.head for classifier in alone]
    members = [[(0, heads[0]), (1, heads[1])], [(0, heads[2])]]
    shared = NetworkEnsemble(ensemble.lower, list(ensemble.uppers)[:2], members).eval()
    model = copy.deepcopy({"members": ensemble, "branches": averaged, "shared": shared}[kind])
    model.add_class_map()
    found = dict(zip(model.outputs, run(model), strict=True))
    rest = found["logits"] - found["class_map"].mean((2, 3))
    # the heads' constants, the same for every picture; float32 sums of 96 features
    np.testing.assert_allclose(rest, np.repeat(rest[:1], len(rest), axis=0), atol=1e-3)
    assert np.ptp(found["logits"], axis=0).max() > 0.1


def test_class_map_is_no_part_of_the_weights(averaged: NetworkEnsemble) -> None:
    model = copy.deepcopy(averaged)
    before = set(model.state_dict())
    model.add_class_map()
    assert set(model.state_dict()) == before
