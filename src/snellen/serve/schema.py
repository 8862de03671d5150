"""The tables of the audit database as this version writes them. How older ones become so: `migrations/`."""

from __future__ import annotations

import sqlalchemy as sa

# the newest file of migrations/versions: a database that says so needs no look at them, and no Alembic
REVISION = "0001"
VERSION_TABLE = "snellen_schema"  # a name of ours: the database may be another program's too

metadata = sa.MetaData()

# SQLite's own row number where the column is an INTEGER; 64 bits on both
_ROW = sa.BigInteger().with_variant(sa.Integer, "sqlite")

audit_log = sa.Table(
    "snellen_audit_log",
    metadata,
    sa.Column("row", _ROW, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, nullable=False),  # prediction, or an event: see events.py
    sa.Column("time_us", sa.BigInteger, nullable=False),  # microseconds since 1970, UTC: exact on every database
    sa.Column("request_id", sa.Text),
    sa.Column("key_id", sa.Text),
    sa.Column("model", sa.Text),
    sa.Column("model_sha256", sa.Text),
    sa.Column("image_sha256", sa.Text),
    sa.Column("probabilities", sa.Text),  # JSON as it was signed; a JSON type would write it anew
    sa.Column("prediction", sa.Text),
    sa.Column("decision", sa.Text),
    sa.Column("abstain", sa.Boolean),
    sa.Column("reason", sa.Text),
    sa.Column("latency_ms", sa.Double),
    sa.Column("error", sa.Text),
    sa.Column("filename", sa.Text),
    sa.Column("details", sa.Text),  # JSON of an event; of a prediction its set, where the model gives one
    sa.Column("mac", sa.Text, nullable=False),
    sa.Index("snellen_audit_log_time", "time_us"),
    sa.Index("snellen_audit_log_request", "request_id"),
    sa.Index("snellen_audit_log_image", "image_sha256"),
)

audit_head = sa.Table(
    "snellen_audit_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # one row: 1
    sa.Column("chain_id", sa.Text, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("last_mac", sa.Text, nullable=False),
    sa.Column("purged", sa.BigInteger, nullable=False),
    sa.Column("purged_mac", sa.Text, nullable=False),
    sa.Column("key_fingerprint", sa.Text, nullable=False),
    sa.Column("mac", sa.Text, nullable=False),
)

api_keys = sa.Table(
    "snellen_api_keys",
    metadata,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("secret_sha256", sa.Text, nullable=False, unique=True),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("revoked_us", sa.BigInteger),
    sa.Column("mac", sa.Text, nullable=False),
)

jobs = sa.Table(
    "snellen_jobs",
    metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("key_id", sa.Text),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("updated_us", sa.BigInteger, nullable=False),
    sa.Column("n_total", sa.Integer, nullable=False),
    sa.Column("n_done", sa.Integer, nullable=False),
    sa.Column("n_failed", sa.Integer, nullable=False),
    sa.Column("message", sa.Text),
    sa.Index("snellen_jobs_created", "created_us"),
)
