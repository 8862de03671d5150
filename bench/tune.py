"""How many head-level trials `snellen tune` does in five minutes once features are cached.

    python bench/tune.py DATA [--trials 100] [--set KEY=VALUE]... [--columns …] [--cache DIR] [--json FILE]

A first call computes features, scores the recipe as it is and does one trial. The second, timed call does the rest; its
time holds reading the data, choosing values, learning, and writing the page. Limit: 100 trials in 300 s.
Processor seconds are told beside those of the clock, and the load of the machine, since others may work on it: heads
learn on one thread, so that on an idle machine the two are about equal.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import snellen

LIMIT_TRIALS, LIMIT_S = 100, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--columns", default="")
    parser.add_argument("--cache")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    columns = dict(part.split("=") for part in args.columns.split(",") if part)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "tuned"

        def tune(trials: int) -> tuple[float, float]:
            begin, begin_cpu = time.perf_counter(), time.process_time()
            snellen.tune(args.data, trials=trials, out=out, settings=args.settings, columns=columns, cache=args.cache)
            return time.perf_counter() - begin, time.process_time() - begin_cpu

        before = os.getloadavg()[0]
        first_s, first_cpu_s = tune(1)
        spent_s, spent_cpu_s = tune(1 + args.trials)
        after = os.getloadavg()[0]
        with (out / "trials.csv").open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))[1:]
        record = json.loads((out / "tune.json").read_text(encoding="utf-8"))
    seconds = [float(row["seconds"]) for row in rows]
    pruned = sum(row["state"] == "pruned" for row in rows)
    found = {
        "trials": len(rows), "pruned": pruned, "seconds": spent_s, "per_300_s": LIMIT_S / spent_s * len(rows),
        "median_trial_s": statistics.median(seconds), "first_call_s": first_s,
        "cpu_s": spent_cpu_s, "per_300_cpu_s": LIMIT_S / spent_cpu_s * len(rows), "first_call_cpu_s": first_cpu_s,
        "as_it_is_s": record["recipe_as_it_is"]["seconds"], "as_it_is": record["recipe_as_it_is"]["value"],
        "best": record["best"]["value"], "load_before": before, "load_after": after, "processors": os.cpu_count(),
    }  # fmt: skip
    for name, value in found.items():
        print(f"{name:<16}{value:>12.4g}")
    print(
        f"{found['per_300_s']:.0f} trials in {LIMIT_S} s of the clock, {found['per_300_cpu_s']:.0f} in as many of the "
        f"processor (aim {LIMIT_TRIALS})"
    )
    if args.json:
        args.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
