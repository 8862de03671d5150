"""Smaller classes are shown as often as the largest, in other views each time."""

from __future__ import annotations

import numpy as np
import pytest

from snellen.training.more_views import MOST_VIEWS, count_views, list_further_views, show_evenly

LABELS = np.array([0] * 60 + [1] * 30 + [2] * 14)


@pytest.mark.parametrize("n_slots", [1, 3])
def test_class_of_half_the_pictures_is_shown_twice_as_often(n_slots: int) -> None:
    showing = show_evenly(LABELS, n_slots, seed=0)
    assert np.bincount(LABELS[showing.picked]).tolist() == [60, 60, 60]
    times = np.bincount(showing.picked)
    assert (times[:60] == 1).all()
    assert (times[60:90] == 2).all()
    assert set(times[90:]) == {4, 5}  # 60 / 14


@pytest.mark.parametrize("n_slots", [1, 3])
def test_no_view_of_a_picture_comes_twice(n_slots: int) -> None:
    showing = show_evenly(LABELS, n_slots, seed=0)
    shown = [(position, view) for slot in showing.views for position, view in zip(showing.picked, slot, strict=True)]
    assert len(set(shown)) == len(shown) == 180 * n_slots
    assert showing.views.max() + 1 == count_views(LABELS, n_slots) == 5 * n_slots


def test_views_beyond_the_limit_begin_anew() -> None:
    labels = np.array([0] * 300 + [1])
    assert count_views(labels, 1) == 300
    assert show_evenly(labels, 1, seed=0).views.max() == MOST_VIEWS - 1


def test_more_planned_views_than_the_limit_are_all_shown() -> None:
    showing = show_evenly(LABELS, MOST_VIEWS + 3, seed=0)
    assert showing.views.max() == MOST_VIEWS + 2


@pytest.mark.parametrize("n_slots", [1, 3])
def test_further_views_are_those_that_every_part_will_show(n_slots: int) -> None:
    folds = np.arange(len(LABELS)) % 3
    parts = [np.flatnonzero(folds != fold) for fold in range(3)]
    wanted = list_further_views(LABELS, parts, n_slots, seed=5)
    needed = set()
    for part in parts:
        showing = show_evenly(LABELS[part], n_slots, seed=5)
        needed |= {
            (int(view), int(part[position]))
            for slot in showing.views
            for position, view in zip(showing.picked, slot, strict=True)
            if view >= n_slots
        }
    assert {(view, position) for view, found in wanted.items() for position in found.tolist()} == needed
    assert list(wanted) == list(range(n_slots, n_slots + len(wanted)))
    assert min(position for found in wanted.values() for position in found.tolist()) >= 60  # none of the largest class


def test_equal_classes_need_no_further_views() -> None:
    labels = np.arange(40) % 2
    assert list_further_views(labels, [np.arange(40)], 2, seed=0) == {}
    assert show_evenly(labels, 2, seed=0).picked.tolist() == list(range(40))
