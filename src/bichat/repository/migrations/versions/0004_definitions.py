"""What callers describe once and name by its id: assistants, vector stores.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A table."""
    op.create_table(
        "bichat_definitions",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("user", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="bichat_definitions_pkey"),
    )
    op.create_index("bichat_definitions_kind_newest", "bichat_definitions", ["tenant", "kind", "created_at", "id"])


def downgrade() -> None:
    """Without it."""
    op.drop_table("bichat_definitions")
