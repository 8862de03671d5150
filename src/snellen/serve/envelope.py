"""What is around every request: an id, headers, a log line, counters, and an answer where the code below failed."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from snellen.serve.logs import log_event
from snellen.serve.measures import Measures
from snellen.serve.refusals import build_plain_refusal

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_LEFTOVER_BYTES = 20_000_000
_LEFTOVER_S = 3.0
_QUIET = ("/healthz", "/readyz", "/metrics")


class Envelope:
    """The outermost layer. No text of an exception leaves it."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["request_id"] = secrets.token_hex(8)
        exchange = _Exchange(scope, receive, send)
        begin = time.perf_counter()
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:
            log_event("failed", error=error, request_id=state["request_id"])
            if not exchange.is_begun:
                await build_plain_refusal(500, state["request_id"])(scope, exchange.receive, exchange.send)
        finally:
            self._note(scope, exchange, time.perf_counter() - begin)

    def _note(self, scope: Scope, exchange: _Exchange, seconds: float) -> None:
        route = _name_route(scope)
        self._measures.note_request(route, _name_method(scope["method"]), exchange.status, seconds)
        if route in _QUIET and exchange.status < 400:
            return
        log_event(
            "request",
            request_id=scope["state"]["request_id"],
            method=_name_method(scope["method"]),
            route=route,
            status=exchange.status,
            ms=round(1000 * seconds, 1),
            bytes_in=exchange.n_received,
            key_id=scope["state"].get("key_id"),
            code=scope["state"].get("error_code"),
        )


class _Exchange:
    """The two directions of one request, watched."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self.is_begun = False
        self.status = 499  # the client went away before an answer began
        self.n_received = 0
        self._is_received = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.n_received += len(message.get("body", b""))
        self._is_received = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if message["status"] >= 400 and message["status"] != HTTPStatus.REQUEST_TIMEOUT:
                await self._take_leftovers()
            self.is_begun = True
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", []), *self._list_headers(message)]}
        await self._send(message)

    def _list_headers(self, message: Message) -> list[tuple[bytes, bytes]]:
        present = {name.lower() for name, _ in message.get("headers", [])}
        wanted = {**_HEADERS, "X-Request-ID": self._scope["state"]["request_id"]}
        if b"cache-control" not in present:
            wanted["Cache-Control"] = "no-store"
        if message["status"] >= 400 and not self._is_received:
            wanted["Connection"] = "close"
        return [(name.encode(), value.encode()) for name, value in wanted.items()]

    async def _take_leftovers(self) -> None:
        """Read what is still being sent, within limits: many clients read no answer before they have sent all."""
        if self._scope["method"] not in ("POST", "PUT", "PATCH", "DELETE"):
            return
        taken = 0
        try:
            async with asyncio.timeout(_LEFTOVER_S):
                while not self._is_received and taken < _LEFTOVER_BYTES:
                    taken += len((await self.receive()).get("body", b""))
        except TimeoutError:
            return


def _name_route(scope: Scope) -> str:
    """The route's pattern, such as `/v1/models/{name}/predict`: what was really asked for may hold a client's text."""
    route = str(getattr(scope.get("route"), "path", "")) or "none"
    is_inner = scope["path"].startswith("/v1/") and route.startswith("/") and not route.startswith("/v1")
    return f"/v1{route}" if is_inner else route


def _name_method(method: str) -> str:
    known = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return method if method in known else "OTHER"
