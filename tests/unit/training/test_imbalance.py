"""Each method does what its source says, and what it does to the prior is taken back exactly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from imblearn.combine import SMOTETomek
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler
from scipy.optimize import minimize
from torch import nn

from models import compute_probabilities, draw_features, make_plan
from snellen.core.errors import UsageError
from snellen.records.layers import GlobalAvgPool
from snellen.records.plan import ImbalancePlan, Plan
from snellen.training import imbalance
from snellen.training.feature_table import FeatureTable
from snellen.training.head import FittedHead, HeadData, fit_head
from snellen.training.imbalance import ClassLoss, Rebalanced, compute_class_weights, rebalance
from snellen.training.more_views import list_further_views

PLAIN = ["none", "class_weights", "balanced_sampling", "focal", "logit_adjustment"]
RESAMPLERS = ["smote", "smote_tomek", "random_over", "random_under"]
METHODS = [*PLAIN, *RESAMPLERS, "augment"]
ADAMW: dict[str, Any] = {"optimizer": "adamw", "lr": 0.01, "epochs": 40, "weight_decay": (1e-3,)}
LABELS = np.array([0] * 60 + [1] * 25 + [2] * 15)


def plan_of(method: str, *, n_classes: int = 2, stage: dict[str, Any] | None = None, **parameters: Any) -> Plan:
    plan = make_plan(tuple("abc"[:n_classes]), imbalance=method, stage=stage)
    return plan.model_copy(update={"imbalance": plan.imbalance.model_copy(update=parameters)})


def draw_rare() -> HeadData:
    """One picture in ten shows class 1, in training and in validation."""
    data = draw_features(1000, distance=0.4)
    kept = np.sort(
        np.concatenate([np.flatnonzero(data.train_labels == 0), np.flatnonzero(data.train_labels == 1)[:55]])
    )
    return HeadData(
        FeatureTable.hold(data.train.load()[:, kept]), data.train_labels[kept], data.val[kept], data.val_labels[kept]
    )


def with_spare(data: HeadData, seed: int = 0) -> HeadData:
    """The same with further views, drawn near the pictures, for `augment`."""
    rows, n = data.train.load(), len(data.train_labels)
    wanted = list_further_views(data.train_labels, [np.arange(n)], len(rows), seed)
    random = np.random.default_rng(3)
    spare = tuple((rows[0] + random.normal(0, 0.1, rows[0].shape)).astype(np.float32) for _ in wanted)
    return replace(data, train=FeatureTable(tuple(rows), np.arange(n), spare))


def draw_logits(n: int = 100, n_classes: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(2).normal(0, 2, (n, n_classes)).astype(np.float32))


def get_state(fitted: FittedHead) -> np.ndarray:
    return np.concatenate([tensor.double().numpy().ravel() for tensor in fitted.head.state_dict().values()])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stage", [{}, ADAMW], ids=["lbfgs", "adamw"])
def test_every_method_gives_probabilities_at_the_prior(method: str, stage: dict[str, Any]) -> None:
    data = with_spare(draw_rare())
    plan = plan_of(method, stage=stage)
    head = fit_head(data, plan).head
    if method == "focal":  # its head is too cautious until the temperature; what it means is told by `recover`
        loss = ClassLoss(torch.ones(2), gamma=2.0)
        with torch.no_grad():
            logits = loss.recover(head(torch.from_numpy(data.val)))
        found = torch.softmax(logits, 1)[:, 1].mean().item()
    else:
        found = float(compute_probabilities(head, data.val)[:, 1].mean())
    # exact for the true density ratio; a head fitted to 55 pictures of the rare class leaves a hundredth or three
    assert found == pytest.approx(data.val_labels.mean(), abs=0.04)


@pytest.mark.parametrize("method", ["class_weights", "balanced_sampling", *RESAMPLERS, "augment"])
@pytest.mark.parametrize("stage", [{}, ADAMW], ids=["lbfgs", "adamw"])
def test_shift_left_in_would_be_far_from_the_prior(method: str, stage: dict[str, Any]) -> None:
    data = with_spare(draw_rare())
    plan = plan_of(method, stage=stage)
    head = fit_head(data, plan).head
    shift = rebalance(data.train, data.train_labels, 2, plan.imbalance, in_batches=True, seed=0).shift
    last = head[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias.add_(shift)
    assert compute_probabilities(head, data.val)[:, 1].mean() > data.val_labels.mean() + 0.15


def test_focal_without_gamma_is_cross_entropy() -> None:
    logits, labels = draw_logits(), torch.from_numpy(LABELS)
    found = ClassLoss(torch.ones(3), gamma=0.0).compute(logits, labels, 100.0)
    assert torch.equal(found, nn.functional.cross_entropy(logits, labels, reduction="sum") / 100.0)


def test_focal_without_gamma_gives_the_head_of_no_method() -> None:
    data = draw_rare()
    one, other = (fit_head(data, plan) for plan in (plan_of("focal", focal_gamma=0.0), plan_of("none")))
    assert np.array_equal(get_state(one), get_state(other))


def test_focal_loss_is_that_of_its_formula() -> None:
    logits, labels = draw_logits(), torch.from_numpy(LABELS)
    raised = np.exp(logits.double().numpy())
    own = (raised / raised.sum(1, keepdims=True))[np.arange(100), LABELS]
    expected = ((1 - own) ** 1.5 * -np.log(own)).mean()
    assert float(ClassLoss(torch.ones(3), gamma=1.5).compute(logits, labels, 100.0)) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_gradient_is_finite_for_certain_pictures(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    ClassLoss(torch.ones(2), gamma=gamma).compute(logits, torch.tensor([0, 0]), 2.0).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_recovered_focal_minimiser_is_the_true_probability(gamma: float) -> None:
    truth = np.array([0.7, 0.2, 0.1])

    def risk(logits: np.ndarray) -> float:
        own = np.exp(logits) / np.exp(logits).sum()
        return float((truth * (1 - own) ** gamma * -np.log(own)).sum())

    minimiser = minimize(risk, np.zeros(3), method="BFGS", options={"gtol": 1e-9}).x
    cautious = np.exp(minimiser) / np.exp(minimiser).sum()
    recovered = ClassLoss(torch.ones(3), gamma=gamma).recover(torch.from_numpy(minimiser)[None])
    assert cautious[0] < 0.66  # it is not the truth before
    np.testing.assert_allclose(torch.softmax(recovered, 1)[0].numpy(), truth, atol=1e-4)


def test_recovering_stands_large_logits() -> None:
    found = ClassLoss(torch.ones(2), gamma=2.0).recover(torch.tensor([[300.0, 0.0], [0.0, 300.0]]))
    assert found.isfinite().all()
    assert found.argmax(1).tolist() == [0, 1]


def test_logit_adjustment_is_training_with_shifted_logits() -> None:
    data = draw_rare()
    prior = np.bincount(data.train_labels) / len(data.train_labels)
    head = nn.Linear(8, 2)
    rows, labels = torch.from_numpy(data.train.load()[0]), torch.from_numpy(data.train_labels)
    made = rebalance(data.train, data.train_labels, 2, plan_of("logit_adjustment").imbalance, in_batches=False, seed=0)
    shifted = head(rows) + torch.from_numpy(np.log(prior)).float()
    expected = nn.functional.cross_entropy(shifted, labels, reduction="sum") / len(labels)
    assert made.loss.compute(head(rows), labels, len(labels)).item() == pytest.approx(expected.item(), rel=1e-6)


def test_undone_logit_adjustment_is_the_head_of_no_method() -> None:
    """The penalty leaves the offset of a linear head free, so both problems have one solution."""
    data = draw_rare()
    stage = {"weight_decay": (0.1,)}
    model = {"head": (GlobalAvgPool(),)}
    heads = [
        fit_head(data, make_plan("ab", imbalance=method, stage=stage, model=model)).head
        for method in ("logit_adjustment", "none")
    ]
    one, other = (compute_probabilities(head, data.val) for head in heads)
    # the last epochs before convergence differ by some thousandths
    np.testing.assert_allclose(one, other, atol=5e-3)


def test_tau_scales_what_is_taken_back() -> None:
    table = FeatureTable.hold(np.zeros((1, 100, 2), np.float32))
    plan = ImbalancePlan(method="logit_adjustment", logit_tau=0.5)
    made = rebalance(table, LABELS, 3, plan, in_batches=False, seed=0)
    np.testing.assert_allclose(made.shift, -0.5 * np.log([0.6, 0.25, 0.15]), rtol=1e-6)


def test_balanced_draws_are_in_expectation_class_weights() -> None:
    table = FeatureTable.hold(np.zeros((1, 100, 2), np.float32))
    made = rebalance(table, LABELS, 3, ImbalancePlan(method="balanced_sampling"), in_batches=True, seed=0)
    assert made.draw is not None
    losses = nn.functional.cross_entropy(draw_logits(), torch.from_numpy(LABELS), reduction="none")
    weights = compute_class_weights(LABELS, 3)
    weighted = ClassLoss(weights).compute(draw_logits(), torch.from_numpy(LABELS), 100.0)
    assert (made.draw * losses).sum().item() == pytest.approx(weighted.item(), rel=1e-5)
    drawn = torch.multinomial(made.draw, 30_000, replacement=True, generator=torch.Generator().manual_seed(0))
    # 30,000 draws: a share's standard error is 0.003
    np.testing.assert_allclose(np.bincount(LABELS[drawn.numpy()]) / 30_000, 1 / 3, atol=0.012)


def test_steps_on_all_pictures_take_the_expectation_of_balanced_draws() -> None:
    data = draw_rare()
    one, other = (fit_head(data, plan_of(method)) for method in ("balanced_sampling", "class_weights"))
    assert np.array_equal(get_state(one), get_state(other))


def rebalance_rows(rows: np.ndarray, labels: np.ndarray, method: str, seed: int = 0) -> Rebalanced:
    """Rows `(views, N, D)` by a method."""
    plan = ImbalancePlan.model_validate({"method": method})
    return rebalance(FeatureTable.hold(rows), labels, 3, plan, in_batches=False, seed=seed)


@pytest.mark.parametrize(
    ("method", "sampler"),
    [
        ("smote", SMOTE(k_neighbors=5, random_state=7)),
        ("smote_tomek", SMOTETomek(smote=SMOTE(k_neighbors=5, random_state=7))),
        ("random_over", RandomOverSampler(random_state=7)),
        ("random_under", RandomUnderSampler(random_state=7)),
    ],
)
def test_resampled_features_are_those_of_imbalanced_learn_on_standardised_rows(method: str, sampler: SMOTE) -> None:
    random = np.random.default_rng(4)
    rows = ((random.normal(size=(100, 6)) + 0.7 * LABELS[:, None]) * [1, 9, 0.1, 1, 2, 30] + 5).astype(np.float32)
    mean, scale = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
    expected, expected_labels = sampler.fit_resample((rows - mean) / scale, LABELS)
    found = rebalance_rows(rows[None], LABELS, method, seed=7)
    assert found.labels.tolist() == expected_labels.tolist()
    np.testing.assert_allclose((found.table.load()[0] - mean) / scale, expected, atol=1e-4)


def test_old_name_of_smote_gives_the_same_head() -> None:
    data = draw_rare()
    one, other = (fit_head(data, plan_of(method)) for method in ("oversample_features", "smote"))
    assert np.array_equal(get_state(one), get_state(other))


def test_new_features_lie_between_pictures_and_never_between_views() -> None:
    views = np.random.default_rng(0).normal(size=(3, 100, 4)).astype(np.float32)
    views[1:] += 100  # what has anything of a view is far away
    found = rebalance_rows(views, LABELS, "smote")
    made = found.table.load()
    assert made.shape == (3, 180, 4)
    assert np.bincount(found.labels).tolist() == [60, 60, 60]
    np.testing.assert_array_equal(made[:, :100], views)
    for label in (1, 2):
        own, new = views[0][label == LABELS], made[:, 100:][:, found.labels[100:] == label]
        assert (new >= own.min(0) - 1e-5).all()
        assert (new <= own.max(0) + 1e-5).all()


@pytest.mark.parametrize("method", RESAMPLERS)
def test_shift_is_log_of_the_effective_share_over_the_true_one(method: str) -> None:
    rows = np.random.default_rng(0).normal(size=(1, 100, 4)).astype(np.float32)
    found = rebalance_rows(rows, LABELS, method)
    after = np.bincount(found.labels)
    np.testing.assert_allclose(found.shift, np.log(after / after.sum() / [0.6, 0.25, 0.15]), rtol=1e-5)
    assert found.counts is not None
    assert found.counts.tolist() == [[60, 25, 15], after.tolist()]


@pytest.mark.parametrize("method", PLAIN)
def test_what_resamples_nothing_counts_nothing(method: str) -> None:
    assert rebalance_rows(np.zeros((1, 100, 2), np.float32), LABELS, method).counts is None


def test_class_of_one_picture_is_repeated() -> None:
    rows = np.random.default_rng(0).normal(size=(1, 11, 3)).astype(np.float32)
    found = rebalance_rows(rows, np.array([0] * 10 + [1]), "smote")
    assert found.labels.tolist() == [0] * 10 + [1] * 10
    np.testing.assert_allclose(found.table.load()[0, 10:], np.repeat(rows[0, 10:], 10, axis=0), atol=1e-6)


def test_augment_shows_smaller_classes_in_their_further_views() -> None:
    rows = np.zeros((2, 100, 1), np.float32)
    rows[1] = 1
    # class 1 is shown 2.4 times as often, class 2 four times: with two slots up to eight views
    spare = tuple(np.full((100, 1), view, np.float32) for view in range(2, 8))
    table = FeatureTable(tuple(rows), np.arange(100), spare)
    found = rebalance(table, LABELS, 3, ImbalancePlan(method="augment"), in_batches=False, seed=0)
    assert np.bincount(found.labels).tolist() == [60, 60, 60]
    shown = found.table.load()[..., 0]
    assert set(shown[:, found.labels == 0].ravel()) == {0, 1}
    assert np.bincount(shown[:, found.labels == 2].ravel().astype(int)).tolist() == [15] * 8
    assert (shown[1] == shown[0] + 1).all()  # each showing has a pair of views of its own


def test_augment_without_further_views_is_refused() -> None:
    with pytest.raises(ValueError, match="further views"):
        fit_head(draw_rare(), plan_of("augment"))


def test_oversampling_beyond_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imbalance, "OVERSAMPLED_BYTES", 1000)
    with pytest.raises(UsageError, match="class_weights"):
        fit_head(draw_rare(), plan_of("smote"))


@pytest.mark.parametrize("method", METHODS)
def test_equal_seeds_give_equal_heads(method: str) -> None:
    data, plan = with_spare(draw_features(60)), plan_of(method, stage={**ADAMW, "epochs": 5})
    assert np.array_equal(get_state(fit_head(data, plan)), get_state(fit_head(data, plan)))


def test_balanced_draws_differ_with_the_seed() -> None:
    data, plan = draw_rare(), plan_of("balanced_sampling", stage={**ADAMW, "epochs": 3})
    other = plan.model_copy(update={"training": plan.training.model_copy(update={"seed": 1})})
    assert not np.allclose(get_state(fit_head(data, plan)), get_state(fit_head(data, other)))


def test_validation_features_never_change_what_is_drawn() -> None:
    data, plan = draw_rare(), plan_of("smote_tomek", stage={"epochs": 3, "patience": 3})
    other = replace(data, val=data.val + 100)
    one, two = (fit_head(each, plan).epochs[0].train_loss for each in (data, other))
    assert one == two
