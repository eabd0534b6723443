"""Executions in SQL."""

from __future__ import annotations

from collections.abc import Mapping

from bichat.domain import StoredFile
from bichat.repository.changes import finished
from bichat.repository.database import Database
from bichat.repository.ids import check_id
from bichat.repository.pages import DEFAULT_LIMIT, Page
from bichat.repository.records import AuditEntry, ExecutionRecord, SessionRecord
from bichat.repository.rows import admit, from_row, to_row
from bichat.repository.sql.kept_files import publish
from bichat.repository.sql.sessions import save_session
from bichat.repository.sql.shelves import AUDIT, EXECUTIONS, MESSAGES, OUTPUTS, SESSIONS


class SqlExecutions:
    """Implements `Executions`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tenant: str, execution: ExecutionRecord, *, entry: AuditEntry | None = None) -> ExecutionRecord:
        """See `Executions.add`."""
        record, note = admit(tenant, execution), entry and admit(tenant, entry)
        async with self._database.writing() as connection:
            await SESSIONS.require(connection, tenant, record.session_id)
            await MESSAGES.require(connection, tenant, record.message_id)
            await EXECUTIONS.add(connection, record)
            if note is not None:
                await AUDIT.add(connection, note)
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
        record, note, after_it = (
            admit(tenant, execution),
            entry and admit(tenant, entry),
            session and admit(tenant, session),
        )
        async with self._database.writing() as connection:
            of_it = OUTPUTS.table.c.execution_id == record.id
            await publish(OUTPUTS, connection, tenant, published or {}, of_it)
            row = await EXECUTIONS.row(connection, tenant, record.id, for_update=True)
            after = finished(from_row(ExecutionRecord, row), record)
            await EXECUTIONS.change(connection, tenant, record.id, to_row(after))
            if note is not None:
                await AUDIT.add(connection, note)
            if after_it is not None:
                await save_session(connection, after_it)
            return after

    async def get(self, tenant: str, execution_id: str) -> ExecutionRecord:
        """See `Executions.get`."""
        async with self._database.reading() as connection:
            return await EXECUTIONS.get(connection, tenant, execution_id)

    async def page(
        self, tenant: str, session_id: str, *, limit: int = DEFAULT_LIMIT, cursor: str = ""
    ) -> Page[ExecutionRecord]:
        """See `Executions.page`."""
        of_it = EXECUTIONS.table.c.session_id == check_id(session_id, SESSIONS.noun)
        async with self._database.reading() as connection:
            await SESSIONS.get(connection, tenant, session_id)
            return await EXECUTIONS.page(connection, tenant, of_it, limit=limit, cursor=cursor)

    async def delete(self, tenant: str, execution_id: str) -> None:
        """See `Executions.delete`."""
        async with self._database.writing() as connection:
            await EXECUTIONS.delete(connection, tenant, execution_id)
