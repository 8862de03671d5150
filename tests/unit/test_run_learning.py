"""What a run begins with whose first stage learns on the feature map."""

from __future__ import annotations

import numpy as np
import torch

from models import make_plan
from snellen.metrics.calibration import apply_temperature
from snellen.modeling.blocks import MapHead
from snellen.records.layers import BatchNorm, Conv, Flatten, GlobalAvgPool
from snellen.run_learning import guess_by_prior, initialise_head
from snellen.training.feature_table import FeatureTable


def test_guess_by_prior_says_the_shares_of_the_classes() -> None:
    logits = guess_by_prior(np.array([0, 0, 0, 1]), 5, 2)
    np.testing.assert_allclose(apply_temperature(logits, 1.0), np.tile([0.75, 0.25], (5, 1)))


def test_head_begins_the_same_under_the_same_seed_and_leaves_others_chances_alone() -> None:
    plan = make_plan(model={"head": (Conv(channels=3), Flatten())}, seed=4)
    torch.manual_seed(0)
    one = initialise_head(plan, (6, 4, 4), None)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))
    other = initialise_head(plan, (6, 4, 4), None)
    assert isinstance(one, MapHead)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_head_on_pooled_features_standardises_by_those_of_the_training_part() -> None:
    features = np.random.default_rng(0).normal(3, 2, (1, 40, 6)).astype(np.float32)
    head = initialise_head(
        make_plan(model={"head": (GlobalAvgPool(), BatchNorm())}), (6, 4, 4), FeatureTable.hold(features)
    )
    found = head[0](torch.from_numpy(features[0])).numpy()
    np.testing.assert_allclose(found.mean(0), np.zeros(6), atol=1e-4)
