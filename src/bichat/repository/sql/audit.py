"""The audit log in SQL."""

from __future__ import annotations

from bichat.repository.database import Database
from bichat.repository.pages import DEFAULT_LIMIT, Page
from bichat.repository.records import AuditEntry
from bichat.repository.rows import admit
from bichat.repository.sql.shelves import AUDIT


class SqlAudit:
    """Implements `Audit`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tenant: str, entry: AuditEntry) -> None:
        """See `Audit.add`."""
        record = admit(tenant, entry)
        async with self._database.writing() as connection:
            await AUDIT.add(connection, record)

    async def page(self, tenant: str, *, limit: int = DEFAULT_LIMIT, cursor: str = "") -> Page[AuditEntry]:
        """See `Audit.page`."""
        async with self._database.reading() as connection:
            return await AUDIT.page(connection, tenant, limit=limit, cursor=cursor)
