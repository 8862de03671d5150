"""Cold starts as whole processes: `snellen --help`, and `snellen predict` of one picture.

    python bench/startup.py BUNDLE PICTURE [--json FILE]

Limits: 0.3 s and 1.5 s. An empty Python process is timed beside them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("picture")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    commands = {
        "python -c pass": ([sys.executable, "-c", "pass"], None),
        "snellen --help": ([sys.executable, "-m", "snellen", "--help"], 0.3),
        "snellen predict": ([sys.executable, "-m", "snellen", "predict", args.bundle, args.picture], 1.5),
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(args.runs + 1):
        for name, (command, _) in commands.items():
            begin = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if number:  # the first round fills the disk cache
                times[name].append(time.perf_counter() - begin)
    print(f"{'command':<20} {'min s':>7} {'median s':>9} {'max s':>7} {'limit s':>8}")
    for name, (_, limit) in commands.items():
        found = times[name]
        shown = f"{limit:8.1f}" if limit else " " * 8
        print(f"{name:<20} {min(found):7.2f} {statistics.median(found):9.2f} {max(found):7.2f} {shown}")
    if args.json:
        args.json.write_text(json.dumps(times, indent=2))


if __name__ == "__main__":
    main()
