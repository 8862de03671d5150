"""What a server costs before it is asked anything: seconds until it is ready, memory while idle, what it installs.

    python bench/serving_start.py BUNDLE [--runs 7] [--install] [--json FILE]

Ready: from the start of the process to the first 200 of `/readyz`. Idle: resident memory five seconds later.
`--install` makes a new virtual environment of this checkout's `.[serve]` in a temporary folder and adds up its files,
without those that came with the empty environment. Limits: 2.5 s, 350 MB, 450 MB. Exits with 1 where a median lies
above.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import httpx
from server_process import run_process

_LIMITS = {"ready_s": 2.5, "idle_mb": 350.0, "installed_mb": 450.0}
_IDLE_S = 5.0
_MB = 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="a bundle, or the run that holds it")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--install", action="store_true", help="measure the installed size too")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: dict[str, list[float]] = {"ready_s": [], "idle_mb": []}
    for number in range(args.runs + 1):
        ready_s, idle_mb = start_once(args.bundle)
        if number:  # the first one fills the disk cache
            found["ready_s"].append(ready_s)
            found["idle_mb"].append(idle_mb)
    if args.install:
        found["installed_mb"] = [measure_install()]
    print(f"{'':<14} {'min':>7} {'median':>7} {'max':>7} {'limit':>7}")
    medians = {name: statistics.median(values) for name, values in found.items()}
    for name, values in found.items():
        print(f"{name:<14} {min(values):>7.2f} {medians[name]:>7.2f} {max(values):>7.2f} {_LIMITS[name]:>7.1f}")
    if args.json:
        args.json.write_text(json.dumps({"medians": medians, "runs": found}, indent=2) + "\n", encoding="utf-8")
    return 1 if any(median > _LIMITS[name] for name, median in medians.items()) else 0


def start_once(bundle: Path) -> tuple[float, float]:
    """Seconds and megabytes."""
    with tempfile.TemporaryDirectory(prefix="snellen-start-") as name:
        begin = time.monotonic()
        with run_process([f"bench={bundle}"], Path(name)) as server:
            while httpx.get(f"{server.base}/readyz", trust_env=False).status_code != 200:
                time.sleep(0.02)
            ready_s = time.monotonic() - begin
            time.sleep(_IDLE_S)
            return ready_s, server.read_memory_mb()


def measure_install() -> float:
    """Megabytes of 10⁶ bytes that `pip install .[serve]` adds to an empty environment, as its files are long."""
    project = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory(prefix="snellen-install-") as name:
        venv.create(name, with_pip=True)
        before = _add_up(Path(name))
        python = Path(name) / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"{project}[serve]"], check=True)
        return (_add_up(Path(name)) - before) / _MB


def _add_up(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    raise SystemExit(main())
