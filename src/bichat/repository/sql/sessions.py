"""Sessions in SQL."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bichat.repository.changes import check_owner, saved_session
from bichat.repository.database import Database
from bichat.repository.ids import check_id
from bichat.repository.pages import DEFAULT_LIMIT, Page
from bichat.repository.records import SessionRecord
from bichat.repository.rows import admit, from_row, to_row
from bichat.repository.sql.shelves import CONVERSATIONS, EXECUTIONS, SESSIONS
from bichat.repository.sql.thinning import thin


class SqlSessions:
    """Implements `Sessions`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tenant: str, session: SessionRecord) -> SessionRecord:
        """See `Sessions.add`."""
        record = admit(tenant, session)
        async with self._database.writing() as connection:
            await CONVERSATIONS.require(connection, tenant, record.conversation_id)
            return await SESSIONS.add(connection, record)

    async def get(self, tenant: str, session_id: str) -> SessionRecord:
        """See `Sessions.get`."""
        async with self._database.reading() as connection:
            return await SESSIONS.get(connection, tenant, session_id)

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
        has_ended = SESSIONS.table.c.ended_at.is_not(None)
        where: list[sa.ColumnElement[bool]] = [] if live is None else [~has_ended if live else has_ended]
        async with self._database.reading() as connection:
            return await SESSIONS.page(
                connection, tenant, *where, limit=limit, cursor=cursor, oldest_first=oldest_first
            )

    async def save(self, tenant: str, session: SessionRecord, *, owner: str | None = None) -> SessionRecord:
        """See `Sessions.save`."""
        record = admit(tenant, session)
        async with self._database.writing() as connection:
            return await save_session(connection, record, owner=owner)

    async def delete(self, tenant: str, session_id: str) -> None:
        """See `Sessions.delete`."""
        of_it = EXECUTIONS.table.c.session_id == check_id(session_id, SESSIONS.noun)
        await thin(self._database, EXECUTIONS, tenant, of_it)
        async with self._database.writing() as connection:
            await SESSIONS.delete(connection, tenant, session_id)


async def save_session(
    connection: AsyncConnection, record: SessionRecord, *, owner: str | None = None
) -> SessionRecord:
    """Let `record`, which `admit` has let in, stand in the place of the session that it was; as it is then."""
    row = await SESSIONS.row(connection, record.tenant, record.id, for_update=True)
    before = from_row(SessionRecord, row)
    check_owner(before, owner)
    await CONVERSATIONS.require(connection, record.tenant, record.conversation_id)
    after = saved_session(before, record)
    await SESSIONS.change(connection, record.tenant, record.id, to_row(after))
    return after
