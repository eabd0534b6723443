"""One table and the records in it: what all tables have in common, within a transaction that somebody else holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bichat.repository.ids import check_id, missing
from bichat.repository.pages import Page, Place, check_limit, place_of
from bichat.repository.rows import Owned, counted_row, from_row
from bichat.tenants import check_tenant

_R = TypeVar("_R", bound=Owned)


@dataclass(frozen=True, slots=True)
class Shelf(Generic[_R]):
    """The records of one kind."""

    kind: type[_R]
    table: sa.Table
    noun: str
    """What errors call one."""
    moment: str = "created_at"
    """The column that says which is newer."""

    def its(self, tenant: str, record_id: str) -> sa.ColumnElement[bool]:
        """The condition for one row of `tenant`'s.

        Raises:
            UserInputError: no such tenant can be.
            NotFoundError: there can be no such id.
        """
        columns = self.table.c
        return sa.and_(columns.id == check_id(record_id, self.noun), columns.tenant == check_tenant(tenant))

    async def add(self, connection: AsyncConnection, record: _R) -> _R:
        """Insert `record`, which `bichat.repository.rows.admit` has let in."""
        await connection.execute(sa.insert(self.table).values(**counted_row(record)))
        return record

    async def get(self, connection: AsyncConnection, tenant: str, record_id: str, *where: sa.ColumnElement[bool]) -> _R:
        """The one with this id, if `where` holds.

        Raises:
            NotFoundError: there is none.
        """
        row = await self.row(connection, tenant, record_id, *where)
        return from_row(self.kind, row)

    async def row(
        self,
        connection: AsyncConnection,
        tenant: str,
        record_id: str,
        *where: sa.ColumnElement[bool],
        for_update: bool = False,
    ) -> sa.RowMapping:
        """Its columns; with `for_update` nobody else changes it before the transaction ends.

        Raises:
            NotFoundError: there is none.
        """
        query = sa.select(self.table).where(self.its(tenant, record_id), *where)
        found = await connection.execute(query.with_for_update() if for_update else query)
        row = found.mappings().first()
        if row is None:
            raise missing(self.noun)
        return row

    async def require(self, connection: AsyncConnection, tenant: str, record_id: str | None) -> None:
        """Nothing, when there is one with this id, or None was given; it stays until the transaction ends.

        Raises:
            NotFoundError: there is none.
        """
        if record_id is None:
            return
        query = sa.select(self.table.c.id).where(self.its(tenant, record_id))
        found = await connection.execute(query.with_for_update(read=True, key_share=True))
        if found.first() is None:
            raise missing(self.noun)

    async def change(
        self,
        connection: AsyncConnection,
        tenant: str,
        record_id: str,
        values: dict[str, Any],
        *where: sa.ColumnElement[bool],
    ) -> bool:
        """Set columns of one row, if `where` holds; whether it did."""
        statement = sa.update(self.table).where(self.its(tenant, record_id), *where).values(**values)
        return (await connection.execute(statement)).rowcount > 0

    async def delete(self, connection: AsyncConnection, tenant: str, record_id: str) -> None:
        """Delete one; what belongs to it goes with it.

        Raises:
            NotFoundError: there is none.
        """
        gone = await connection.execute(sa.delete(self.table).where(self.its(tenant, record_id)))
        if gone.rowcount == 0:
            raise missing(self.noun)

    async def page(
        self,
        connection: AsyncConnection,
        tenant: str,
        *where: sa.ColumnElement[bool],
        limit: int,
        cursor: str,
        oldest_first: bool = False,
    ) -> Page[_R]:
        """Some of those for which `where` holds, newest first unless the oldest are asked for."""
        query = self.page_query(tenant, *where, limit=limit, cursor=cursor, oldest_first=oldest_first)
        rows = (await connection.execute(query)).mappings().all()
        return self.paged([from_row(self.kind, row) for row in rows], limit)

    def paged(self, found: Sequence[_R], limit: int) -> Page[_R]:
        """The page of what `page_query` found: one more than the page has room for says that there is another."""
        items = tuple(found[:limit])
        if len(found) <= limit:
            return Page(items=items)
        return Page(items=items, next_cursor=Place(getattr(items[-1], self.moment), items[-1].id).cursor())

    def page_query(
        self, tenant: str, *where: sa.ColumnElement[bool], limit: int, cursor: str, oldest_first: bool = False
    ) -> sa.Select[Any]:
        """For a page and one row more: by keyset, so that the way to a page is no longer than the page.

        Raises:
            UserInputError: no such page can be.
        """
        columns = self.table.c
        moment, place = columns[self.moment], place_of(cursor)
        query = sa.select(self.table).where(columns.tenant == check_tenant(tenant), *where)
        if place is not None:
            here, there = sa.tuple_(moment, columns.id), self.bound(place)
            query = query.where(here > there if oldest_first else here < there)
        order = (moment, columns.id) if oldest_first else (moment.desc(), columns.id.desc())
        return query.order_by(*order).limit(check_limit(limit) + 1)

    def bound(self, place: Place) -> Any:
        """A place to compare (moment, id) with."""
        columns = self.table.c
        return sa.tuple_(
            sa.bindparam(None, place.moment, type_=columns[self.moment].type),
            sa.bindparam(None, place.id, type_=columns.id.type),
        )
