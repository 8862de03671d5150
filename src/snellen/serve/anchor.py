"""The two files beside the database: the HMAC key, and the anchor, which says how long the chain was at least."""

from __future__ import annotations

import binascii
import contextlib
import json
import logging
import os
import secrets
import sys
import threading
import time
from pathlib import Path

from snellen.core.errors import StorageError, UsageError
from snellen.core.storage import explain_os_error, hold_folder
from snellen.serve.chain import Anchor, ChainKey, Head, describe, is_same_mac

LOG = logging.getLogger("snellen.serve.store")
KEY_VARIABLE = "SNELLEN_AUDIT_KEY"
KEY_FILE_VARIABLE = "SNELLEN_AUDIT_KEY_FILE"
KEY_BYTES = 32
EVERY_S = 1.0


def load_key(path: Path) -> ChainKey | None:
    """The key of `$SNELLEN_AUDIT_KEY`, of the file `$SNELLEN_AUDIT_KEY_FILE`, else of `path`; None where there is none.

    Raises UsageError or StorageError where it is no key, or where others may read `path`.
    """
    if text := os.environ.get(KEY_VARIABLE):
        return ChainKey(_parse_key(text, f"${KEY_VARIABLE}"))
    named = os.environ.get(KEY_FILE_VARIABLE)
    place = Path(named).expanduser() if named else path
    try:
        if not named and sys.platform != "win32" and place.stat().st_mode & 0o077:
            raise StorageError(f"{place}: others may read the HMAC key of the audit log.", f"chmod 600 {place}")
        return ChainKey(_parse_key(place.read_text(encoding="ascii"), str(place)))
    except FileNotFoundError:
        if named:
            raise UsageError(f"${KEY_FILE_VARIABLE}: {place} does not exist.", "Name the file of the key.") from None
        return None
    except OSError as error:
        raise explain_os_error(error, place) from error
    except UnicodeDecodeError:
        raise StorageError(f"{place} holds no key.", "Restore it from its backup.") from None


def create_key(path: Path) -> ChainKey:
    """A new random key in a file that its owner alone may read."""
    secret = secrets.token_bytes(KEY_BYTES)
    _write_private(path, secret.hex() + "\n")
    return ChainKey(secret)


def _parse_key(text: str, place: str) -> bytes:
    try:
        secret = bytes.fromhex(text.strip())
    except (ValueError, binascii.Error):
        secret = b""
    if len(secret) < KEY_BYTES:
        raise StorageError(
            f"{place} holds no key: {KEY_BYTES} bytes in hexadecimal are needed.",
            "Restore it from its backup; a key for a new database: openssl rand -hex 32",
        )
    return secret


class AnchorFile:
    """Follows the head of the chain, a second behind at most while rows come and nearly at once when they rest.

    A crash leaves it behind the database, which is sound: it says "at least". Ahead of the database it can only be
    where rows were lost.
    """

    def __init__(self, path: Path, key: ChainKey) -> None:
        self.path = path
        self._key = key
        self._written: Anchor | None = None
        self._next: Anchor | None = None
        self._due = 0.0
        self._failed = False
        self._lock = threading.Lock()

    def read(self) -> Anchor | None:
        """The anchor, or None where the file is missing. Raises StorageError where it is not as it was signed."""
        return read_anchor(self.path, self._key)

    def follow(self, head: Head) -> None:
        """Tell of a head that is on the disk; written where the last writing is a second ago."""
        with self._lock:
            known = self._next or self._written
            if known is None or head.last > known.last or head.chain_id != known.chain_id:
                self._next = Anchor(head.chain_id, head.last, head.last_mac)
        if time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Write the last head that was told. A failure is told once and tried again: no row depends on it."""
        with self._lock:
            if self._next is None:
                return
            self._due = time.monotonic() + EVERY_S
            try:
                # of servers that share the file a slow one would put an older head in a newer one's place
                with hold_folder(self.path.parent, waits=True):
                    if not self._is_ahead(self._next):
                        self._write(self._next)
            except StorageError as error:
                if not self._failed:
                    LOG.warning("The anchor of the audit log stays behind: %s", error.message)
                self._failed = True
                return
            self._written, self._next, self._failed = self._next, None, False

    def replace(self, head: Head) -> None:
        """Forget what the file says and anchor `head`, also where it is shorter. Raises StorageError."""
        with self._lock:
            anchor = Anchor(head.chain_id, head.last, head.last_mac)
            with hold_folder(self.path.parent, waits=True):
                self._write(anchor)
            self._written, self._next = anchor, None

    def _is_ahead(self, anchor: Anchor) -> bool:
        """Whether another server that shares the file was faster."""
        found = self.read()
        return found is not None and found.chain_id == anchor.chain_id and found.last >= anchor.last

    def _write(self, anchor: Anchor) -> None:
        signed = {**describe(anchor), "mac": self._key.sign_anchor(anchor)}
        _write_private(self.path, json.dumps(signed, indent=2) + "\n")


def read_anchor(path: Path, key: ChainKey) -> Anchor | None:
    """The anchor in a file, own or a copy that was kept elsewhere. Raises StorageError where it is not as signed."""
    try:
        values = json.loads(path.read_text(encoding="ascii"))
        mac = values.pop("mac")
        anchor = Anchor(**values)
        if is_same_mac(mac, key.sign_anchor(anchor)):
            return anchor
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explain_os_error(error, path) from error
    except (ValueError, TypeError, AttributeError, KeyError):
        pass
    raise StorageError(
        f"{path} is no anchor that was signed with this audit log's key.", "Restore the file from its backup."
    )


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, on the disk, readable for its owner alone."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise explain_os_error(error, path) from error


def _sync_folder(folder: Path) -> None:
    """The name too is on the disk. Windows knows no such call, and needs none."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
