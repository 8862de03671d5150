"""HTTP/1.1 as uvicorn speaks it, with two promises more: our shape of errors, and no patience with slow headers."""

from __future__ import annotations

import asyncio
import json
import secrets

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from snellen.serve.limits import LIMITS
from snellen.serve.logs import log_event


class Protocol(H11Protocol):
    """A connection whose first request does not begin, or whose headers do not come whole, within `header_s` is closed.
    One that waits for its next request is not: uvicorn closes it after `timeout_keep_alive`.
    """

    _slow: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._watch_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        has_begun = self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]
        if has_begun and not self.transport.is_closing():
            self._watch_headers()
        else:
            self._stop_watching()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP at all."""
        error = {
            "code": "bad_request", "message": msg, "hint": "Use an HTTP client.", "request_id": secrets.token_hex(8),
        }  # fmt: skip
        log_event("request", request_id=error["request_id"], status=400, code=error["code"])
        body = json.dumps({"error": error}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            (b"x-request-id", error["request_id"].encode()),
        ]
        try:
            for event in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # an answer has begun already
            pass
        self.transport.close()

    def _watch_headers(self) -> None:
        if self._slow is None:
            self._slow = self.loop.call_later(LIMITS.header_s, self._give_up)

    def _stop_watching(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _give_up(self) -> None:
        self._slow = None
        if self.conn.their_state is h11.IDLE and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()
