"""Runs and their events.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two tables."""
    op.create_table(
        "bichat_runs",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("conversation_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("state", sa.String(length=255), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("usage", sa.JSON(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["bichat_conversations.id"],
            name="bichat_runs_conversation_id_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="bichat_runs_pkey"),
    )
    op.create_index("bichat_runs_conversation_id_newest", "bichat_runs", ["conversation_id", "created_at", "id"])
    op.create_index(
        "bichat_runs_one_active",
        "bichat_runs",
        ["conversation_id"],
        unique=True,
        sqlite_where=sa.text("state IN ('queued', 'running', 'waiting', 'cancelling')"),
        postgresql_where=sa.text("state IN ('queued', 'running', 'waiting', 'cancelling')"),
    )
    op.create_index(
        "bichat_runs_owner",
        "bichat_runs",
        ["owner", "lease_until"],
        sqlite_where=sa.text("lease_until IS NOT NULL"),
        postgresql_where=sa.text("lease_until IS NOT NULL"),
    )
    op.create_table(
        "bichat_run_events",
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["bichat_runs.id"], name="bichat_run_events_run_id_fkey", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "sequence", name="bichat_run_events_pkey"),
    )


def downgrade() -> None:
    """Without them."""
    op.drop_table("bichat_run_events")
    op.drop_table("bichat_runs")
