"""Tables of features: the same values from memory and from disk, block by block and as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from snellen.training import feature_table
from snellen.training.feature_table import FeatureTable

N, WIDTH = 2100, 5


@pytest.fixture
def on_disk(tmp_path: Path) -> FeatureTable:
    """Every second row of three views in files, in an order of its own."""
    sources = []
    for view in range(3):
        values = np.random.default_rng(view).normal(3, 2, (2 * N, WIDTH)).astype(np.float32)
        np.save(tmp_path / f"{view}.npy", values)
        sources.append(np.load(tmp_path / f"{view}.npy", mmap_mode="r"))
    rows = np.random.default_rng(9).permutation(2 * N)[:N]
    return FeatureTable(tuple(sources), rows)


def test_shape_is_views_pictures_width(on_disk: FeatureTable) -> None:
    assert on_disk.shape == (3, N, WIDTH)


def test_load_gives_the_chosen_rows_in_their_order(on_disk: FeatureTable) -> None:
    loaded = on_disk.load()
    assert loaded.shape == on_disk.shape
    np.testing.assert_array_equal(loaded[1], on_disk.sources[1][on_disk.rows])


def test_blocks_cover_every_picture_of_every_view_once(on_disk: FeatureTable) -> None:
    whole = on_disk.load()
    seen = np.zeros((3, N), int)
    for view, (positions, values) in enumerate_views(on_disk):
        np.testing.assert_array_equal(values, whole[view, positions])
        seen[view, positions] += 1
    assert (seen == 1).all()


def enumerate_views(table: FeatureTable) -> list[tuple[int, tuple[np.ndarray, np.ndarray]]]:
    blocks = list(table.iterate_blocks())
    each = len(blocks) // 3
    return [(number // each, block) for number, block in enumerate(blocks)]


def test_blocks_are_small(on_disk: FeatureTable) -> None:
    assert max(len(positions) for positions, _ in on_disk.iterate_blocks()) <= feature_table.BLOCK


def test_blocks_of_the_pictures_alone_leave_views_out(on_disk: FeatureTable) -> None:
    assert sum(len(positions) for positions, _ in on_disk.iterate_blocks(views=1)) == N


def test_moments_are_those_of_numpy(on_disk: FeatureTable) -> None:
    mean, variance = on_disk.compute_moments()
    plain = on_disk.load()[0].astype(np.float64)
    np.testing.assert_allclose(mean, plain.mean(0))
    np.testing.assert_allclose(variance, plain.var(0), rtol=1e-6)


def test_taken_rows_belong_to_the_taker(on_disk: FeatureTable) -> None:
    taken = on_disk.take(0, np.array([3, 1]))
    taken[:] = 0
    assert on_disk.take(0, np.array([3, 1])).any()


@pytest.mark.parametrize(("n", "expected"), [(100, True), (20_000_000, False)])
def test_is_small_by_bytes(n: int, expected: bool) -> None:
    source = np.broadcast_to(np.float32(1), (n, 8))
    assert FeatureTable((source,), np.broadcast_to(np.intp(0), (n,))).is_small is expected


def test_selected_pictures_come_in_their_order_and_more_than_once(on_disk: FeatureTable) -> None:
    positions = np.array([5, 0, 5])
    np.testing.assert_array_equal(on_disk.select(positions).load(), on_disk.load()[:, positions])


def test_shown_views_stand_in_the_slots_of_a_row(on_disk: FeatureTable) -> None:
    shown = np.random.default_rng(0).integers(0, 3, (2, N))
    table = FeatureTable(on_disk.sources[:1], on_disk.rows, on_disk.sources[1:], shown)
    whole = on_disk.load()
    assert table.shape == (2, N, WIDTH)
    np.testing.assert_array_equal(table.load(), whole[shown, np.arange(N)])
    positions, values = next(table.iterate_blocks())
    np.testing.assert_array_equal(values, whole[shown[0, positions], positions])
    np.testing.assert_array_equal(table.select(np.array([7, 3])).load()[1], whole[shown[1, [7, 3]], [7, 3]])


def test_spare_views_are_held_with_the_others(on_disk: FeatureTable) -> None:
    table = FeatureTable(on_disk.sources[:1], on_disk.rows, on_disk.sources[1:])
    held = table.hold_small()
    assert held.shape == table.shape == (1, N, WIDTH)
    np.testing.assert_array_equal(held.load(), table.load())
    for one, other in zip(held.spare, table.spare, strict=True):
        np.testing.assert_array_equal(one, other[on_disk.rows])


def test_large_table_is_not_held(on_disk: FeatureTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_table, "HELD_BYTES", 1000)
    assert on_disk.hold_small() is on_disk
