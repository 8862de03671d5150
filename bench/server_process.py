"""`snellen serve` as a process of its own on loopback, watched by the benches that ask it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

ERROR_FIELDS = {"code", "message", "hint", "request_id"}
_START_S = 180.0
_END_S = 70.0  # it drains for 30 s, and a job's group for as long again
_FAILURES = ("failed", "job_failed", "scoring_failed", "jobs_failed")


class Answer(Protocol):
    """An answer as httpx and requests have it."""

    status_code: int

    @property
    def content(self) -> bytes: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def json(self) -> Any: ...


@dataclass
class ServerProcess:
    """A server that answers at `base`; `log` is what it writes."""

    base: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def read_peak_mb(self) -> float:
        """The most memory that it held so far (`VmHWM`), on Linux; NaN elsewhere, and once it has ended."""
        return self._read_status("VmHWM")

    def read_memory_mb(self) -> float:
        """What it holds now (`VmRSS`)."""
        return self._read_status("VmRSS")

    def list_failures(self) -> list[str]:
        """Events of its log that no request may cause, and every traceback."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line[:500] for line in lines if line.startswith("Traceback") or _read_event(line) in _FAILURES]

    def end(self) -> int:
        """Its exit code after SIGTERM. Raises TimeoutExpired."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_END_S)

    def _read_status(self, field: str) -> float:
        try:
            found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        except OSError:
            return float("nan")
        return int(found.group(1)) / 1024 if found else float("nan")


@contextlib.contextmanager
def run_process(
    bundles: Sequence[str], folder: Path, *options: str, state: Path | None = None
) -> Iterator[ServerProcess]:
    """Within, a server of `bundles` (`NAME=PATH`) answers whose database lies in `folder`; `state`: where the audit
    log's key lies, if not beside the database.
    """
    log = folder / "server.log"
    words = ["serve", *bundles, "--port", "0", "--db", str(folder / "audit.db"), *options]
    given = {**os.environ, **({"SNELLEN_STATE": str(state)} if state else {})}
    with log.open("wb") as said:
        process = subprocess.Popen([sys.executable, "-m", "snellen", *words], stdout=said, stderr=said, env=given)
    try:
        yield ServerProcess(_wait_for_address(process, log), process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
        process.kill()
        process.wait()


def find_problem(answer: Answer) -> str:
    """What of an answer breaks the one shape; empty where nothing does."""
    if not (200 <= answer.status_code < 300 or 400 <= answer.status_code < 500 or answer.status_code == 503):
        return "a status that is neither 2xx, 4xx nor 503"
    if answer.status_code < 400:
        return ""
    try:
        body = answer.json()
    except ValueError:
        return f"an error that is no JSON: {answer.content[:100]!r}"
    if set(body) != {"error"} or set(body["error"]) != ERROR_FIELDS:
        return f"an error of another shape: {answer.content[:200]!r}"
    if body["error"]["request_id"] != answer.headers.get("X-Request-ID"):
        return "an error whose request id is not that of the header"
    return ""


def _wait_for_address(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r"answers at (http://\S+)", log.read_text(encoding="utf-8", errors="replace")):
            return found.group(1)
        time.sleep(0.1)
    raise RuntimeError(f"The server did not start: {log.read_text(encoding='utf-8', errors='replace')[-1000:]}")


def _read_event(line: str) -> str:
    try:
        return str(json.loads(line).get("event", ""))
    except (ValueError, AttributeError):
        return ""
