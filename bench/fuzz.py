"""Coverage-guided fuzzing of what reads a stranger's bytes.

    python bench/fuzz.py TARGET [--minutes 30] [--json FILE] [--findings DIR] [--seed N]
    TARGET: readers, locations, tables, npz, zip, hdf5, dicom

A finding is an exception that is no SnellenError, an input that takes over 5 seconds of a
processor or waits for five minutes, or memory above 1 GB. The
offending input is saved below --findings (default: a new folder in the system's temporary folder), never in the
repository. Needs `pip install 'snellen[fuzz]'`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HANG_S = 5
WAIT_S = 300
MEMORY_MB = 1024
_HERE = Path(__file__)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--findings", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    findings = args.findings or Path(tempfile.mkdtemp(prefix="snellen-fuzz-"))
    findings.mkdir(parents=True, exist_ok=True)
    result = hunt(args.target, args.minutes * 60, findings.resolve(), args.seed)
    print(f"{'target':<10} {'inputs':>12} {'seconds':>8} {'edges':>7} {'peak MB':>8} {'findings':>9}")
    print(
        f"{args.target:<10} {result['inputs']:>12,} {result['seconds']:>8.0f} {result['edges']:>7} "
        f"{result['peak_mb']:>8} {len(result['findings']):>9}"
    )
    for finding in result["findings"]:
        print(f"  {finding['kind']}: {finding['what']}\n    {finding['file']}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2))
    return 1 if result["findings"] else 0


def hunt(target: str, seconds: float, findings: Path, seed: int) -> dict:
    """Fuzz until the time is over, beginning anew after every finding. libFuzzer ends its process at one."""
    corpus = findings / f"corpus-{target}"
    corpus.mkdir(exist_ok=True)
    begin, found, inputs, edges, peak = time.monotonic(), [], 0, 0, 0
    while (left := seconds - (time.monotonic() - begin)) > 1:
        seed += 1
        done = subprocess.run(
            [
                sys.executable, str(_HERE.with_name("fuzz_targets.py")), target, str(corpus), f"-seed={seed}",
                f"-max_total_time={int(left)}", f"-timeout={HANG_S}", f"-rss_limit_mb={MEMORY_MB}",
                f"-artifact_prefix={findings}/{target}-", "-print_final_stats=1", "-max_len=65536",
            ],
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        log = done.stdout + done.stderr
        if "stat::number_of_executed_units" not in log and "Test unit written" not in log:
            raise SystemExit(f"The target {target} does not run:\n{log[-3000:]}")
        inputs += int(
            (re.findall(r"stat::number_of_executed_units:\s*(\d+)", log) or re.findall(r"^#(\d+)", log, re.M) or ["0"])[
                -1
            ]
        )
        edges = max([edges, *map(int, re.findall(r"cov: (\d+)", log))])
        peak = max(
            [peak, *map(int, re.findall(r"stat::peak_rss_mb:\s*(\d+)", log) or re.findall(r"rss: (\d+)Mb", log))]
        )
        if done.returncode:
            finding = _describe(log)
            # a busy machine looks like a hang: the input is tried once more, by its processor seconds
            if finding["kind"] != "hang" or _is_slow(target, finding["file"]):
                found.append(finding)
            if len(found) >= 20:
                break
    return {
        "target": target, "seconds": time.monotonic() - begin, "inputs": inputs, "edges": edges, "peak_mb": peak,
        "findings": list({finding["what"]: finding for finding in found}.values()),
    }  # fmt: skip


def _is_slow(target: str, file: str) -> bool:
    command = [sys.executable, str(_HERE.with_name("fuzz_targets.py")), target, "--once", file]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_S)
    except subprocess.TimeoutExpired:  # it waits without working
        return True
    return done.returncode != 0 or float(done.stdout.split()[-1]) > HANG_S


def _describe(log: str) -> dict:
    kind = "hang" if "timeout" in log and "ALARM" in log else "memory" if "out-of-memory" in log else "crash"
    what = re.findall(r"=== Uncaught Python exception: ===\n(.*)", log)
    place = re.findall(r'File "[^"]*?/?([\w.]+/[\w.]+)", line (\d+)', log)
    file = re.findall(r"Test unit written to (\S+)", log)
    where = f" at {place[-1][0]}:{place[-1][1]}" if place else ""
    return {"kind": kind, "what": (what[0][:200] if what else kind) + where, "file": file[-1] if file else ""}


if __name__ == "__main__":
    sys.exit(main())
