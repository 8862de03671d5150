"""What Alembic runs: our migrations, in the transaction of the connection that `upgrade.py` hands over."""

from __future__ import annotations

from alembic import context

from snellen.serve.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION_TABLE
)
with context.begin_transaction():
    context.run_migrations()
