"""Mutated files against a server process: what it answers, what memory it takes. A table and JSON.

    python bench/serving_hostile.py BUNDLE [--requests 10000] [--seed 0] [--clients 4] [--json FILE]

Each request is another file: cut off, with flipped bits, spliced of two, a bomb, a polyglot, 16 bits, CMYK, animated,
no picture at all, or a zip for a job. Every answer must be 2xx, 4xx or 503, in the one error shape; the server lives,
its log tells no failure, every answer that was given is in the audit log, whose chain verifies, every job ends, and the
process stays below 1 GB. Exits with 1 where one of these is not so.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from hostile_pictures import (
    HOSTILE_NAMES,
    PLAIN_PNG,
    Random,
    encode,
    flip,
    list_mutations,
    list_sound,
    make_dicom,
    make_zip,
)
from server_process import ServerProcess, find_problem, run_process

MOST_MB = 1000.0
_TIMEOUT_S = 120.0
_JOBS_S = 300.0
_PREDICT = "/v1/models/bench/predict"


@dataclass(frozen=True)
class Kind:
    """Files of one kind, `share` of all requests, sent to `path`."""

    name: str
    draw: Callable[[Random], bytes]
    share: float = 1.0
    path: str = _PREDICT


@dataclass
class Seen:
    """What became of one kind's requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


def list_kinds() -> list[Kind]:
    sound = list(list_sound().values())
    mutations = list_mutations(sound)
    bomb = make_zip({"bomb.png": bytes(60_000_000)})
    black = np.zeros((7500, 8000, 3), np.uint8)
    large = [encode(black), encode(black, "JPEG"), encode(np.zeros((10_000, 11_000, 3), np.uint8))]
    claims = make_dicom(4_000_000, 40_000_000)
    many = make_zip({f"{number}.png": b"\x89PNG" for number in range(20_001)})

    def pack(random: Random) -> bytes:
        names = ("truncated", "bits flipped", "two spliced")
        return make_zip({f"{number}.png": mutations[name](random) for number, name in enumerate(names)})

    return [
        *(Kind(name, draw) for name, draw in mutations.items()),
        Kind("bits flipped, for a map", mutations["bits flipped"], 0.5, "/v1/models/bench/explain"),
        Kind("60 and 110 million pixels, black", lambda random: large[int(random.integers(3))], 0.02),
        Kind("DICOM of 40 MB that claims 4 million frames", lambda _: claims, 0.01),
        Kind("job: zip of mutated pictures", pack, 0.1, "/v1/jobs"),
        Kind("job: zip bomb", lambda _: bomb, 0.05, "/v1/jobs"),
        Kind("job: zip with `../` names", lambda random: make_zip({"../../x.png": random.bytes(50)}), 0.05, "/v1/jobs"),
        Kind("job: zip of 20,001 entries", lambda _: many, 0.005, "/v1/jobs"),
        Kind("job: zip with flipped bits", lambda random: flip(pack(random), random), 0.1, "/v1/jobs"),
    ]


class Attack:
    """All requests, in an order that the seed decides."""

    def __init__(self, base: str, kinds: list[Kind], n_requests: int, seed: int) -> None:
        self.seen = {kind.name: Seen() for kind in kinds}
        self.recorded: list[str] = []
        self._kinds, self._seed, self._base = kinds, seed, base
        shares = np.array([kind.share for kind in kinds])
        random = np.random.default_rng(seed)
        self._order = [*range(len(kinds)), *random.choice(len(kinds), n_requests, p=shares / shares.sum())][:n_requests]
        self._numbers = iter(range(n_requests))
        self._lock = threading.Lock()

    def run(self, n_clients: int) -> None:
        with ThreadPoolExecutor(n_clients) as pool:
            for client in [pool.submit(self._keep_asking) for _ in range(n_clients)]:
                client.result()

    def _keep_asking(self) -> None:
        with httpx.Client(base_url=self._base, timeout=_TIMEOUT_S, trust_env=False) as client:
            while True:
                with self._lock:
                    number = next(self._numbers, None)
                if number is None:
                    return
                self._ask(client, number)

    def _ask(self, client: httpx.Client, number: int) -> None:
        kind = self._kinds[self._order[number]]
        random = np.random.default_rng([self._seed, number])
        name = HOSTILE_NAMES[number % len(HOSTILE_NAMES)] if number % 5 == 0 else f"{number}.jpg"
        content = kind.draw(random)
        begin = time.perf_counter()
        try:
            answer = client.post(kind.path, files={"images": (name, content)})
            problem, status = find_problem(answer), answer.status_code
        except (httpx.HTTPError, OSError) as error:
            problem, status = f"no answer: {error!r}", 0
        with self._lock:
            seen = self.seen[kind.name]
            seen.statuses[status] += 1
            seen.slowest_s = max(seen.slowest_s, time.perf_counter() - begin)
            if problem:
                seen.problems.append(f"{kind.name}, request {number}: {status}: {problem}")
            elif kind.path == _PREDICT and status == 200:
                self.recorded.append(answer.json()["request_id"])


