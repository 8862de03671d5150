"""Features are what the graph says of a picture and view, computed once and found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models import TinyGraph, draw_pixels, make_pixel_cache, write_plain_graph
from pictures import make_augment
from snellen.core.errors import BundleError
from snellen.imaging.augment import draw_view
from snellen.inference.session import GraphSession
from snellen.training.features import FeatureStore

N = 10
ALL = np.arange(N)
MOVED = make_augment(flip_horizontal=True, rotation_deg=20.0, translation=0.1, brightness=0.2)


@pytest.fixture
def store(tiny: TinyGraph, tmp_path: Path) -> FeatureStore:
    """An empty store on ten 16 px pictures."""
    cache, _ = make_pixel_cache(draw_pixels(N, 16), tmp_path)
    return FeatureStore(tiny.path, cache, MOVED, tmp_path, seed=0, threads=1)


def run_directly(store: FeatureStore, pixels: np.ndarray) -> np.ndarray:
    return GraphSession(store.graph, threads=1).run(pixels, ("embedding",))["embedding"]


def open_stored(store: FeatureStore, name: str) -> list[np.ndarray]:
    """The files of this name in the store, writable."""
    return [np.load(path, mmap_mode="r+") for path in sorted((store.folder / "features").glob(f"*/{name}"))]


def test_view_0_is_what_the_graph_says_of_the_pictures(store: FeatureStore) -> None:
    found = store.compute(ALL, views=0).load()
    # batches of other sizes may sum in another order: float32 keeps 7 digits
    np.testing.assert_allclose(found[0], run_directly(store, store.pixels.pixels), atol=1e-6)


def test_view_k_is_what_the_graph_says_of_the_drawn_view(store: FeatureStore) -> None:
    views = [
        draw_view(picture, MOVED, seed=0, view=2, key=key)
        for picture, key in zip(store.pixels.pixels, store.pixels.hashes, strict=True)
    ]
    np.testing.assert_allclose(store.compute(ALL, views=2).load()[2], run_directly(store, np.stack(views)), atol=1e-6)


def test_features_have_a_row_a_view_and_picture(store: FeatureStore) -> None:
    assert store.compute(ALL[:7], views=2).load().shape == (3, 7, 4)


@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 2)])
def test_views_differ_for_every_picture(store: FeatureStore, one: int, other: int) -> None:
    found = store.compute(ALL, views=2).load()
    assert (np.abs(found[one] - found[other]).max(axis=1) > 1e-4).all()


def test_rows_come_in_the_asked_order(store: FeatureStore) -> None:
    whole = store.compute(ALL, views=1).load()
    rows = np.array([5, 2, 2, 9])
    assert np.array_equal(store.compute(rows, views=1).load(), whole[:, rows])


def test_no_rows_give_no_features(store: FeatureStore) -> None:
    assert store.compute(np.array([], np.intp), views=1).load().shape == (2, 0, 4)


def test_all_that_was_computed_is_marked_done(store: FeatureStore) -> None:
    store.compute(ALL, views=1).load()
    assert [done.all() for done in open_stored(store, "done.npy")] == [True, True]


def test_only_what_was_computed_is_marked_done(store: FeatureStore) -> None:
    store.compute(ALL[:3], views=0).load()
    (done,) = open_stored(store, "done.npy")
    assert np.flatnonzero(done).tolist() == [0, 1, 2]


def test_second_call_reads_what_is_stored(store: FeatureStore) -> None:
    store.compute(ALL, views=0).load()
    (stored,) = open_stored(store, "values.npy")
    stored[:] = 7.0  # nothing that the graph would say
    stored.flush()
    assert (store.compute(ALL, views=0).load() == 7.0).all()


def test_more_views_keep_those_there_are(store: FeatureStore) -> None:
    store.compute(ALL, views=1).load()
    for stored in open_stored(store, "values.npy"):
        stored[:] = 7.0
        stored.flush()
    assert [(view == 7.0).all() for view in store.compute(ALL, views=2).load()] == [True, True, False]


def test_store_done_in_part_goes_on_to_the_same_values(store: FeatureStore) -> None:
    whole = store.compute(ALL, views=0).load()
    (done,), (stored,) = open_stored(store, "done.npy"), open_stored(store, "values.npy")
    done[4:], stored[4:] = False, np.nan  # as a process leaves it that was killed
    done.flush()
    stored.flush()
    # batches of other sizes may sum in another order: float32 keeps 7 digits
    np.testing.assert_allclose(store.compute(ALL, views=0).load(), whole, atol=1e-6)


def test_store_whose_marks_were_cut_off_is_computed_anew(store: FeatureStore) -> None:
    whole = store.compute(ALL, views=0).load()
    (path,) = (store.folder / "features").glob("*/done.npy")
    path.write_bytes(b"")  # as a power cut leaves it
    np.testing.assert_allclose(store.compute(ALL, views=0).load(), whole, atol=1e-6)


def test_another_store_on_the_same_gives_the_same(store: FeatureStore, tmp_path: Path) -> None:
    other = replace(store, folder=tmp_path / "elsewhere")
    assert np.array_equal(other.compute(ALL, views=1).load(), store.compute(ALL, views=1).load())


def test_other_seed_draws_other_views(store: FeatureStore) -> None:
    one, other = (replace(store, seed=seed).compute(ALL, views=1).load() for seed in (0, 1))
    assert (np.abs(one[1] - other[1]).max(axis=1) > 1e-4).all()


def test_other_seed_shares_the_pictures_themselves(store: FeatureStore) -> None:
    for seed in (0, 1):
        replace(store, seed=seed).compute(ALL, views=0).load()
    assert len(open_stored(store, "values.npy")) == 1


def test_other_augmentation_draws_other_views(store: FeatureStore) -> None:
    still = replace(store, augment=make_augment())
    assert not np.allclose(still.compute(ALL, views=1).load()[1], store.compute(ALL, views=1).load()[1])


def test_other_pixels_are_not_taken_for_these(store: FeatureStore) -> None:
    store.compute(ALL, views=0).load()
    other = replace(store, pixels=replace(store.pixels, pixels=draw_pixels(N, 16, seed=1), key="other-key"))
    expected = run_directly(store, other.pixels.pixels)
    np.testing.assert_allclose(other.compute(ALL, views=0).load()[0], expected, atol=1e-6)


def test_other_graph_is_not_taken_for_this(store: FeatureStore, tmp_path: Path) -> None:
    # of equal width, so that nothing but the values tells them apart
    weight, bias = np.ones((3, 2), np.float32), np.zeros(2, np.float32)
    for name, full in (("one", 255.0), ("other", 510.0)):
        graph = write_plain_graph(tmp_path / f"{name}.onnx", weight, bias, full=full)
        found = replace(store, graph=graph).compute(ALL, views=0).load()[0]
    # the plain graph's embedding is the mean colour over `full`; float32 sums of 256 levels
    np.testing.assert_allclose(found, store.pixels.pixels.mean((1, 2)) / 510, rtol=1e-5)


def test_features_that_are_no_numbers_are_refused(store: FeatureStore, tmp_path: Path) -> None:
    path = write_plain_graph(tmp_path / "bad.onnx", np.ones((3, 2), np.float32), np.zeros(2, np.float32), full=0.0)
    with pytest.raises(BundleError, match="not finite"):
        replace(store, graph=path).compute(ALL, views=0).load()
