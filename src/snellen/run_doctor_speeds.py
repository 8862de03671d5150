"""Short measurements of a run's own steps, each bounded in time. Only `measure_training` needs torch."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from snellen.core.interrupts import stop_if_interrupted
from snellen.core.runtime import count_threads
from snellen.imaging.packed_pixels import read_packed_pixels
from snellen.imaging.preprocess import choose_min_side_px, preprocess_location
from snellen.imaging.readers import read_location
from snellen.ingest.facts import read_facts
from snellen.records.doctor import Speed
from snellen.records.plan import Plan, PreprocessPlan
from snellen.run_doctor_trial import Trial

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
_LIMIT_S = 3.0
_PIECE = 16
_HEAD_BYTES = 24_000_000


@dataclass(frozen=True)
class TrainingTimes:
    """Forward pass and head, and the seconds of one export and of the proof that the graph says what torch says;
    `smaller` is (size, its share of the time).
    """

    speeds: tuple[Speed, ...]
    export_s: float
    head_s: float
    width: int
    smaller: tuple[int, float]
    parity_s: float = 0.0


def measure_pictures(trial: Trial, plan: PreprocessPlan, folder: Path) -> tuple[list[Speed], NDArray[np.uint8]]:
    """Reading, decoding and preprocessing, and the preprocessed pictures `(n, size, size, channels)`."""
    locations = [sample.location for sample in trial.cohort.samples]
    threads = count_threads()
    speeds, root = [], trial.root
    if trial.cohort.packed is None:
        begin = time.perf_counter()
        read_facts(root, trial.raws, threads, folder)
        speeds.append(_speed("audit", len(trial.raws), time.perf_counter() - begin, threads))

        def decode(location: str) -> int:
            return read_location(
                root, location, min_side_px=choose_min_side_px(plan), background=plan.background
            ).width_px

        for number in sorted({1, threads}):
            done, seconds = time_map(decode, locations, number)
            speeds.append(_speed("read and decode", len(done), seconds, number))

    def prepare(location: str) -> NDArray[np.uint8]:
        if trial.cohort.packed is not None:
            return read_packed_pixels(root, location)
        return preprocess_location(root, location, plan)

    pixels, seconds = time_map(prepare, locations, threads)
    speeds.append(_speed("preprocess", len(pixels), seconds, threads))
    return speeds, np.stack(pixels)


def time_map(
    work: Callable[[str], T], items: Sequence[str], threads: int, limit_s: float = _LIMIT_S
) -> tuple[list[T], float]:
    """`work` on as many items as the time allows: results and seconds. OpenCV keeps to one thread, as in a run."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    done: list[T] = []
    try:
        with ThreadPoolExecutor(threads) as pool:
            begin = time.perf_counter()
            for start in range(0, len(items), _PIECE * threads):
                stop_if_interrupted()
                done += pool.map(work, items[start : start + _PIECE * threads])
                if time.perf_counter() - begin > limit_s:
                    break
            return done, time.perf_counter() - begin
    finally:
        cv2.setNumThreads(before)


def measure_training(trial: Trial, plan: Plan, pixels: NDArray[np.uint8], folder: Path, weights: bool) -> TrainingTimes:
    """The planned backbone in ONNX Runtime with all threads and with one, one export, and the planned head.

    Without `weights` the network is random: that changes no time.
    """
    from snellen.bundle.write import PARITY_SAMPLES
    from snellen.inference.session import GraphSession
    from snellen.modeling.graph import export_graph
    from snellen.modeling.weights import load_weights
    from snellen.run_features import build_frozen

    frozen = build_frozen(plan)
    if weights:
        load_weights(frozen.backbone, plan.model.backbone, plan.model.weights)
    graph = folder / "backbone.onnx"
    begin = time.perf_counter()
    export_graph(frozen, graph, shape=pixels.shape[1:], outputs=("embedding", "feature_map"))
    export_s = time.perf_counter() - begin
    threads = plan.training.threads
    speeds = []
    for number in sorted({1, threads}):
        found, seconds = _time_forward(GraphSession(graph, threads=number), pixels)
        speeds.append(_speed("forward pass", len(found), seconds, number))
    head_s = _time_head(trial, plan, found)
    smaller, torch_s = _time_torch(frozen, plan.preprocess, threads)
    parity_s = PARITY_SAMPLES * (torch_s + seconds / len(found))
    return TrainingTimes(tuple(speeds), export_s, head_s, found.shape[1], smaller, parity_s)


