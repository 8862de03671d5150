"""What measured figures mean for a run: its steps in seconds, what bounds it, what would help, what is dangerous."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from snellen.core.machine import NETWORK_FILE_SYSTEMS
from snellen.core.storage import format_bytes
from snellen.planning.plan_finetune import BUDGET_S
from snellen.records.doctor import Hazard, MachineFacts, Speed, StepTime, Work
from snellen.records.plan import Plan
from snellen.records.recipe import Recipe
from snellen.run_doctor_speeds import TrainingTimes, find_speed

_MUCH = 0.05
_SLOWER = 1.15
_SCALES = 0.6
_FREE_MEMORY = 1.5
_BUSY = 0.5
_VERBS = {
    "decoding": "Reading and decoding bound this run",
    "forward pass": "Compute bounds this run",
    "head": "Training the head bounds this run",
    "export": "Export bounds this run",
    "disk": "The disk of the cache bounds this run",
    "start": "Loading libraries bounds this run",
}
_NAMES = {
    "decoding": "reading, decoding and preprocessing pictures",
    "forward pass": "the forward pass",
    "head": "training the head",
    "export": "exporting graphs",
    "disk": "writing the pixel cache",
    "start": "loading libraries",
}


def project_steps(work: Work, speeds: Sequence[Speed], times: TrainingTimes, start_s: float) -> list[StepTime]:
    """The steps of `snellen train` with nothing in the cache yet."""
    audit, pixels = find_speed(speeds, "audit"), find_speed(speeds, "preprocess")
    disk, forward = find_speed(speeds, "write to the cache"), find_speed(speeds, "forward pass")
    steps = [StepTime(step="start", seconds=round(start_s, 1), resource="start")]

    def add(step: str, seconds: float, resource: str) -> None:
        steps.append(StepTime.model_validate({"step": step, "seconds": round(seconds, 1), "resource": resource}))

    if audit is not None:
        add("read and plan", work.n_pictures / audit.per_second, "decoding")
    add("load backbone", times.export_s, "export")
    if pixels is not None:
        decode_s = work.n_pictures / pixels.per_second
        write_s = work.need_bytes["pixels"] / 1e6 / disk.per_second if disk is not None else 0.0
        # pixels are written beside decoding: the slower of the two is waited for
        add("preprocess", max(decode_s, write_s), "disk" if write_s > decode_s else "decoding")
    if forward is not None:
        n_passes = work.n_train * (1 + work.views) + work.n_val
        add("features", n_passes / forward.per_second, "forward pass")
        add("train head", times.head_s, "head")
        # the graph, its proof against torch, and validation pictures through it for the operating points
        add("write bundle", times.export_s + times.parity_s + work.n_val / forward.per_second, "export")
        add("evaluate", (2 * work.n_val + work.n_test) / forward.per_second, "forward pass")
    return steps


def tell_finetuning(plan: Plan, recipe: Recipe) -> list[str]:
    """That the projected time is without stage 2, where `train` may go through one."""
    if plan.training.finetune_stages:
        epochs = sum(stage.epochs for stage in plan.training.finetune_stages)
        if not plan.training.begins_on_features:
            return [
                f"Learning on the feature map (all stages, up to {epochs} epochs) is not in the projected time, and "
                "may take longer than all the rest."
            ]
        return [
            f"Fine-tuning the network (stage 2, up to {epochs} epochs) is not in the projected time, and may take "
            f"longer than all the rest; by rule it is planned for about {BUDGET_S // 60} minutes at most."
        ]
    if any(getattr(stage, "unfreeze", "none") != "none" for stage in recipe.training.stages):
        return [
            "Fine-tuning the network (stage 2) is not in the projected time: by this sample `train` leaves it out. "
            "`snellen plan` says what it does with all pictures."
        ]
    return []


def describe_bound(steps: Sequence[StepTime]) -> str:
    """`Compute bounds this run: 84 % of 12 min is the forward pass.`"""
    seconds: Counter[str] = Counter()
    for step in steps:
        seconds[step.resource] += step.seconds  # type: ignore[assignment]  # a Counter adds up any numbers
    total = sum(seconds.values())
    most, value = seconds.most_common(1)[0]
    return f"{_VERBS[most]}: {value / max(total, 1e-9):.0%} of {format_seconds(total)} is {_NAMES[most]}."


def advise(work: Work, speeds: Sequence[Speed], times: TrainingTimes, steps: Sequence[StepTime]) -> list[str]:
    """What would save at least a twentieth of the time, by figures measured here."""
    seconds: Counter[str] = Counter()
    for step in steps:
        seconds[step.resource] += step.seconds  # type: ignore[assignment]  # as above
    total = sum(seconds.values())
    size, share = times.smaller
    found = [
        (
            seconds["forward pass"] * (1 - share),
            f"A smaller size: at {size} px the network takes {share:.0%} of its time at {work.size} px "
            f"(--set preprocess.size={size}; accuracy may change)",
        ),
        (seconds["disk"] / 2, "A cache on a disk of twice the speed (--cache DIR)"),
        *_judge_threads(speeds, "forward pass", seconds["forward pass"]),
        *_judge_threads(speeds, "read and decode", seconds["decoding"]),
    ]
    forward = find_speed(speeds, "forward pass")
    if forward is not None and work.views > 1:
        fewer = work.views // 2
        saved = work.n_train * (work.views - fewer) / forward.per_second
        text = f"Fewer views: {fewer} instead of {work.views} (--set augment.views={fewer}; accuracy may change)"
        found.append((saved, text))
    return [
        f"{text}: saves about {format_seconds(saved)} of {format_seconds(total)}."
        for saved, text in sorted(found, key=lambda row: -row[0])
        if saved > _MUCH * total
    ]


def _judge_threads(speeds: Sequence[Speed], name: str, seconds: float) -> list[tuple[float, str]]:
    """More processors where all threads together are much faster than one, fewer threads where they are slower."""
    most, one = find_speed(speeds, name), find_speed(speeds, name, 1)
    if most is None or one is None or most.threads == 1:
        return []
    gain = most.per_second / one.per_second
    what = "the forward pass" if name == "forward pass" else "decoding"
    if gain < 1 / _SLOWER:
        text = f"One thread (--set training.threads=1): in {what} it is {1 / gain:.1f} times as fast as {most.threads}"
        return [(seconds * (1 - gain), text)]
    if gain < _SCALES * most.threads:
        return []
    text = f"Twice the processors: {most.threads} threads are {gain:.1f} times as fast as one in {what}"
    return [(seconds / 2 * gain / most.threads, text)]


def find_hazards(machine: MachineFacts, work: Work | None, peak_bytes: float | None) -> list[Hazard]:
    """`peak_bytes` is the memory that this very process has taken for the same steps on few pictures."""
    found: list[Hazard] = []

    def add(code: str, message: str, advice: str) -> None:
        found.append(Hazard(code=code, message=message, advice=advice))

    limit = machine.processor_limit
    if limit is not None and limit < machine.processors:
        whole = max(1, int(limit))
        add(
            "processor_limit",
            f"The container may use {limit:g} processors of the {machine.processors} seen: threads will wait.",
            f"--set training.threads={whole}, or give the container more.",
        )
    if machine.busy_processors is not None and machine.busy_processors > _BUSY * machine.processors:
        add(
            "busy",
            f"Others kept {machine.busy_processors:.1f} of {machine.processors} processors busy in the last minute.",
            "Stop them: a run, and the figures above, are slower than they need be.",
        )
    if machine.cache_file_system in NETWORK_FILE_SYSTEMS:
        add(
            "network_cache",
            f"The cache {machine.cache} lies on a network file system ({machine.cache_file_system}).",
            "Put it on a local disk with --cache DIR or SNELLEN_CACHE.",
        )
    if machine.openmp_threads is not None and machine.openmp_threads > machine.processors:
        add(
            "openmp_threads",
            f"OMP_NUM_THREADS asks for {machine.openmp_threads} threads on {machine.processors} processors.",
            "Unset it, or set it to the number of processors.",
        )
    if peak_bytes is not None and machine.free_memory_bytes < _FREE_MEMORY * peak_bytes:
        add(
            "little_memory",
            f"{format_bytes(machine.free_memory_bytes)} of memory are free, and these measurements took "
            f"{format_bytes(peak_bytes)}.",
            "Close other programs, or choose a smaller preprocess.size.",
        )
    if work is None:
        return found
    need = sum(work.need_bytes.values())
    if need > machine.cache_free_bytes:
        add(
            "little_disk",
            f"The cache needs {format_bytes(need)}, and {format_bytes(machine.cache_free_bytes)} are free.",
            "Free some space, or put the cache elsewhere with --cache DIR.",
        )
    if work.need_bytes["pixels"] > machine.free_memory_bytes and work.views:
        add(
            "cache_beyond_memory",
            f"The pixel cache of {format_bytes(work.need_bytes['pixels'])} does not fit into "
            f"{format_bytes(machine.free_memory_bytes)} of free memory: each view reads it from disk again.",
            "A fast disk for the cache matters here; fewer views or a smaller size need less.",
        )
    return found


def format_seconds(seconds: float) -> str:
    """`8 s`, `90 s`, `12 min`, `3.2 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
