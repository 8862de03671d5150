"""Connections that ask a server for predictions and remember what it acknowledged, for the benches that break it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from server_process import ERROR_FIELDS
from serving import make_request

from snellen.serve.address import read_address
from snellen.serve.audit_check import verify
from snellen.serve.audit_rows import PredictionFilter
from snellen.serve.database import Database
from snellen.serve.history import iter_predictions

PREDICT = "/v1/models/bench/predict"
_REST_S = 0.05
_LONGEST_S = 300.0


@dataclass
class Answers:
    """What came back. `acknowledged`: request ids of all answers 200. `n_cut`: connections that broke before the answer
    to a request was there; `n_unreachable`: that could not be opened.
    """

    acknowledged: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)
    n_cut: int = 0
    n_unreachable: int = 0

    @property
    def n_asked(self) -> int:
        return sum(self.statuses.values()) + self.n_cut

    def describe_statuses(self) -> str:
        told = [f"{n:,} × {status}" for status, n in sorted(self.statuses.items())]
        told += [f"{self.n_cut:,} cut"] * bool(self.n_cut)
        return ", ".join(told) or "none"


class Client:
    """`connections` that each ask, wait for the answer and ask again; at `rate` requests a second together, or as fast
    as they are answered. Runs in a thread of its own until `end`.
    """

    def __init__(self, base: str, pictures: Sequence[bytes], *, connections: int, rate: float = 0.0) -> None:
        self.answers = Answers()
        self._port = int(base.rpartition(":")[2])
        self._requests = [make_request(PREDICT, picture) for picture in pictures]
        self._connections, self._rate = connections, rate
        self._is_over = False
        self._begin = time.perf_counter()
        self._n_given = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="client")
        self._thread.start()

    def end(self) -> Answers:
        """What is under way is waited for."""
        self._is_over = True
        self._thread.join()
        return self.answers

    def wait_for(self, status: int, more: int = 1) -> None:
        """Until so many more answers have that status. Raises TimeoutError."""
        wanted = self.answers.statuses[status] + more
        end = time.monotonic() + _LONGEST_S
        while self.answers.statuses[status] < wanted:
            if time.monotonic() > end:
                raise TimeoutError(f"no {more} answers with {status}: {self.answers.describe_statuses()}")
            time.sleep(0.01)

    async def _run(self) -> None:
        await asyncio.gather(*(self._keep_asking() for _ in range(self._connections)))

    async def _keep_asking(self) -> None:
        link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._is_over:
            number = self._n_given
            self._n_given += 1
            # at a fixed rate a request counts from when it was due, however late the server makes the client
            start = self._begin + number / self._rate if self._rate else time.perf_counter()
            await asyncio.sleep(max(0.0, start - time.perf_counter()))
            if self._is_over:
                break
            if link is None or link[0].at_eof():  # closed while nobody asked, as a server may
                link = await self._open()
            if link is None:
                self.answers.n_unreachable += 1
                await asyncio.sleep(_REST_S)
                continue
            if not await self._ask(link, self._requests[number % len(self._requests)], start):
                link[1].close()
                link = None
        if link is not None:
            link[1].close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        try:
            return await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return None

    async def _ask(self, link: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes, start: float) -> bool:
        """Whether the connection can be used again."""
        try:
            link[1].write(request)
            status, headers, body = await read_answer(link[0])
        except (OSError, asyncio.IncompleteReadError, ValueError):
            self.answers.n_cut += 1
            return False
        self.answers.latencies_s.append(time.perf_counter() - start)
        self.answers.statuses[status] += 1
        if status == 200:
            self.answers.acknowledged.append(headers["x-request-id"])
        elif problem := find_error_problem(status, headers, body):
            self.answers.problems[problem] += 1
        if status == 429:
            await asyncio.sleep(float(headers.get("retry-after", 1)))
        elif status == 503:
            await asyncio.sleep(_REST_S)  # sooner than it is told to, to see when it is back
        return headers.get("connection", "").lower() != "close"


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in small letters, body."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines[1:] if line)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return int(lines[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


def find_error_problem(status: int, headers: Mapping[str, str], body: bytes) -> str:
    """What of a refusal is not as it must be; empty where nothing is."""
    if status not in (429, 503) and not 400 <= status < 500:
        return f"a status {status}"
    try:
        told = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return f"an error of another shape: {body[:100]!r}"
    if set(told) != ERROR_FIELDS:
        return f"an error of another shape: {body[:100]!r}"
    return "429 without Retry-After" if status == 429 and "retry-after" not in headers else ""


@contextlib.contextmanager
def asking(base: str, pictures: Sequence[bytes], *, connections: int, rate: float = 0.0) -> Iterator[Client]:
    """A client that has ended when the block has."""
    client = Client(base, pictures, connections=connections, rate=rate)
    try:
        yield client
    finally:
        client.end()


def compare_with_log(url: str, folder: Path, acknowledged: Sequence[str]) -> tuple[int, int, list[str]]:
    """Rows of predictions, answers of which none is there, and what `snellen audit-log verify` finds. The server may go
    on meanwhile.
    """
    database = Database(read_address(url, folder))
    try:
        recorded = Counter(found.prediction.request_id for found in iter_predictions(database, PredictionFilter()))
        report = verify(database)
    finally:
        database.close()
    problems = [problem.message for problem in report.problems]
    if twice := sum(n > 1 for n in recorded.values()):
        problems.append(f"{twice} requests for one picture have several rows")
    return sum(recorded.values()), len(set(acknowledged) - set(recorded)), problems


def read_pictures(folder: Path, most: int = 200) -> list[bytes]:
    """The first JPEGs of a folder. Raises SystemExit where there is none."""
    found = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))[:most]]
    if not found:
        raise SystemExit(f"{folder} holds no .jpg")
    return found
