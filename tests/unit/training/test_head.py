"""The head is the solution of its stated problem; validation chooses, and nothing else is looked at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from models import compute_probabilities, draw_features, make_plan
from snellen.core.errors import UsageError
from snellen.records.layers import BatchNorm, Dense, Dropout, GlobalAvgPool, Relu
from snellen.records.plan import Plan
from snellen.training import feature_table
from snellen.training.feature_table import FeatureTable
from snellen.training.head import FittedHead, HeadData, fit_head

LINEAR = {"head": (GlobalAvgPool(),)}
DEEP = {"head": (GlobalAvgPool(), BatchNorm(), Dropout(p=0.2), Dense(units=8), Relu())}
ADAMW: dict[str, Any] = {"optimizer": "adamw", "lr": 0.01, "epochs": 40, "weight_decay": (1e-3,)}
NAMES = ("a", "b", "c")


def plan_of(n_classes: int = 2, **changes: Any) -> Plan:
    return make_plan(NAMES[:n_classes], **changes)


def get_state(fitted: FittedHead) -> np.ndarray:
    return np.concatenate([tensor.double().numpy().ravel() for tensor in fitted.head.state_dict().values()])


def compute_loss(head: nn.Module, features: np.ndarray, labels: np.ndarray) -> float:
    """Mean log loss in nats."""
    return float(-np.log(compute_probabilities(head, features)[np.arange(len(labels)), labels]).mean())


def add_views(data: HeadData, views: int) -> HeadData:
    """Training pictures with `views` further views that are a little shifted."""
    random = np.random.default_rng(9)
    plain = data.train.load()[0]
    shifted = [plain + random.normal(0, 0.3, plain.shape).astype(np.float32) for _ in range(views)]
    return replace(data, train=FeatureTable.hold(np.stack([plain, *shifted])))


def solve_with_sklearn(data: HeadData, decay: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows, their probabilities and the objective at the optimum, after scikit-learn.

    Ours: mean loss over M rows + decay/2 · |W|². Theirs: C · sum of losses + |W|²/2. Divide ours by decay:
    C = 1 / (decay · M). With two classes theirs has one vector w = w₁ - w₀ where ours has w₁ = -w₀ = w/2,
    so that |W|² = |w|²/2 and C = 2 / (decay · M). Neither punishes the offset.
    """
    train = data.train.load().astype(np.float64)
    rows = train.reshape(-1, train.shape[2])
    labels = np.tile(data.train_labels, len(train))
    n_classes = int(labels.max()) + 1
    strength = (2 if n_classes == 2 else 1) / (decay * len(rows))
    model = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(rows, labels)
    probabilities = model.predict_proba(rows)
    square = float((model.coef_**2).sum()) / (2 if n_classes == 2 else 1)
    loss = float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())
    return rows.astype(np.float32), probabilities, loss + decay / 2 * square


