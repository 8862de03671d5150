"""The only door to ONNX Runtime: it is opened with its telemetry off, because nothing may leave the machine.

Knows no graph. Whatever else may load ONNX Runtime (the exporter of torch) calls `switch_off_telemetry` first.
"""

from __future__ import annotations

import os
from types import ModuleType

# read by ONNX Runtime once, while it is loaded; 1.31 otherwise looks up a host of Microsoft and leaves an id of the
# machine in the user's cache
TELEMETRY_OFF = "ORT_DISABLE_TELEMETRY"


def load_onnx_runtime() -> ModuleType:
    """The module `onnxruntime`, telling nobody. A user who set ORT_DISABLE_TELEMETRY otherwise has the last word."""
    is_ours = switch_off_telemetry()
    import onnxruntime

    if is_ours and hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()  # where the user's program had loaded it before
    return onnxruntime  # type: ignore[no-any-return]  # it has no types


def switch_off_telemetry() -> bool:
    """Switch it off in this process and its children, before anything loads ONNX Runtime. False: the user chose."""
    return os.environ.setdefault(TELEMETRY_OFF, "1") == "1"
