"""The tables as they are now.  Nothing makes them from here: `migrations` does, and a test says that both agree.

Whose row it is stands in every row as `tenant`.  What belongs together goes together, by cascades; and when a row with
bytes goes, whatever the way, a trigger puts its key into `bichat_deletions` (see the first migration).
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from bichat.repository.columns import Id, Moment, Name, Serial, Sha256, TenantName, id_column, json_column

metadata = sa.MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)

#: States of a run in which it is its conversation's only one.
ACTIVE_RUN: Final = "state IN ('queued', 'running', 'waiting', 'cancelling')"


def _table(name: str, *columns: sa.Column[Any] | sa.Index | sa.Constraint) -> sa.Table:
    return sa.Table(f"bichat_{name}", metadata, *columns)


def _id() -> sa.Column[Any]:
    return sa.Column("id", Id, primary_key=True)


def _tenant(*, primary_key: bool = False) -> sa.Column[Any]:
    return sa.Column("tenant", TenantName, nullable=False, primary_key=primary_key)


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, nullable=False)


def _name(name: str) -> sa.Column[Any]:
    return sa.Column(name, Name, nullable=False)


def _sha256(name: str) -> sa.Column[Any]:
    return sa.Column(name, Sha256, nullable=False)


def _count(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _switch(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean, nullable=False)


def _moment(name: str) -> sa.Column[Any]:
    return sa.Column(name, Moment, nullable=False)


def _maybe(name: str) -> sa.Column[Any]:
    return sa.Column(name, Moment)


def _lease() -> tuple[sa.Column[Any], sa.Column[Any]]:
    return sa.Column("owner", Name), sa.Column("lease_until", Moment)


def _leased(table: str) -> sa.Index:
    """For renewals and sweeps, which look at work under way and at nothing else."""
    return _partial(f"bichat_{table}_owner", "owner", "lease_until", where="lease_until IS NOT NULL")


def _row_bytes() -> sa.Column[Any]:
    """As `bichat.repository.quota.row_bytes`; 0 of rows that were there before it was counted."""
    return sa.Column("row_bytes", sa.BigInteger, nullable=False, server_default=sa.text("0"))


def _row_sizes(table: str) -> sa.Index:
    """As `_sizes`, of rows."""
    return sa.Index(f"bichat_{table}_row_bytes", "tenant", "row_bytes")


def _sizes(table: str) -> sa.Index:
    """For quotas: what a tenant keeps is added up from here, without a look at the rows."""
    return sa.Index(f"bichat_{table}_sizes", "tenant", "size_bytes")


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> sa.Index:
    return sa.Index(name, *columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _newest(table: str, *columns: str) -> sa.Index:
    """For pages, newest first: (created_at, id) below what they are pages of."""
    return sa.Index(f"bichat_{table}_{columns[-1]}_newest", *columns, "created_at", "id")


tenants = _table(
    "tenants",
    _tenant(primary_key=True),
    sa.Column("retention_days", sa.Float),
    sa.Column("quota_bytes", sa.BigInteger),
    sa.Column("quota_files", sa.BigInteger),
    _moment("created_at"),
)

conversations = _table(
    "conversations",
    _id(),
    _tenant(),
    _name("user"),
    _text("title"),
    _switch("pinned"),
    _switch("archived"),
    json_column("metadata"),
    _moment("created_at"),
    _moment("updated_at"),
    _newest("conversations", "tenant"),
    _newest("conversations", "tenant", "user"),
    _row_bytes(),
    _row_sizes("conversations"),
)

messages = _table(
    "messages",
    _id(),
    _tenant(),
    id_column("conversation_id", "bichat_conversations"),
    _name("role"),
    _name("author"),
    id_column("run_id", nullable=True),
    sa.Column("is_input", sa.Boolean, nullable=False, server_default=sa.false()),
    _name("status"),
    json_column("metadata"),
    _moment("created_at"),
    _newest("messages", "conversation_id"),
    _partial("bichat_messages_run_id", "run_id", "is_input", "created_at", "id", where="run_id IS NOT NULL"),
    _row_bytes(),
    _row_sizes("messages"),
)

message_parts = _table(
    "message_parts",
    _tenant(),
    id_column("message_id", "bichat_messages"),
    sa.Column("position", sa.Integer, nullable=False),
    _name("kind"),
    json_column("content"),
    sa.PrimaryKeyConstraint("message_id", "position"),
)

runs = _table(
    "runs",
    _id(),
    _tenant(),
    id_column("conversation_id", "bichat_conversations"),
    _name("state"),
    _name("model"),
    json_column("request"),
    sa.Column("attempt", Name, nullable=False, server_default=sa.text("''")),
    json_column("error", nullable=True),
    json_column("usage"),
    json_column("metadata"),
    *_lease(),
    _moment("created_at"),
    _maybe("started_at"),
    _maybe("ended_at"),
    _newest("runs", "conversation_id"),
    _partial("bichat_runs_one_active", "conversation_id", where=ACTIVE_RUN, unique=True),
    _partial("bichat_runs_attempt", "tenant", "attempt", where="attempt <> ''"),
    _leased("runs"),
    _row_bytes(),
    _row_sizes("runs"),
)

run_events = _table(
    "run_events",
    id_column("run_id", "bichat_runs"),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    _tenant(),
    _name("kind"),
    json_column("payload"),
    sa.PrimaryKeyConstraint("run_id", "sequence"),
)

sessions = _table(
    "sessions",
    _id(),
    _tenant(),
    _name("user"),
    id_column("conversation_id", "bichat_conversations", nullable=True),
    _name("environment"),
    json_column("options"),
    json_column("files"),
    *_lease(),
    _name("end_reason"),
    _maybe("expires_at"),
    _moment("created_at"),
    _moment("last_used_at"),
    _maybe("ended_at"),
    _newest("sessions", "tenant"),
    sa.Index("bichat_sessions_conversation_id", "conversation_id"),
    _leased("sessions"),
)

executions = _table(
    "executions",
    _id(),
    _tenant(),
    id_column("session_id", "bichat_sessions"),
    _name("user"),
    id_column("message_id", "bichat_messages", nullable=True),
    id_column("run_id", nullable=True),
    _text("code"),
    _sha256("code_sha256"),
    _name("environment"),
    _name("lock_hash"),
    _name("status"),
    _text("stdout"),
    _text("stderr"),
    _count("stdout_omitted_bytes"),
    _count("stderr_omitted_bytes"),
    json_column("error", nullable=True),
    json_column("results"),
    json_column("timings"),
    _name("isolation"),
    *_lease(),
    _moment("created_at"),
    _maybe("ended_at"),
    _newest("executions", "session_id"),
    sa.Index("bichat_executions_message_id", "message_id"),
    _leased("executions"),
)

outputs = _table(
    "code_interpreter_outputs",
    _id(),
    _tenant(),
    id_column("message_id", "bichat_messages", nullable=True),
    id_column("execution_id", "bichat_executions"),
    _name("name"),
    sa.Column("mime_type", sa.String(100), nullable=False),
    _text("url"),
    _count("size_bytes"),
    _name("source"),
    _text("storage_key"),
    _sha256("sha256"),
    _name("state"),
    *_lease(),
    _moment("created_at"),
    # With the tenant: on SQLite, two equalities make them win over the index of all that is the tenant's.
    sa.Index("bichat_code_interpreter_outputs_message_id", "message_id", "tenant", "created_at", "id"),
    sa.Index("bichat_code_interpreter_outputs_execution_id", "execution_id", "tenant", "created_at", "id"),
    sa.Index("bichat_code_interpreter_outputs_created_at", "created_at"),
    _newest("code_interpreter_outputs", "tenant"),
    _leased("code_interpreter_outputs"),
    _sizes("code_interpreter_outputs"),
    sa.UniqueConstraint("storage_key"),
)

files = _table(
    "files",
    _id(),
    _tenant(),
    _name("user"),
    _name("name"),
    _name("purpose"),
    id_column("session_id", "bichat_sessions", nullable=True),
    sa.Column("mime_type", sa.String(100), nullable=False),
    _count("size_bytes"),
    _text("storage_key"),
    _sha256("sha256"),
    _name("state"),
    *_lease(),
    json_column("metadata"),
    _moment("created_at"),
    _maybe("expires_at"),
    sa.Index("bichat_files_session_id", "session_id"),
    _newest("files", "tenant"),
    _partial("bichat_files_expires_at", "expires_at", where="expires_at IS NOT NULL"),
    _leased("files"),
    _sizes("files"),
    sa.UniqueConstraint("storage_key"),
)

definitions = _table(
    "definitions",
    _id(),
    _tenant(),
    _name("user"),
    _name("kind"),
    json_column("content"),
    _moment("created_at"),
    _newest("definitions", "tenant", "kind"),
    _row_bytes(),
    _row_sizes("definitions"),
)

api_keys = _table(
    "api_keys",
    _id(),
    _tenant(),
    _name("user"),
    _name("name"),
    _name("prefix"),
    _sha256("sha256"),
    _moment("created_at"),
    _maybe("last_used_at"),
    _maybe("expires_at"),
    _maybe("revoked_at"),
    _newest("api_keys", "tenant"),
    sa.UniqueConstraint("sha256"),
)

audit_log = _table(
    "audit_log",
    _id(),
    _tenant(),
    _name("user"),
    id_column("api_key_id", nullable=True),
    _name("action"),
    id_column("session_id", nullable=True),
    id_column("execution_id", nullable=True),
    _name("subject_id"),
    _sha256("code_sha256"),
    _name("outcome"),
    _moment("at"),
    sa.Index("bichat_audit_log_newest", "tenant", "at", "id"),
)

deletions = _table(
    "deletions",
    sa.Column("id", Serial, primary_key=True, autoincrement=True),
    _tenant(),
    _text("storage_key"),
    _name("reason"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("last_error", sa.Text, nullable=False, server_default=sa.text("''")),
    _moment("next_attempt_at"),
    _moment("created_at"),
    sa.Index("bichat_deletions_due", "next_attempt_at", "id"),
    sa.UniqueConstraint("storage_key"),
)

leftovers = _table(
    "leftovers",
    _id(),
    _tenant(),
    _name("server"),
    json_column("objects"),
    sa.Column("attempts", sa.Integer, nullable=False),
    _text("last_error"),
    *_lease(),
    _moment("next_attempt_at"),
    _moment("created_at"),
    _partial("bichat_leftovers_due", "server", "next_attempt_at", "id", where="lease_until IS NULL"),
    _leased("leftovers"),
)
