"""Sessions and executions in memory."""

from __future__ import annotations

from collections.abc import Mapping

from bichat.domain import StoredFile
from bichat.repository.changes import check_owner, finished, saved_session
from bichat.repository.pages import DEFAULT_LIMIT, Page
from bichat.repository.records import AuditEntry, ExecutionRecord, SessionRecord
from bichat.repository.rows import admit
from bichat.testing.memory.kept_files import publish
from bichat.testing.memory.tables import Tables


class MemorySessions:
    """Implements `Sessions`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def add(self, tenant: str, session: SessionRecord) -> SessionRecord:
        """See `Sessions.add`."""
        record = admit(tenant, session)
        self._tables.conversations.require(tenant, record.conversation_id)
        return self._tables.sessions.add(record)

    async def get(self, tenant: str, session_id: str) -> SessionRecord:
        """See `Sessions.get`."""
        return self._tables.sessions.get(tenant, session_id)

    async def page(
        self,
        tenant: str,
        *,
        live: bool | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str = "",
        oldest_first: bool = False,
    ) -> Page[SessionRecord]:
        """See `Sessions.page`."""
        return self._tables.sessions.page(
            tenant, lambda session: live in (None, session.ended_at is None), limit, cursor, oldest_first=oldest_first
        )

    async def save(self, tenant: str, session: SessionRecord, *, owner: str | None = None) -> SessionRecord:
        """See `Sessions.save`."""
        record = admit(tenant, session)
        before = self._tables.sessions.get(tenant, record.id)
        check_owner(before, owner)
        self._tables.conversations.require(tenant, record.conversation_id)
        return self._tables.sessions.put(saved_session(before, record))

    async def delete(self, tenant: str, session_id: str) -> None:
        """See `Sessions.delete`."""
        sessions = self._tables.sessions
        self._tables.drop(sessions, sessions.get(tenant, session_id))


class MemoryExecutions:
    """Implements `Executions`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def add(self, tenant: str, execution: ExecutionRecord, *, entry: AuditEntry | None = None) -> ExecutionRecord:
        """See `Executions.add`."""
        record = admit(tenant, execution)
        with self._tables.transaction():
            self._tables.sessions.require(tenant, record.session_id)
            self._tables.messages.require(tenant, record.message_id)
            self._tables.executions.add(record)
            if entry is not None:
                self._tables.audit.add(admit(tenant, entry))
        return record

    async def finish(
        self,
        tenant: str,
        execution: ExecutionRecord,
        *,
        published: Mapping[str, StoredFile] | None = None,
        entry: AuditEntry | None = None,
        session: SessionRecord | None = None,
    ) -> ExecutionRecord:
        """See `Executions.finish`."""
        record, tables = admit(tenant, execution), self._tables
        with tables.transaction():
            publish(tables, tables.outputs, tenant, published or {}, lambda made: made.execution_id == record.id)
            after = tables.executions.put(finished(tables.executions.get(tenant, record.id), record))
            if entry is not None:
                tables.audit.add(admit(tenant, entry))
            if session is not None:
                await MemorySessions(tables).save(tenant, session)
            return after

    async def get(self, tenant: str, execution_id: str) -> ExecutionRecord:
        """See `Executions.get`."""
        return self._tables.executions.get(tenant, execution_id)

    async def page(
        self, tenant: str, session_id: str, *, limit: int = DEFAULT_LIMIT, cursor: str = ""
    ) -> Page[ExecutionRecord]:
        """See `Executions.page`."""
        whose = self._tables.sessions.get(tenant, session_id).id
        return self._tables.executions.page(tenant, lambda execution: execution.session_id == whose, limit, cursor)

    async def delete(self, tenant: str, execution_id: str) -> None:
        """See `Executions.delete`."""
        executions = self._tables.executions
        self._tables.drop(executions, executions.get(tenant, execution_id))
