"""Files: atomic writes, hashes, the cache folder, locks. Knows nothing of what the files mean."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from snellen.core.errors import StorageError, UsageError

_BLOCK = 1 << 20
# the convention by which backup programs know a cache
CACHE_TAG = "CACHEDIR.TAG"
_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Written by Snellen; `snellen cache clear` empties it.\n"


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write so that `path` holds either its old or its whole new content, also after a power cut.

    Raises StorageError where the disk is full or the folder may not be written.
    """
    # a file name that is no UTF-8 must not cost the rows of all others
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).chmod(0o666 & ~_read_umask())
            Path(temporary).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise explain_os_error(error, path) from error


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def explain_os_error(error: OSError, path: Path) -> StorageError:
    """The same failure in words that say what to do."""
    elsewhere = "put the cache elsewhere with --cache DIR" if _lies_in_cache(path) else "choose another --out"
    hints = {
        27: f"Files of that size are not allowed here: {elsewhere}.",
        28: f"The disk is full: free some space, or {elsewhere}.",
        13: "Choose a folder that you may write with --out or --cache.",
        122: f"Your quota is used up: free some space, or {elsewhere}.",
        2: "There is no such folder, and none can be made there: check --out and --cache.",
        20: "A file stands where a folder is needed: check --out and --cache.",
        30: "The file system is read-only: choose another folder with --out or --cache.",
    }
    reason = error.strerror or str(error)
    return StorageError(f"{path}: {reason}", hints.get(error.errno or 0, "Check the path and try again."))


def _lies_in_cache(path: Path) -> bool:
    try:
        return any((parent / CACHE_TAG).exists() for parent in path.absolute().parents)
    except OSError:  # a folder above may not be looked into
        return False


def write_json(path: Path, value: Any) -> None:
    """Indented JSON, written atomically."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Parsed JSON. Raises StorageError naming the file where it is absent or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist.", "Is this the folder of a finished run?") from error
    except (OSError, ValueError, RecursionError) as error:
        raise StorageError(f"{path} cannot be read: {error}", "The file is damaged: repeat the step.") from error


def compute_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def compute_digest(parts: Iterable[str]) -> str:
    """Hex digest of a list of strings; no two different lists share their encoding."""
    digest = hashlib.sha256()
    for part in parts:
        # a path that is no UTF-8 has a digest too: that of its bytes
        encoded = part.encode("utf-8", "surrogateescape")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()


def choose_cache_folder(asked: str | None) -> Path:
    """`--cache`, else `$SNELLEN_CACHE`, else the platform's cache folder."""
    if asked:
        return Path(asked).expanduser()
    if configured := os.environ.get("SNELLEN_CACHE"):
        return Path(configured).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "snellen" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "snellen"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snellen"


def choose_data_folder() -> Path:
    """Where fetched data sets lie: `$SNELLEN_DATA`, else the platform's folder for data; never cleared with a cache."""
    if configured := os.environ.get("SNELLEN_DATA"):
        return Path(configured).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "snellen" / "data"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "snellen"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "snellen"


def open_cache(asked: str | None) -> Path:
    """The cache folder, made and tagged. Raises UsageError where it is a folder that holds other things.

    The platform's own place for Snellen is taken as it is found; only a folder that was named can be somebody else's.
    """
    folder = choose_cache_folder(asked)
    is_named = bool(asked or os.environ.get("SNELLEN_CACHE"))
    try:
        if is_named and folder.exists() and not (folder / CACHE_TAG).exists() and _holds_others(folder):
            raise UsageError(f"The cache {folder} holds other things.", "Choose an empty or new folder with --cache.")
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / CACHE_TAG).exists():
            write_atomic(folder / CACHE_TAG, _TAG)
    except (OSError, StorageError) as error:
        raise _tell_closed_cache(folder, asked, error) from error
    return folder


def _tell_closed_cache(folder: Path, asked: str | None, error: OSError | StorageError) -> StorageError:
    """Which option or setting named the folder."""
    named = f"--cache {folder}" if asked else f"The cache {folder}"
    reason = error.message if isinstance(error, StorageError) else error.strerror
    return StorageError(f"{named} cannot be written: {reason}", "Name a folder that you may write with --cache.")


