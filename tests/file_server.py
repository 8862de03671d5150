"""A web server on loopback that serves bytes and misbehaves on demand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """`files` maps path to content. `trouble` is used up from the front, one a request: a status to answer with,
    `cut` (half of what was asked for, then the connection closes) or `stall` (half, then silence).
    Where `moved_to` is set, every request is sent on to there.
    """

    files: dict[str, bytes]
    trouble: list[int | str] = field(default_factory=list)
    has_ranges: bool = True
    extra_length: int = 0
    url: str = ""
    asked: list[str | None] = field(default_factory=list)
    moved_to: str = ""
    released: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serve(files: dict[str, bytes]) -> Iterator[FileServer]:
    """The server, running until the block ends. Its `asked` lists the Range header of every request."""
    server = FileServer(files)
    running = ThreadingHTTPServer(("127.0.0.1", 0), _build_handler(server))
    running.daemon_threads = True
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    server.url = f"http://127.0.0.1:{running.server_address[1]}"
    try:
        yield server
    finally:
        server.released.set()
        running.shutdown()
        thread.join()
        running.server_close()


def _build_handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.asked.append(asked)
            if server.moved_to:
                self.send_response(302)
                self.send_header("Location", server.moved_to)
                self.end_headers()
                return
            trouble = server.trouble.pop(0) if server.trouble else None
            content = server.files.get(self.path.partition("?")[0].lstrip("/"))
            if isinstance(trouble, int) or content is None:
                self.send_error(trouble if isinstance(trouble, int) else 404)
                return
            start = 0
            if asked and server.has_ranges:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            body = content[start:]
            self.send_header("Content-Length", str(len(body) + server.extra_length))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if trouble else body)
            self.wfile.flush()
            if trouble == "stall":
                server.released.wait()

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
