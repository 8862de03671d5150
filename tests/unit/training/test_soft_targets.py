"""Probabilities instead of labels: the loss is torch's, and each view gets the answer to that view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models import draw_pixels, make_pixel_cache, make_plan, write_plain_graph
from pictures import make_augment
from snellen.inference.session import GraphSession
from snellen.training.features import FeatureStore
from snellen.training.soft_targets import SoftLoss, SoftTargets, Teacher, soften

MOVED = make_augment(flip_horizontal=True, rotation_deg=20.0, translation=0.1, brightness=0.2)


def draw(n: int = 7, n_classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(n, n_classes, generator=generator, dtype=torch.float64)
    return logits, torch.softmax(torch.randn(n, n_classes, generator=generator, dtype=torch.float64), 1)


def test_loss_is_the_cross_entropy_with_probabilities() -> None:
    logits, targets = draw()
    loss = SoftLoss(torch.ones(3))
    found = loss.compute(logits, targets, loss.sum_weights(targets))
    assert float(found) == pytest.approx(float(torch.nn.functional.cross_entropy(logits, targets)), abs=1e-12)


def test_gradient_is_softmax_minus_target() -> None:
    logits, targets = draw()
    logits.requires_grad_(True)
    SoftLoss(torch.ones(3)).compute(logits, targets, len(targets)).backward()
    assert logits.grad is not None
    expected = (torch.softmax(logits.detach(), 1) - targets) / len(targets)
    assert torch.allclose(logits.grad, expected, atol=1e-12)


def test_sure_targets_give_the_loss_of_labels() -> None:
    logits, _ = draw()
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    sure = torch.nn.functional.one_hot(labels, 3).double()
    found = SoftLoss(torch.ones(3)).compute(logits, sure, 7.0)
    assert float(found) == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), abs=1e-12)


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    logits, targets = draw()
    loss = SoftLoss(torch.ones(3))
    parts = [float(loss.compute(logits[at], targets[at], 7.0)) for at in (slice(0, 4), slice(4, 7))]
    assert sum(parts) == pytest.approx(float(loss.compute(logits, targets, 7.0)), abs=1e-12)


def test_each_view_gets_the_answer_to_that_view() -> None:
    arrays = tuple(np.arange(10, dtype=np.float32).reshape(5, 2) + 100 * view for view in range(3))
    targets = SoftTargets(arrays, np.array([4, 0, 2]))
    found = targets.take(np.array([0, 1, 2, 0]), np.array([0, 2, 1, 2]))
    assert found.tolist() == [[8, 9], [200, 201], [104, 105], [208, 209]]
    assert found.dtype == torch.float32


def test_no_class_weighs_more_and_no_prior_moves() -> None:
    made = soften(np.array([0, 0, 0, 1]), 2)
    assert made.draw is None
    assert made.shift.tolist() == [0, 0]
    assert made.loss.sum_weights(torch.full((4, 2), 0.5)) == 4


@pytest.fixture
def teacher(tmp_path: Path) -> Teacher:
    """A graph with as many classes as features: what is kept of the one may not pass for the other."""
    graph = write_plain_graph(tmp_path / "model.onnx", 9 * np.eye(3, dtype=np.float32), np.zeros(3, np.float32), 2.0)
    return Teacher(graph, tmp_path)


def test_teacher_answers_the_very_views_that_are_learned_from(teacher: Teacher, tmp_path: Path) -> None:
    cache, _ = make_pixel_cache(draw_pixels(6, 16), tmp_path)
    plan = make_plan().model_copy(update={"augment": MOVED})
    shown = FeatureStore(teacher.graph, cache, MOVED, tmp_path, plan.training.seed, 1, randaugment=9)
    shown.compute(np.arange(6), 2)  # features of the same graph in the same folder
    rows = np.array([4, 1, 3])
    targets = teacher.answer(cache, rows, plan, views=2, randaugment=9)
    session = GraphSession(teacher.graph, threads=1)
    for view in range(3):
        said = session.run(shown.draw(rows, view), ("probabilities",))["probabilities"]
        found = targets.take(np.arange(3), np.full(3, view)).numpy()
        assert found == pytest.approx(said, abs=1e-6)
        assert found.sum(1) == pytest.approx(1, abs=1e-6)


def test_other_graph_is_another_teacher(teacher: Teacher, tmp_path: Path) -> None:
    other = write_plain_graph(tmp_path / "other.onnx", np.eye(3, dtype=np.float32), np.zeros(3, np.float32))
    assert Teacher(other, tmp_path).sha256 != teacher.sha256
