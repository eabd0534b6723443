"""Definitions in SQL."""

from __future__ import annotations

import sqlalchemy as sa

from bichat.repository.database import Database
from bichat.repository.ids import missing
from bichat.repository.pages import DEFAULT_LIMIT, Page
from bichat.repository.quota import row_bytes
from bichat.repository.records import Definition, Json
from bichat.repository.rows import admit
from bichat.repository.sql.kept_files import hold_rows
from bichat.repository.sql.shelves import DEFINITIONS
from bichat.repository.text import plain_json, stored


class SqlDefinitions:
    """Implements `Definitions`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tenant: str, definition: Definition) -> Definition:
        """See `Definitions.add`."""
        record = admit(tenant, definition)
        async with self._database.writing() as connection:
            await DEFINITIONS.add(connection, record)
            await hold_rows(connection, tenant)
            return record

    async def get(self, tenant: str, definition_id: str, *, kind: str) -> Definition:
        """See `Definitions.get`."""
        async with self._database.reading() as connection:
            return await DEFINITIONS.get(connection, tenant, definition_id, _of(kind))

    async def page(
        self,
        tenant: str,
        *,
        kind: str,
        limit: int = DEFAULT_LIMIT,
        cursor: str = "",
        oldest_first: bool = False,
    ) -> Page[Definition]:
        """See `Definitions.page`."""
        async with self._database.reading() as connection:
            return await DEFINITIONS.page(
                connection, tenant, _of(kind), limit=limit, cursor=cursor, oldest_first=oldest_first
            )

    async def change(self, tenant: str, definition_id: str, *, kind: str, content: Json) -> Definition:
        """See `Definitions.change`."""
        values = {"content": plain_json(content)}
        async with self._database.writing() as connection:
            if not await DEFINITIONS.change(connection, tenant, definition_id, values, _of(kind)):
                raise missing(DEFINITIONS.noun)
            changed = await DEFINITIONS.get(connection, tenant, definition_id)
            await DEFINITIONS.change(connection, tenant, definition_id, {"row_bytes": row_bytes(changed)})
            await hold_rows(connection, tenant)
            return changed

    async def delete(self, tenant: str, definition_id: str, *, kind: str) -> None:
        """See `Definitions.delete`."""
        async with self._database.writing() as connection:
            await DEFINITIONS.row(connection, tenant, definition_id, _of(kind))
            await DEFINITIONS.delete(connection, tenant, definition_id)


def _of(kind: str) -> sa.ColumnElement[bool]:
    return DEFINITIONS.table.c.kind == stored(kind)
