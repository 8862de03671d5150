"""One ONNX graph in ONNX Runtime: uint8 pixels in, named arrays out. Knows no files but the graph."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import BundleError
from snellen.core.onnx_runtime import load_onnx_runtime
from snellen.core.progress import say

Graph = Any  # ONNX Runtime's session: it has no types

# measured on two cores: 8 pictures a call run a fifth faster than 64, which no longer fit the processor's cache
BATCH = 8


@cache
def _share_memory() -> None:
    """The working memory from which all graphs of a serving process take theirs; once, a second one is refused."""
    onnxruntime = load_onnx_runtime()
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    place = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg({}))


def _open(model: Path, threads: int, *, serves: bool) -> Graph:
    onnxruntime = load_onnx_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if serves:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.use_env_allocators", "1")
        _share_memory()
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own types, which share no public base
        raise BundleError(f"{model} is no graph that ONNX Runtime can open: {error}", "Get it again.") from error


class GraphSession:
    """A loaded graph. `threads` are those of one call; `batch` pictures go into one, fewer once memory ran out.

    `serves` is for a process that decodes and scores at once, and lives long. Threads that wait for work do not keep a
    processor busy then: a call begins a little later, and whatever else the process does has that processor. All its
    graphs share their working memory, so that a second one, or a new version of the first, takes little more. And as
    many pictures as there are threads, or more, are shared out among threads that each score theirs alone: that needs
    the graph a second time, opened meanwhile by the first who asks so, and less time than all threads on each layer of
    a batch: a tenth on two idle processors, more where others work too.
    """

    def __init__(self, model: Path, *, threads: int, serves: bool = False) -> None:
        self._session = _open(model, threads, serves=serves)
        self._threads = threads
        self._model = model
        self._pool = ThreadPoolExecutor(threads, "graph") if serves and 1 < threads <= BATCH else None
        self._alone: Future[Graph] | None = None
        self._opening = threading.Lock()
        self.input_name = self._session.get_inputs()[0].name
        self.input_shape = tuple(self._session.get_inputs()[0].shape)
        self.outputs = tuple(output.name for output in self._session.get_outputs())
        widths = {output.name: output.shape[-1] for output in self._session.get_outputs() if output.shape}
        self.n_classes = widths.get("probabilities")
        self.batch = BATCH

    def run(self, pixels: NDArray[np.uint8], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """`pixels` is `(N, H, W, C)` uint8 with any N; each output is float32 with N rows."""
        parts: list[list[NDArray[np.float32]]] = []
        done = 0
        while done < len(pixels):
            batch = np.ascontiguousarray(pixels[done : done + self.batch])
            try:
                parts.extend(self._run(batch, list(outputs)))
            except Exception as error:  # as above
                if not _is_out_of_memory(error):
                    raise
                self._halve()
                continue
            done += len(batch)
        if not parts:
            raise ValueError("no pictures to run on")
        return {name: np.concatenate([part[position] for part in parts]) for position, name in enumerate(outputs)}

    def _run(self, batch: NDArray[np.uint8], outputs: list[str]) -> Iterable[list[NDArray[np.float32]]]:
        """The outputs of the batch's parts, in order."""
        pool = self._pool
        alone = self._find_alone(pool) if pool is not None and len(batch) >= self._threads else None
        if pool is None or alone is None:
            return [self._session.run(outputs, {self.input_name: batch})]
        given = [{self.input_name: part} for part in np.array_split(batch, self._threads)]
        return list(pool.map(lambda part: alone.run(outputs, part), given))

    def _find_alone(self, pool: ThreadPoolExecutor) -> Graph | None:
        """The graph for one thread each, once it is open."""
        with self._opening:
            if self._alone is None:
                self._alone = pool.submit(_open, self._model, 1, serves=True)
        is_open = self._alone.done() and self._alone.exception() is None
        return self._alone.result() if is_open else None

    def _halve(self) -> None:
        """Fewer pictures a call from now on: the result is the same, only slower."""
        if self.batch == 1:
            raise BundleError(
                "One picture needs more memory than this machine has left.",
                "Close other programs, or train with a smaller preprocess.size or model.backbone.",
            )
        self.batch //= 2
        say(f"Warning: out of memory; going on with {self.batch} picture{'s' * (self.batch > 1)} a call")


def _is_out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or "bad_alloc" in text or "allocate memory" in text or "out of memory" in text