def _holds_others(folder: Path) -> bool:
    # the tag itself, half written by a run that started at the same moment, is not somebody else's
    return any(not item.name.startswith(f".{CACHE_TAG}.") for item in folder.iterdir())


_CACHE_SPACE = "Free some space, put the cache elsewhere with --cache DIR, or run `snellen cache clear`."


def require_space(folder: Path, n_bytes: int, purpose: str, *, hint: str = _CACHE_SPACE) -> None:
    """Raise StorageError before anything is written, where `n_bytes` will not fit."""
    free = measure_free_space(folder)
    if n_bytes > free:
        raise StorageError(
            f"{purpose} needs {format_bytes(n_bytes)} in {folder}, where {format_bytes(free)} are free.",
            hint,
        )


def measure_free_space(folder: Path) -> int:
    """Bytes that may still be written where `folder` is, or will be."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    return shutil.disk_usage(existing).free


def format_bytes(n_bytes: float) -> str:
    """`0.3 MB`, `312 MB`, `70 GB`."""
    megabytes = n_bytes / 1e6
    if megabytes >= 10_000:
        return f"{megabytes / 1000:,.0f} GB"
    return f"{megabytes:,.0f} MB" if megabytes >= 10 else f"{megabytes:.1f} MB"


def describe_need(folder: Path, needs: dict[str, int]) -> str:
    """What the cache will hold, before it is written: `312 MB pixels + 120 MB features in DIR, 70 GB free`."""
    listed = " + ".join(f"{format_bytes(size)} {part}" for part, size in needs.items())
    return f"Cache: {listed} in {folder}, {format_bytes(measure_free_space(folder))} free"


def require_room(folder: Path, need: int, purpose: str) -> None:
    """Raise StorageError where the disk of `folder` has less than `need` bytes free; `purpose` says what for."""
    free = measure_free_space(folder)
    if free < need:
        raise StorageError(
            f"{folder}: {purpose} takes about {format_bytes(need)}, and {format_bytes(free)} are free on its disk.",
            "Make room, or choose another place with --out.",
        )


@contextlib.contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Let one process at a time into the block; the system frees the lock when its holder dies."""
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield
    except OSError as error:
        raise explain_os_error(error, path) from error


@contextlib.contextmanager
def hold_folder(folder: Path, *, waits: bool) -> Iterator[bool]:
    """Whether nobody else holds the folder within the block; without a file of its own, also where the disk is full.

    The system frees it when its holder dies. True too where the system has no such lock, or will not give it.
    """
    handle, is_ours = None, True
    with contextlib.suppress(OSError, ImportError):
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_ours = False
    try:
        yield is_ours
    finally:
        if handle is not None:
            os.close(handle)


CACHE_PARTS = (
    "pixels", "features", "graphs", "facts", "looks", "shortcuts", "sketches", "copies", "unpacked", "given", "doctor",
    "locks",
)  # fmt: skip


def measure_folder(folder: Path) -> dict[str, int]:
    """Bytes by part of the cache."""
    return {part: sum(map(_measure_file, (folder / part).rglob("*"))) for part in CACHE_PARTS}


def _measure_file(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:  # another run has removed it meanwhile
        return 0


def require_own_cache(folder: Path) -> None:
    """Raise UsageError where the folder is there and is no cache of Snellen: its parts are not ours to count."""
    if folder.exists() and not (folder / CACHE_TAG).exists():
        raise UsageError(
            f"{folder} is no cache of Snellen: it holds no {CACHE_TAG}.", "Nothing was deleted. Check --cache."
        )


def clear_cache(folder: Path) -> int:
    """Delete what Snellen keeps in `folder`, and nothing else. Returns the bytes freed."""
    require_own_cache(folder)
    freed = sum(measure_folder(folder).values())
    for part in CACHE_PARTS:
        place = folder / part
        if place.is_symlink():  # a part that was moved to another disk: its content is ours, the link the user's
            place = place.resolve()
            for item in place.iterdir() if place.is_dir() else ():
                shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
        elif place.exists():
            shutil.rmtree(place)
    return freed
