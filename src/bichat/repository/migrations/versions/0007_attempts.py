"""Requests that are sent again find the run that they began.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A column, and an index of the few rows in which it is not empty."""
    is_given = sa.text("attempt <> ''")
    op.add_column("bichat_runs", sa.Column("attempt", sa.String(255), nullable=False, server_default=sa.text("''")))
    op.create_index(
        "bichat_runs_attempt",
        "bichat_runs",
        ["tenant", "attempt"],
        sqlite_where=is_given,
        postgresql_where=is_given,
    )


def downgrade() -> None:
    """Without it."""
    op.drop_index("bichat_runs_attempt", table_name="bichat_runs")
    with op.batch_alter_table("bichat_runs") as batch:
        batch.drop_column("attempt")
