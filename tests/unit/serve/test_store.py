"""The audit database gives back what it was given, bit by bit, from many threads and many servers."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from snellen.core.errors import StorageError, StoreUnavailableError, UsageError
from snellen.serve.audit_rows import PageRequest, PredictionFilter
from snellen.serve.row_values import Values
from snellen.serve.schema import REVISION, metadata
from snellen.serve.store import Store
from snellen.serve.upgrade import MIGRATIONS, find_revision, upgrade
from snellen.serve.writer import MOST_WAITING, GroupWriter
from store_tools import ALL, START, Place, fill, list_rows, make_row


def test_rows_come_back_as_they_were_given_newest_first(place: Place) -> None:
    rows = [make_row(1), make_row(2, probabilities=None, prediction=None, decision=None, error="unreadable_picture")]
    with place.open() as store:
        store.record(rows)
        assert list_rows(store) == rows[::-1]
    with place.open() as store:
        assert list_rows(store) == rows[::-1]


def test_text_that_no_database_takes_is_mended(place: Place) -> None:
    with place.open() as store:
        store.record([make_row(1, reason="a\0b\ud800c", model="ä" * 9000)])
        (row,) = list_rows(store)
    assert (row.reason, row.model) == ("a\N{REPLACEMENT CHARACTER}b\\ud800c", "ä" * 4000)
    assert place.verify().problems == ()


def test_values_that_are_none_are_refused_alone(place: Place) -> None:
    with place.open() as store:
        for wrong in (
            {"latency_ms": float("nan")},
            {"probabilities": {"a": float("inf")}},
            {"time": START.replace(tzinfo=None)},
        ):
            with pytest.raises(ValueError, match=r"."):
                store.record([make_row(1), make_row(2, **wrong)])
        assert list_rows(store) == []


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (PredictionFilter(model="fundus"), [3]),
        (PredictionFilter(abstain=True), [2]),
        (PredictionFilter(abstain=False, has_error=False), [4, 1]),
        (PredictionFilter(has_error=True), [3]),
        (PredictionFilter(since=START + timedelta(seconds=2), until=START + timedelta(seconds=4)), [3, 2]),
        (PredictionFilter(image_sha256=f"{4:064x}", decision="refer", key_id="k_1"), [4]),
        (PredictionFilter(request_id="request-1", prediction="drusen", model_sha256="ab" * 32), [1]),
        (PredictionFilter(key_id="nobody"), []),
        (PredictionFilter(decision="zero\0byte", model="half a letter \ud800"), []),
    ],
    ids=["model", "abstain", "no abstain", "error", "time", "image", "request", "nobody", "what no database takes"],
)
def test_filter_finds_what_is_asked_for(place: Place, wanted: PredictionFilter, expected: list[int]) -> None:
    with place.open() as store:
        store.record([make_row(1), make_row(2, abstain=True), make_row(3, model="fundus", error="e"), make_row(4)])
        found = list_rows(store, wanted)
        assert [row.request_id for row in found] == [f"request-{number}" for number in expected]
        assert store.count_predictions(wanted) == len(expected)
        assert [recorded.prediction for recorded in store.iter_predictions(wanted)] == found


def test_pages_show_every_row_once_while_rows_are_added(place: Place) -> None:
    with place.open() as store:
        store.record([make_row(number) for number in range(1, 8)])
        seen, before = [], None
        while True:
            page = store.list_predictions(ALL, PageRequest(3, before))
            seen += [recorded.row for recorded in page.rows]
            store.record([make_row(100 + len(seen))])
            if (before := page.next_before) is None:
                break
        assert seen == [7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("limit", [0, 1001])
def test_page_of_impossible_length_is_a_usage_error(place: Place, limit: int) -> None:
    with place.open() as store, pytest.raises(UsageError, match=str(limit)):
        store.list_predictions(ALL, PageRequest(limit))


def test_two_servers_with_many_threads_write_one_chain(place: Place) -> None:
    with place.open() as one, place.open() as other, ThreadPoolExecutor(8) as pool:
        calls = [
            pool.submit((one, other)[number % 2].record, [make_row(number), make_row(1000 + number)])
            for number in range(60)
        ]
        for call in calls:
            call.result()
        assert one.count_predictions(ALL) == 120
    report = place.verify()
    assert (report.problems, report.n_rows, report.last, report.anchored) == ((), 120, 120, 120)


def test_servers_that_begin_at_once_begin_one_chain(empty_place: Place) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: empty_place.open(), range(4)))
    for number, store in enumerate(stores):
        store.record([make_row(number)])
        store.close()
    assert (empty_place.verify().problems, empty_place.verify().n_predictions) == ((), 4)


def test_callers_who_wait_at_one_time_share_a_transaction() -> None:
    begun, go_on = threading.Event(), threading.Event()
    groups: list[int] = []

    def write(rows: list[Values]) -> None:
        groups.append(len(rows))
        begun.set()
        assert go_on.wait(10)

    writer = GroupWriter(write, lambda: None)
    first = writer.submit([{}])
    assert begun.wait(10)
    others = [writer.submit([{}, {}]) for _ in range(20)]
    go_on.set()
    for done in (first, *others):
        done.result(10)
    writer.close()
    assert groups == [1, 40]


def test_group_that_fails_fails_for_all_and_the_next_goes_on() -> None:
    failures = [StoreUnavailableError("full"), None]

    def write(rows: list[Values]) -> None:
        if failure := failures.pop(0):
            raise failure

    writer = GroupWriter(write, lambda: None)
    with pytest.raises(StoreUnavailableError):
        writer.submit([{}]).result(10)
    writer.submit([{}]).result(10)
    writer.close()
    with pytest.raises(StoreUnavailableError):
        writer.submit([{}])


def test_failure_beside_the_rows_stops_no_row(caplog: pytest.LogCaptureFixture) -> None:
    rested = threading.Event()

    def rest() -> None:
        rested.set()
        raise OSError("no room for the anchor")

    written: list[list[Values]] = []
    writer = GroupWriter(written.append, rest)
    writer.submit([{}]).result(10)
    assert rested.wait(10)
    writer.submit([{}]).result(10)
    writer.close()
    assert len(written) == 2
    assert "What follows the audit log failed." in caplog.messages


def test_too_many_waiting_rows_are_refused_at_once() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def write(rows: list[Values]) -> None:
        begun.set()
        assert go_on.wait(10)

    writer = GroupWriter(write, lambda: None)
    writer.submit([{}])
    assert begun.wait(10)
    writer.submit([{}] * MOST_WAITING)
    with pytest.raises(StoreUnavailableError):
        writer.submit([{}])
    go_on.set()
    writer.close()


def test_migrations_end_at_the_schema_that_the_code_knows(empty_place: Place) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION
    database = empty_place.begin()
    upgrade(database)
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "snellen_schema", "compare_type": True})
        assert compare_metadata(context, metadata) == []
    database.close()


def test_newer_schema_is_refused_and_left_alone(place: Place) -> None:
    fill(place, 2)
    place.execute("UPDATE snellen_schema SET version_num = '9999'")
    with pytest.raises(StorageError, match=r"newer than this version.*\n.*Upgrade Snellen") as refused:
        place.open()
    assert "9999" in refused.value.message
    database = place.connect()
    assert find_revision(database) == "9999"
    database.close()


def test_upgrade_that_fails_leaves_nothing_behind(empty_place: Place) -> None:
    database = empty_place.begin()
    with database.writing() as connection:
        connection.execute(sa.text("CREATE TABLE snellen_jobs (mine integer)"))  # the last that the migration makes
    with pytest.raises(StoreUnavailableError):
        upgrade(database)
    assert find_revision(database) is None
    with database.reading() as connection:
        assert sa.inspect(connection).get_table_names() == ["snellen_jobs"]
    database.close()


@pytest.mark.parametrize(
    "url", ["mysql://me:secret@host/x", "sqlite://", "sqlite:///:memory:", "postgresql+asyncpg://me:secret@h/x", "://"]
)
def test_address_of_another_kind_is_refused_without_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        Store.open(url, folder=tmp_path)
    assert "secret" not in str(refused.value)


def test_file_that_is_no_database_is_told_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes, and they are no database. " * 50, encoding="utf-8")
    with pytest.raises(StoreUnavailableError) as refused:
        Store.open(str(path))
    assert "not a database" in refused.value.reason
    assert path.read_text(encoding="utf-8").startswith("These are my notes")


def test_store_keeps_no_pixels_and_no_names_unless_asked(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "audit.db")) as store:
        store.record([make_row(1)])
        assert list_rows(store)[0].filename is None
        assert not (tmp_path / "audit-images").exists()
        digest = store.keep_image(b"picture")
        assert store.keep_image(b"picture") == digest
        store.record([make_row(2, image_sha256=digest, filename="eye.png")])
        assert list_rows(store)[0].filename == "eye.png"
    (kept,) = [path for path in (tmp_path / "audit-images").rglob("*") if path.is_file()]
    assert (kept.name, kept.read_bytes(), oct(kept.stat().st_mode & 0o777)) == (digest, b"picture", "0o600")


def test_probabilities_are_signed_as_they_were_written(place: Place) -> None:
    fill(place, 1)
    database = place.connect()
    with database.reading() as connection:
        text = connection.execute(sa.text("SELECT probabilities FROM snellen_audit_log")).scalar_one()
    database.close()
    assert json.loads(text) == make_row(1).probabilities
