"""Whether a run that was killed at random moments ends as one that was not: byte for byte, on the same machine.

    python bench/kill.py DATA [--kills 30] [--seed 0] [--columns …] [--folds K] [--set KEY=VALUE]... [--json FILE]

`snellen train` runs once undisturbed. Then the same command, with a cache of its own, is killed by SIGKILL (the whole
process group) and resumed until it is finished, again and again, until there were so many kills. Moments are drawn
evenly over the duration of the undisturbed run, counted from the start of each process. What is compared stands in
`compare_runs`. Exits with 1 where anything differs, or where a killed run cannot be resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

STEPS = (
    "read and plan", "load backbone", "preprocess", "features", "train head", "fine-tune", "write bundle", "evaluate",
)  # fmt: skip
MEASURED = ("seconds", "images_per_s")
# the manifest holds a time and a salt; an opening that was begun counts, whether or not its process lived
PROVENANCE = ("bundle_sha256", "test_opened", "notes")
# a machine that others use is not equally fast twice: a moment that no fresh run reaches comes earlier
SOONER = 0.9


@dataclass
class Kill:
    """One SIGKILL: in which run, in its how-manieth process, after how many seconds of it, and what it was doing."""

    run: int
    process: int
    seconds: float
    stage: str
    differs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    """The words of `snellen train` without --out and --cache, and the folder in which all runs lie."""

    words: list[str]
    folder: Path

    def start(self, place: Path) -> subprocess.Popen[bytes]:
        """Train in `place`, or go on where the folder of the run is there already."""
        run = place / "run"
        own = ["--out", str(run), "--cache", str(place / "cache")]
        words = ["train", "--resume", str(run)] if (run / "run.json").exists() else ["train", *self.words, *own]
        with (place / "told.txt").open("ab") as told:
            return subprocess.Popen(
                [sys.executable, "-m", "snellen", *words], stdout=told, stderr=told, start_new_session=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--columns", default="")
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    words = [args.data, *(["--columns", args.columns] if args.columns else [])]
    words += ["--folds", str(args.folds)] if args.folds else []
    words += [word for setting in args.settings for word in ("--set", setting)]
    with tempfile.TemporaryDirectory() as folder:
        asked = Asked(words, Path(folder))
        seconds = train_undisturbed(asked)
        print(f"undisturbed: {seconds:.1f} s", flush=True)
        kills = kill_often(asked, draw_moments(args.kills, seconds, args.seed))
    bad = [kill for kill in kills if kill.differs]
    print(
        f"{len(kills)} kills in {kills[-1].run if kills else 0} runs, {len(bad)} of them in a run that ended otherwise"
    )
    if args.json:
        found = {"undisturbed_s": seconds, "seed": args.seed, "kills": [asdict(kill) for kill in kills]}
        args.json.write_text(json.dumps(found, indent=2))
    sys.exit(bool(bad))


def train_undisturbed(asked: Asked) -> float:
    """Seconds of the run that nothing happens to; it lies in `undisturbed/run`."""
    place = asked.folder / "undisturbed"
    place.mkdir()
    begin = time.monotonic()
    code = asked.start(place).wait()
    if code:
        sys.exit(f"The undisturbed run failed with {code}:\n{(place / 'told.txt').read_text()}")
    return time.monotonic() - begin


def draw_moments(n: int, seconds: float, seed: int) -> list[float]:
    """One moment in each of `n` equal parts of the duration, in a random order."""
    chance = random.Random(seed)
    moments = [(number + chance.random()) / n * seconds for number in range(n)]
    chance.shuffle(moments)
    return moments


def kill_often(asked: Asked, moments: list[float]) -> list[Kill]:
    """Kill and resume runs until all moments are spent, and let the last one end. Prints a line a kill."""
    print(f"{'kill':>4} {'run':>4} {'process':>8} {'after s':>8}  {'while it was at':<40} equal in the end", flush=True)
    waiting, kills, number = list(moments), list[Kill](), 0
    while waiting:
        number += 1
        own = _kill_one_run(asked, asked.folder / f"killed-{number}", number, waiting)
        if not own:
            waiting[0] *= SOONER
        for kill in own:
            kills.append(kill)
            print(
                f"{len(kills):>4} {kill.run:>4} {kill.process:>8} {kill.seconds:>8.1f}  {kill.stage:<40} "
                f"{'no: ' + ', '.join(kill.differs) if kill.differs else 'yes'}",
                flush=True,
            )
    return kills


def _kill_one_run(asked: Asked, place: Path, number: int, waiting: list[float]) -> list[Kill]:
    """One run from its beginning to its end; takes the moments that it reaches from `waiting`."""
    place.mkdir()
    kills = list[Kill]()
    differs: list[str] | None = None
    while differs is None:
        begin, begun = time.monotonic(), time.time()
        process = asked.start(place)
        try:
            code = process.wait(waiting[0] if waiting else None)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            waiting.pop(0)
            kills.append(Kill(number, len(kills) + 1, time.monotonic() - begin, tell_stage(place / "run", begun)))
            if _is_finished(place / "run"):  # killed after its last word
                differs = compare_runs(asked.folder / "undisturbed" / "run", place / "run")
        else:
            if code:
                print((place / "told.txt").read_text(errors="replace")[-2000:])
            same = asked.folder / "undisturbed" / "run"
            differs = [f"exit code {code}"] if code else compare_runs(same, place / "run")
    if differs and not kills:
        kills.append(Kill(number, 1, 0.0, "not killed at all"))
    for kill in kills:
        kill.differs = differs
    if not differs:
        shutil.rmtree(place)
    return kills


def _is_finished(run: Path) -> bool:
    path = run / "run.json"
    return path.exists() and json.loads(path.read_text())["state"] == "finished"


def tell_stage(run: Path, begun: float) -> str:
    """What a process that began at `begun` was doing, by what it left; in fine-tuning with the epochs that are over."""
    log = run / "run.log"
    if not log.exists() or log.stat().st_mtime < begun:
        return "start, read and plan"
    text = log.read_text()
    over = [step for step in STEPS if f" {step}: " in text]
    now = next((step for step in STEPS if step not in over and _follows(step, over)), "report")
    if now != "fine-tune":
        return now
    epochs = [epoch for epoch in read_epochs(run) if epoch["stage"]]
    return f"fine-tune, after epoch {epochs[-1]['epoch']}" if epochs else "fine-tune, before its first epoch's end"


def _follows(step: str, over: list[str]) -> bool:
    return not over or STEPS.index(step) > STEPS.index(over[-1])


def read_epochs(run: Path) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl."""
    path = run / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def compare_runs(one: Path, other: Path) -> list[str]:
    """The files of two finished runs that differ in anything but times, salts and the count of openings.

    Byte for byte: scores, splits, plan, graph, weights, gate, baselines, parity. By content: evaluations, epochs, and
    every tensor of every checkpoint (weights, their average, the best so far, the optimizer's state).
    """
    names = {path.relative_to(run).as_posix() for run in (one, other) for path in run.rglob("*") if path.is_file()}
    return [name for name in sorted(names) if not _is_equal(one / name, other / name)]


def _is_equal(one: Path, other: Path) -> bool:
    name = one.name
    if not one.exists() or not other.exists():
        return False
    if name.startswith("evaluation"):
        found = [json.loads(path.read_text()) for path in (one, other)]
        return _without(found[0], PROVENANCE) == _without(found[1], PROVENANCE)
    if name == "metrics.jsonl":
        epochs = [[_without(epoch, MEASURED) for epoch in read_epochs(path.parent)] for path in (one, other)]
        return epochs[0] == epochs[1]
    if one.parent.name == "checkpoints":
        tensors = [load_file(path) for path in (one, other)]
        return tensors[0].keys() == tensors[1].keys() and all(
            np.array_equal(value, tensors[1][key], equal_nan=True) for key, value in tensors[0].items()
        )
    # these hold times, salts, paths or the openings
    if name in ("run.json", "run.log", "report.html", "audit.html", "manifest.json", "MODEL_CARD.md"):
        return True
    return one.read_bytes() == other.read_bytes()


def _without(record: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in names}


if __name__ == "__main__":
    main()
