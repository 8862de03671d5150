"""The real command, run as a person runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SMALL = [
    "--set", "preprocess.size=96", "--set", "augment.views=1", "--set", "evaluation.resamples=200",
    "--set", "training.stages.1.unfreeze=none", "--set", "data.copies=exact",
]  # fmt: skip


def run_snellen(*arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "snellen", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done
