"""Opening what a stranger named only where it is a file: a pipe would wait for ever, a device never end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = (
    (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)  # fmt: skip
# a pipe without a writer is opened at once; Windows has neither such pipes nor the flag, but a text mode
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class NotRegularError(OSError):
    """The path leads to a device, a pipe, a socket or a folder; `strerror` says to what."""


def is_file(path: Path) -> bool:
    """Whether a file is there; what can be no file's name, such as one too long, is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def open_regular(path: Path) -> BinaryIO:
    """The bytes of an ordinary file, or of the one that a link leads to. Raises NotRegularError, OSError.

    OSError also of what can be no file's name, such as one with a zero byte.
    """
    descriptor = _open(path)
    if kind := describe_special(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegularError(0, f"it is {kind}, no file", str(path))
    return os.fdopen(descriptor, "rb")


def read_small(path: Path, limit: int) -> bytes | None:
    """All bytes of an ordinary file of at most `limit`, None of a larger one. Raises NotRegularError, OSError.

    In as few calls to the system as can be: threads that read many files wait for Python's lock after each.
    """
    descriptor = _open(path)
    try:
        found = os.fstat(descriptor)
        if kind := describe_special(found.st_mode):
            raise NotRegularError(0, f"it is {kind}, no file", str(path))
        if found.st_size > limit:
            return None
        data = os.read(descriptor, found.st_size)
        while len(data) < found.st_size and (more := os.read(descriptor, found.st_size - len(data))):
            data += more
        return data
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, _FLAGS)
    except ValueError as error:  # a zero byte, or half of a letter: no system has such a name
        raise OSError(errno.EINVAL, f"its name is none that a file can have ({error})") from error


def describe_special(mode: int) -> str:
    """What a file's `mode` says it is, where that is no ordinary file; else nothing."""
    if stat.S_ISREG(mode):
        return ""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
