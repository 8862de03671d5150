"""What stays of a stage: before, after or the mean of both, and whose pictures say so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from snellen.metrics.calibration import fit_temperature
from snellen.records.plan import FinetunePlan
from snellen.run_judging import Judged, Tried, describe_outcome, judge
from snellen.run_networks import Branch, Network
from snellen.training.finetune import Finetuned

N = 60
STAGE = FinetunePlan.model_construct(unfreeze="top", share=0.5, keep="better")


def make_branch(*, is_frozen: bool) -> Branch:
    head = nn.Sequential(nn.Linear(2, 2))
    return Branch({}, head, is_frozen=is_frozen)


def make_tried(seed: int, before: float, after: float) -> Tried:
    """Pictures of two classes whose logits are right by so much in units of their noise, and too sure."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, N)
    sign = np.stack([1 - 2 * labels, 2 * labels - 1], 1).astype(float)

    def say(strength: float) -> NDArray[np.float64]:
        return 4 * (sign * strength + random.normal(size=(N, 2)))

    models = [
        Judged(Network((make_branch(is_frozen=frozen),)), logits, logits)
        for frozen, logits in ((True, say(before)), (False, say(after)))
    ]
    patients = tuple(f"{seed}-{number}" for number in range(N))
    found = Finetuned({}, 1.0, 3, 0.5, None, ())
    return Tried(models[0], models[1], labels, patients, found, has_mean=True)


@pytest.mark.parametrize(
    ("before", "after", "kept", "averaged"), [(3.0, 0.0, False, False), (0.0, 3.0, True, False), (1.0, 1.0, True, True)]
)
def test_the_mean_stays_unless_one_is_better(before: float, after: float, kept: bool, averaged: bool) -> None:
    own = make_tried(0, before, after)
    ((model, outcome),) = judge([own], STAGE, (1, [None]))
    assert (outcome.kept, outcome.averaged) == (kept, averaged)
    if averaged:
        assert len(model.network.branches) == 2
    else:
        assert model is (own.after if kept else own.before)


def test_all_members_take_what_their_pictures_say_together() -> None:
    """One fold's pictures say that learning was bad (above), those of the others that the mean is best."""
    tried = [make_tried(0, 3.0, 0.0), *(make_tried(seed, 1.0, 1.0) for seed in range(1, 6))]
    outcomes = [outcome for _, outcome in judge(tried, STAGE, (1, list(range(6))))]
    assert [(outcome.fold, outcome.averaged) for outcome in outcomes] == [(fold, True) for fold in range(6)]
    assert outcomes[0].before_loss < outcomes[0].mean_loss  # of its own pictures
    assert outcomes[1].before_loss > outcomes[1].mean_loss


def test_members_are_averaged_at_the_same_two_temperatures() -> None:
    """Pooled scores of all members must compare."""
    tried = [make_tried(seed, 1.0, 1.0) for seed in (0, 1, 2)]
    judged = judge(tried, STAGE, (1, [0, 1, 2]))
    assert all(outcome.averaged for _, outcome in judged)
    labels = np.concatenate([each.labels for each in tried])
    first, last = (
        fit_temperature(np.concatenate(logits), labels).temperature
        for logits in ([each.before.logits for each in tried], [each.after.logits for each in tried])
    )
    feature = torch.randn(5, 2)
    for (model, _), own in zip(judged, tried, strict=True):
        np.testing.assert_allclose(model.logits, (own.before.logits / first + own.after.logits / last) / 2)
        begins = zip(model.network.branches, (own.before, own.after), (first, last), strict=True)
        for branch, begin, by in begins:  # the networks say what the logits say
            torch.testing.assert_close(branch.head(feature), begin.network.branches[0].head(feature) / by)


def test_always_takes_what_was_learned() -> None:
    own = make_tried(0, 3.0, 0.0)
    ((model, outcome),) = judge([own], STAGE.model_copy(update={"keep": "always"}), (1, [None]))
    assert model is own.after
    assert "though the model before it did better" in describe_outcome(outcome)


def test_where_nothing_was_learned_before_there_is_no_mean() -> None:
    own = replace(make_tried(0, 0.0, 2.0), has_mean=False)
    ((model, outcome),) = judge([own], STAGE.model_copy(update={"keep": "always"}), (0, [None]))
    assert model is own.after
    assert outcome.mean_loss is None