def check_end(server: ServerProcess, attack: Attack, folder: Path) -> tuple[list[str], dict[str, object]]:
    """What is wrong after the last answer, and what was measured."""
    problems = [problem for seen in attack.seen.values() for problem in seen.problems]
    facts: dict[str, object] = {"is_alive": server.is_alive}
    if not server.is_alive:
        return [*problems, f"The server ended: {server.process.returncode}"], facts
    with httpx.Client(base_url=server.base, timeout=_TIMEOUT_S, trust_env=False) as client:
        if not wait_for_jobs(client):
            problems.append(f"A job did not end within {_JOBS_S:g} s.")
        if client.post(_PREDICT, files={"images": ("good.png", PLAIN_PNG)}).status_code != 200:
            problems.append("A sound picture is not answered any more.")
    peak_mb = server.read_peak_mb()
    problems += [f"log: {line}" for line in server.list_failures()]
    exit_code = server.end()
    lost, damage = find_lost(folder, attack.recorded)
    problems += damage
    facts |= {"peak_mb": round(peak_mb, 1), "exit_code": exit_code, "n_answered": len(attack.recorded), "n_lost": lost}
    if peak_mb > MOST_MB:
        problems.append(f"It took {peak_mb:.0f} MB.")
    if exit_code or lost:
        problems.append(f"Exit code {exit_code}, {lost} answers without a row.")
    return problems, facts


def wait_for_jobs(client: httpx.Client) -> bool:
    end = time.monotonic() + _JOBS_S
    while time.monotonic() < end:
        states = {job["state"] for job in client.get("/v1/jobs").json()["jobs"]}
        if not states & {"queued", "running"}:
            return True
        time.sleep(0.5)
    return False


def find_lost(folder: Path, recorded: list[str]) -> tuple[int, list[str]]:
    """How many answers the audit log does not hold, and what its verification says."""
    from snellen.serve.address import read_address
    from snellen.serve.audit_check import verify
    from snellen.serve.audit_rows import PredictionFilter
    from snellen.serve.database import Database
    from snellen.serve.history import iter_predictions

    database = Database(read_address(str(folder / "audit.db"), None))
    try:
        there = {found.prediction.request_id for found in iter_predictions(database, PredictionFilter())}
        problems = [problem.message for problem in verify(database).problems]
    finally:
        database.close()
    return len(set(recorded) - there), problems


def list_rows(attack: Attack) -> Iterator[str]:
    yield "| kind | requests | statuses | slowest, s | wrong |\n| --- | --- | --- | --- | --- |"
    for name, seen in attack.seen.items():
        statuses = ", ".join(f"{status}: {n:,}" for status, n in sorted(seen.statuses.items()))
        wrong = len(seen.problems) or "none"
        yield f"| {name} | {seen.statuses.total():,} | {statuses} | {seen.slowest_s:.2f} | {wrong} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="a bundle, or the run that holds it")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="snellen-hostile-") as name,
        run_process([f"bench={args.bundle}"], Path(name)) as server,
    ):
        start_mb = server.read_memory_mb()
        attack = Attack(server.base, list_kinds(), args.requests, args.seed)
        begin = time.perf_counter()
        attack.run(args.clients)
        seconds = time.perf_counter() - begin
        problems, facts = check_end(server, attack, Path(name))
    print("\n".join(list_rows(attack)))
    report = {
        "n_requests": args.requests, "seed": args.seed, "clients": args.clients, "seconds": round(seconds, 1),
        "start_mb": round(start_mb, 1), **facts, "n_problems": len(problems), "problems": problems[:20],
    }  # fmt: skip
    print(json.dumps(report, indent=2))
    if args.json:
        kinds = {
            name: {"statuses": seen.statuses, "slowest_s": round(seen.slowest_s, 3)}
            for name, seen in attack.seen.items()
        }
        args.json.write_text(json.dumps({**report, "kinds": kinds}, indent=2) + "\n", encoding="utf-8")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
