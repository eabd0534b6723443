"""Definitions in memory."""

from __future__ import annotations

from dataclasses import replace

from bichat.repository.pages import DEFAULT_LIMIT, Page
from bichat.repository.records import Definition, Json
from bichat.repository.rows import admit
from bichat.repository.text import plain_json
from bichat.testing.memory.tables import Tables


class MemoryDefinitions:
    """Implements `Definitions`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def add(self, tenant: str, definition: Definition) -> Definition:
        """See `Definitions.add`."""
        with self._tables.transaction():
            added = self._tables.definitions.add(admit(tenant, definition))
            self._tables.hold_rows(tenant)
            return added

    async def get(self, tenant: str, definition_id: str, *, kind: str) -> Definition:
        """See `Definitions.get`."""
        return self._tables.definitions.get(tenant, definition_id, lambda found: found.kind == kind)

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
        return self._tables.definitions.page(
            tenant, lambda found: found.kind == kind, limit, cursor, oldest_first=oldest_first
        )

    async def change(self, tenant: str, definition_id: str, *, kind: str, content: Json) -> Definition:
        """See `Definitions.change`."""
        before = await self.get(tenant, definition_id, kind=kind)
        with self._tables.transaction():
            changed = self._tables.definitions.put(replace(before, content=plain_json(content)))
            self._tables.hold_rows(tenant)
            return changed

    async def delete(self, tenant: str, definition_id: str, *, kind: str) -> None:
        """See `Definitions.delete`."""
        self._tables.drop(self._tables.definitions, await self.get(tenant, definition_id, kind=kind))
