"""New pictures are imbalanced-learn's, rounded to grey levels, and go the way of all pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from imblearn.combine import SMOTETomek
from imblearn.over_sampling import SMOTE

from models import TinyGraph, draw_pixels, make_pixel_cache
from pictures import make_augment
from snellen.imaging.augment import draw_view
from snellen.inference.session import GraphSession
from snellen.records.plan import ImbalancePlan
from snellen.training.features import FeatureStore
from snellen.training.imbalance import rebalance
from snellen.training.pictures import Pictures, resample_pictures

LABELS = np.array([0] * 14 + [1] * 6)
ROWS = np.random.default_rng(1).permutation(24)[:20]
MOVED = make_augment(flip_horizontal=True, rotation_deg=20.0, translation=0.1, brightness=0.2)


@pytest.fixture
def store(tiny: TinyGraph, tmp_path: Path) -> FeatureStore:
    """24 pictures of 16 px, of which 20 are of the training part."""
    cache, _ = make_pixel_cache(draw_pixels(24, 16), tmp_path)
    return FeatureStore(tiny.path, cache, MOVED, tmp_path, seed=0, threads=1)


def plan_of(method: str) -> ImbalancePlan:
    return ImbalancePlan.model_validate({"method": method, "on": "pixels"})


@pytest.mark.parametrize(
    ("method", "sampler"),
    [
        ("smote", SMOTE(k_neighbors=5, random_state=3)),
        ("smote_tomek", SMOTETomek(smote=SMOTE(k_neighbors=5, random_state=3))),
    ],
)
def test_pictures_are_those_of_imbalanced_learn_in_grey_levels(
    store: FeatureStore, method: str, sampler: SMOTE
) -> None:
    rows = store.pixels.pixels[ROWS].reshape(20, -1).astype(np.float32)
    expected, expected_labels = sampler.fit_resample(rows, LABELS)
    found = resample_pictures(store.pixels, ROWS, LABELS, plan_of(method), 3)
    assert found.new is not None
    assert found.new.pixels.dtype == np.uint8
    assert [*LABELS[found.picked], *found.labels] == expected_labels.tolist()
    made = found.new.pixels.reshape(len(found.labels), -1)
    # half a grey level of rounding
    np.testing.assert_allclose(made, expected[len(found.picked) :], atol=0.501)


def test_features_of_new_pictures_are_what_the_graph_says_of_them(store: FeatureStore) -> None:
    plan = plan_of("smote")
    pictures = Pictures(store, ROWS)
    new = pictures.resample(LABELS, plan, 0).new
    assert new is not None
    table = store.compute(ROWS, views=2)
    made = rebalance(table, LABELS, 2, plan, in_batches=False, seed=0, pictures=pictures)
    assert made.table.shape == (3, 28, 4)
    assert np.bincount(made.labels).tolist() == [14, 14]
    session = GraphSession(store.graph, threads=1)
    moved = np.stack(
        [draw_view(each, MOVED, seed=0, view=2, key=key) for each, key in zip(new.pixels, new.hashes, strict=True)]
    )
    for view, pixels in ((0, new.pixels), (2, moved)):
        expected = session.run(pixels, ("embedding",))["embedding"]
        # batches of other sizes may sum in another order: float32 keeps 7 digits
        np.testing.assert_allclose(made.table.load()[view, 20:], expected, atol=1e-6)
    np.testing.assert_array_equal(made.table.load()[:, :20], table.load())


def test_picking_pictures_makes_none(store: FeatureStore) -> None:
    found = resample_pictures(store.pixels, ROWS, LABELS, plan_of("random_under"), 0)
    assert found.new is None
    assert np.bincount(LABELS[found.picked]).tolist() == [6, 6]


def test_other_pictures_of_the_cache_change_nothing(store: FeatureStore) -> None:
    others = np.setdiff1d(np.arange(24), ROWS)
    plan = plan_of("smote")
    one = resample_pictures(store.pixels, ROWS, LABELS, plan, 0).new
    store.pixels.pixels[others] = 255
    other = resample_pictures(store.pixels, ROWS, LABELS, plan, 0).new
    assert one is not None
    assert other is not None
    assert one.key == other.key
    assert np.array_equal(one.pixels, other.pixels)


def test_equal_training_parts_share_what_is_cached(store: FeatureStore) -> None:
    plan = plan_of("smote")
    found = [resample_pictures(store.pixels, ROWS, LABELS, plan, seed).new for seed in (0, 0, 1)]
    keys = [each.key for each in found if each is not None]
    assert keys[0] == keys[1] != keys[2]
