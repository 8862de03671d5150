"""`snellen keys` and `snellen audit-log`: what they print, and how they end."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from snellen.cli import app
from snellen.serve.store import Store
from store_tools import Place as StorePlace
from store_tools import fill, make_row

Snellen = Callable[..., Result]


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


@pytest.fixture
def snellen(db: Path, monkeypatch: pytest.MonkeyPatch) -> Snellen:
    """The command on that database, which stands in the environment."""
    monkeypatch.setenv("SNELLEN_DB", f"sqlite:///{db}")

    def run(*words: str, expect: int = 0) -> Result:
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == expect, done.output
        assert "Traceback" not in done.output
        return done

    return run


def test_key_is_made_listed_and_revoked(snellen: Snellen) -> None:
    made = snellen("keys", "add", "ward 3", "--role", "predict")
    secret = made.stdout.strip()
    assert secret.startswith("snellen_")
    assert "ward 3" in made.stderr
    assert secret not in made.stderr
    with Store.open() as store:
        found = store.find_key(secret)
    assert found is not None
    listed = snellen("keys", "list").stdout
    assert "ward 3" in listed
    assert found.key_id in listed
    assert secret not in listed
    snellen("keys", "revoke", "ward 3")
    (key,) = json.loads(snellen("keys", "list", "--json").stdout)
    assert key["revoked"] is not None
    with Store.open() as store:
        assert store.find_key(secret) is None


def test_key_as_json_holds_its_secret_once(snellen: Snellen) -> None:
    made = json.loads(snellen("keys", "add", "viewer", "--role", "admin", "--json").stdout)
    assert (made["name"], made["role"], made["revoked"]) == ("viewer", "admin", None)
    assert made["secret"].startswith("snellen_")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("keys", "add", "viewer", "--role", "root"), "no such role"),
        (("keys", "list"), "there is no audit database"),
        (("keys", "revoke", "viewer"), "there is no audit database"),
        (("audit-log", "verify"), "there is no audit database"),
        (("audit-log", "purge"), "One of --before and --keep-days"),
        (("audit-log", "purge", "--before", "yesterday"), "no day or time"),
        (("audit-log", "export", "--out", "x.csv", "--since", "31.1.2026"), "no day or time"),
        (("audit-log", "accept", "--reason", " "), "--reason is empty"),
        (("audit-log", "verify", "--db", "mysql://me:secret@h/x"), "no such kind of audit database"),
        (("audit-log", "backup", "--out", "x", "--db", "postgresql://me:secret@h/x"), "pg_dump"),
        (("audit-log", "verify", "--db", "postgresql://me:secret@127.0.0.1:1/x"), "onnection refused"),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_mistake_is_told_with_exit_code_2(snellen: Snellen, db: Path, words: tuple[str, ...], said: str) -> None:
    done = snellen(*words, expect=2)
    assert said in done.stderr
    assert "secret" not in done.output
    assert not db.exists()


def test_database_of_another_program_is_left_alone(snellen: Snellen, db: Path) -> None:
    with sqlite3.connect(db) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    assert "holds no audit log" in snellen("keys", "list", expect=2).stderr
    assert "holds no audit log" in snellen("audit-log", "verify", expect=2).stderr
    with sqlite3.connect(db) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]
    other.close()


def test_verify_tells_what_holds_and_what_does_not(snellen: Snellen, db: Path) -> None:
    fill(StorePlace(str(db), db.parent), 5)
    assert "The chain holds." in snellen("audit-log", "verify").stdout
    with sqlite3.connect(db) as other:
        other.execute("UPDATE snellen_audit_log SET decision = 'no refer' WHERE row = 3")
    other.close()
    done = snellen("audit-log", "verify", expect=2)
    assert "Row 3 is not as it was written." in done.stdout
    assert "1 problem(s), the first at row 3" in done.stderr
    report = json.loads(snellen("audit-log", "verify", "--json", expect=2).stdout)
    assert (report["first_bad_row"], report["n_problems"], report["n_rows"]) == (3, 1, 5)


def test_verify_on_postgresql_is_the_same(snellen: Snellen, place: StorePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNELLEN_STATE", str(place.folder))
    fill(place, 5)
    assert (
        "5 rows (5 predictions), from 1 to 5; anchored at row 5"
        in snellen("audit-log", "verify", "--db", place.url).stdout
    )


def test_backup_restored_is_accepted_and_told(snellen: Snellen, db: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backups" / "audit.db"
    with Store.open() as store:
        store.record([make_row(1), make_row(2)])
        snellen("audit-log", "backup", "--out", str(backup))
        store.record([make_row(3)])
    assert "exists already" in snellen("audit-log", "backup", "--out", str(backup), expect=2).stderr
    shutil.copy(backup, db)
    assert "once had 3 rows and now has 2" in snellen("audit-log", "verify", expect=2).stdout
    assert "audit-log accept" in snellen("keys", "list", expect=2).stderr
    snellen("audit-log", "accept", "--reason", "the disk broke")
    assert "Reason given: the disk broke" in snellen("audit-log", "verify").stdout


def test_copy_of_the_anchor_shows_what_the_own_one_does_not(snellen: Snellen, db: Path, tmp_path: Path) -> None:
    """Whoever has the whole machine puts database and anchor back; the copy elsewhere remembers."""
    with Store.open() as store:
        store.record([make_row(1)])
    kept = tmp_path / "kept"
    kept.mkdir()
    for path in (db, db.with_suffix(".head")):
        shutil.copy(path, kept)
    with Store.open() as store:
        store.record([make_row(2)])
    shutil.copy(db.with_suffix(".head"), tmp_path / "elsewhere.head")
    for path in (db, db.with_suffix(".head")):
        shutil.copy(kept / path.name, path)
    snellen("audit-log", "verify")
    snellen("audit-log", "verify", "--anchor", str(kept / "audit.head"))
    done = snellen("audit-log", "verify", "--anchor", str(tmp_path / "elsewhere.head"), expect=2)
    assert "once had 2 rows and now has 1" in done.stdout
    db.with_suffix(".head").unlink()
    assert "anchor_missing" in snellen("audit-log", "verify", expect=2).stdout
    snellen("audit-log", "verify", "--anchor", str(kept / "audit.head"))


def test_export_then_purge(snellen: Snellen, db: Path, tmp_path: Path) -> None:
    fill(StorePlace(str(db), db.parent), 4)
    out = tmp_path / "2026.csv"
    snellen("audit-log", "export", "--out", str(out), "--until", "2026-01-31T08:30:04")
    with out.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["request_id"] for row in rows] == ["request-3", "request-2", "request-1"]
    assert json.loads(rows[0]["probabilities"]) == make_row(3).probabilities
    assert rows[0]["time"] == "2026-01-31T08:30:03.123456+00:00"
    assert "exists already" in snellen("audit-log", "export", "--out", str(out), expect=2).stderr
    done = snellen("audit-log", "purge", "--before", "2026-01-31T08:30:04", "--json")
    assert json.loads(done.stdout) == {"n_rows": 3, "last": 3, "n_images": 0}
    assert "3 before them were purged" in snellen("audit-log", "verify").stdout
    assert "has not come yet" in snellen("audit-log", "purge", "--before", "2999-01-01", expect=2).stderr
