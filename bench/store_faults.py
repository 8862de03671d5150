"""What the audit database promises when something breaks, and what was seen: a table and JSON.

    python bench/store_faults.py [--kills 20] [--json FILE]

Threads record rows as fast as they are taken, while a fault happens: kill -9 of the process, PostgreSQL stopped or
killed and started again, SQLite's file removed and put back, a full disk. Afterwards every row that was acknowledged
must be there, and the chain must verify. Full disks need root, who may mount a small tmpfs. Exits with 1 where a
promise broke.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from postgres_server import PostgresServer, find_obstacle, run_postgres

from snellen.core.errors import StoreUnavailableError
from snellen.serve.address import read_address
from snellen.serve.audit_check import verify
from snellen.serve.audit_rows import PredictionFilter, PredictionRow
from snellen.serve.database import Database
from snellen.serve.history import iter_predictions
from snellen.serve.store import Store

N_THREADS = 8
LONGEST_S = 60.0
RECORDED = "a row that was acknowledged is recorded, and the chain verifies"


@dataclass(frozen=True)
class Seen:
    """What became of one fault. `recovery_s`: from the end of the fault to the next acknowledged row."""

    fault: str
    database: str
    promise: str
    n_acknowledged: int
    n_refused: int
    n_lost: int
    problems: tuple[str, ...]
    recovery_s: float | None

    @property
    def is_held(self) -> bool:
        return self.n_acknowledged > 0 and self.n_lost == 0 and not self.problems

    def describe(self) -> str:
        recovery = "" if self.recovery_s is None else f", back after {self.recovery_s:.2f} s"
        broken = "".join(f"; {problem}" for problem in self.problems)
        return f"{self.n_acknowledged} acknowledged, {self.n_refused} refused, {self.n_lost} lost{recovery}{broken}"


def make_row(name: str) -> PredictionRow:
    return PredictionRow(
        request_id=name,
        time=datetime.now(UTC),
        key_id=None,
        model="oct",
        model_sha256="ab" * 32,
        image_sha256="cd" * 32,
        probabilities={"normal": 0.25, "drusen": 0.75},
        prediction="drusen",
        decision="drusen",
        abstain=False,
        reason=None,
        latency_ms=12.5,
        error=None,
    )


class Load:
    """Threads that record rows one by one, and remember which were acknowledged and how many refused."""

    def __init__(self, store: Store, tell: Callable[[str], object] | None = None) -> None:
        self._store = store
        self.acknowledged: list[str] = []
        self.n_refused = 0
        self.unexpected: list[str] = []
        self._tell = tell or self.acknowledged.append
        self._changed = threading.Condition()
        self._is_over = False
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(N_THREADS)]
        for thread in self._threads:
            thread.start()

    def _run(self, thread: int) -> None:
        for number in itertools.count():
            if self._is_over:
                return
            name = f"{os.getpid()}-{thread}-{number}"
            try:
                self._store.record([make_row(name)])
                self._tell(name)
            except StoreUnavailableError:
                self.n_refused += 1
                time.sleep(0.005)  # as a client would, who was told to try again
            except Exception as error:
                self.unexpected.append(repr(error))
                return
            with self._changed:
                self._changed.notify_all()

    def wait(self, is_reached: Callable[[], bool]) -> None:
        """Returns when it is. Raises TimeoutError after a minute."""
        with self._changed:
            if not self._changed.wait_for(lambda: is_reached() or bool(self.unexpected), LONGEST_S):
                raise TimeoutError(f"{len(self.acknowledged)} acknowledged, {self.n_refused} refused, and no more")

    def wait_for_more(self, acknowledged: int = 0, refused: int = 0) -> None:
        """So many more of each."""
        n_acknowledged, n_refused = len(self.acknowledged) + acknowledged, self.n_refused + refused
        self.wait(lambda: len(self.acknowledged) >= n_acknowledged and self.n_refused >= n_refused)

    def end(self) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join()


def interrupt(
    url: str,
    folder: Path,
    fault: str,
    promise: str,
    begin: Callable[[], object],
    finish: Callable[[], object],
    *,
    shows_in_check: bool = True,
) -> Seen:
    """Record, let `begin` break the database until rows are refused, let `finish` mend it until rows are taken.

    `shows_in_check`: what asks whether the store is ready must see the fault too.
    """
    with Store.open(url, folder=folder) as store:
        load = Load(store)
        try:
            load.wait_for_more(acknowledged=100)
            begin()
            load.wait_for_more(refused=2 * N_THREADS)
            if shows_in_check and is_ready(store):
                load.unexpected.append("check() did not see the fault")
            finish()
            mended = time.monotonic()
            load.wait_for_more(acknowledged=1)
            recovery_s = time.monotonic() - mended
            load.wait_for_more(acknowledged=100)
            store.check()
        finally:
            load.end()
    return judge(url, folder, fault, promise, load.acknowledged, load.n_refused, load.unexpected, recovery_s)


def is_ready(store: Store) -> bool:
    try:
        store.check()
    except StoreUnavailableError:
        return False
    return True


def judge(
    url: str,
    folder: Path,
    fault: str,
    promise: str,
    acknowledged: list[str],
    n_refused: int,
    unexpected: list[str],
    recovery_s: float | None,
) -> Seen:
    """Compare what was acknowledged with what is there, and verify the chain."""
    database = Database(read_address(url, folder))
    try:
        recorded = [found.prediction.request_id for found in iter_predictions(database, PredictionFilter())]
        report = verify(database)
    finally:
        database.close()
    problems = [*unexpected, *(problem.message for problem in report.problems)]
    if len(set(recorded)) != len(recorded):
        problems.append("a row was recorded twice")
    return Seen(
        fault=fault,
        database="SQLite" if url.startswith(("/", "sqlite")) else "PostgreSQL",
        promise=promise,
        n_acknowledged=len(acknowledged),
        n_refused=n_refused,
        n_lost=len(set(acknowledged) - set(recorded)),
        problems=tuple(problems),
        recovery_s=recovery_s,
    )


def kill_under_load(url: str, folder: Path, n_kills: int) -> Seen:
    """Kill -9 a process that records, again and again on one database; each names a row after it was acknowledged."""
    told = folder / "acknowledged.txt"
    told.touch()
    for _ in range(n_kills):
        before = told.stat().st_size
        with told.open("ab") as stream:
            process = subprocess.Popen(
                [sys.executable, __file__, "--load", url, str(folder)], stdout=stream, start_new_session=True
            )
        deadline = time.monotonic() + LONGEST_S
        while told.stat().st_size < before + 4000 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    # a kill may have cut the last line of each; a row that it named half was acknowledged
    names = [line for line in told.read_text(encoding="ascii").splitlines() if line.count("-") == 2]
    return judge(url, folder, f"kill -9 under load, {n_kills} times", RECORDED, names, 0, [], None)


def record_until_killed(url: str, folder: Path) -> None:
    """What `kill_under_load` starts."""
    with Store.open(url, folder=folder) as store:
        load = Load(store, lambda name: os.write(1, f"{name}\n".encode()))
        load.wait(lambda: False)


def stop_postgres(server: PostgresServer, url: str, folder: Path, *, at_once: bool) -> Seen:
    return interrupt(
        url, folder,
        f"PostgreSQL {'killed' if at_once else 'stopped'} and started",
        f"refused meanwhile, recovers by itself; {RECORDED}",
        lambda: server.stop(at_once=at_once), server.start,
    )  # fmt: skip


def remove_file(folder: Path) -> Seen:
    path, aside = folder / "audit.db", folder / "aside.db"
    return interrupt(
        str(path), folder, "file of the database removed and put back",
        f"refused meanwhile instead of written into the void, recovers by itself; {RECORDED}",
        lambda: path.rename(aside), lambda: aside.rename(path),
    )  # fmt: skip


def fill_disk(url: str, folder: Path, disk: Path) -> Seen:
    """`disk`: a small file system on which the database lies."""
    ballast = disk / "ballast"
    return interrupt(
        url, folder, "disk full, then free again", f"refused meanwhile, recovers by itself; {RECORDED}",
        lambda: fill(ballast), ballast.unlink, shows_in_check=url.startswith("/"),
    )  # fmt: skip


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as stream:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while stream.write(b"\0" * size):
                    pass


@contextlib.contextmanager
def mount_small(folder: Path, size_mb: int) -> Iterator[Path]:
    """A file system of that size. Raises PermissionError where none may be mounted."""
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0777", "tmpfs", str(folder)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise PermissionError("there is no `mount` here") from error
    if done.returncode:
        raise PermissionError(done.stderr.strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def run_all(folder: Path, n_kills: int) -> Iterator[Seen]:
    yield kill_under_load(str(make(folder / "kill") / "audit.db"), folder / "kill", n_kills)
    yield remove_file(make(folder / "removed"))
    try:
        with mount_small(folder / "small", 8) as disk:
            yield fill_disk(str(disk / "audit.db"), disk, disk)
    except PermissionError as error:
        print(f"Full disks were not tried: {error}", file=sys.stderr)
    if obstacle := find_obstacle():
        print(f"PostgreSQL was not tried: {obstacle}", file=sys.stderr)
        return
    with run_postgres() as server:
        for name in ("kill-server", "killed", "stopped"):
            make(folder / name)
        url = server.locate(server.create_database())
        yield kill_under_load(url, folder / "kill-server", n_kills)
        yield stop_postgres(server, server.locate(server.create_database()), folder / "stopped", at_once=False)
        yield stop_postgres(server, server.locate(server.create_database()), folder / "killed", at_once=True)
        with contextlib.suppress(PermissionError), mount_small(server.folder / "small", 32) as disk:
            url = server.locate(server.create_database_on(disk))
            yield fill_disk(url, make(folder / "full-server"), disk)


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main() -> int:
    if sys.argv[1:2] == ["--load"]:
        record_until_killed(sys.argv[2], Path(sys.argv[3]))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = []
    print("| fault | database | promise | seen | held |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="snellen-faults-") as folder:
        for seen in run_all(Path(folder), args.kills):
            held = "yes" if seen.is_held else "NO"
            print(f"| {seen.fault} | {seen.database} | {seen.promise} | {seen.describe()} | {held} |", flush=True)
            found.append(seen)
    if args.json:
        rows = [{**asdict(seen), "is_held": seen.is_held} for seen in found]
        args.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0 if all(seen.is_held for seen in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
