"""Each test of the audit database runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import PostgresServer, find_obstacle, run_postgres

from snellen.serve.schema import REVISION, VERSION_TABLE, metadata
from snellen.serve.upgrade import upgrade
from store_tools import Place


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    with run_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_tables(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with the tables, which tests use one after the other: to make one takes longer than most tests."""
    name = postgres.create_database()
    make_tables(Place(postgres.locate(name), tmp_path_factory.mktemp("template")))
    return name


@pytest.fixture(scope="session")
def sqlite_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    make_tables(Place(str(folder / "audit.db"), folder))
    return folder / "audit.db"


def make_tables(place: Place) -> None:
    database = place.begin()
    upgrade(database)
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Where a store may be opened: its tables are there, and nothing in them."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_tables"), tmp_path)
        yield Place(str(tmp_path / "audit.db"), tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    place = Place(server.locate(request.getfixturevalue("postgres_tables")), tmp_path, server)
    yield place
    place.execute(
        "DROP TABLE IF EXISTS kept_log, kept_head",
        f"TRUNCATE {', '.join(table.name for table in metadata.sorted_tables)}",
        f"UPDATE {VERSION_TABLE} SET version_num = '{REVISION}'",  # noqa: S608
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Where nothing is at all."""
    if request.param == "sqlite":
        yield Place(str(tmp_path / "empty.db"), tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = server.create_database()
    yield Place(server.locate(name), tmp_path, server)
    server.drop_database(name)
