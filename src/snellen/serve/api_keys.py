"""API keys: made, found, revoked. A secret is told once; the table holds its SHA-256.

A secret has 256 random bits. Nobody can guess or tabulate those, so that the slow hash that passwords need would only
cost every request its time. Looking a digest up in an index tells whoever measures time something about digests, and
nothing about a secret; what is found is compared in constant time all the same.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from snellen.core.errors import UsageError
from snellen.serve.audit_rows import ROLES, ApiKey, Role
from snellen.serve.chain import ChainKey, is_same_mac
from snellen.serve.ledger import Ledger
from snellen.serve.row_values import count_microseconds, read_microseconds
from snellen.serve.schema import api_keys, audit_log

_PREFIX = "snellen_"  # so that searches for leaked secrets can know one
FRESH_S = 2.0
_MOST_KNOWN = 1000
_NAME = re.compile(r"[\w][\w .@-]{0,63}")
_SIGNED = ("key_id", "name", "role", "secret_sha256", "created_us", "revoked_us")


class KeyRing:
    """The keys of one database. What was found is taken for true for 2 s, so that not every request asks for it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[str, tuple[float, ApiKey]] = {}
        self._lock = threading.Lock()

    def add(self, name: str, role: Role) -> tuple[ApiKey, str]:
        """A new key and its secret. The log tells that it was made."""
        name = name.strip()
        if role not in ROLES:
            raise UsageError(f"There is no role {role!r}.", f"Roles: {', '.join(ROLES)}.")
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} is no name for a key.", "Letters, digits, blanks and . _ @ - ; 64 at most, no blank first."
            )
        secret = _PREFIX + secrets.token_urlsafe(32)
        values = {
            "key_id": f"k_{secrets.token_hex(4)}",
            "name": name,
            "role": role,
            "secret_sha256": _digest(secret),
            "created_us": count_microseconds(datetime.now(UTC)),
            "revoked_us": None,
        }
        with self._ledger.writing() as pen:  # the lock on the chain's head makes sure that nobody takes the name now
            if pen.connection.execute(sa.select(api_keys.c.key_id).where(api_keys.c.name == name)).first():
                raise UsageError(
                    f"There is a key {name!r} already, maybe a revoked one.",
                    "Choose another name: the log shall tell the two apart.",
                )
            pen.connection.execute(sa.insert(api_keys).values(**values, mac=pen.key.sign_api_key(values)))
            pen.tell("key_added", {"key_id": values["key_id"], "name": name, "role": role})
        return _read(values), secret

    def find(self, secret: str) -> ApiKey | None:
        """The key of `secret` unless it is unknown, revoked, or was not written by Snellen."""
        digest = _digest(secret)
        now = time.monotonic()
        known = self._known.get(digest)
        if known is not None and known[0] > now:
            return known[1]
        key = self._look_up(digest)
        with self._lock:
            if key is None:
                self._known.pop(digest, None)
            elif len(self._known) < _MOST_KNOWN or digest in self._known:
                self._known[digest] = (now + FRESH_S, key)
            else:
                self._known = {digest: (now + FRESH_S, key)}
        return key

    def _look_up(self, digest: str) -> ApiKey | None:
        query = sa.select(*api_keys.c).where(api_keys.c.secret_sha256 == digest)
        with self._ledger.database.reading() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None or not is_same_mac(row["secret_sha256"], digest) or not is_signed_key(row, self._ledger.key):
            return None
        return None if row["revoked_us"] is not None else _read(row)

    def list_all(self) -> list[ApiKey]:
        """All keys, oldest first."""
        with self._ledger.database.reading() as connection:
            rows = connection.execute(sa.select(*api_keys.c).order_by(api_keys.c.created_us)).mappings()
            return [_read(row) for row in rows]

    def is_begun(self) -> bool:
        """Whether a key was ever made, also if all are revoked, or somebody has deleted them from the table."""
        told = sa.select(audit_log.c.row).where(audit_log.c.kind == "key_added").order_by(audit_log.c.row).limit(1)
        with self._ledger.database.reading() as connection:
            asked = (sa.select(api_keys.c.key_id).limit(1), told)
            return any(connection.execute(query).first() is not None for query in asked)

    def revoke(self, name: str) -> ApiKey:
        """Refuse the key of this name or id from now on. The log tells it."""
        with self._ledger.writing() as pen:
            named = sa.or_(api_keys.c.name == name, api_keys.c.key_id == name)
            row = pen.connection.execute(sa.select(*api_keys.c).where(named)).mappings().first()
            if row is None:
                raise UsageError(f"There is no key {name!r}.", "`snellen keys list` shows all.")
            if row["revoked_us"] is not None:
                raise UsageError(f"The key {name!r} was revoked before.", "Nothing is left to do.")
            values = {column: row[column] for column in _SIGNED}
            values["revoked_us"] = count_microseconds(datetime.now(UTC))
            change = {"revoked_us": values["revoked_us"], "mac": pen.key.sign_api_key(values)}
            pen.connection.execute(sa.update(api_keys).where(api_keys.c.key_id == row["key_id"]).values(**change))
            pen.tell("key_revoked", {"key_id": row["key_id"], "name": row["name"]})
        with self._lock:
            self._known.clear()
        return _read(values)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def is_signed_key(row: Mapping[str, Any] | sa.RowMapping, key: ChainKey) -> bool:
    """Whether a row of the table is as Snellen wrote it."""
    return is_same_mac(row["mac"], key.sign_api_key({column: row[column] for column in _SIGNED}))


def _read(row: Mapping[str, Any] | sa.RowMapping) -> ApiKey:
    revoked = row["revoked_us"]
    return ApiKey(
        key_id=row["key_id"],
        name=row["name"],
        role=row["role"],
        created=read_microseconds(row["created_us"]),
        revoked=None if revoked is None else read_microseconds(revoked),
    )
