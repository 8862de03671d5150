"""API keys: a secret is told once and found by its hash. Jobs: they outlive the server."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from snellen.core.errors import DataError, UsageError
from snellen.serve import api_keys
from snellen.serve.audit_rows import ROLES, ApiKey, Role
from snellen.serve.store import Store
from store_tools import Place


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key is taken for true from before."""
    monkeypatch.setattr(api_keys, "FRESH_S", -1.0)


def test_key_is_found_by_its_secret_alone_until_it_is_revoked(place: Place) -> None:
    with place.open() as store:
        key, secret = store.add_key("viewer", "predict")
        other, other_secret = store.add_key("ward 3", "read")
        assert (store.find_key(secret), store.find_key(other_secret)) == (key, other)
        assert [store.find_key(wrong) for wrong in ("", "viewer", key.key_id, secret[:-1], secret + "x", "\ud800")] == [
            None
        ] * 6
        revoked = store.revoke_key("viewer")
        assert revoked.revoked is not None
        assert store.find_key(secret) is None
        assert store.list_keys() == [revoked, other]
    with place.open() as store:
        assert (store.find_key(secret), store.find_key(other_secret)) == (None, other)


def test_secret_is_nowhere_in_the_database(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "audit.db")) as store:
        _, secret = store.add_key("viewer", "admin")
        store.find_key(secret)
    assert len(secret) >= 43
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert secret.encode() not in everything
    assert secret.removeprefix("snellen_").encode() not in everything


@pytest.mark.usefixtures("forgetful")
def test_key_revoked_by_another_process_is_refused_once_it_is_not_fresh(place: Place) -> None:
    with place.open() as server, place.open() as command:
        _, secret = command.add_key("viewer", "predict")
        assert server.find_key(secret) is not None
        command.revoke_key("viewer")
        assert server.find_key(secret) is None


@pytest.mark.parametrize(
    "statement",
    ["UPDATE snellen_api_keys SET role = 'admin'", "UPDATE snellen_api_keys SET revoked_us = NULL"],
    ids=["made an admin", "revocation taken back"],
)
def test_key_that_was_changed_in_the_table_is_refused(place: Place, statement: str) -> None:
    with place.open() as store:
        _, secret = store.add_key("viewer", "predict")
        if "revoked" in statement:
            store.revoke_key("viewer")
        place.execute(statement)
        assert store.find_key(secret) is None


@pytest.mark.parametrize("role", ROLES)
def test_role_allows_itself_and_admin_allows_all(role: Role, tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "audit.db")) as store:
        key, _ = store.add_key("one", role)
        allowed = {other for other in ROLES if key.allows(other)}
        assert allowed == (set(ROLES) if role == "admin" else {role})
        revoked = store.revoke_key("one")
        assert not any(revoked.allows(other) for other in ROLES)


def test_impossible_keys_are_usage_errors(place: Place) -> None:
    with place.open() as store:
        store.add_key("viewer", "predict")
        with pytest.raises(UsageError, match="already"):
            store.add_key("viewer", "read")
        with pytest.raises(UsageError, match="no role"):
            store.add_key("other", "root")  # type: ignore[arg-type]
        for name in ("", " ", "a\nb", "x" * 65):
            with pytest.raises(UsageError, match="no name"):
                store.add_key(name, "read")
        with pytest.raises(UsageError, match="no key"):
            store.revoke_key("nobody")
        store.revoke_key("viewer")
        with pytest.raises(UsageError, match="before"):
            store.revoke_key("viewer")
        assert [key.name for key in store.list_keys()] == ["viewer"]


def test_log_tells_which_keys_were_made_and_revoked(place: Place) -> None:
    with place.open() as store:
        key, _ = store.add_key("viewer", "predict")
        store.revoke_key(key.key_id)
    database = place.connect()
    with database.reading() as connection:
        told = connection.execute(sa.text("SELECT kind, details FROM snellen_audit_log ORDER BY row")).all()
    database.close()
    assert [kind for kind, _ in told] == ["key_added", "key_revoked"]
    assert all(key.key_id in details for _, details in told)
    assert (place.verify().problems, place.verify().n_predictions) == ((), 0)


def test_key_is_no_record_of_its_secret() -> None:
    assert not {"secret", "secret_sha256"} & set(ApiKey.__dataclass_fields__)


def test_job_survives_a_restart_with_its_files(place: Place) -> None:
    with place.open() as store:
        job = store.create_job("oct", key_id="k_1", n_total=3)
        (job.folder / "1").write_bytes(b"picture")
        ended = store.create_job("oct", key_id=None, n_total=1)
        store.update_job(ended.job_id, state="done", n_done=1)
        running = store.update_job(job.job_id, state="running", n_done=2, n_failed=1, message="one was no picture")
    with place.open() as store:
        assert store.unfinished_jobs() == [running]
        assert store.find_job(job.job_id) == running
        assert (running.n_done, running.n_failed, running.message, running.is_open) == (
            2,
            1,
            "one was no picture",
            True,
        )
        assert (running.folder / "1").read_bytes() == b"picture"
        assert [each.job_id for each in store.list_jobs()] == [ended.job_id, job.job_id]
        assert [each.job_id for each in store.list_jobs(key_id="k_1", limit=5)] == [job.job_id]


def test_job_that_was_cancelled_stays_cancelled(place: Place) -> None:
    with place.open() as store:
        job = store.create_job("oct", key_id=None, n_total=1)
        cancelled = store.update_job(job.job_id, state="cancelled")
        assert store.update_job(job.job_id, state="done", n_done=1) == cancelled
        assert store.unfinished_jobs() == []


def test_job_of_another_machine_is_not_taken_up(place: Place, tmp_path: Path) -> None:
    with place.open() as store:
        job = store.create_job("oct", key_id=None, n_total=1)
        job.folder.rmdir()
        assert store.unfinished_jobs() == []
        assert store.find_job(job.job_id) == job


@pytest.mark.parametrize("job_id", ["", "zero\0byte", "../x", "0" * 32])
def test_job_that_is_none_is_not_found(place: Place, job_id: str) -> None:
    with place.open() as store:
        assert store.find_job(job_id) is None


def test_removed_job_leaves_nothing(place: Place) -> None:
    with place.open() as store:
        job = store.create_job("oct", key_id=None, n_total=1)
        (job.folder / "1").write_bytes(b"picture")
        store.remove_job(job.job_id)
        store.remove_job(job.job_id)
        assert (store.find_job(job.job_id), job.folder.exists()) == (None, False)
        with pytest.raises(DataError, match="no job"):
            store.update_job(job.job_id, state="done")


@pytest.mark.parametrize("job_id", ["../audit", "", "x" * 32, "A" * 32])
def test_id_that_is_none_is_never_a_path(tmp_path: Path, job_id: str) -> None:
    with Store.open(str(tmp_path / "audit.db")) as store:
        with pytest.raises(DataError, match="no job"):
            store.remove_job(job_id)
        assert store.find_job(job_id) is None
