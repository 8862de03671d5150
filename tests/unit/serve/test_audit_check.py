"""`verify` names what was changed, removed, added or cut, whoever did it without the key."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from snellen.core.errors import StorageError, StoreUnavailableError, UsageError
from snellen.serve.anchor import AnchorFile
from snellen.serve.audit_check import AuditReport
from snellen.serve.chain import SIGNED, Anchor, ChainKey, Head, encode_row
from snellen.serve.ledger import accept
from snellen.serve.retention import ImageFolder, purge
from snellen.serve.store import Store
from store_tools import START, Place, fill, list_rows, make_row

N_ROWS = 12
LOG, HEAD, KEYS = "snellen_audit_log", "snellen_audit_head", "snellen_api_keys"


def list_codes(report: AuditReport) -> list[str]:
    return [problem.code for problem in report.problems]


@dataclass(frozen=True)
class Tampering:
    """Statements of somebody who has the database but not the key, and what must be said of it."""

    statements: tuple[str, ...]
    codes: tuple[str, ...]
    first_bad_row: int | None


ROW_5 = "row = 5"
COLUMNS = {
    "kind": "'anchored'", "time_us": "time_us + 1", "request_id": "'other'", "key_id": "NULL", "model": "'other'",
    "model_sha256": "'00'", "image_sha256": "'00'", "probabilities": "'{}'", "prediction": "'normal'",
    "decision": "'no refer'", "abstain": "NOT abstain", "reason": "'dark'", "latency_ms": "latency_ms + 1e-9",
    "error": "'e'", "filename": "'eye.png'", "details": "'{}'",
}  # fmt: skip
TAMPERINGS = {
    "mac changed": Tampering(
        (f"UPDATE {LOG} SET mac = '{'0' * 64}' WHERE {ROW_5}",), ("row_changed", "row_changed"), 5
    ),
    "mac no mac": Tampering((f"UPDATE {LOG} SET mac = 'ä' WHERE {ROW_5}",), ("row_changed",), 5),
    "two changed": Tampering(
        (f"UPDATE {LOG} SET decision = 'no refer' WHERE row IN (3, 9)",), ("row_changed", "row_changed"), 3
    ),
    "row removed": Tampering((f"DELETE FROM {LOG} WHERE {ROW_5}",), ("rows_missing",), 5),
    "row removed and the rest moved up": Tampering(
        (f"DELETE FROM {LOG} WHERE {ROW_5}",
         *(f"UPDATE {LOG} SET row = {number - 1} WHERE row = {number}" for number in range(6, 13))),
        ("row_changed",) * 7 + ("tail_cut", "anchor_contradicted"),
        5,
    ),
    "first rows removed": Tampering((f"DELETE FROM {LOG} WHERE row < 4",), ("rows_missing",), 1),
    "two exchanged": Tampering(
        (f"UPDATE {LOG} SET row = 99 WHERE {ROW_5}", f"UPDATE {LOG} SET row = 5 WHERE row = 6",
         f"UPDATE {LOG} SET row = 6 WHERE row = 99"),
        ("row_changed",) * 3, 5,
    ),
    "end cut off": Tampering((f"DELETE FROM {LOG} WHERE row > 10",), ("tail_cut", "anchor_contradicted"), 11),
    "all removed": Tampering((f"DELETE FROM {LOG}",), ("tail_cut", "anchor_contradicted"), 1),
    "end cut off and head shortened": Tampering(
        (f"DELETE FROM {LOG} WHERE row > 10",
         f"UPDATE {HEAD} SET last = 10, last_mac = (SELECT mac FROM {LOG} WHERE row = 10)"),
        ("head_forged", "anchor_contradicted"), 11,
    ),
    "head pretends a purge": Tampering(
        (f"UPDATE {HEAD} SET purged = 3, purged_mac = (SELECT mac FROM {LOG} WHERE row = 3)",
         f"DELETE FROM {LOG} WHERE row <= 3"),
        ("head_forged", "tombstone_missing"), None,
    ),
    "head removed": Tampering((f"DELETE FROM {HEAD}",), ("head_missing",), None),
    "row added": Tampering(
        (f"INSERT INTO {LOG} (row, kind, time_us, mac) VALUES (13, 'prediction', 1, '{'0' * 64}')",), ("row_added",), 13
    ),
}  # fmt: skip


@pytest.mark.parametrize("tampering", TAMPERINGS.values(), ids=TAMPERINGS)
def test_tampering_shows_and_its_first_row_is_named(place: Place, tampering: Tampering) -> None:
    fill(place, N_ROWS)
    assert place.verify().problems == ()
    place.execute(*tampering.statements)
    report = place.verify()
    assert list_codes(report) == list(tampering.codes)
    assert report.first_bad_row == tampering.first_bad_row


def test_change_of_any_column_shows(place: Place) -> None:
    fill(place, len(COLUMNS))
    changes = [
        f"UPDATE {LOG} SET {name} = {value} WHERE row = {n}" for n, (name, value) in enumerate(COLUMNS.items(), 1)
    ]
    place.execute(*changes)
    report = place.verify()
    assert [(problem.code, problem.row) for problem in report.problems] == [
        ("row_changed", row) for row in range(1, len(COLUMNS) + 1)
    ]
    assert set(SIGNED) == {*COLUMNS, "row"}


def test_bytes_that_are_signed_stay_what_they_were() -> None:
    """Logs of years hang on these bytes: a change of them needs a new version beside the old."""
    row = dict.fromkeys(SIGNED) | {"row": 7, "kind": "prediction", "latency_ms": 0.1, "abstain": False, "model": "ä"}
    assert encode_row(row) == (
        b'[7,"prediction",null,null,null,"\\u00e4",null,null,null,null,null,false,null,0.1,null,null,null]'
    )
    key = ChainKey(bytes(range(32)))
    assert key.fingerprint == "18181b8cfbf15f68"
    assert (
        key.sign_row(key.compute_start("c"), row) == "23e01cb5ae41136aa69afc94395de8ec7f504a86638ede409db13fe7d655928a"
    )
    assert (
        key.sign_head(Head("c", 7, "a", 0, "b")) == "206955ee24c6222a526833b81b3f4239b03848aa3389aa5b8e654af739eb4f87"
    )
    assert key.sign_anchor(Anchor("c", 7, "a")) == "61bf667fa748cfb6ceffeb0a56cde52249c2736c0b7c76da3cf9ff43a6053878"


def test_keys_that_were_changed_or_removed_show(place: Place) -> None:
    with place.open() as store:
        for name in ("kept", "raised", "removed", "revived"):
            store.add_key(name, "predict")
        database = place.begin()
        with database.reading() as connection:
            before = connection.execute(sa.text(f"SELECT mac FROM {KEYS} WHERE name = 'revived'")).scalar_one()
        database.close()
        store.revoke_key("revived")
    assert place.verify().problems == ()
    place.execute(
        f"UPDATE {KEYS} SET role = 'admin' WHERE name = 'raised'",
        f"DELETE FROM {KEYS} WHERE name = 'removed'",
        f"UPDATE {KEYS} SET revoked_us = NULL, mac = '{before}' WHERE name = 'revived'",
    )
    report = place.verify()
    assert sorted(list_codes(report)) == ["key_changed", "key_missing", "key_unrevoked"]
    told = {problem.code: problem.message for problem in report.problems}
    assert "raised" in told["key_changed"]
    assert "removed" in told["key_missing"]
    assert "revived" in told["key_unrevoked"]


def copy_state(place: Place) -> Callable[[], None]:
    """Remember log and head as they are; what comes back puts them back, signed as they were."""
    place.execute(f"CREATE TABLE kept_log AS SELECT * FROM {LOG}", f"CREATE TABLE kept_head AS SELECT * FROM {HEAD}")
    return lambda: place.execute(
        f"DELETE FROM {LOG}", f"INSERT INTO {LOG} SELECT * FROM kept_log",
        f"DELETE FROM {HEAD}", f"INSERT INTO {HEAD} SELECT * FROM kept_head",
    )  # fmt: skip


def test_older_state_put_back_shows_and_is_not_gone_on_from(place: Place) -> None:
    fill(place, 4)
    put_back = copy_state(place)
    with place.open() as store:
        store.record([make_row(number) for number in range(5, 8)])
    put_back()
    report = place.verify()
    assert list_codes(report) == ["anchor_contradicted"]
    assert report.first_bad_row == 5
    with pytest.raises(StorageError, match=r"once had 7 rows and now has 4(.|\n)*audit-log accept"):
        place.open()


def test_older_state_put_back_under_a_running_server_stops_its_recording(place: Place) -> None:
    fill(place, 4)
    put_back = copy_state(place)
    with place.open() as store:
        store.record([make_row(5)])
        put_back()
        with pytest.raises(StoreUnavailableError) as refused:
            store.record([make_row(6)])
        assert "rows were lost" in refused.value.reason


def test_older_state_gone_on_from_elsewhere_shows(place: Place, tmp_path: Path) -> None:
    """Somebody has key and database on another machine, but not this machine's anchor."""
    fill(place, 4)
    put_back = copy_state(place)
    with place.open() as store:
        store.record([make_row(5)])
    put_back()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for key in place.folder.glob("*.key"):
        shutil.copy(key, elsewhere)
    with Store.open(place.url, folder=elsewhere) as store:
        store.record([make_row(number) for number in range(50, 60)])
    assert list_codes(place.verify()) == ["anchor_contradicted"]


