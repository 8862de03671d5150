"""`snellen serve`: opens bundles and database, says where it answers, and ends when it is told to."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snellen.core.errors import UsageError
from snellen.core.runtime import has_package

if TYPE_CHECKING:
    import uvicorn

    from snellen.serve.service import Service

_NEEDED = {
    "fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client", "sqlalchemy": "sqlalchemy", "alembic": "alembic",
}  # fmt: skip
_BACKLOG = 2048
_IDLE_S = 75  # longer than a proxy keeps a connection that nobody uses, else both may close and ask at once
_FILES = 65_536  # each connection is one


@dataclass(frozen=True)
class ServeOptions:
    """What was asked on the command line."""

    bundles: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8080
    db: str | None = None
    is_insecure: bool = False
    keeps_images: bool = False


def serve(options: ServeOptions) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises SnellenError where it cannot begin."""
    require_serve()
    from snellen.serve.logs import write_json_logs

    with contextlib.closing(_bind(options.host, options.port)) as bound:
        write_json_logs()
        _allow_many_files()
        _run(options, bound)


def require_serve() -> None:
    """Raise UsageError that names what is not installed."""
    missing = [package for module, package in _NEEDED.items() if not has_package(module)]
    if missing:
        raise UsageError(
            f"`snellen serve` needs {', '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not installed.",
            "pip install 'snellen[serve]'",
        )


def _bind(host: str, port: int) -> socket.socket:
    """The socket, before anything slow is done: a port that is taken is told at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        if sys.platform != "win32":  # there it would let two servers share a port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        is_taken = getattr(error, "errno", None) == errno.EADDRINUSE
        raise UsageError(
            f"--host {host} --port {port}: {reason}.",
            "Another program uses the port: choose another with --port, or 0 for any that is free."
            if is_taken
            else "--host is an address of this machine: 127.0.0.1 for itself alone, 0.0.0.0 for all.",
        ) from error
    return bound


def _allow_many_files() -> None:
    """As many open files as the machine lets a process ask for: often 1,024 are given and far more allowed."""
    if sys.platform == "win32":
        return
    import resource

    given, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
    if given != resource.RLIM_INFINITY and given < wanted:
        with contextlib.suppress(ValueError, OSError):  # it works with what it has, then
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def build_config(service: Service) -> uvicorn.Config:
    """How uvicorn serves a service."""
    import uvicorn

    from snellen.serve.app import build_app
    from snellen.serve.protocol import Protocol

    return uvicorn.Config(
        build_app(service),
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=int(service.limits.drain_s),
    )


def _run(options: ServeOptions, bound: socket.socket) -> None:
    import uvicorn

    from snellen.serve.limits import LIMITS
    from snellen.serve.setup import open_service, say_start

    service = open_service(options, LIMITS)
    is_told_to_end = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                say_start(options, service, bound.getsockname())

        async def main_loop(self) -> None:
            self.should_exit = self.should_exit or is_told_to_end.is_set()
            await super().main_loop()

    # uvicorn listens to them later, and raises them again when it has ended: for us that is no failure
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: is_told_to_end.set())
    server = Server(build_config(service))
    if hasattr(signal, "SIGHUP"):
        from snellen.serve.setup import reload_all

        signal.signal(signal.SIGHUP, lambda *_: reload_all(service))
    server.run([bound])
    if not server.started:
        raise UsageError("The server could not start.", "Its log says why.")
