"""Who may do what. A key comes in the header `Authorization: Bearer …`; without keys only this machine is answered.

A page of another site can make a browser send a form here, but no such header. Where no key is asked for, requests
that other sites caused are refused, and so are names of this machine that are not its own (DNS rebinding).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from snellen.serve.audit_rows import ApiKey, Role
from snellen.serve.refusals import RefusedError
from snellen.serve.store import Store

_FRESH_S = 2.0
_OWN_NAMES = ("localhost", "127.0.0.1", "::1")
_SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Caller:
    """Who asks. `key` is None where the server answers without keys."""

    key: ApiKey | None

    @property
    def key_id(self) -> str | None:
        return None if self.key is None else self.key.key_id

    def allows(self, role: Role) -> bool:
        """Whether the caller may do what `role` may."""
        return self.key is None or self.key.allows(role)


class Access:
    """The rule of one server. Keys are asked for once there was one, also when all are revoked, and everywhere but on
    loopback.
    """

    def __init__(self, store: Store, *, host: str, is_insecure: bool) -> None:
        self._store = store
        self._host = host
        self._is_insecure = is_insecure
        self._is_loopback = is_loopback(host)
        self._has_keys = not is_insecure and store.has_had_keys()
        self._asked_at = float("-inf")

    @property
    def needs_keys(self) -> bool:
        """Whether requests need a key now. Asks the database at most every two seconds; it may raise."""
        known = self._recall()
        return self._look() if known is None else known

    def _recall(self) -> bool | None:
        """What is known without asking the database, which may take time."""
        if self._is_insecure:
            return False
        if not self._is_loopback or self._has_keys:
            return True
        return None if time.monotonic() - self._asked_at > _FRESH_S else False

    def _look(self) -> bool:
        if not self._has_keys:
            self._has_keys = bool(self._store.list_keys())
            self._asked_at = time.monotonic()
        return self._has_keys

    async def identify(self, request: Request) -> Caller:
        """Raises RefusedError: 401 without a good key, 403 for what another site caused."""
        known = self._recall()
        if not (await run_in_threadpool(self._look) if known is None else known):
            self._require_own_site(request)
            return Caller(None)
        secret = _read_secret(request)
        if not secret:
            raise RefusedError(
                401, "key_missing", "This server needs a key.", "Send the header: Authorization: Bearer KEY"
            )
        key = await run_in_threadpool(self._store.find_key, secret)
        if key is None:
            raise RefusedError(
                401, "key_unknown", "The key is not known, or was revoked.", "Ask whoever runs the server."
            )
        return Caller(key)

    def _require_own_site(self, request: Request) -> None:
        if self._is_loopback and not self._is_insecure and _read_name(request.headers.get("host", "")) not in (
            *_OWN_NAMES, self._host,
        ):  # fmt: skip
            raise RefusedError(
                403, "foreign_host", "This server is asked by a name that is not its own.", "Ask http://127.0.0.1."
            )
        if request.method not in _SAFE and _is_cross_site(request):
            raise RefusedError(
                403, "cross_site", "The request was caused by another site.", "Use the server's own page."
            )


def needs(*roles: Role) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency of routes: the caller, who must have one of `roles`. Raises RefusedError."""

    async def identify(request: Request) -> Caller:
        access: Access = request.app.state.service.access
        caller = await access.identify(request)
        request.scope["state"]["key_id"] = caller.key_id
        if not any(caller.allows(role) for role in roles):
            asked = " or ".join(roles)
            raise RefusedError(
                403, "role_missing", f"The key lacks the role {asked}.", f"Use a key of the role {asked}."
            )
        return caller

    return identify


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server at `host`."""
    return host in _OWN_NAMES or host.startswith("127.")


def _read_secret(request: Request) -> str:
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if kind.lower() == "bearer" else ""


def _read_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_cross_site(request: Request) -> bool:
    if site := request.headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host", "")
