"""Rows with bytes in SQL: outputs and files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bichat.domain import StoredFile
from bichat.errors import UserInputError
from bichat.repository import schema
from bichat.repository.database import Database
from bichat.repository.ids import check_id
from bichat.repository.pages import DEFAULT_LIMIT, Page
from bichat.repository.quota import check_quota, check_rows, reserved
from bichat.repository.records import CodeInterpreterOutput, FileRecord, FileState, Policy, Usage
from bichat.repository.rows import admit, from_row, lease_columns
from bichat.repository.sql.shelf import Shelf
from bichat.repository.sql.shelves import (
    CONVERSATIONS,
    DEFINITIONS,
    EXECUTIONS,
    FILES,
    MESSAGES,
    OUTPUTS,
    RUNS,
    SESSIONS,
)
from bichat.repository.text import stored

_Kept = TypeVar("_Kept", CodeInterpreterOutput, FileRecord)


async def usage_of(connection: AsyncConnection, tenant: str) -> Usage:
    """What a tenant keeps, reservations included."""
    size, count = 0, 0
    for shelf in (OUTPUTS, FILES):
        columns = shelf.table.c
        totals = sa.select(sa.func.coalesce(sa.func.sum(columns.size_bytes), 0), sa.func.count())
        more_bytes, more_files = (await connection.execute(totals.where(columns.tenant == tenant))).one()
        size, count = size + int(more_bytes), count + more_files
    rows = 0
    for shelf in (CONVERSATIONS, MESSAGES, RUNS, DEFINITIONS):
        columns = shelf.table.c
        total = sa.select(sa.func.coalesce(sa.func.sum(columns.row_bytes), 0)).where(columns.tenant == tenant)
        rows += int((await connection.execute(total)).scalar_one())
    return Usage(size_bytes=size, files=count, row_bytes=rows)


async def hold_rows(connection: AsyncConnection, tenant: str) -> None:
    """Nothing, when the tenant is within its quota with the rows that this transaction has added, as its last step.

    Raises:
        LimitError: it is above.
    """
    query = sa.select(schema.tenants).where(schema.tenants.c.tenant == tenant).with_for_update()
    row = (await connection.execute(query)).mappings().first()
    if row is not None and row["quota_bytes"] is not None:
        check_rows(from_row(Policy, row), await usage_of(connection, tenant))


async def hold_quota(connection: AsyncConnection, tenant: str, *, size_bytes: int, files: int) -> None:
    """Nothing, when so much more is within the tenant's quota; two that ask at a time are answered one by one.

    Raises:
        LimitError: it is above.
    """
    query = sa.select(schema.tenants).where(schema.tenants.c.tenant == tenant).with_for_update()
    row = (await connection.execute(query)).mappings().first()
    if row is None or (row["quota_bytes"], row["quota_files"]) == (None, None):
        return
    check_quota(from_row(Policy, row), await usage_of(connection, tenant), size_bytes=size_bytes, files=files)


async def publish(
    shelf: Shelf[_Kept],
    connection: AsyncConnection,
    tenant: str,
    published: Mapping[str, StoredFile],
    *where: sa.ColumnElement[bool],
    **values: Any,
) -> None:
    """Make pending rows available, by id, and set `values` in them; in the order of ids, as everybody locks them.

    Raises:
        NotFoundError: one is not pending, or `where` does not hold for it.
        UserInputError: the bytes lie under another key.
        LimitError: they are more than was reserved, and above the quota.
    """
    pending = shelf.table.c.state == FileState.PENDING.value
    files = {check_id(file_id, shelf.noun): file for file_id, file in published.items()}
    for file_id, file in sorted(files.items()):
        row = await shelf.row(connection, tenant, file_id, pending, *where, for_update=True)
        if file.key != row["storage_key"]:
            raise UserInputError("these bytes lie under another key than was reserved", stage="repository")
        if file.size_bytes > row["size_bytes"]:
            await hold_quota(connection, tenant, size_bytes=file.size_bytes - row["size_bytes"], files=0)
        available = {"state": FileState.AVAILABLE.value, "size_bytes": file.size_bytes, "sha256": file.sha256}
        await shelf.change(connection, tenant, file_id, available | lease_columns(None) | values)


class _SqlKeptFiles(Generic[_Kept]):
    """What outputs and files have in common."""

    def __init__(self, database: Database, shelf: Shelf[_Kept]) -> None:
        self._database = database
        self._shelf = shelf
        self._available = shelf.table.c.state == FileState.AVAILABLE.value

    async def reserve(self, tenant: str, file: _Kept) -> _Kept:
        """See `KeptFiles.reserve`."""
        record = reserved(admit(tenant, file))
        async with self._database.writing() as connection:
            if isinstance(record, CodeInterpreterOutput):
                await EXECUTIONS.require(connection, tenant, record.execution_id)
                await MESSAGES.require(connection, tenant, record.message_id)
            else:
                await SESSIONS.require(connection, tenant, record.session_id)
            await hold_quota(connection, tenant, size_bytes=record.size_bytes, files=1)
            return await self._shelf.add(connection, record)

    async def publish(self, tenant: str, file_id: str, stored: StoredFile) -> _Kept:
        """See `KeptFiles.publish`."""
        async with self._database.writing() as connection:
            await publish(self._shelf, connection, tenant, {file_id: stored})
            return await self._shelf.get(connection, tenant, file_id)

    async def abandon(self, tenant: str, file_id: str) -> None:
        """See `KeptFiles.abandon`."""
        shelf = self._shelf
        pending = shelf.table.c.state == FileState.PENDING.value
        async with self._database.writing() as connection:
            await connection.execute(sa.delete(shelf.table).where(shelf.its(tenant, file_id), pending))

    async def get(self, tenant: str, file_id: str) -> _Kept:
        """See `KeptFiles.get`."""
        async with self._database.reading() as connection:
            return await self._shelf.get(connection, tenant, file_id, self._available)

    async def delete(self, tenant: str, file_id: str) -> None:
        """See `KeptFiles.delete`."""
        async with self._database.writing() as connection:
            await self._shelf.row(connection, tenant, file_id, self._available, for_update=True)
            await self._shelf.delete(connection, tenant, file_id)

    async def _page(self, tenant: str, where: list[sa.ColumnElement[bool]], **which: Any) -> Page[_Kept]:
        async with self._database.reading() as connection:
            return await self._shelf.page(connection, tenant, self._available, *where, **which)


class SqlOutputs(_SqlKeptFiles[CodeInterpreterOutput]):
    """Implements `Outputs`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, OUTPUTS)

    async def page(
        self,
        tenant: str,
        *,
        message_id: str | None = None,
        execution_id: str | None = None,
        session_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str = "",
    ) -> Page[CodeInterpreterOutput]:
        """See `Outputs.page`."""
        columns, executions = OUTPUTS.table.c, EXECUTIONS.table.c
        where: list[sa.ColumnElement[bool]] = []
        if message_id is not None:
            where.append(columns.message_id == check_id(message_id, "message"))
        if execution_id is not None:
            where.append(columns.execution_id == check_id(execution_id, "execution"))
        if session_id is not None:
            of_it = sa.select(executions.id).where(executions.session_id == check_id(session_id, "session"))
            where.append(columns.execution_id.in_(of_it))
        return await self._page(tenant, where, limit=limit, cursor=cursor)


class SqlFiles(_SqlKeptFiles[FileRecord]):
    """Implements `Files`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, FILES)

    async def page(
        self,
        tenant: str,
        *,
        user: str | None = None,
        purpose: str | None = None,
        session_id: str | None = None,
        in_session: bool | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str = "",
        oldest_first: bool = False,
    ) -> Page[FileRecord]:
        """See `Files.page`."""
        given = {"user": user, "purpose": purpose}
        where = [FILES.table.c[name] == stored(value) for name, value in given.items() if value is not None]
        if session_id is not None:
            where.append(FILES.table.c.session_id == check_id(session_id, "session"))
        if in_session is not None:
            where.append(FILES.table.c.session_id.is_not(None) if in_session else FILES.table.c.session_id.is_(None))
        return await self._page(tenant, where, limit=limit, cursor=cursor, oldest_first=oldest_first)