def test_accepted_loss_is_told_for_ever(place: Place) -> None:
    fill(place, 4)
    put_back = copy_state(place)
    with place.open() as store:
        store.record([make_row(5)])
    put_back()
    database = place.connect()
    assert accept(database, "restored the backup") == 5
    database.close()
    with place.open() as store:
        store.record([make_row(6)])
    report = place.verify()
    assert report.problems == ()
    assert "4 rows were accepted where 5 were anchored. Reason given: restored the backup" in report.notes[0]


def test_log_that_lacks_nothing_has_nothing_to_accept(place: Place) -> None:
    fill(place, 3)
    database = place.begin()
    with pytest.raises(UsageError, match="nothing to accept"):
        accept(database, "a mistake")
    database.close()
    assert place.verify().n_rows == 3


def test_missing_anchor_shows_and_a_new_one_is_told(place: Place) -> None:
    fill(place, 3)
    (anchor,) = place.folder.glob("*.head")
    anchor.unlink()
    assert list_codes(place.verify()) == ["anchor_missing"]
    place.open().close()
    report = place.verify()
    assert report.problems == ()
    assert "began a new one at 3 rows" in report.notes[0]


def test_forged_anchor_shows_and_nothing_is_opened_on_it(place: Place) -> None:
    fill(place, 3)
    (anchor,) = place.folder.glob("*.head")
    values = json.loads(anchor.read_text(encoding="utf-8"))
    anchor.write_text(json.dumps(values | {"last": 1}), encoding="utf-8")
    assert list_codes(place.verify()) == ["anchor_forged"]
    with pytest.raises(StorageError, match="no anchor that was signed"):
        place.open()


