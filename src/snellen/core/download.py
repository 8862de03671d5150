"""One file over HTTP: resumed where it broke off, and given its name only once its checksum is right.

Knows URLs, sizes and MD5; nothing of what the file holds.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snellen import __version__
from snellen.core.errors import FetchError, UsageError
from snellen.core.progress import say
from snellen.core.storage import explain_os_error, hold_lock, require_space

_BLOCK = 1 << 16
_MOST_ATTEMPTS = 200  # also where each brings a little
_RETRIED = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, in seconds, and how often in a row it may fail without sending anything."""

    connect_s: float = 5.0
    stall_s: float = 30.0
    attempts: int = 4
    pause_s: float = 2.0


class _BrokenError(Exception):
    """The transfer failed in a way that another attempt may mend."""


class _UnreachableError(_BrokenError):
    """There was no connection at all."""


Progress = Callable[[int, int], None]


def download(url: str, path: Path, md5: str, progress: Progress, patience: Patience | None = None) -> bool:
    """Bring the file at `url` to `path`; False where it was there already.

    What arrived is kept in `path` with `.part` at its end and continued by the next call. `progress` is told bytes
    done and in all. Raises FetchError that says what to do by hand, StorageError where there is no room.
    """
    with hold_lock(path.with_name(f".{path.name}.lock")):
        if path.exists():
            _require_published(path, md5)
            return False
        part = path.with_name(f"{path.name}.part")
        try:
            is_resumed = _transfer(url, part, path, progress, patience or Patience())
            found = compute_md5(part)
            if found != md5 and is_resumed:
                # the kept part may be of another state of the server's file: once more, from the beginning
                say(f"{path.name}: the checksum is wrong after resuming; starting anew")
                part.unlink()
                _transfer(url, part, path, progress, patience or Patience())
                found = compute_md5(part)
            if found != md5:
                part.unlink()
                raise FetchError(
                    f"What {url} sent is not the published file: its MD5 is {found}, not {md5}.",
                    f"Nothing was kept. Try again later, or {_by_hand(url, path)}.",
                )
            part.replace(path)
        except OSError as error:
            raise explain_os_error(error, path) from error
    return True


