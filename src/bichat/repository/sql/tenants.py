"""Tenants in SQL."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from bichat.repository import schema
from bichat.repository.database import Database
from bichat.repository.moments import utc_now
from bichat.repository.quota import check_policy
from bichat.repository.records import Policy, Usage
from bichat.repository.rows import from_row, to_row
from bichat.repository.sql.kept_files import usage_of
from bichat.repository.sql.shelves import CONVERSATIONS, EXECUTIONS, FILES, MESSAGES, RUNS, SESSIONS
from bichat.repository.sql.thinning import crowded, thin
from bichat.tenants import check_tenant

#: What is a tenant's and goes with nothing else.
_ROOTS = (
    schema.conversations,
    schema.sessions,
    schema.files,
    schema.definitions,
    schema.api_keys,
    schema.tenants,
)

#: What there may be very many of in one place, and the column that says in which.
_CROWDS = ((MESSAGES, "conversation_id"), (RUNS, "conversation_id"), (EXECUTIONS, "session_id"))
#: Conversations that one transaction deletes: each with up to a thousand messages.
_STEP = 50


class SqlTenants:
    """Implements `Tenants`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def policy(self, tenant: str) -> Policy:
        """See `Tenants.policy`."""
        query = sa.select(schema.tenants).where(schema.tenants.c.tenant == check_tenant(tenant))
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).mappings().first()
            return Policy() if row is None else from_row(Policy, row)

    async def set_policy(self, tenant: str, policy: Policy) -> None:
        """See `Tenants.set_policy`."""
        insert = sqlite.insert if self._database.is_embedded else postgresql.insert
        bounds = to_row(check_policy(policy))
        row = {"tenant": check_tenant(tenant), "created_at": utc_now()} | bounds
        statement = insert(schema.tenants).values(**row).on_conflict_do_update(index_elements=["tenant"], set_=bounds)
        async with self._database.writing() as connection:
            await connection.execute(statement)

    async def usage(self, tenant: str) -> Usage:
        """See `Tenants.usage`."""
        check_tenant(tenant)
        async with self._database.reading() as connection:
            return await usage_of(connection, tenant)

    async def delete(self, tenant: str) -> None:
        """See `Tenants.delete`."""
        for shelf, parent in _CROWDS:
            for parent_id in await crowded(self._database, shelf, tenant, parent):
                await thin(self._database, shelf, tenant, shelf.table.c[parent] == parent_id)
        for shelf in (FILES, SESSIONS, CONVERSATIONS):
            await thin(self._database, shelf, tenant, step=_STEP)
        async with self._database.writing() as connection:
            for table in _ROOTS:
                await connection.execute(sa.delete(table).where(table.c.tenant == tenant))