def test_anchor_that_stayed_behind_is_sound_and_catches_up(place: Place) -> None:
    """As a kill between commit and anchor leaves it."""
    fill(place, 3)
    (anchor,) = place.folder.glob("*.head")
    behind = anchor.read_text(encoding="utf-8")
    with place.open() as store:
        store.record([make_row(4)])
    anchor.write_text(behind, encoding="utf-8")
    assert place.verify().problems == ()
    assert place.verify().anchored == 3
    place.open().close()
    assert place.verify().anchored == 4


def test_anchor_catches_up_when_rows_rest(place: Place) -> None:
    with place.open() as store:
        for number in range(1, 4):  # the first is anchored at once, the others within the same second are not
            store.record([make_row(number)])
        for _ in range(500):
            if place.verify().anchored == 3:
                return
            time.sleep(0.01)
    pytest.fail("the anchor stayed behind")


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no locks there")
def test_slow_server_puts_no_older_anchor_in_a_newer_ones_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, path = ChainKey(bytes(32)), tmp_path / "audit.head"
    slow, fast = AnchorFile(path, key), AnchorFile(path, key)
    has_looked, look = threading.Event(), slow._is_ahead

    def look_slowly(anchor: Anchor) -> bool:
        found = look(anchor)
        has_looked.set()
        time.sleep(0.5)  # the other one has the time to write meanwhile, if it may
        return found

    monkeypatch.setattr(slow, "_is_ahead", look_slowly)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(slow.follow, Head("chain", 106, "a", 0, ""))
        assert has_looked.wait(20)
        second = pool.submit(fast.follow, Head("chain", 120, "b", 0, ""))
        first.result()
        second.result()
    anchor = fast.read()
    assert anchor is not None
    assert anchor.last == 120


def test_key_is_private_needed_and_the_right_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(place, 2)
    (key,) = place.folder.glob("*.key")
    assert oct(key.stat().st_mode & 0o777) == "0o600"
    secret = key.read_text(encoding="utf-8")
    key.chmod(0o640)
    with pytest.raises(StorageError, match="others may read"):
        place.open()
    key.unlink()
    with pytest.raises(StorageError, match="HMAC key is not at"):
        place.open()
    with pytest.raises(StorageError, match="HMAC key is not at"):
        place.verify()
    monkeypatch.setenv("SNELLEN_AUDIT_KEY", "11" * 32)
    with pytest.raises(StorageError, match="begun with another HMAC key"):
        place.open()
    monkeypatch.setenv("SNELLEN_AUDIT_KEY", "11" * 8)
    with pytest.raises(StorageError, match="32 bytes"):
        place.open()
    monkeypatch.setenv("SNELLEN_AUDIT_KEY", secret)
    with place.open() as store:
        store.record([make_row(3)])
    assert not key.exists()
    assert place.verify().problems == ()


