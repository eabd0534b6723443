"""Conversations, sessions, executions and what they leave behind.

When a row with bytes goes, by whatever way, a trigger puts its key into `bichat_deletions` in the same transaction: rows
go by cascades, by sweeps, by somebody's own SQL, and a rule that the database keeps is one that none of them can forget.
A rebuilt table (Alembic's batch mode on SQLite) loses its triggers: a migration that rebuilds one makes them again.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES: Final = ("bichat_code_interpreter_outputs", "bichat_files")
_COLUMNS: Final = "tenant, storage_key, reason, next_attempt_at, created_at"
_VALUES: Final = "OLD.tenant, OLD.storage_key, CASE OLD.state WHEN 'pending' THEN 'abandoned' ELSE 'deleted' END"
_SQLITE_NOW: Final = "strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'"
_INTO: Final = f"INSERT INTO bichat_deletions ({_COLUMNS})"
_ONCE: Final = "ON CONFLICT (storage_key) DO NOTHING"


def upgrade() -> None:
    """From nothing."""
    op.create_table(
        "bichat_api_keys",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("user", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("prefix", sa.String(length=255), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="bichat_api_keys_pkey"),
        sa.UniqueConstraint("sha256", name="bichat_api_keys_sha256_key"),
    )
    op.create_index("bichat_api_keys_tenant_newest", "bichat_api_keys", ["tenant", "created_at", "id"])
    op.create_table(
        "bichat_audit_log",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("user", sa.String(length=255), nullable=False),
        sa.Column("api_key_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("action", sa.String(length=255), nullable=False),
        sa.Column("session_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("execution_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("subject_id", sa.String(length=255), nullable=False),
        sa.Column("code_sha256", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.String(length=255), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="bichat_audit_log_pkey"),
    )
    op.create_index("bichat_audit_log_newest", "bichat_audit_log", ["tenant", "at", "id"])
    op.create_table(
        "bichat_conversations",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("user", sa.String(length=255), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("archived", sa.Boolean(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="bichat_conversations_pkey"),
    )
    op.create_index("bichat_conversations_tenant_newest", "bichat_conversations", ["tenant", "created_at", "id"])
    op.create_index("bichat_conversations_user_newest", "bichat_conversations", ["tenant", "user", "created_at", "id"])
    op.create_table(
        "bichat_deletions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("storage_key", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(length=255), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_error", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="bichat_deletions_pkey"),
        sa.UniqueConstraint("storage_key", name="bichat_deletions_storage_key_key"),
    )
    op.create_index("bichat_deletions_due", "bichat_deletions", ["next_attempt_at", "id"])
    op.create_table(
        "bichat_tenants",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("retention_days", sa.Float(), nullable=True),
        sa.Column("quota_bytes", sa.BigInteger(), nullable=True),
        sa.Column("quota_files", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", name="bichat_tenants_pkey"),
    )
    op.create_table(
        "bichat_messages",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("conversation_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("role", sa.String(length=255), nullable=False),
        sa.Column("author", sa.String(length=255), nullable=False),
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("status", sa.String(length=255), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["bichat_conversations.id"],
            name="bichat_messages_conversation_id_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="bichat_messages_pkey"),
    )
    op.create_index(
        "bichat_messages_conversation_id_newest", "bichat_messages", ["conversation_id", "created_at", "id"]
    )
    op.create_table(
        "bichat_sessions",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("user", sa.String(length=255), nullable=False),
        sa.Column("conversation_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("environment", sa.String(length=255), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_reason", sa.String(length=255), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["bichat_conversations.id"],
            name="bichat_sessions_conversation_id_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="bichat_sessions_pkey"),
    )
    op.create_index("bichat_sessions_conversation_id", "bichat_sessions", ["conversation_id"])
    op.create_index(
        "bichat_sessions_owner",
        "bichat_sessions",
        ["owner", "lease_until"],
        sqlite_where=sa.text("lease_until IS NOT NULL"),
        postgresql_where=sa.text("lease_until IS NOT NULL"),
    )
    op.create_index("bichat_sessions_tenant_newest", "bichat_sessions", ["tenant", "created_at", "id"])
    op.create_table(
        "bichat_files",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("user", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("purpose", sa.String(length=255), nullable=False),
        sa.Column("session_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("mime_type", sa.String(length=100), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("storage_key", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["session_id"], ["bichat_sessions.id"], name="bichat_files_session_id_fkey", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="bichat_files_pkey"),
        sa.UniqueConstraint("storage_key", name="bichat_files_storage_key_key"),
    )
    op.create_index(
        "bichat_files_expires_at",
        "bichat_files",
        ["expires_at"],
        sqlite_where=sa.text("expires_at IS NOT NULL"),
        postgresql_where=sa.text("expires_at IS NOT NULL"),
    )
    op.create_index("bichat_files_session_id", "bichat_files", ["session_id"])
    op.create_index("bichat_files_sizes", "bichat_files", ["tenant", "size_bytes"])
    op.create_index(
        "bichat_files_owner",
        "bichat_files",
        ["owner", "lease_until"],
        sqlite_where=sa.text("lease_until IS NOT NULL"),
        postgresql_where=sa.text("lease_until IS NOT NULL"),
    )
    op.create_index("bichat_files_tenant_newest", "bichat_files", ["tenant", "created_at", "id"])
    op.create_table(
        "bichat_executions",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("session_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("user", sa.String(length=255), nullable=False),
        sa.Column("message_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("code_sha256", sa.String(length=64), nullable=False),
        sa.Column("environment", sa.String(length=255), nullable=False),
        sa.Column("lock_hash", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=255), nullable=False),
        sa.Column("stdout", sa.Text(), nullable=False),
        sa.Column("stderr", sa.Text(), nullable=False),
        sa.Column("stdout_omitted_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stderr_omitted_bytes", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("results", sa.JSON(), nullable=False),
        sa.Column("timings", sa.JSON(), nullable=False),
        sa.Column("isolation", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["message_id"], ["bichat_messages.id"], name="bichat_executions_message_id_fkey", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["session_id"], ["bichat_sessions.id"], name="bichat_executions_session_id_fkey", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="bichat_executions_pkey"),
    )
    op.create_index("bichat_executions_message_id", "bichat_executions", ["message_id"])
    op.create_index(
        "bichat_executions_owner",
        "bichat_executions",
        ["owner", "lease_until"],
        sqlite_where=sa.text("lease_until IS NOT NULL"),
        postgresql_where=sa.text("lease_until IS NOT NULL"),
    )
    op.create_index("bichat_executions_session_id_newest", "bichat_executions", ["session_id", "created_at", "id"])
    op.create_table(
        "bichat_message_parts",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("message_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"], ["bichat_messages.id"], name="bichat_message_parts_message_id_fkey", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("message_id", "position", name="bichat_message_parts_pkey"),
    )
    op.create_table(
        "bichat_code_interpreter_outputs",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("message_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("execution_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("mime_type", sa.String(length=100), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=False),
        sa.Column("storage_key", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["execution_id"],
            ["bichat_executions.id"],
            name="bichat_code_interpreter_outputs_execution_id_fkey",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["message_id"],
            ["bichat_messages.id"],
            name="bichat_code_interpreter_outputs_message_id_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="bichat_code_interpreter_outputs_pkey"),
        sa.UniqueConstraint("storage_key", name="bichat_code_interpreter_outputs_storage_key_key"),
    )
    op.create_index("bichat_code_interpreter_outputs_created_at", "bichat_code_interpreter_outputs", ["created_at"])
    op.create_index(
        "bichat_code_interpreter_outputs_execution_id",
        "bichat_code_interpreter_outputs",
        ["execution_id", "tenant", "created_at", "id"],
    )
    op.create_index(
        "bichat_code_interpreter_outputs_message_id",
        "bichat_code_interpreter_outputs",
        ["message_id", "tenant", "created_at", "id"],
    )
    op.create_index(
        "bichat_code_interpreter_outputs_sizes", "bichat_code_interpreter_outputs", ["tenant", "size_bytes"]
    )
    op.create_index(
        "bichat_code_interpreter_outputs_owner",
        "bichat_code_interpreter_outputs",
        ["owner", "lease_until"],
        sqlite_where=sa.text("lease_until IS NOT NULL"),
        postgresql_where=sa.text("lease_until IS NOT NULL"),
    )
    op.create_index(
        "bichat_code_interpreter_outputs_tenant_newest",
        "bichat_code_interpreter_outputs",
        ["tenant", "created_at", "id"],
    )
    for statement in _make_triggers(op.get_context().dialect.name):
        op.execute(statement)


def downgrade() -> None:
    """To nothing."""
    for statement in _drop_triggers(op.get_context().dialect.name):
        op.execute(statement)
    op.drop_table("bichat_code_interpreter_outputs")
    op.drop_table("bichat_message_parts")
    op.drop_table("bichat_executions")
    op.drop_table("bichat_files")
    op.drop_table("bichat_sessions")
    op.drop_table("bichat_messages")
    op.drop_table("bichat_tenants")
    op.drop_table("bichat_deletions")
    op.drop_table("bichat_conversations")
    op.drop_table("bichat_audit_log")
    op.drop_table("bichat_api_keys")


def _make_triggers(dialect: str) -> Iterator[str]:
    if dialect == "sqlite":
        for table in _TABLES:
            yield (
                f"CREATE TRIGGER {table}_bytes AFTER DELETE ON {table} FOR EACH ROW BEGIN "
                f"{_INTO} VALUES ({_VALUES}, {_SQLITE_NOW}, {_SQLITE_NOW}) {_ONCE}; END"
            )
        return
    yield (
        "CREATE FUNCTION bichat_keep_deletion() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"{_INTO} VALUES ({_VALUES}, now(), now()) {_ONCE}; RETURN OLD; END $$"
    )
    for table in _TABLES:
        yield (
            f"CREATE TRIGGER {table}_bytes AFTER DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION bichat_keep_deletion()"
        )


def _drop_triggers(dialect: str) -> Iterator[str]:
    for table in _TABLES:
        yield f"DROP TRIGGER {table}_bytes" + ("" if dialect == "sqlite" else f" ON {table}")
    if dialect != "sqlite":
        yield "DROP FUNCTION bichat_keep_deletion()"
