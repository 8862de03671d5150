"""The only exporter: torch module → one ONNX file with dynamic batch, weights inside."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from snellen.core.onnx_runtime import switch_off_telemetry
from snellen.core.storage import write_atomic

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18


def export_graph(module: nn.Module, path: Path, *, shape: tuple[int, int, int], outputs: Sequence[str]) -> None:
    """Write `module` as ONNX; its one input is uint8 `pixels` `(N, *shape)` with N free."""
    switch_off_telemetry()  # parts of the exporter load ONNX Runtime by themselves
    module.eval()
    example = torch.zeros(2, *shape, dtype=torch.uint8)
    batch = torch.export.Dim("N", min=1)
    with warnings.catch_warnings(), _quiet():
        # the exporter's deprecation notes speak to torch's developers, not to the person who trains
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            input_names=["pixels"],
            output_names=list(outputs),
            dynamic_shapes={"pixels": {0: batch}},
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    proto = program.model_proto
    _forget_origin(proto)
    write_atomic(path, proto.SerializeToString())


def _forget_origin(proto: ModelProto) -> None:
    """Take out where each node came from: paths of this machine, and counters that differ from process to process."""
    proto.ClearField("metadata_props")
    graph, functions = proto.graph, proto.functions
    named = (graph.node, graph.value_info, graph.initializer, graph.input, graph.output, functions)
    inner = (function.node for function in functions)
    for part in (graph, *(part for parts in (*named, *inner) for part in parts)):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


@contextlib.contextmanager
def _quiet():  # type: ignore[no-untyped-def]  # a generator of nothing
    """The exporter logs and prints its own progress."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with Path(os.devnull).open("w") as sink, contextlib.redirect_stdout(sink):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