def draw_validation(rows: np.ndarray, probabilities: np.ndarray, copies: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Validation on which no head is better than `probabilities`: each row 50 times, labels in their shares."""
    upto = np.round(np.cumsum(probabilities, axis=1) * copies).astype(int)
    counts = np.diff(np.column_stack([np.zeros(len(rows), int), upto]), axis=1)
    labels = np.concatenate([np.repeat(np.arange(probabilities.shape[1]), row) for row in counts])
    return np.repeat(rows, copies, axis=0), labels


@pytest.mark.parametrize(("n_classes", "views", "decay"), [(2, 0, 0.1), (3, 0, 0.1), (3, 0, 0.003), (3, 2, 0.1)])
def test_lbfgs_reaches_the_optimum_of_sklearn(n_classes: int, views: int, decay: float) -> None:
    data = add_views(draw_features(150, n_classes), views)
    _, _, optimum = solve_with_sklearn(data, decay)
    fitted = fit_head(data, plan_of(n_classes, model=LINEAR, stage={"weight_decay": (decay,)}))
    # it stops where five steps gain less than 1e-4, and these converge faster than linearly
    assert fitted.epochs[-1].train_loss == pytest.approx(optimum, rel=1e-5)


@pytest.mark.parametrize(("n_classes", "views"), [(2, 0), (3, 0), (3, 2)])
def test_lbfgs_head_says_what_sklearn_says(n_classes: int, views: int) -> None:
    data = add_views(draw_features(150, n_classes), views)
    rows, expected, _ = solve_with_sklearn(data, 0.1)
    val, val_labels = draw_validation(rows, expected)
    data = replace(data, val=val, val_labels=val_labels)
    fitted = fit_head(data, plan_of(n_classes, model=LINEAR, stage={"weight_decay": (0.1,)}))
    # validation labels in fiftieths cannot tell the last epochs apart, which differ by some thousandths
    np.testing.assert_allclose(compute_probabilities(fitted.head, rows), expected, atol=5e-3)


@pytest.mark.parametrize("stage", [{}, ADAMW], ids=["lbfgs", "adamw"])
def test_equal_seeds_give_equal_heads(stage: dict[str, Any]) -> None:
    data, plan = draw_features(60), plan_of(model=DEEP, stage=stage, seed=3)
    assert np.array_equal(get_state(fit_head(data, plan)), get_state(fit_head(data, plan)))


def test_other_seed_gives_another_head_by_adamw() -> None:
    data = draw_features(60)
    one, other = (fit_head(data, plan_of(model=DEEP, stage=ADAMW, seed=seed)) for seed in (0, 1))
    assert not np.allclose(get_state(one), get_state(other))


def test_linear_lbfgs_ends_at_the_same_loss_for_any_seed() -> None:
    data = draw_features(60, distance=0.5)
    losses = [fit_head(data, plan_of(model=LINEAR, seed=seed)).epochs[-1].train_loss for seed in (0, 1)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)  # as where the optimum is compared


@pytest.mark.parametrize("stage", [{}, ADAMW], ids=["lbfgs", "adamw"])
def test_head_learns_what_can_be_told_apart(stage: dict[str, Any]) -> None:
    data = draw_features(120, 3, distance=4.0)
    fitted = fit_head(data, plan_of(3, model=DEEP, stage=stage))
    assert (compute_probabilities(fitted.head, data.val).argmax(1) == data.val_labels).mean() > 0.98


def test_head_learns_nothing_from_labels_drawn_by_lot() -> None:
    data = draw_features(300, distance=0.0)
    fitted = fit_head(data, plan_of(stage={"weight_decay": (1.0,)}))
    # ln 2 is the loss of knowing nothing
    assert compute_loss(fitted.head, data.val, data.val_labels) == pytest.approx(np.log(2), abs=0.02)


def test_head_comes_ready_for_inference() -> None:
    fitted = fit_head(draw_features(60), plan_of(model=DEEP, stage=ADAMW))
    assert not any(module.training for module in fitted.head.modules())


@pytest.mark.parametrize("stage", [{}, ADAMW], ids=["lbfgs", "adamw"])
def test_batch_norm_keeps_statistics_of_training_pictures_without_views(stage: dict[str, Any]) -> None:
    data = add_views(draw_features(60), 2)
    norm = fit_head(data, plan_of(stage=stage)).head[0]
    assert isinstance(norm, nn.BatchNorm1d)
    # float32 sums in another order
    np.testing.assert_allclose(norm.running_mean, data.train.load()[0].mean(0), atol=1e-6)


def test_candidate_with_the_smallest_validation_loss_is_chosen() -> None:
    decays = (10.0, 0.01, 1.0)
    fitted = fit_head(draw_features(60), plan_of(stage={"weight_decay": decays}))
    best = {decay: min(row.val_loss or 0 for row in fitted.epochs if row.weight_decay == decay) for decay in decays}
    assert fitted.chosen.weight_decay == min(best, key=lambda decay: best[decay])


def test_candidates_are_judged_on_validation_not_on_training() -> None:
    # labels by lot, fewer pictures than features: the weak penalty fits training best and validation worst
    data = draw_features(12, n_features=40, distance=0.0)
    fitted = fit_head(data, plan_of(stage={"weight_decay": (1e-4, 3.0)}))
    assert fitted.chosen.weight_decay == 3.0


def test_chosen_tells_the_number_of_candidates() -> None:
    assert fit_head(draw_features(60), plan_of(stage={"weight_decay": (0.1, 1.0, 10.0)})).chosen.n_candidates == 3


def test_every_epoch_of_every_candidate_is_recorded_in_order() -> None:
    stage = {**ADAMW, "epochs": 3, "weight_decay": (0.1, 1.0)}
    found = [
        (row.candidate, row.weight_decay, row.epoch) for row in fit_head(draw_features(60), plan_of(stage=stage)).epochs
    ]
    assert found == [(0, 0.1, 1), (0, 0.1, 2), (0, 0.1, 3), (1, 1.0, 1), (1, 1.0, 2), (1, 1.0, 3)]


def test_cosine_schedule_is_recorded_epoch_by_epoch() -> None:
    stage = {**ADAMW, "lr": 0.2, "epochs": 4, "schedule": "cosine"}
    rates = [row.lr for row in fit_head(draw_features(60), plan_of(stage=stage)).epochs]
    # 0.1 · (1 + cos(πk/4)); the last digits are those of the cosine
    assert rates == pytest.approx([0.2, 0.170710678, 0.1, 0.029289322], abs=1e-9)


def test_validation_scores_of_the_chosen_epoch_are_recorded() -> None:
    fitted = fit_head(draw_features(60), plan_of(stage=ADAMW))
    row = fitted.epochs[fitted.chosen.epoch - 1]
    assert (fitted.chosen.val_loss, fitted.chosen.val_auc) == (row.val_loss, row.val_auc)


def fit_with_early_stop() -> tuple[HeadData, FittedHead]:
    """Few pictures with labels by lot and no penalty: validation grows worse from the start."""
    data = draw_features(20, n_features=30, distance=0.1)
    stage = {**ADAMW, "lr": 0.05, "epochs": 200, "weight_decay": (0.0,), "patience": 6}
    return data, fit_head(data, plan_of(stage=stage))


def test_early_stop_comes_patience_epochs_after_the_best() -> None:
    _, fitted = fit_with_early_stop()
    assert len(fitted.epochs) == fitted.chosen.epoch + 6


def test_early_stop_keeps_the_best_epoch() -> None:
    data, fitted = fit_with_early_stop()
    best = min(row.val_loss for row in fitted.epochs if row.val_loss is not None)
    # a float32 mean of logarithms
    assert compute_loss(fitted.head, data.val, data.val_labels) == pytest.approx(best, rel=1e-5)


def draw_rare() -> HeadData:
    """One picture in ten shows class 1, in training and in validation."""
    data = draw_features(1000, distance=0.4)
    kept = np.sort(
        np.concatenate([np.flatnonzero(data.train_labels == 0), np.flatnonzero(data.train_labels == 1)[:55]])
    )
    return HeadData(
        FeatureTable.hold(data.train.load()[:, kept]), data.train_labels[kept], data.val[kept], data.val_labels[kept]
    )


def test_undone_class_weights_give_probabilities_at_the_prior() -> None:
    data = draw_rare()
    head = fit_head(data, plan_of(imbalance="class_weights")).head
    # the correction is exact for the true density ratio; a fitted one leaves a hundredth or two
    assert compute_probabilities(head, data.val)[:, 1].mean() == pytest.approx(data.val_labels.mean(), abs=0.03)


def test_class_weights_kept_would_be_far_from_the_prior() -> None:
    data = draw_rare()
    head = fit_head(data, plan_of(imbalance="class_weights")).head
    shares = np.bincount(data.train_labels) / len(data.train_labels)
    with torch.no_grad():
        last = head[-1]
        assert isinstance(last, nn.Linear)
        last.bias.add_(torch.from_numpy(np.log(1 / (2 * shares)).astype(np.float32)))
    assert compute_probabilities(head, data.val)[:, 1].mean() > data.val_labels.mean() + 0.15


@pytest.mark.parametrize("imbalance", ["none", "class_weights"])
def test_recorded_validation_loss_is_that_of_the_head_handed_over(imbalance: str) -> None:
    data = draw_rare()
    fitted = fit_head(data, plan_of(imbalance=imbalance))
    # a float32 mean of logarithms
    assert fitted.chosen.val_loss == pytest.approx(compute_loss(fitted.head, data.val, data.val_labels), rel=1e-4)


def test_learning_that_diverges_is_told_with_its_rate() -> None:
    with pytest.raises(UsageError, match="lr"):
        fit_head(draw_features(60), plan_of(stage={**ADAMW, "lr": 1e30}))


def test_candidate_that_diverges_loses_to_one_that_does_not() -> None:
    # each step multiplies the weights by 1 - 0.1 · 100
    stage = {**ADAMW, "lr": 0.1, "weight_decay": (100.0, 1e-3)}
    assert fit_head(draw_features(200), plan_of(stage=stage)).chosen.weight_decay == 1e-3


@pytest.mark.parametrize("optimizer", ["lbfgs", "adamw"])
def test_head_of_features_on_disk_is_that_of_features_in_memory(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = add_views(draw_features(2500, 3, 8), 2)
    plan = make_plan(NAMES[:3], stage=ADAMW if optimizer == "adamw" else {})
    in_memory = fit_head(data, plan)
    monkeypatch.setattr(feature_table, "HELD_BYTES", 0)
    by_blocks = fit_head(data, plan)
    assert by_blocks.chosen.weight_decay == in_memory.chosen.weight_decay
    assert by_blocks.chosen.val_loss == pytest.approx(in_memory.chosen.val_loss, abs=1e-4)
