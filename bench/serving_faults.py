"""What `snellen serve` promises when something breaks, and what was seen: a table and JSON.

    python bench/serving_faults.py BUNDLE PICTURES [--kills 10] [--connections 1000] [--only NAME,NAME] [--json FILE]

Clients ask a server process on loopback for predictions, while it is killed, its database goes and comes, its disk is
full, its clients are slow or many, it is given a new version, or told to end. Afterwards each answer 200 must have its
row, the chain must verify, and every refusal must have the one shape. A full disk needs root, who may mount a small
tmpfs. Exits with 1 where a promise broke.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
from postgres_server import find_obstacle, run_postgres
from server_process import ServerProcess, run_process
from serving import make_request
from serving_client import PREDICT, Answers, asking, compare_with_log, read_pictures
from store_faults import fill, mount_small

RECORDED = "each answer has its row, the chain verifies"
_CONNECTIONS = 8
_LIMIT_MB = 1000
_LONGEST_S = 120.0


@dataclass(frozen=True)
class Seen:
    """What became of one fault."""

    fault: str
    promise: str
    seen: str
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Bench:
    """What all faults are tried on."""

    bundle: Path
    pictures: Sequence[bytes]
    folder: Path
    n_kills: int
    n_connections: int

    def serve(self, name: str, db: str = "") -> contextlib.AbstractContextManager[ServerProcess]:
        folder, options = self.make(name), ("--db", db) * bool(db)
        return run_process([f"bench={self.bundle}"], folder, *options, state=folder if "://" in db else None)

    def make(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def find_log(self, name: str) -> str:
        return str(self.folder / name / "audit.db")

    def judge(
        self,
        name: str,
        acknowledged: Sequence[str],
        answers: Answers,
        *,
        url: str = "",
        allowed: Sequence[int] = (200,),
    ) -> tuple[str, list[str]]:
        """Rows against answers, in words, and what is wrong."""
        n_rows, n_lost, problems = compare_with_log(url or self.find_log(name), self.folder / name, acknowledged)
        problems += [*answers.problems]
        problems += [f"{n} answers {status}" for status, n in answers.statuses.items() if status not in allowed]
        if n_lost or not acknowledged:
            problems.append(f"{n_lost} of {len(acknowledged)} answers have no row")
        return f"{len(acknowledged):,} answers, {n_rows:,} rows, {n_lost} lost", problems


def kill_under_load(bench: Bench) -> Seen:
    """SIGKILL at random moments, and a new process on the same database."""
    total, acknowledged, starts = Answers(), [], []
    moments = random.Random(0)
    for _ in range(bench.n_kills):
        begin = time.monotonic()
        with bench.serve("kill") as server:
            starts.append(time.monotonic() - begin)
            with asking(server.base, bench.pictures, connections=_CONNECTIONS) as client:
                client.wait_for(200)
                time.sleep(moments.uniform(0.2, 3))
                server.process.kill()
                server.process.wait()
        acknowledged += client.answers.acknowledged
        total.problems += client.answers.problems
        total.statuses += client.answers.statuses
    told, problems = bench.judge("kill", acknowledged, total)
    back = f"answers again after {statistics.median(starts):.1f} s"
    return Seen(f"kill -9 under load, {bench.n_kills} times", RECORDED, f"{told}; {back}", tuple(problems))


def kill_within_a_job(bench: Bench) -> Seen:
    """SIGKILL while a job is half done; the next process ends it."""
    with bench.serve("job") as server:
        files = [("images", (f"{n}.jpg", picture)) for n, picture in enumerate(bench.pictures)]
        job = httpx.post(f"{server.base}/v1/jobs", files=files, timeout=60, trust_env=False).json()
        before = _wait_for_job(server, job["job_id"], lambda found: found["n_done"] >= len(files) // 3)
        server.process.kill()
        server.process.wait()
    with bench.serve("job") as server:
        after = _wait_for_job(server, job["job_id"], lambda found: found["state"] in ("done", "failed", "cancelled"))
    n_rows, _, problems = compare_with_log(bench.find_log("job"), bench.folder / "job", [])
    problems = [problem for problem in problems if "several rows" not in problem]  # a job is one request
    if after["state"] != "done" or after["n_done"] != len(files):
        problems.append(f"the job ended as {after['state']} with {after['n_done']} of {len(files)}")
    if not len(files) <= n_rows:
        problems.append(f"{n_rows} rows of {len(files)} pictures")
    seen = f"killed at {before['n_done']} of {len(files)}; {after['state']} with {after['n_done']}, {n_rows} rows"
    return Seen("kill -9 within a job", "the next process goes on with it; no answer is lost", seen, tuple(problems))


def stop_database(bench: Bench) -> Iterator[Seen]:
    """PostgreSQL is stopped, then killed, and started again each time."""
    if obstacle := find_obstacle():
        print(f"PostgreSQL was not tried: {obstacle}", file=sys.stderr)
        return
    with run_postgres() as database:
        for at_once in (False, True):
            name = "postgres-killed" if at_once else "postgres-stopped"
            url = database.locate(database.create_database())
            with bench.serve(name, url) as server:
                answers, told = _interrupt(
                    server, bench, lambda at_once=at_once: database.stop(at_once=at_once), database.start
                )
            counted, problems = bench.judge(name, answers.acknowledged, answers, url=url, allowed=(200, 503))
            yield Seen(
                f"PostgreSQL {'killed' if at_once else 'stopped'} and started",
                f"503 meanwhile, answers again by itself; {RECORDED}",
                f"{counted}; {told}",
                tuple(problems),
            )


def fill_disk(bench: Bench) -> Iterator[Seen]:
    """The database and its key lie on a small disk, which is full for a while."""
    try:
        with mount_small(bench.make("small"), 8) as disk:
            url, ballast = str(disk / "audit.db"), disk / "ballast"
            with bench.serve("disk", url) as server:
                answers, told = _interrupt(server, bench, lambda: fill(ballast), ballast.unlink)
            n_rows, n_lost, problems = compare_with_log(url, disk, answers.acknowledged)
    except PermissionError as error:
        print(f"A full disk was not tried: {error}", file=sys.stderr)
        return
    problems += [*answers.problems, *(f"{n_lost} answers have no row" for _ in range(bool(n_lost)))]
    seen = f"{len(answers.acknowledged):,} answers, {n_rows:,} rows, {n_lost} lost; {told}"
    yield Seen(
        "disk full, then free again", f"503 meanwhile, answers again by itself; {RECORDED}", seen, tuple(problems)
    )


def _interrupt(
    server: ServerProcess, bench: Bench, begin: Callable[[], object], finish: Callable[[], object]
) -> tuple[Answers, str]:
    with asking(server.base, bench.pictures, connections=_CONNECTIONS) as client:
        client.wait_for(200, 50)
        begin()
        client.wait_for(503, 50)
        ready = httpx.get(f"{server.base}/readyz", trust_env=False, timeout=30).status_code
        if ready != 503:
            client.answers.problems[f"/readyz said {ready} meanwhile"] += 1
        finish()
        mended = time.monotonic()
        client.wait_for(200)
        recovery_s = time.monotonic() - mended
        client.wait_for(200, 50)
    answers = client.answers
    if answers.n_cut:
        answers.problems[f"{answers.n_cut} connections were cut"] += 1
    return answers, f"{answers.statuses[503]} × 503, back after {recovery_s:.1f} s"


def send_slowly(bench: Bench) -> Seen:
    """Clients that send a byte a second, of headers and of bodies, beside others."""
    n_headers, n_bodies = 300, 100
    request = make_request(PREDICT, bench.pictures[0])
    head = request.index(b"\r\n\r\n") + 4
    with bench.serve("slow") as server:
        with asking(server.base, bench.pictures, connections=_CONNECTIONS) as client:
            time.sleep(15)
        alone = client.answers.statuses[200] / 15
        port = int(server.base.rpartition(":")[2])
        slow = [_Slow(port, request, 0) for _ in range(n_headers)] + [
            _Slow(port, request, head + 100) for _ in range(n_bodies)
        ]
        begin = time.monotonic()
        with asking(server.base, bench.pictures, connections=_CONNECTIONS) as client:
            while any(one.is_open for one in slow) and time.monotonic() < begin + _LONGEST_S:
                time.sleep(1)
                for one in slow:
                    one.drip()
        took = time.monotonic() - begin
    beside = client.answers.statuses[200] / took
    told, problems = bench.judge("slow", client.answers.acknowledged, client.answers)
    left = sum(one.is_open for one in slow)
    if left:
        problems.append(f"{left} slow connections were still open after {_LONGEST_S:g} s")
    if strange := Counter(one.status for one in slow) - Counter({0: n_headers, 408: n_bodies}):
        problems.append(f"slow clients were told {dict(strange)}")
    ends = [statistics.median(one.seconds for one in part) for part in (slow[:n_headers], slow[n_headers:])]
    return Seen(
        f"{n_headers} clients that send headers byte by byte, {n_bodies} that send bodies so",
        "closed after 15 s, told 408 after 60 s; the others are answered meanwhile",
        f"closed after {ends[0]:.0f} s, 408 after {ends[1]:.0f} s; others {beside:.1f} pictures a second "
        f"({alone:.1f} without them); {told}",
        tuple(problems),
    )


class _Slow:
    """A connection that has sent `n_sent` bytes of a request, and goes on byte by byte."""

    def __init__(self, port: int, request: bytes, n_sent: int) -> None:
        self.status, self.seconds, self.is_open = 0, 0.0, True
        self._begin = time.monotonic()
        self._rest = memoryview(request)[n_sent:]
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.sendall(request[:n_sent])
        self._socket.setblocking(False)

    def drip(self) -> None:
        if not self.is_open:
            return
        try:
            self._rest = self._rest[self._socket.send(self._rest[:1]) :]
            told = self._socket.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            told = b""
        self.status = int(told.split()[1]) if told else 0
        self.seconds, self.is_open = time.monotonic() - self._begin, False
        self._socket.close()


def open_many(bench: Bench) -> Seen:
    """As many connections that all want a prediction, from a server that may begin with few files open."""
    n = bench.n_connections
    with bench.serve("many") as server, asking(server.base, bench.pictures, connections=n) as client:
        client.wait_for(200, 2 * n)
        n_open = sum("socket" in str(path.readlink()) for path in Path(f"/proc/{server.process.pid}/fd").iterdir())
        peak_mb = server.read_peak_mb()
    answers = client.answers
    told, problems = bench.judge("many", answers.acknowledged, answers, allowed=(200, 429))
    if n_open < n:
        problems.append(f"only {n_open} connections were open")
    if peak_mb > _LIMIT_MB:
        problems.append(f"{peak_mb:.0f} MB")
    if answers.n_cut or answers.n_unreachable:
        problems.append(f"{answers.n_cut} connections cut, {answers.n_unreachable} not opened")
    return Seen(
        f"{n:,} connections that all ask at once",
        f"answered, or 429 with Retry-After; below {_LIMIT_MB:,} MB; {RECORDED}",
        f"{n_open:,} open; {answers.describe_statuses()}; {told}; at most {peak_mb:.0f} MB",
        tuple(problems),
    )


def reload_under_load(bench: Bench) -> Seen:
    """A new version again and again."""
    n = 20
    with bench.serve("reload") as server:
        with asking(server.base, bench.pictures, connections=_CONNECTIONS) as client:
            for number in range(n):
                client.wait_for(200, 20)
                server.process.send_signal(signal.SIGHUP)
                end = time.monotonic() + _LONGEST_S
                while server.log.read_text("utf-8").count('"model_reloaded"') <= number and time.monotonic() < end:
                    time.sleep(0.02)
            client.wait_for(200, 20)
        n_reloads = server.log.read_text("utf-8").count('"model_reloaded"')
        peak_mb = server.read_peak_mb()
    told, problems = bench.judge("reload", client.answers.acknowledged, client.answers)
    if client.answers.n_cut or n_reloads != n:
        problems.append(f"{client.answers.n_cut} connections cut, {n_reloads} new versions")
    if peak_mb > _LIMIT_MB:
        problems.append(f"{peak_mb:.0f} MB")
    return Seen(
        f"{n} new versions under load",
        f"no request is dropped; below {_LIMIT_MB:,} MB; {RECORDED}",
        f"{told}; at most {peak_mb:.0f} MB",
        tuple(problems),
    )


def end_under_load(bench: Bench) -> Seen:
    """SIGTERM while clients ask."""
    n, cut, codes, took = 5, 0, [], []
    total, acknowledged, n_begun = Answers(), [], 0
    for _ in range(n):
        with bench.serve("drain") as server:
            with asking(server.base, bench.pictures, connections=2 * _CONNECTIONS) as client:
                client.wait_for(200, 50)
                begin = time.monotonic()
                codes.append(server.end())
                took.append(time.monotonic() - begin)
            n_begun += server.log.read_text("utf-8").count(f'"route": "{PREDICT.replace("bench", "{name}")}"')
        acknowledged += client.answers.acknowledged
        total.statuses += client.answers.statuses
        total.problems += client.answers.problems
        cut += client.answers.n_cut
    told, problems = bench.judge("drain", acknowledged, total, allowed=(200, 503))
    n_answered = sum(total.statuses.values())
    if n_begun != n_answered:
        problems.append(f"{n_begun} requests were begun and {n_answered} answered")
    if set(codes) != {0}:
        problems.append(f"exit codes {codes}")
    return Seen(
        f"SIGTERM under load, {n} times",
        f"what was begun is answered, exit code 0; {RECORDED}",
        f"{n_begun:,} begun, {n_answered:,} answered, {cut} sent to a connection that was just closed; "
        f"ended after {statistics.median(took):.1f} s; {told}",
        tuple(problems),
    )


def _wait_for_job(server: ServerProcess, job_id: str, is_reached: Callable[[dict], bool]) -> dict:
    end = time.monotonic() + _LONGEST_S
    while True:
        found = httpx.get(f"{server.base}/v1/jobs/{job_id}", trust_env=False, timeout=30).json()
        if is_reached(found) or time.monotonic() > end:
            return dict(found)
        time.sleep(0.05)


FAULTS: dict[str, Callable[[Bench], Seen | Iterator[Seen]]] = {
    "kill": kill_under_load, "job": kill_within_a_job, "database": stop_database, "disk": fill_disk,
    "slow": send_slowly, "many": open_many, "reload": reload_under_load, "drain": end_under_load,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="a bundle, or the run that holds it")
    parser.add_argument("pictures", type=Path, help="a folder of JPEGs")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--only", default=",".join(FAULTS), help="of these; default: all")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: list[Seen] = []
    print("| fault | promise | seen | held |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="snellen-faults-") as folder:
        bench = Bench(args.bundle, read_pictures(args.pictures), Path(folder), args.kills, args.connections)
        for name in args.only.split(","):
            outcome = FAULTS[name](bench)
            for seen in [outcome] if isinstance(outcome, Seen) else outcome:
                held = "NO: " + "; ".join(seen.problems) if seen.problems else "yes"
                print(f"| {seen.fault} | {seen.promise} | {seen.seen} | {held} |", flush=True)
                found.append(seen)
    if args.json:
        args.json.write_text(json.dumps([asdict(seen) for seen in found], indent=2) + "\n", encoding="utf-8")
    return 1 if any(seen.problems for seen in found) else 0


if __name__ == "__main__":
    raise SystemExit(main())
