"""Where an audit database lies: its address, what may be shown of it, and the folder of the files beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from snellen.core.errors import UsageError
from snellen.core.runtime import has_package
from snellen.core.storage import choose_data_folder

DB_VARIABLE = "SNELLEN_DB"
STATE_VARIABLE = "SNELLEN_STATE"
_DRIVER = "postgresql+psycopg"
_SHOWN_OPTIONS = ("host", "port")


@dataclass(frozen=True)
class Address:
    """`url` may hold a password; `shown` does not. `path`: the file of SQLite, else None."""

    url: URL
    shown: str
    path: Path | None
    folder: Path
    stem: str

    @property
    def key_file(self) -> Path:
        return self.folder / f"{self.stem}.key"

    @property
    def anchor_file(self) -> Path:
        return self.folder / f"{self.stem}.head"

    @property
    def jobs_folder(self) -> Path:
        return self.folder / f"{self.stem}-jobs"

    @property
    def images_folder(self) -> Path:
        return self.folder / f"{self.stem}-images"


def read_address(text: str | None, folder: Path | None = None) -> Address:
    """`text`, else `$SNELLEN_DB`, else a SQLite file among the user's data. Raises UsageError, without any password.

    `folder` of key, anchor, jobs and kept pictures: as given, else `$SNELLEN_STATE`, else the folder of SQLite's file;
    for PostgreSQL among the user's data.
    """
    text = text or os.environ.get(DB_VARIABLE) or None
    configured = os.environ.get(STATE_VARIABLE)
    state = folder or (Path(configured).expanduser() if configured else None)
    if text is None:
        return _describe_file((state or _choose_own_folder()) / "audit.db", state)
    if "://" not in text:
        return _describe_file(Path(text).expanduser(), state)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UsageError(
            "--db is no address of a database.", "Examples: sqlite:///audit.db, postgresql+psycopg://user@host/name"
        ) from None
    kind = url.get_backend_name()
    if kind == "sqlite":
        return _describe_file(_require_file_name(url), state)
    if kind in ("postgresql", "postgres"):
        return _describe_server(url, state or _choose_own_folder())
    raise UsageError(
        f"--db {kind}://…: there is no such kind of audit database.", "Use sqlite:///FILE or postgresql+psycopg://…"
    )


def _choose_own_folder() -> Path:
    return choose_data_folder() / "serve"


def _require_file_name(url: URL) -> Path:
    if url.query or url.host:
        raise UsageError(
            "--db sqlite://…: only the path of a file is known here, without options.", "Example: sqlite:///audit.db"
        )
    if not url.database or url.database == ":memory:":
        raise UsageError(
            "--db sqlite://: an audit log must outlive its process; it needs a file.", "Example: sqlite:///audit.db"
        )
    return Path(url.database).expanduser()


def _describe_file(path: Path, state: Path | None) -> Address:
    path = path.absolute()
    url = URL.create("sqlite", database=str(path))
    return Address(url, f"sqlite:///{path}", path, (state or path.parent).absolute(), path.stem)


def _describe_server(url: URL, folder: Path) -> Address:
    if url.get_backend_name() == "postgres" or url.drivername == "postgresql":
        url = url.set(drivername=_DRIVER)
    if url.drivername != _DRIVER:
        raise UsageError(f"--db {url.drivername}://…: that driver is not used here.", f"Write {_DRIVER}://…")
    if not has_package("psycopg"):
        raise UsageError(
            "--db postgresql+psycopg://… needs psycopg, which is not installed.", "pip install 'snellen[serve]'"
        )
    # options behind the question mark may hold a password too: only those that name the place are shown
    query = {key: value for key, value in url.query.items() if key in _SHOWN_OPTIONS}
    shown = URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    return Address(url, shown.render_as_string(), None, folder.absolute(), url.database or "audit")
