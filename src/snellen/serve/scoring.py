"""Pictures of many requests, decoded in a pool of threads and scored together. The scores are the Predictor's own.

A picture is decoded by one of the pool's threads and then waits for the model's one scoring thread, which takes as many
as wait, at most a batch, and never waits for more: batches grow with the load and cost nobody time.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import PictureError
from snellen.inference.predictor import Predictor, describe_unreadable
from snellen.inference.session import BATCH
from snellen.records.bundle import Prediction
from snellen.serve.logs import log_event

_QUICK = 0.2


@dataclass(frozen=True)
class Answer:
    """What is said of one picture; `problem` where it could not be read. `image_sha256` is that of the file."""

    prediction: Prediction
    problem: PictureError | None
    image_sha256: str
    latency_ms: float = 0.0


@dataclass(frozen=True)
class _Waiting:
    pixels: NDArray[np.uint8]
    sha256: str
    begin: float
    answer: Future[Answer]


class Scorer:
    """One opened bundle at work. `observe` is told the size and seconds of each batch."""

    def __init__(self, predictor: Predictor, pool: ThreadPoolExecutor, observe: Callable[[int, float], None]) -> None:
        self.predictor = predictor
        self.seconds_a_picture = 0.02
        self._pool = pool
        self._observe = observe
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._score_all, name="scoring", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Pictures that are decoded and not scored."""
        return self._queue.qsize()

    def submit(self, content: bytes, frame: int | None = None) -> Future[Answer]:
        """The answer to come for the bytes of a file; `frame` of a DICOM that holds several."""
        answer: Future[Answer] = Future()
        self._pool.submit(self._prepare, content, frame, time.perf_counter(), answer)
        return answer

    def close(self) -> None:
        """End the scoring thread, once what waits is scored."""
        self._queue.put(None)

    def _prepare(self, content: bytes, frame: int | None, begin: float, answer: Future[Answer]) -> None:
        if not answer.set_running_or_notify_cancel():
            return
        try:
            sha256 = hashlib.sha256(content).hexdigest()
            try:
                pixels = self.predictor.prepare(content, frame=frame)
            except PictureError as problem:
                unreadable = describe_unreadable("", problem.message)
                answer.set_result(Answer(unreadable, problem, sha256, 1000 * (time.perf_counter() - begin)))
                return
            self._queue.put(_Waiting(pixels, sha256, begin, answer))
        except BaseException as error:  # a defect of ours must reach who waits, not end in a thread
            answer.set_exception(error)

    def _score_all(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, is_last = self._take_more(first)
            self._score(batch)
            if is_last:
                return

    def _take_more(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        batch = [first]
        while len(batch) < BATCH:
            try:
                found = self._queue.get_nowait()
            except queue.Empty:
                break
            if found is None:
                return batch, True
            batch.append(found)
        return batch, False

    def _score(self, batch: Sequence[_Waiting]) -> None:
        begin = time.perf_counter()
        try:
            predictions = self.predictor.describe(np.stack([item.pixels for item in batch]))
        except BaseException as error:  # as above
            log_event("scoring_failed", error=error, pictures=len(batch))
            for item in batch:
                item.answer.set_exception(error)
            return
        end = time.perf_counter()
        self.seconds_a_picture += _QUICK * ((end - begin) / len(batch) - self.seconds_a_picture)
        self._observe(len(batch), end - begin)
        for item, prediction in zip(batch, predictions, strict=True):
            item.answer.set_result(Answer(prediction, None, item.sha256, 1000 * (end - item.begin)))


def rename(answer: Answer, filename: str) -> Answer:
    """The same answer, to the file as the client calls it."""
    return replace(answer, prediction=answer.prediction.model_copy(update={"path": filename}))
