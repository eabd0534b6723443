"""Conversations in SQL."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from bichat.repository.database import Database
from bichat.repository.ids import check_id, missing
from bichat.repository.moments import utc_now
from bichat.repository.pages import DEFAULT_LIMIT, Page
from bichat.repository.quota import row_bytes
from bichat.repository.records import Conversation, Json
from bichat.repository.rows import admit
from bichat.repository.sql.kept_files import hold_rows
from bichat.repository.sql.shelves import CONVERSATIONS, EXECUTIONS, MESSAGES, RUNS, SESSIONS
from bichat.repository.sql.thinning import thin
from bichat.repository.text import plain_json, stored


class SqlConversations:
    """Implements `Conversations`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tenant: str, conversation: Conversation) -> Conversation:
        """See `Conversations.add`."""
        record = admit(tenant, conversation)
        async with self._database.writing() as connection:
            await CONVERSATIONS.add(connection, record)
            await hold_rows(connection, tenant)
            return record

    async def get(self, tenant: str, conversation_id: str) -> Conversation:
        """See `Conversations.get`."""
        async with self._database.reading() as connection:
            return await CONVERSATIONS.get(connection, tenant, conversation_id)

    async def page(
        self,
        tenant: str,
        *,
        user: str | None = None,
        archived: bool | None = False,
        limit: int = DEFAULT_LIMIT,
        cursor: str = "",
    ) -> Page[Conversation]:
        """See `Conversations.page`."""
        columns = CONVERSATIONS.table.c
        where: list[sa.ColumnElement[bool]] = []
        if user is not None:
            where.append(columns.user == stored(user))
        if archived is not None:
            where.append(columns.archived == archived)
        async with self._database.reading() as connection:
            return await CONVERSATIONS.page(connection, tenant, *where, limit=limit, cursor=cursor)

    async def change(
        self,
        tenant: str,
        conversation_id: str,
        *,
        title: str | None = None,
        pinned: bool | None = None,
        archived: bool | None = None,
        metadata: Json | None = None,
    ) -> Conversation:
        """See `Conversations.change`."""
        values: dict[str, Any] = {
            "title": None if title is None else stored(title),
            "pinned": pinned,
            "archived": archived,
            "metadata": None if metadata is None else plain_json(metadata),
        }
        given = {name: value for name, value in values.items() if value is not None} | {"updated_at": utc_now()}
        async with self._database.writing() as connection:
            if not await CONVERSATIONS.change(connection, tenant, conversation_id, given):
                raise missing(CONVERSATIONS.noun)
            changed = await CONVERSATIONS.get(connection, tenant, conversation_id)
            await CONVERSATIONS.change(connection, tenant, conversation_id, {"row_bytes": row_bytes(changed)})
            return changed

    async def delete(self, tenant: str, conversation_id: str) -> None:
        """See `Conversations.delete`."""
        own = check_id(conversation_id, CONVERSATIONS.noun)
        sessions = sa.select(SESSIONS.table.c.id).where(SESSIONS.table.c.conversation_id == own)
        await thin(self._database, EXECUTIONS, tenant, EXECUTIONS.table.c.session_id.in_(sessions))
        for shelf in (MESSAGES, RUNS):
            await thin(self._database, shelf, tenant, shelf.table.c.conversation_id == own)
        async with self._database.writing() as connection:
            await CONVERSATIONS.delete(connection, tenant, conversation_id)
