"""Audit log with its head, API keys and jobs. Frozen: later changes are files of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    row_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "snellen_audit_log",
        sa.Column("row", row_number, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("time_us", sa.BigInteger, nullable=False),
        sa.Column("request_id", sa.Text),
        sa.Column("key_id", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("model_sha256", sa.Text),
        sa.Column("image_sha256", sa.Text),
        sa.Column("probabilities", sa.Text),
        sa.Column("prediction", sa.Text),
        sa.Column("decision", sa.Text),
        sa.Column("abstain", sa.Boolean),
        sa.Column("reason", sa.Text),
        sa.Column("latency_ms", sa.Double),
        sa.Column("error", sa.Text),
        sa.Column("filename", sa.Text),
        sa.Column("details", sa.Text),
        sa.Column("mac", sa.Text, nullable=False),
    )
    op.create_index("snellen_audit_log_time", "snellen_audit_log", ["time_us"])
    op.create_index("snellen_audit_log_request", "snellen_audit_log", ["request_id"])
    op.create_index("snellen_audit_log_image", "snellen_audit_log", ["image_sha256"])
    op.create_table(
        "snellen_audit_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("chain_id", sa.Text, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("last_mac", sa.Text, nullable=False),
        sa.Column("purged", sa.BigInteger, nullable=False),
        sa.Column("purged_mac", sa.Text, nullable=False),
        sa.Column("key_fingerprint", sa.Text, nullable=False),
        sa.Column("mac", sa.Text, nullable=False),
    )
    op.create_table(
        "snellen_api_keys",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("secret_sha256", sa.Text, nullable=False, unique=True),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("revoked_us", sa.BigInteger),
        sa.Column("mac", sa.Text, nullable=False),
    )
    op.create_table(
        "snellen_jobs",
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
    )
    op.create_index("snellen_jobs_created", "snellen_jobs", ["created_us"])
