"""How much rows take, for quotas.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TABLES: Final = ("bichat_conversations", "bichat_messages", "bichat_runs", "bichat_definitions")


def upgrade() -> None:
    """A column in each table that callers can fill, and an index to add it up from."""
    for table in _TABLES:
        op.add_column(table, sa.Column("row_bytes", sa.BigInteger(), nullable=False, server_default=sa.text("0")))
        op.create_index(f"{table}_row_bytes", table, ["tenant", "row_bytes"])


def downgrade() -> None:
    """Without them."""
    for table in _TABLES:
        op.drop_index(f"{table}_row_bytes", table_name=table)
        with op.batch_alter_table(table) as batch:
            batch.drop_column("row_bytes")
