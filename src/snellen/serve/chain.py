"""The chain: what the MAC of a row covers, the signed head, the signed anchor. Pure: no database, no file.

    mac(n) = HMAC-SHA256(key, mac(n-1) ‖ canonical bytes of row n)

Row 1 follows a MAC of the chain's own name, so rows of one chain do not fit into another. Who lacks the key can change,
remove or add nothing without a MAC that no longer fits; the head says where the chain ends, the anchor, outside the
database, that it was at least so long once.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# every column but `mac`, in the order in which they are signed; a new column gets a new VERSION for new rows
SIGNED = (
    "row", "kind", "time_us", "request_id", "key_id", "model", "model_sha256", "image_sha256", "probabilities",
    "prediction", "decision", "abstain", "reason", "latency_ms", "error", "filename", "details",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain begins and ends: `last` counts all rows that ever were; the first `purged` were removed."""

    chain_id: str
    last: int
    last_mac: str
    purged: int
    purged_mac: str  # MAC of the last row that was purged; that of the chain's name where none was


@dataclass(frozen=True, slots=True)
class Anchor:
    """What is known outside the database: this chain once had `last` rows, the last of them with this MAC."""

    chain_id: str
    last: int
    last_mac: str


class ChainKey:
    """Signs rows, heads and anchors, each under a key of its own that is derived from the secret."""

    def __init__(self, secret: bytes) -> None:
        self._rows = _derive(secret, b"rows")
        self._heads = _derive(secret, b"heads")
        self._anchors = _derive(secret, b"anchors")
        self._api_keys = _derive(secret, b"api keys")
        self.fingerprint = _derive(secret, b"fingerprint").hex()[:16]

    def begin(self, chain_id: str) -> Head:
        """The head of a chain without rows."""
        first = self.compute_start(chain_id)
        return Head(chain_id, 0, first, 0, first)

    def compute_start(self, chain_id: str) -> str:
        """What row 1 follows."""
        return _sign(self._rows, b"snellen audit chain 1\0" + chain_id.encode())

    def sign_row(self, previous_mac: str, row: Mapping[str, Any]) -> str:
        """The MAC of `row`, given that of the row before."""
        return _sign(self._rows, bytes.fromhex(previous_mac) + encode_row(row))

    def sign_head(self, head: Head) -> str:
        return _sign(self._heads, _encode(describe(head)))

    def sign_anchor(self, anchor: Anchor) -> str:
        return _sign(self._anchors, _encode(describe(anchor)))

    def sign_api_key(self, values: Mapping[str, Any]) -> str:
        """So that a key which somebody wrote into the table, or a revocation that was taken out of it, is refused."""
        return _sign(self._api_keys, _encode(values))


def encode_row(row: Mapping[str, Any]) -> bytes:
    """Canonical bytes: JSON of the signed columns in their order. Numbers come back from both databases bit by bit."""
    return json.dumps([row[name] for name in SIGNED], separators=(",", ":"), allow_nan=False).encode("ascii")


def describe(signed: Head | Anchor) -> dict[str, Any]:
    """Its fields by name; `dataclasses.asdict` copies them deeply, which is felt at every row."""
    return {name: getattr(signed, name) for name in signed.__slots__}


def is_same_mac(one: str, other: str) -> bool:
    """Constant time. What is no ASCII was no MAC."""
    return hmac.compare_digest(one.encode(), other.encode())


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return hmac.digest(secret, b"snellen audit " + purpose, hashlib.sha256)


def _sign(key: bytes, message: bytes) -> str:
    return hmac.digest(key, message, "sha256").hex()


def _encode(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode("ascii")
