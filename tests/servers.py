"""A real server on loopback, with a real audit database, for tests."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from snellen.imaging.picture import MAX_BYTES, MAX_PIXELS, limit_decoding
from snellen.serve.limits import LIMITS, Limits
from snellen.serve.logs import LOGGER, JsonLines
from snellen.serve.run import ServeOptions, build_config
from snellen.serve.service import Service
from snellen.serve.setup import open_service


@dataclass
class Running:
    """A server that answers at `base`; `said` is its log."""

    base: str
    service: Service
    client: httpx.Client
    said: io.StringIO

    def post(self, path: str, files: Mapping[str, bytes] | Sequence[tuple[str, bytes]], **more: Any) -> httpx.Response:
        """Send files by their names."""
        pairs = list(files.items()) if isinstance(files, Mapping) else list(files)
        form = [("images", (name, content)) for name, content in pairs]
        return self.client.post(path, files=form, **more)

    def predict(self, model: str, files: Mapping[str, bytes] | Sequence[tuple[str, bytes]]) -> httpx.Response:
        """`POST /v1/models/{model}/predict`."""
        return self.post(f"/v1/models/{model}/predict", files)

    def list_events(self, event: str) -> list[dict[str, Any]]:
        """Lines of the log."""
        found = [json.loads(line) for line in self.said.getvalue().splitlines()]
        return [line for line in found if line["event"] == event]


@contextlib.contextmanager
def run_server(folder: Path, bundles: Sequence[str], *, limits: Limits = LIMITS, **options: Any) -> Iterator[Running]:
    """Within, a server of `bundles` answers whose database lies in `folder`."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    asked = ServeOptions(tuple(bundles), port=bound.getsockname()[1], db=str(folder / "audit.db"), **options)
    service = open_service(asked, limits)
    server = uvicorn.Server(build_config(service))
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    with _hear() as said:
        thread.start()
        wait_until(lambda: server.started)
        base = f"http://127.0.0.1:{asked.port}"
        with httpx.Client(base_url=base, timeout=30, trust_env=False) as client:
            try:
                yield Running(base, service, client, said)
            finally:
                server.should_exit = True
                thread.join(30)
                bound.close()
                limit_decoding(MAX_PIXELS, MAX_BYTES)


@contextlib.contextmanager
def _hear() -> Iterator[io.StringIO]:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger(LOGGER)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def wait_until(is_so: Callable[[], object], seconds: float = 20) -> None:
    """Return as soon as it is so; fail where it does not come."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