def compute_md5(path: Path) -> str:
    """Hex MD5 of a file: what MedMNIST publishes; it guards against damage, not against attackers."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _require_published(path: Path, md5: str) -> None:
    found = compute_md5(path)
    if found != md5:
        raise FetchError(
            f"{path} is there already, but it is not the published file: its MD5 is {found}, not {md5}.",
            "It stays as it is: move it away, or choose another --out.",
        )


def _transfer(url: str, part: Path, path: Path, progress: Progress, patience: Patience) -> bool:
    """Fill `part` to the end. Returns whether something of it was there before."""
    was_there = part.exists() and part.stat().st_size > 0
    if was_there:
        say(f"Resuming at {part.stat().st_size / 1e6:,.1f} MB")
    failed, attempt, has_begun = 0, 0, False
    while True:
        attempt += 1
        before = part.stat().st_size if part.exists() else 0
        try:
            _attempt(url, part, progress, patience)
            return was_there
        except _BrokenError as error:
            after = part.stat().st_size if part.exists() else 0
            has_begun = has_begun or after > before
            failed = 1 if after > before else failed + 1
            # without a network from the start, waiting helps nobody
            is_offline = isinstance(error, _UnreachableError) and not has_begun
            if failed >= patience.attempts or is_offline or attempt == _MOST_ATTEMPTS:
                raise FetchError(f"{url} cannot be downloaded: {error}.", _advise(url, path, after)) from error
            say(f"{path.name}: {error}; trying again")
            time.sleep(patience.pause_s * failed)
        except urllib.error.HTTPError as error:
            raise FetchError(
                f"{url}: the server answers {error.code} {error.reason}.",
                f"Check the address, or {_by_hand(url, path)}.",
            ) from error
        except ValueError as error:
            raise FetchError(
                f"{url} cannot be downloaded: it leads to no web address ({error}).",
                f"Check the address, or {_by_hand(url, path)}.",
            ) from error


def _attempt(url: str, part: Path, progress: Progress, patience: Patience) -> None:
    """One request for what is missing, appended to `part`. Raises _BrokenError where it ends early."""
    offset = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": f"snellen/{__version__}", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        response = _open(url, headers, patience)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            return  # nothing lies behind the part: it is whole, or its checksum will tell
        if error.code in _RETRIED:
            raise _BrokenError(f"the server answers {error.code} {error.reason}") from error
        raise
    except (OSError, http.client.HTTPException) as error:
        # urllib wraps what goes wrong before an answer in a URLError
        kind = _UnreachableError if isinstance(error, urllib.error.URLError) else _BrokenError
        raise kind(_explain(error)) from error
    with response:
        if offset and not _continues(response, offset):
            say("The server cannot resume; starting anew")
            offset = 0
        length = response.headers.get("Content-Length", "")
        total = offset + int(length) if length.isdecimal() else 0
        require_space(part.parent, max(0, total - offset), f"The download {part.stem}", hint=_SPACE)
        _append(response, part, offset, total, progress)


_SPACE = "Free some space, or choose another --out."


def _continues(response: Any, offset: int) -> bool:
    is_partial = bool(response.status == http.HTTPStatus.PARTIAL_CONTENT)
    return is_partial and str(response.headers.get("Content-Range", "")).startswith(f"bytes {offset}-")


def _append(response: Any, part: Path, offset: int, total: int, progress: Progress) -> None:
    done = offset
    with part.open("r+b" if offset else "wb") as stream:
        stream.seek(offset)
        while True:
            try:
                block = response.read1(_BLOCK)
            except (OSError, http.client.HTTPException) as error:
                raise _BrokenError(f"the transfer broke off after {done / 1e6:,.1f} MB: {_explain(error)}") from error
            if not block:
                break
            stream.write(block)
            done += len(block)
            progress(done, total)
    if done < total:
        raise _BrokenError(f"the transfer broke off after {done / 1e6:,.1f} of {total / 1e6:,.1f} MB")


def _open(url: str, headers: dict[str, str], patience: Patience) -> Any:
    opener = urllib.request.build_opener(_Http(patience.stall_s), _Https(patience.stall_s))
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  # the scheme was checked
    return opener.open(request, timeout=patience.connect_s)


class _Http(urllib.request.HTTPHandler):
    """Waits longer for data than for the connection."""

    def __init__(self, stall_s: float) -> None:
        super().__init__()
        self.stall_s = stall_s

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_waiting(http.client.HTTPConnection, self.stall_s), req)


class _Https(urllib.request.HTTPSHandler):
    """The same over TLS."""

    def __init__(self, stall_s: float) -> None:
        super().__init__()
        self.stall_s = stall_s

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_waiting(http.client.HTTPSConnection, self.stall_s), req)


def _waiting(kind: type[http.client.HTTPConnection], stall_s: float) -> Callable[..., http.client.HTTPConnection]:
    def build(host: str, **options: Any) -> http.client.HTTPConnection:
        connection = kind(host, **options)
        connect = connection.connect

        def connect_then_wait() -> None:
            connect()
            connection.sock.settimeout(stall_s)

        connection.connect = connect_then_wait  # type: ignore[method-assign]  # the one place between the two timeouts
        return connection

    return build


def require_http(url: str) -> None:
    """Raises UsageError where `url` is no address of a web server: a `file:` would read what nobody meant."""
    if not url.isascii() or re.search(r"[\x00-\x20\x7f]", url):
        raise UsageError(
            f"--url {url} holds letters or blanks that an address cannot hold.",
            "Copy it from the browser's address line, which writes them as %20 and the like.",
        )
    if not _is_web_address(url):
        raise UsageError(f"--url {url} is no http or https address.", "Example: https://mirror.example.org/medmnist")


def _is_web_address(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        host = (parts.hostname or "").encode("idna")  # as the connection will: no empty or endless part of the name
        return parts.scheme in ("http", "https") and bool(host) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _explain(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, TimeoutError):
        return "the server does not answer"
    if isinstance(reason, OSError) and reason.errno:
        return os.strerror(reason.errno).lower() if reason.errno > 0 else str(reason.strerror or reason)
    return str(reason) or type(reason).__name__


def _advise(url: str, path: Path, n_bytes: int) -> str:
    kept = f" What arrived is kept: the same command goes on at {n_bytes / 1e6:,.1f} MB." if n_bytes else ""
    ways = "Check the network (behind a proxy, set HTTPS_PROXY), name a mirror with --url"
    return f"{ways}, or {_by_hand(url, path)}.{kept}"


def _by_hand(url: str, path: Path) -> str:
    return f"download {url} by hand and put it at {path}"
