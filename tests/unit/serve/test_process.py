"""The command as a person starts it: what it says, how it ends, what its log holds."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from models import deliver_plain_bundle
from pictures import draw_smooth, encode
from servers import wait_until
from snellen.core.errors import BundleError, SnellenError, UsageError
from snellen.serve.limits import LIMITS
from snellen.serve.run import ServeOptions, _bind, require_serve
from snellen.serve.setup import open_service

PNG = encode(draw_smooth(1, 30, 30))
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@dataclass
class Command:
    """A running `snellen serve`; `lines` is what it said when it was ready."""

    process: subprocess.Popen[str]
    base: str
    lines: list[str]

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit code and log."""
        self.process.send_signal(number)
        log, _ = self.process.communicate(timeout=30)
        return self.process.returncode, log


def start(folder: Path, *arguments: str) -> Command:
    process = subprocess.Popen(
        [sys.executable, "-m", "snellen", "serve", f"eyes={folder / 'bundle'}", "--port", "0", "--db",
         str(folder / "audit.db"), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line.rstrip())
        if line.startswith("Research use"):
            break
    assert lines, "it said nothing"
    found = re.search(r"http://\S+", lines[0])
    assert found, lines
    return Command(process, found.group(), lines)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("process")
    deliver_plain_bundle(folder / "bundle")
    return folder


@pytest.fixture
def command(folder: Path) -> Iterator[Command]:
    running = start(folder)
    yield running
    running.process.kill()
    running.process.communicate()


def send(command: Command, name: str = "Doe^Jane.png") -> httpx.Response:
    return httpx.post(
        f"{command.base}/v1/models/eyes/predict", files={"images": (name, PNG)}, trust_env=False, timeout=20
    )


def test_start_answer_reload_and_end(command: Command) -> None:
    told = "\n".join(command.lines)
    assert f"{command.base}/docs" in told
    assert "eyes" in told
    assert "not asked for: only this machine" in told
    assert "sqlite" in told
    assert send(command).status_code == 200
    command.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert send(command).status_code == 200
    code, log = command.end()
    assert code == 0
    events = [json.loads(line) for line in log.splitlines()]
    names = [event["event"] for event in events]
    assert {"started", "request", "model_reloaded"} <= set(names)
    assert names[-1] == "ended"
    request = next(event for event in events if event["event"] == "request")
    assert (request["status"], request["route"]) == (200, "/v1/models/{name}/predict")
    assert "Jane" not in log


def test_ctrl_c_ends_it_too(command: Command) -> None:
    assert command.end(signal.SIGINT)[0] in (0, 130)


def test_sigterm_lets_what_is_under_way_be_answered(command: Command) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n' + PNG + b"\r\n--x--\r\n"
    with socket.create_connection(("127.0.0.1", int(command.base.rpartition(":")[2])), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/models/eyes/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        connection.sendall(body[:50])
        wait_until(lambda: httpx.get(f"{command.base}/healthz", trust_env=False).status_code == 200)
        command.process.send_signal(signal.SIGTERM)

        def refuses() -> bool:
            try:
                socket.create_connection(("127.0.0.1", int(command.base.rpartition(":")[2])), timeout=1).close()
            except OSError:
                return True
            return False

        wait_until(refuses)
        connection.sendall(body[50:])
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200")
    assert command.process.wait(30) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_more_connections_may_be_open_than_files_at_its_start(folder: Path) -> None:
    import resource

    given, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most <= 512:
        pytest.skip("this machine allows no more files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, most))
    try:
        command = start(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (given, most))
    limits = Path(f"/proc/{command.process.pid}/limits").read_text()
    soft = re.search(r"Max open files +(\d+)", limits)
    assert soft
    assert int(soft.group(1)) == (65_536 if most == resource.RLIM_INFINITY else min(65_536, most))
    assert command.end()[0] == 0


def test_sigterm_before_the_server_listens_ends_it(folder: Path, tmp_path: Path) -> None:
    code = (
        "import os, signal\nfrom snellen.serve import run\nplain = run.build_config\n"
        "def build(service):\n    os.kill(os.getpid(), signal.SIGTERM)\n    return plain(service)\n"
        "run.build_config = build\n"
        f"run.serve(run.ServeOptions(({str(folder / 'bundle')!r},), port=0, db={str(tmp_path / 'a.db')!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_what_cannot_be_served_is_told_with_code_2(folder: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-m", "snellen", "serve", str(folder / "bundle"), "--port", str(taken.getsockname()[1])],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 2
    assert "choose another with --port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ({"bundles": ("no/such/bundle",)}, BundleError, "does not exist"),
        ({"db": "mysql://x"}, UsageError, "mysql"),
        ({"host": "no.such.host.invalid"}, UsageError, "--host no.such.host.invalid"),
    ],
)
def test_mistakes_are_told(
    folder: Path, tmp_path: Path, changes: dict[str, Any], kind: type[SnellenError], told: str
) -> None:
    asked: dict[str, Any] = {"bundles": (str(folder / "bundle"),), "db": str(tmp_path / "a.db"), "port": 0}
    options = ServeOptions(**{**asked, **changes})

    def begin() -> None:
        _bind(options.host, options.port).close()
        open_service(options, LIMITS)

    with pytest.raises(kind) as refused:
        begin()
    assert told in str(refused.value)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snellen.serve.run.has_package", lambda name: name != "fastapi")
    with pytest.raises(UsageError, match="needs fastapi, which is not installed") as refused:
        require_serve()
    assert refused.value.hint == "pip install 'snellen[serve]'"


def test_no_training_library_is_in_the_process(folder: Path) -> None:
    code = (
        "import sys\nfrom snellen.serve.run import ServeOptions, build_config\n"
        "from snellen.serve.setup import open_service\nfrom snellen.serve.limits import LIMITS\n"
        f"service = open_service(ServeOptions(({str(folder / 'bundle')!r},), db={str(folder / 'b.db')!r}), LIMITS)\n"
        "build_config(service)\n"
        "print([name for name in ('torch', 'sklearn', 'pandas', 'matplotlib', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
