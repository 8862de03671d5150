"""Peak memory of `snellen train` on a small and on a large cohort of phantoms: the larger must not need more.

    python bench/memory.py [--sizes 2000 50000] [--px 64] [--folder DIR] [--set KEY=VALUE]… [--json FILE]

Memory is the resident set of the process (Linux: /proc), sampled while it runs, by step. Limit: the peaks differ by
less than a tenth. `--set` goes to every `train`: fewer epochs of fine-tuning need the same memory and less time.
"""

from __future__ import annotations

import argparse
import json
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import IO

from snellen.ingest.phantom import PhantomSpec, write_cohort

LIMIT = 1.1
_PICTURES_A_PATIENT = 4  # of the synthetic OCT, on average
_STEP = re.compile(r"^([a-z -]+): [\d.]+ s$")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 50_000])
    parser.add_argument("--px", type=int, default=64)
    parser.add_argument("--folder", type=Path, help="where cohorts are kept between calls")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        for size in args.sizes:
            cohort = folder / f"cohort-{size}-{args.px}"
            if not cohort.exists():
                spec = PhantomSpec(kind="oct", n_patients=size // _PICTURES_A_PATIENT, size_px=args.px)
                write_cohort(spec, cohort)
            found = _measure(cohort, Path(temporary), args.settings)
            results.append({"pictures": sum(1 for _ in cohort.rglob("*.png")), **found})
    steps = list(dict.fromkeys(step for result in results for step in result["steps_mb"]))
    print(f"{'MB':<20}" + "".join(f"{result['pictures']:>10}" for result in results))
    for step in steps:
        print(f"{step:<20}" + "".join(f"{result['steps_mb'].get(step, 0):>10.0f}" for result in results))
    print(f"{'peak':<20}" + "".join(f"{result['peak_mb']:>10.0f}" for result in results))
    ratio = results[-1]["peak_mb"] / results[0]["peak_mb"]
    print(f"peak of the largest ÷ of the smallest: {ratio:.3f} (limit {LIMIT})")
    if args.json:
        args.json.write_text(json.dumps({"ratio": ratio, "limit": LIMIT, "runs": results}, indent=2))


def _measure(cohort: Path, temporary: Path, settings: list[str]) -> dict[str, object]:
    out, cache = temporary / f"run-{cohort.name}", temporary / f"cache-{cohort.name}"
    command = [sys.executable, "-m", "snellen", "train", str(cohort), "--out", str(out), "--cache", str(cache)]
    command += [word for setting in settings for word in ("--set", setting)]
    begin = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_lines, args=(process.stderr, lines), daemon=True).start()
    finished: dict[str, float] = {}
    current = 0.0
    told: list[str] = []
    while process.poll() is None:
        current = max(current, _read_resident_mb(process.pid))
        while not lines.empty():
            told.append(lines.get())
            if found := _STEP.match(told[-1]):
                finished[found[1]] = max(finished.get(found[1], 0), current)
                current = 0.0
        time.sleep(0.1)
    if process.returncode:
        sys.exit("\n".join(told))
    finished["the rest"] = current
    return {"steps_mb": finished, "peak_mb": max(finished.values()), "seconds": time.monotonic() - begin}


def _read_lines(stream: IO[str] | None, lines: queue.SimpleQueue[str]) -> None:
    for line in stream or ():
        lines.put(line.strip())


def _read_resident_mb(pid: int) -> float:
    fields: dict[str, int] = defaultdict(int)
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if value.strip().endswith("kB"):
                fields[name] = int(value.split()[0])
    except OSError:  # it has just ended
        return 0.0
    return fields["VmRSS"] / 1024


if __name__ == "__main__":
    main()
