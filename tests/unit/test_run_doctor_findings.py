"""Measured figures become seconds, a bound, advice and hazards, by hand-worked numbers."""

from __future__ import annotations

from typing import Any

import pytest

from models import make_plan
from snellen.planning.recipe_files import load_recipe
from snellen.records.doctor import MachineFacts, Speed, Work
from snellen.records.plan import FinetunePlan
from snellen.run_doctor_findings import (
    advise,
    describe_bound,
    find_hazards,
    format_seconds,
    project_steps,
    tell_finetuning,
)
from snellen.run_doctor_speeds import TrainingTimes

WORK = Work(
    n_pictures=1000, n_train=700, n_val=150, n_test=150, size=224, views=4, backbone="b", n_candidates=7,
    need_bytes={"pixels": 150_000_000, "features": 25_000_000},
)  # fmt: skip
TIMES = TrainingTimes((), export_s=10.0, head_s=5.0, width=1280, smaller=(160, 0.5), parity_s=8.0)
MACHINE = MachineFacts(
    platform="Linux", processors=2, processor_limit=None, busy_processors=0.1, free_memory_bytes=8 << 30,
    openmp_threads=None, cache="/cache", cache_file_system="ext4", cache_free_bytes=10 << 30, gpu=None,
)  # fmt: skip


def speed(name: str, per_second: float, threads: int = 2) -> Speed:
    unit = "MB" if name.startswith("write") else "pictures"
    return Speed(name=name, per_second=per_second, unit=unit, threads=threads, n=100)


def figures(*, forward: float = 50.0, preprocess: float = 100.0, disk: float = 500.0) -> list[Speed]:
    return [
        speed("write to the cache", disk, 1), speed("audit", 100.0), speed("read and decode", 60.0, 1),
        speed("read and decode", 120.0), speed("preprocess", preprocess), speed("forward pass", forward / 2, 1),
        speed("forward pass", forward),
    ]  # fmt: skip


def test_fine_tuning_is_told_as_not_projected() -> None:
    recipe = load_recipe("auto").recipe
    plan = make_plan()
    (told,) = tell_finetuning(plan, recipe)
    assert "leaves it out" in told
    stage = FinetunePlan.model_construct(epochs=7)
    tuned = plan.training.model_copy(update={"stages": (*plan.training.stages, stage)})
    (told,) = tell_finetuning(plan.model_copy(update={"training": tuned}), recipe)
    assert "up to 7 epochs) is not in the projected time" in told
    alone = plan.training.model_copy(update={"stages": (stage,)})
    (told,) = tell_finetuning(plan.model_copy(update={"training": alone}), recipe)
    assert "Learning on the feature map (all stages, up to 7 epochs) is not in the projected time" in told
    frozen = recipe.training.model_copy(update={"stages": recipe.training.stages[:1]})
    assert tell_finetuning(plan, recipe.model_copy(update={"training": frozen})) == []


def test_steps_are_counts_over_speeds() -> None:
    # the bundle: 10 s of export, 8 s of proof, 150 validation pictures
    steps = {step.step: step.seconds for step in project_steps(WORK, figures(), TIMES, start_s=4.0)}
    # features: 700 pictures five times and 150 once, at 50 a second
    assert steps == {
        "start": 4.0, "read and plan": 10.0, "load backbone": 10.0, "preprocess": 10.0, "features": 73.0,
        "train head": 5.0, "write bundle": 21.0, "evaluate": 9.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "Compute bounds this run: 58% of 2 min is the forward pass."),
        ({"preprocess": 2.0}, "Reading and decoding bound this run: 81% of 11 min is reading, decoding"),
        ({"disk": 0.3}, "The disk of the cache bounds this run: 79% of 11 min is writing the pixel cache."),
    ],
)
def test_bound_is_what_takes_most(changes: dict[str, float], expected: str) -> None:
    steps = project_steps(WORK, figures(**changes), TIMES, start_s=4.0)
    assert describe_bound(steps).startswith(expected)


def test_advice_comes_from_figures_the_largest_saving_first() -> None:
    steps = project_steps(WORK, figures(), TIMES, start_s=4.0)
    told = advise(WORK, figures(), TIMES, steps)
    assert "--set preprocess.size=160" in told[0]
    assert "saves about 41 s" in told[0]  # half of 73 s + 9 s
    assert sum("Twice the processors" in text for text in told) == 2  # compute and decoding
    assert any("--set augment.views=2" in text and "saves about 28 s" in text for text in told)  # 700 * 2 / 50


def test_threads_that_hinder_each_other_are_told() -> None:
    slow = [each for each in figures() if each.name != "forward pass"]
    slow += [speed("forward pass", 50.0, 1), speed("forward pass", 25.0)]
    steps = project_steps(WORK, slow, TIMES, start_s=4.0)
    told = [text for text in advise(WORK, slow, TIMES, steps) if "--set training.threads=1" in text]
    assert len(told) == 1
    assert "2.0 times as fast as 2: saves about 82 s" in told[0]  # half of 2 * (73 s + 9 s)


def test_threads_that_do_not_help_are_not_advised() -> None:
    slow = [each for each in figures() if each.name not in ("forward pass", "read and decode")]
    slow += [speed("forward pass", 50.0, 1), speed("forward pass", 52.0)]
    steps = project_steps(WORK, slow, TIMES, start_s=4.0)
    assert not any("processors" in text or "thread" in text for text in advise(WORK, slow, TIMES, steps))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"processor_limit": 1.5}, "processor_limit"),
        ({"busy_processors": 1.9}, "busy"),
        ({"cache_file_system": "nfs4"}, "network_cache"),
        ({"openmp_threads": 16}, "openmp_threads"),
        ({"free_memory_bytes": 1_000_000_000}, "little_memory"),
        ({"cache_free_bytes": 100_000_000}, "little_disk"),
        ({"free_memory_bytes": 140_000_000}, "cache_beyond_memory"),
    ],
)
def test_each_hazard_is_told_and_a_sound_machine_has_none(changes: dict[str, Any], code: str) -> None:
    assert find_hazards(MACHINE, WORK, 2e9) == []
    found = find_hazards(MACHINE.model_copy(update=changes), WORK, 2e9)
    assert code in [hazard.code for hazard in found]
    assert all(hazard.advice for hazard in found)


def test_seconds_are_said_in_a_fitting_unit() -> None:
    assert [format_seconds(value) for value in (8.2, 90, 720, 11520)] == ["8 s", "90 s", "12 min", "3.2 h"]