def _time_forward(session: object, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    from snellen.inference.session import GraphSession

    if not isinstance(session, GraphSession):
        raise TypeError("a graph is needed")
    session.run(pixels[:1], ("embedding",))
    found = []
    begin = time.perf_counter()
    for start in itertools.cycle(range(0, len(pixels), session.batch)):
        stop_if_interrupted()
        found.append(session.run(pixels[start : start + session.batch], ("embedding",))["embedding"])
        if (seconds := time.perf_counter() - begin) > _LIMIT_S:
            break
    return np.concatenate(found), seconds


def _time_head(trial: Trial, plan: Plan, found: NDArray[np.float32]) -> float:
    """Seconds for all candidates on all pictures, from one candidate on as many as lie in 24 MB."""
    from snellen.training.feature_table import FeatureTable
    from snellen.training.head import HeadData, fit_head

    if not plan.training.begins_on_features:
        return 0.0  # what learns on the feature map is told as not measured, with all fine-tuning
    views, width = 1 + plan.augment.views, found.shape[1]
    n_train, n_val, _ = trial.n_by_part
    n = max(32, min(n_train, _HEAD_BYTES // (4 * width * views)))
    random_state = np.random.default_rng(0)

    def draw(*shape: int) -> NDArray[np.float32]:
        rows = found[random_state.integers(len(found), size=shape)]
        return rows + random_state.normal(0, 0.1 * rows.std(), rows.shape).astype(np.float32)

    n_classes = plan.model.n_classes
    some = max(2 * n_classes, min(n_val, n))
    data = HeadData(
        FeatureTable.hold(draw(views, n)), np.arange(n) % n_classes, draw(some), np.arange(some) % n_classes
    )
    stage = plan.training.head_stage
    decay = sorted(stage.weight_decay)[len(stage.weight_decay) // 2]
    one = stage.model_copy(update={"weight_decay": (decay,)})
    training = plan.training.model_copy(update={"stages": (one,)})
    begin = time.perf_counter()
    with _keep_torch_threads():
        fit_head(data, plan.model_copy(update={"training": training}))
    seconds = time.perf_counter() - begin
    return float(seconds * len(stage.weight_decay) * max(1.0, n_train / n))


@contextmanager
def _keep_torch_threads() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _time_torch(frozen: torch.nn.Module, plan: PreprocessPlan, threads: int) -> tuple[tuple[int, float], float]:
    """Three quarters of the size and its share of the time in torch (a second export would take longer), and torch's
    seconds for a picture of the whole size.
    """
    import torch

    size = max(32, plan.size * 3 // 4 // 32 * 32)

    def take(side: int) -> float:
        batch = torch.zeros(4, side, side, plan.channels, dtype=torch.uint8)
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            frozen(batch)
            seconds.append(time.perf_counter() - begin)
        return min(seconds)

    with _keep_torch_threads(), torch.no_grad():
        torch.set_num_threads(threads)
        whole = take(plan.size)
        try:
            share = take(size) / whole if size < plan.size else 1.0
        except RuntimeError:  # layers that have a weight a place know one size only
            share = 1.0
        return (size, share), whole / 4


def find_speed(speeds: Iterable[Speed], name: str, threads: int | None = None) -> Speed | None:
    """The figure of that name, with the most threads where no number is asked for."""
    found = [speed for speed in speeds if speed.name == name and threads in (None, speed.threads)]
    return max(found, key=lambda speed: speed.threads, default=None)


def _speed(name: str, n: int, seconds: float, threads: int) -> Speed:
    return Speed(name=name, per_second=round(n / max(seconds, 1e-9), 2), unit="pictures", threads=threads, n=n)
