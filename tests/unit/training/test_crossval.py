"""A member knows nothing of the fold that it leaves out: neither its pictures nor its labels, not even by choice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from models import compute_probabilities, draw_features, make_plan
from snellen.core.errors import UsageError
from snellen.records.layers import BatchNorm, Dense, Dropout, GlobalAvgPool, Relu
from snellen.training.crossval import FoldData, choose_epoch, fit_folds
from snellen.training.feature_table import FeatureTable

PLAN = make_plan(("a", "b"), stage={"weight_decay": (1.0, 0.1, 0.01), "epochs": 20, "patience": 5})
DEEP = make_plan(
    ("a", "b"),
    model={"head": (GlobalAvgPool(), BatchNorm(), Dropout(p=0.2), Dense(units=8), Relu())},
    stage={"optimizer": "adamw", "lr": 0.01, "epochs": 8, "weight_decay": (0.01, 1.0)},
)


def draw(n: int = 120, n_folds: int = 4) -> FoldData:
    drawn = draw_features(n, seed=3)
    folds = np.random.default_rng(0).permutation(np.arange(len(drawn.train_labels)) % n_folds)
    return FoldData(drawn.train, drawn.train_labels, folds.astype(np.intp))


def get_state(head: nn.Module) -> np.ndarray:
    return np.concatenate([tensor.double().numpy().ravel() for tensor in head.state_dict().values()])


@pytest.mark.parametrize("plan", [PLAN, DEEP], ids=["lbfgs", "adamw"])
def test_member_does_not_change_with_the_labels_that_it_leaves_out(plan) -> None:  # type: ignore[no-untyped-def]
    data = draw()
    labels = data.labels.copy()
    labels[data.folds == 2] = 1 - labels[data.folds == 2]
    before, after = fit_folds(data, plan), fit_folds(replace(data, labels=labels), plan)
    assert np.array_equal(get_state(before.heads[2]), get_state(after.heads[2]))
    assert before.chosen[2].epoch == after.chosen[2].epoch
    assert before.chosen[2].weight_decay == after.chosen[2].weight_decay
    assert not np.array_equal(get_state(before.heads[1]), get_state(after.heads[1]))


def test_member_does_not_change_with_the_pictures_that_it_leaves_out() -> None:
    data = draw()
    values = data.table.load()
    values[:, data.folds == 1] += 5
    before, after = fit_folds(data, PLAN), fit_folds(replace(data, table=FeatureTable.hold(values)), PLAN)
    assert np.array_equal(get_state(before.heads[1]), get_state(after.heads[1]))
    assert not np.array_equal(get_state(before.heads[0]), get_state(after.heads[0]))


def test_logits_are_those_of_the_member_that_left_the_picture_out() -> None:
    data = draw()
    fitted = fit_folds(data, PLAN)
    features = torch.from_numpy(data.table.load()[0])
    with torch.no_grad():
        by_member = torch.stack([head(features) for head in fitted.heads], 1).double().numpy()
    expected = by_member[np.arange(len(data.labels)), data.folds]
    assert fitted.logits == pytest.approx(expected, abs=1e-5)


def test_member_is_the_logistic_regression_of_the_other_folds() -> None:
    decay = 0.1
    plan = make_plan(("a", "b"), model={"head": (GlobalAvgPool(),)}, stage={"weight_decay": (decay,), "epochs": 60})
    data = draw()
    fitted = fit_folds(data, plan)
    features, kept = data.table.load()[0].astype(np.float64), data.folds != 0
    # two rows of weights penalised by half their squares equal one difference penalised by a quarter of its square
    reference = LogisticRegression(C=2 / (decay * kept.sum()), tol=1e-10, max_iter=5000).fit(
        features[kept], data.labels[kept]
    )
    found = compute_probabilities(fitted.heads[0], features[~kept].astype(np.float32))
    assert found == pytest.approx(reference.predict_proba(features[~kept]), abs=0.02)


def test_epochs_are_recorded_by_member() -> None:
    fitted = fit_folds(draw(), PLAN)
    assert {record.fold for record in fitted.epochs} == {0, 1, 2, 3}
    for fold, chosen in enumerate(fitted.chosen):
        own = [record for record in fitted.epochs if record.fold == fold]
        assert [record.epoch for record in own] == list(range(1, chosen.epoch + 1))


def test_choose_epoch_asks_only_heads_that_saw_neither_fold() -> None:
    """Fold 0 is judged by (0, 1) on 1 and (0, 2) on 2; what is said of fold 0 itself, and by (1, 2), is not heard."""
    lure, plain = np.array([0.0]), np.array([9.0])
    curves = {
        (0, 1): {0.1: {0: lure, 1: np.array([3.0, 1.0])}, 1.0: {0: plain, 1: np.array([2.0, 2.0])}},
        (0, 2): {0.1: {0: lure, 2: np.array([3.0, 2.0])}, 1.0: {0: plain, 2: np.array([0.5])}},
        (1, 2): {0.1: {1: lure, 2: lure}, 1.0: {1: plain, 2: plain}},
    }
    # by pictures: decay 0.1, epoch 2: (1 + 3·2)/4 = 1.75; decay 1, epoch 1: (2 + 3·0.5)/4 = 0.875
    assert choose_epoch(curves, 0, np.array([5, 1, 3])) == (1.0, 1)
    # decay 0.1, epoch 2: (3·1 + 2)/4 = 1.25; decay 1: (3·2 + 0.5)/4 = 1.625
    assert choose_epoch(curves, 0, np.array([5, 3, 1])) == (0.1, 2)


def test_divergence_is_told() -> None:
    plan = make_plan(("a", "b"), stage={"optimizer": "adamw", "lr": 1e30, "epochs": 3, "weight_decay": (1e10,)})
    with pytest.raises(UsageError, match="diverged"):
        fit_folds(draw(), plan)
