"""What breaks, breaks loudly and heals by itself: rows are refused, none that was acknowledged is lost."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import store_faults
from postgres_server import PostgresServer

from snellen.core.errors import StoreUnavailableError
from snellen.serve.store import Store
from store_tools import Place, list_rows, make_row


def test_kill_under_load_loses_no_acknowledged_row(place: Place) -> None:
    seen = store_faults.kill_under_load(place.url, place.folder, n_kills=2)
    assert seen.is_held, seen.describe()


@pytest.fixture
def server_runs_again(postgres: PostgresServer) -> Iterator[None]:
    yield
    if not postgres.is_running:
        postgres.start()


@pytest.mark.parametrize("at_once", [False, True], ids=["stopped", "killed"])
@pytest.mark.usefixtures("server_runs_again")
def test_postgresql_that_goes_and_comes_loses_no_acknowledged_row(
    postgres: PostgresServer, tmp_path: Path, at_once: bool
) -> None:
    url = postgres.locate(postgres.create_database())
    seen = store_faults.stop_postgres(postgres, url, tmp_path, at_once=at_once)
    assert seen.is_held, seen.describe()


@pytest.mark.usefixtures("server_runs_again")
def test_restart_of_postgresql_that_no_row_saw_costs_none(postgres: PostgresServer, tmp_path: Path) -> None:
    with Store.open(postgres.locate(postgres.create_database()), folder=tmp_path) as store:
        store.record([make_row(1)])
        postgres.stop()
        postgres.start()
        store.record([make_row(2)])


def test_removed_file_is_not_written_into_the_void(tmp_path: Path) -> None:
    seen = store_faults.remove_file(tmp_path)
    assert seen.is_held, seen.describe()


def test_full_disk_refuses_and_free_space_heals(tmp_path: Path) -> None:
    try:
        with store_faults.mount_small(tmp_path / "small", size_mb=4) as disk:
            seen = store_faults.fill_disk(str(disk / "audit.db"), disk, disk)
    except PermissionError as error:
        pytest.skip(f"no small file system may be mounted: {error}")
    assert seen.is_held, seen.describe()


def test_full_quota_refuses_and_room_heals(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a full disk, where nobody may mount one."""
    with Store.open(str(tmp_path / "audit.db")) as store:
        store.record([make_row(1)])
        engine = store._database._engine
        n_pages = (tmp_path / "audit.db").stat().st_size // 4096 + 30

        def limit(connection: sa.Connection) -> None:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {n_pages}")

        sa.event.listen(engine, "begin", limit)
        refused = None
        n_acknowledged = 1
        while refused is None:
            try:
                store.record([make_row(n_acknowledged + 1, reason="long " * 700)])
                n_acknowledged += 1
            except StoreUnavailableError as error:
                refused = error.reason
        assert "full" in refused
        for _ in range(3):  # what can still be read is no sign that rows are taken again
            list_rows(store)
            with pytest.raises(StoreUnavailableError):
                store.record([make_row(7000, reason="long " * 700)])
        assert len(list_rows(store)) == n_acknowledged
        sa.event.remove(engine, "begin", limit)
        sa.event.listen(engine, "begin", lambda each: each.exec_driver_sql("PRAGMA max_page_count = 1000000"))
        store.record([make_row(6000)])
        assert len(list_rows(store)) == n_acknowledged + 1
    assert Place(str(tmp_path / "audit.db"), tmp_path).verify().problems == ()
    told = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert told == ["The audit database failed: database or disk is full", "The audit database is back."]


def test_server_that_is_not_there_is_told_without_its_password(postgres: PostgresServer, tmp_path: Path) -> None:
    url = "postgresql+psycopg://me:verysecret@127.0.0.1:1/audit"
    with pytest.raises(StoreUnavailableError) as refused:
        Store.open(url, folder=tmp_path)
    assert "127.0.0.1" in refused.value.reason
    assert "verysecret" not in refused.value.reason + str(refused.value)
    assert "127.0.0.1" not in str(refused.value)


def test_closed_store_takes_nothing(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "audit.db"))
    waiting = [store.submit([make_row(number)]) for number in range(50)]
    store.close()
    assert [done.result(0) for done in waiting] == [None] * 50
    with pytest.raises(StoreUnavailableError):
        store.record([make_row(99)])
