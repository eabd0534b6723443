"""Messages by the run that they belong to, and whether they went into it or came out.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A column and an index."""
    op.add_column("bichat_messages", sa.Column("is_input", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index(
        "bichat_messages_run_id",
        "bichat_messages",
        ["run_id", "is_input", "created_at", "id"],
        sqlite_where=sa.text("run_id IS NOT NULL"),
        postgresql_where=sa.text("run_id IS NOT NULL"),
    )


def downgrade() -> None:
    """Without them."""
    op.drop_index("bichat_messages_run_id", table_name="bichat_messages")
    with op.batch_alter_table("bichat_messages") as table:
        table.drop_column("is_input")
