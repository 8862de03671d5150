"""The schema is brought to this version when a database is opened; a newer one is refused, and never touched."""

from __future__ import annotations

import contextlib
from pathlib import Path

import sqlalchemy as sa

from snellen.core.errors import StorageError
from snellen.core.storage import hold_folder
from snellen.serve.database import Database
from snellen.serve.schema import REVISION, VERSION_TABLE

MIGRATIONS = Path(__file__).parent / "migrations"
_VERSIONS = sa.table(VERSION_TABLE, sa.column("version_num"))


def upgrade(database: Database) -> None:
    """Bring the schema to REVISION, whole or not at all. Others who open the database meanwhile wait.

    Raises StorageError where the schema is one that this version does not know.
    """
    path = database.address.path
    # SQLite gives up on a lock after some seconds, which an upgrade on a busy disk may take
    with contextlib.nullcontext() if path is None else hold_folder(path.parent, waits=True):
        if find_revision(database) != REVISION:
            _upgrade(database)


def _upgrade(database: Database) -> None:
    with database.writing() as connection:
        if not database.is_sqlite:
            connection.execute(sa.text("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0"))
        database.take_turn(connection)
        _run_migrations(connection, database.address.shown)


def require_ours(database: Database, *, is_current: bool) -> None:
    """Raise StorageError where there is no audit log, or, if `is_current` is needed, one of another schema."""
    found = find_revision(database)
    if found is None:
        raise StorageError(f"{database.address.shown} holds no audit log.", "Name another database with --db.")
    if is_current and found != REVISION:
        raise StorageError(
            f"{database.address.shown} has schema {found}, and this version of Snellen reads {REVISION}.",
            "Use the version that wrote it; a newer server upgrades an older schema when it starts.",
        )


def find_revision(database: Database) -> str | None:
    """The schema's revision as it is recorded; None in a database that is not ours yet."""
    with database.reading() as connection:
        if not sa.inspect(connection).has_table(VERSION_TABLE):
            return None
        return connection.execute(sa.select(_VERSIONS.c.version_num)).scalar_one_or_none()


def _run_migrations(connection: sa.Connection, shown: str) -> None:
    from alembic import command  # 0.1 s and some MB that a server needs once in its life
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:  # a revision that no file of ours has
        raise StorageError(
            f"{shown} has a schema that is newer than this version of Snellen knows (it knows {REVISION}): {error}",
            "Upgrade Snellen, or restore the backup that was made before the upgrade.",
        ) from error
