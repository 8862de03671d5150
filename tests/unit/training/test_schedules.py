"""The rate climbs, falls and waits as its schedule says."""

from __future__ import annotations

import itertools

import pytest

from snellen.records.recipe import FinetuneSchedule
from snellen.training.schedules import compute_rate_factor


def trace(schedule: FinetuneSchedule, warmup: float, steps: int = 100) -> list[float]:
    return [compute_rate_factor(schedule, step / steps, warmup=warmup) for step in range(steps)]


@pytest.mark.parametrize("schedule", ["cosine", "constant", "plateau"])
def test_rate_climbs_in_a_line_during_warmup(schedule: FinetuneSchedule) -> None:
    found = trace(schedule, warmup=0.2)
    assert found[1:21] == pytest.approx([step / 20 for step in range(1, 20)] + [1.0])


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "plateau", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.9])
def test_rate_is_never_0_and_never_above_1(schedule: FinetuneSchedule, warmup: float) -> None:
    assert all(0 < factor <= 1 for factor in trace(schedule, warmup))


def test_cosine_without_warmup_is_half_in_the_middle_and_ends_near_nothing() -> None:
    assert compute_rate_factor("cosine", 0.0, warmup=0) == 1
    assert compute_rate_factor("cosine", 0.5, warmup=0) == pytest.approx(0.5)
    # cos 60° is a half: three quarters are left after a third
    assert compute_rate_factor("cosine", 1 / 3, warmup=0) == pytest.approx(0.75)
    assert compute_rate_factor("cosine", 0.999, warmup=0) < 0.01


def test_cosine_only_falls_after_the_climb() -> None:
    assert all(one > other for one, other in itertools.pairwise(trace("cosine", warmup=0.1)[10:98]))


@pytest.mark.parametrize(("warmup", "top"), [(0.0, 0.3), (0.4, 0.4)])
def test_one_cycle_has_its_top_where_it_should(warmup: float, top: float) -> None:
    found = trace("one_cycle", warmup)
    assert found.index(max(found)) == round(100 * top)
    assert compute_rate_factor("one_cycle", top / 2, warmup=warmup) == pytest.approx(0.5)
    assert compute_rate_factor("one_cycle", (1 + top) / 2, warmup=warmup) == pytest.approx(0.5)


def test_constant_stays() -> None:
    assert set(trace("constant", warmup=0)) == {1.0}


@pytest.mark.parametrize(
    ("losses", "falls"),
    [
        ((), 0), ((1.0, 0.9, 0.8), 0), ((0.8, 0.9), 0), ((0.8, 0.9, 0.85), 1), ((0.8, 0.9, 0.7, 0.75), 0),
        ((0.8, 0.8, 0.8), 1), ((0.8, 0.9, 0.9, 0.9, 0.9), 2), ((0.8, 0.9, 0.9, 0.7, 0.9, 0.9), 2),
    ],
)  # fmt: skip
def test_plateau_falls_each_time_losses_waited_two_epochs(losses: tuple[float, ...], falls: int) -> None:
    found = compute_rate_factor("plateau", 0.5, warmup=0.1, losses=losses, patience=2)
    assert found == pytest.approx(0.3**falls)
