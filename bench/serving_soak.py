"""An hour of `snellen serve` at 70 % of what it can do: does its memory grow, is an answer lost?

    python bench/serving_soak.py BUNDLE PICTURES [--minutes 60] [--load 0.7] [--json FILE]

First how many pictures a second it answers at most (16 connections), then requests at fixed times, whoever is late.
The memory of the process is read every five seconds; what it holds in the last tenth of the time is compared with what
it held in the second tenth, once all buffers have grown (medians). Exits with 1 where that is more than 2 % more, a
request had another answer than 200, or a row is missing. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from server_process import ServerProcess, run_process
from serving_client import asking, compare_with_log, read_pictures

_EVERY_S = 5.0
_GROWTH = 1.02
_SATURATION_S = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="a bundle, or the run that holds it")
    parser.add_argument("pictures", type=Path, help="a folder of JPEGs")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--load", type=float, default=0.7, help="of what it answers at most")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    pictures = read_pictures(args.pictures)
    with tempfile.TemporaryDirectory(prefix="snellen-soak-") as name:
        folder = Path(name)
        with run_process([f"bench={args.bundle}"], folder) as server:
            report = soak(server, folder, pictures, minutes=args.minutes, load=args.load)
            report["exit_code"] = server.end()
    print(json.dumps(report, indent=2))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if report["is_held"] and report["exit_code"] == 0 else 1


def soak(server: ServerProcess, folder: Path, pictures: list[bytes], *, minutes: float, load: float) -> dict:
    with asking(server.base, pictures, connections=16) as client:
        time.sleep(_SATURATION_S)
    before = client.answers
    most = before.statuses[200] / _SATURATION_S
    begin = time.monotonic()
    memory_mb: list[float] = []
    with asking(server.base, pictures, connections=64, rate=load * most) as client:
        while server.is_alive and time.monotonic() < begin + 60 * minutes:
            time.sleep(_EVERY_S)
            memory_mb.append(server.read_memory_mb())
            if len(memory_mb) % 60 == 0:
                told = client.answers.describe_statuses()
                print(f"{len(memory_mb) * _EVERY_S / 60:.0f} min: {memory_mb[-1]:.0f} MB, {told}", file=sys.stderr)
    seconds = time.monotonic() - begin
    answers = client.answers
    peak_mb = server.read_peak_mb()
    acknowledged = before.acknowledged + answers.acknowledged
    n_rows, n_lost, problems = compare_with_log(str(folder / "audit.db"), folder, acknowledged)
    tenth = max(1, len(memory_mb) // 10)
    early, late = statistics.median(memory_mb[tenth : 2 * tenth]), statistics.median(memory_mb[-tenth:])
    latencies = sorted(answers.latencies_s)
    others = sum(n for status, n in answers.statuses.items() if status != 200) + answers.n_cut + answers.n_unreachable
    failures = server.list_failures()
    return {
        "minutes": round(seconds / 60, 1),
        "most_per_second": round(most, 2),
        "per_second": round(answers.statuses[200] / seconds, 2),
        "n_answered": len(acknowledged),
        "n_other_answers": others,
        "problems": [*answers.problems, *problems, *failures],
        "n_rows": n_rows,
        "n_lost": n_lost,
        "p50_ms": round(1000 * latencies[len(latencies) // 2], 1),
        "p99_ms": round(1000 * latencies[int(0.99 * (len(latencies) - 1))], 1),
        "longest_ms": round(1000 * latencies[-1], 1),
        "memory_mb": {"second_tenth": round(early, 1), "last_tenth": round(late, 1), "peak": round(peak_mb, 1)},
        "growth": round(late / early, 4),
        "each_tenth_mb": [
            round(statistics.median(memory_mb[start : start + tenth]), 1)
            for start in range(0, len(memory_mb) - tenth + 1, tenth)
        ],
        "is_held": late / early <= _GROWTH and not others and not n_lost and not problems and not failures,
    }


if __name__ == "__main__":
    raise SystemExit(main())
