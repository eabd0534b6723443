"""Deleting what is large in steps: a transaction that deletes for ten seconds is one that everybody waits for."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bichat.repository.database import Database
from bichat.repository.sql.shelf import Shelf
from bichat.tenants import check_tenant

#: Rows that one transaction deletes, with what belongs to them.
STEP: Final = 1_000


async def thin(
    database: Database, shelf: Shelf[Any], tenant: str, *where: sa.ColumnElement[bool], step: int = STEP
) -> None:
    """Delete rows of a tenant's for which `where` holds, oldest first, `step` at a time, until fewer are left.

    The rest is for the caller to delete together with what it belongs to: so what is small goes whole or not at all.
    Rows that somebody else is changing are passed over.

    Raises:
        UserInputError: no such tenant can be.
        DatabaseError: the database does not do its part; what was deleted stays so, and deleting again goes on with it.
    """
    columns = shelf.table.c
    oldest = (
        sa.select(columns.id)
        .where(columns.tenant == check_tenant(tenant), *where)
        .order_by(columns[shelf.moment], columns.id)
        .limit(step)
    )

    async def found(connection: AsyncConnection, query: sa.Select[Any]) -> list[str]:
        return list((await connection.execute(query)).scalars())

    async with database.reading() as connection:
        is_large = len(await found(connection, oldest)) == step
    while is_large:
        async with database.writing() as connection:
            ids = await found(connection, oldest.with_for_update(skip_locked=True))
            is_large = len(ids) == step
            if is_large:
                await connection.execute(sa.delete(shelf.table).where(columns.id.in_(ids)))


async def crowded(database: Database, shelf: Shelf[Any], tenant: str, parent: str) -> list[str]:
    """The values of the column `parent` that `STEP` rows of a tenant's or more have."""
    columns = shelf.table.c
    query = sa.select(columns[parent]).where(columns.tenant == check_tenant(tenant)).group_by(columns[parent])
    async with database.reading() as connection:
        return list((await connection.execute(query.having(sa.func.count() >= STEP))).scalars())