def test_key_file_may_be_named(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tmp_path / "secrets" / "audit"
    monkeypatch.setenv("SNELLEN_AUDIT_KEY_FILE", str(named))
    with pytest.raises(UsageError, match="does not exist"):
        place.open()
    named.parent.mkdir()
    named.write_text("ab" * 32, encoding="utf-8")  # a mounted secret is often readable for all
    fill(place, 2)
    assert place.verify().problems == ()


def test_purge_leaves_a_tombstone_and_the_rest_verifies(place: Place) -> None:
    fill(place, N_ROWS)
    with place.open() as store:
        done = store.purge(START + timedelta(seconds=8))
        assert (done.n_rows, done.last) == (7, 7)
        assert [row.request_id for row in list_rows(store)] == [f"request-{n}" for n in range(12, 7, -1)]
        assert store.purge(START + timedelta(seconds=8)).n_rows == 0
        store.record([make_row(13)])
    report = place.verify()
    assert (report.problems, report.purged, report.first, report.last, report.n_predictions) == ((), 7, 8, 14, 6)


def test_purge_in_pieces_is_the_same(place: Place) -> None:
    fill(place, N_ROWS)
    with place.open() as store:
        done = purge(store._ledger, ImageFolder(place.folder / "none"), START + timedelta(seconds=8), at_once=3)
    assert (done.n_rows, done.last) == (7, 7)
    assert (place.verify().problems, place.verify().purged) == ((), 7)


def test_purge_waits_for_a_row_that_came_late(place: Place) -> None:
    with place.open() as store:
        store.record([make_row(5), make_row(1)])
        assert store.purge(START + timedelta(seconds=3)).n_rows == 0
        assert store.purge(START + timedelta(seconds=9)).n_rows == 2


@pytest.mark.parametrize(
    ("statement", "codes"),
    [
        (f"DELETE FROM {LOG} WHERE row = 8", ["rows_missing"]),
        (f"DELETE FROM {LOG} WHERE kind = 'purged'", ["tail_cut", "tombstone_missing", "anchor_contradicted"]),
        (f"UPDATE {LOG} SET details = replace(details, '7', '6') WHERE kind = 'purged'", ["row_changed"]),
        (f"INSERT INTO {LOG} (row, kind, time_us, mac) VALUES (4, 'prediction', 1, '{'0' * 64}')", ["row_added"]),
    ],
    ids=["more removed", "tombstone removed", "tombstone changed", "row put back"],
)
def test_tampering_behind_a_purge_shows(place: Place, statement: str, codes: list[str]) -> None:
    fill(place, N_ROWS)
    with place.open() as store:
        store.purge(START + timedelta(seconds=8))
    place.execute(statement)
    found = list_codes(place.verify())
    assert found[: len(codes)] == codes or set(codes) <= set(found)


def test_purge_removes_pictures_that_no_row_names_any_more(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "audit.db")) as store:
        gone, kept = store.keep_image(b"gone"), store.keep_image(b"kept")
        store.record([make_row(1, image_sha256=gone), make_row(2, image_sha256=kept), make_row(9, image_sha256=kept)])
        assert store.purge(START + timedelta(seconds=5)).n_images == 1
    assert [path.name for path in (tmp_path / "audit-images").rglob("*") if path.is_file()] == [kept]


def test_purge_leaves_no_trace_in_the_file(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "audit.db")) as store:
        store.record([make_row(1, reason="a very special reason"), make_row(2)])
    assert b"a very special reason" in (tmp_path / "audit.db").read_bytes()
    with Store.open(str(tmp_path / "audit.db")) as store:
        store.purge(START + timedelta(seconds=2))
    assert b"a very special reason" not in (tmp_path / "audit.db").read_bytes()
    assert not (tmp_path / "audit.db-wal").exists()


@pytest.mark.parametrize("before", [START.replace(tzinfo=None), datetime.now(UTC) + timedelta(days=1)])
def test_purge_of_an_impossible_time_is_a_usage_error(tmp_path: Path, before: datetime) -> None:
    with Store.open(str(tmp_path / "audit.db")) as store, pytest.raises(UsageError):
        store.purge(before)


def test_verify_reads_one_moment_while_a_server_writes(place: Place) -> None:
    fill(place, N_ROWS)
    with place.open() as store:
        done = [store.submit([make_row(number)]) for number in range(100, 400)]
        reports = [place.verify() for _ in range(3)]
        for each in done:
            each.result()
    assert [report.problems for report in reports] == [()] * 3


def test_verify_writes_nothing(place: Place) -> None:
    fill(place, 3)
    database = place.connect()
    with database.reading() as connection:
        before = connection.execute(sa.text(f"SELECT * FROM {HEAD}")).all()
    database.close()
    files = {
        path: path.read_bytes() for path in place.folder.glob("audit.*") if not path.name.endswith(("-shm", "-wal"))
    }
    place.verify()
    assert {path: path.read_bytes() for path in files} == files
    database = place.connect()
    with database.reading() as connection:
        assert connection.execute(sa.text(f"SELECT * FROM {HEAD}")).all() == before
    database.close()
