"""Messages and their parts in SQL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bichat.domain import StoredFile
from bichat.repository import schema
from bichat.repository.database import Database
from bichat.repository.ids import check_id, missing
from bichat.repository.pages import DEFAULT_LIMIT, Page, Place
from bichat.repository.records import Message, Part
from bichat.repository.rows import admit, admitted_parts, counted_row, from_row, to_row
from bichat.repository.sql.kept_files import hold_rows, publish
from bichat.repository.sql.shelves import CONVERSATIONS, EXECUTIONS, MESSAGES, OUTPUTS, RUNS
from bichat.repository.text import fit_short, stored

_PARTS = schema.message_parts


class SqlMessages:
    """Implements `Messages`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        tenant: str,
        message: Message,
        *,
        published: Mapping[str, StoredFile] | None = None,
        executions: Sequence[str] = (),
    ) -> Message:
        """See `Messages.add`."""
        record = admit(tenant, message)
        async with self._database.writing() as connection:
            touched = {"updated_at": record.created_at}
            if not await CONVERSATIONS.change(connection, tenant, record.conversation_id, touched):
                raise missing(CONVERSATIONS.noun)
            await MESSAGES.add(connection, record)
            await _add_parts(connection, record, record.parts, 0)
            await publish(OUTPUTS, connection, tenant, published or {}, message_id=record.id)
            await _attach(connection, tenant, record.id, executions)
            if not published and not executions:  # what code has made is kept
                await hold_rows(connection, tenant)
        return record

    async def add_all(self, tenant: str, messages: Sequence[Message]) -> None:
        """See `Messages.add_all`."""
        async with self._database.writing() as connection:
            await add_messages(connection, [admit(tenant, message) for message in messages])
            await hold_rows(connection, tenant)

    async def get(self, tenant: str, message_id: str) -> Message:
        """See `Messages.get`."""
        async with self._database.reading() as connection:
            return await _whole(connection, tenant, message_id)

    async def page(
        self,
        tenant: str,
        conversation_id: str,
        *,
        limit: int = DEFAULT_LIMIT,
        cursor: str = "",
        oldest_first: bool = False,
    ) -> Page[Message]:
        """See `Messages.page`."""
        of_it = MESSAGES.table.c.conversation_id == check_id(conversation_id, CONVERSATIONS.noun)
        query = MESSAGES.page_query(tenant, of_it, limit=limit, cursor=cursor, oldest_first=oldest_first)
        async with self._database.reading() as connection:
            await CONVERSATIONS.get(connection, tenant, conversation_id)
            rows = (await connection.execute(query)).mappings().all()
            return MESSAGES.paged(await _with_parts(connection, rows), limit)

    async def of_run(
        self,
        tenant: str,
        run_id: str,
        *,
        is_input: bool,
        limit: int = DEFAULT_LIMIT,
        cursor: str = "",
        oldest_first: bool = False,
    ) -> Page[Message]:
        """See `Messages.of_run`."""
        columns = MESSAGES.table.c
        async with self._database.reading() as connection:
            run = await RUNS.get(connection, tenant, run_id)
            of_it = (columns.run_id == run.id, columns.is_input == sa.literal(is_input))
            query = MESSAGES.page_query(tenant, *of_it, limit=limit, cursor=cursor, oldest_first=oldest_first)
            rows = (await connection.execute(query)).mappings().all()
            return MESSAGES.paged(await _with_parts(connection, rows), limit)

    async def save(self, tenant: str, message: Message) -> Message:
        """See `Messages.save`."""
        record = admit(tenant, message)
        async with self._database.writing() as connection:
            if not await _replaced(connection, record):
                raise missing(MESSAGES.noun)
            return await _whole(connection, tenant, record.id)

    async def append(
        self, tenant: str, message_id: str, parts: Sequence[Part], *, status: str | None = None
    ) -> Message:
        """See `Messages.append`."""
        more = admitted_parts(tuple(parts))
        async with self._database.writing() as connection:
            row = await MESSAGES.row(connection, tenant, message_id, for_update=True)
            last = sa.select(sa.func.max(_PARTS.c.position)).where(_PARTS.c.message_id == row["id"])
            position = (await connection.execute(last)).scalar()
            await _add_parts(connection, from_row(Message, row), more, 0 if position is None else position + 1)
            grown = sum(len(json.dumps(dict(part.content))) for part in more)
            counted = {"row_bytes": MESSAGES.table.c.row_bytes + grown}
            await MESSAGES.change(connection, tenant, message_id, counted)
            if status is not None:
                await MESSAGES.change(connection, tenant, message_id, {"status": stored(fit_short(status, "status"))})
            return await _whole(connection, tenant, message_id)

    async def delete(self, tenant: str, message_id: str) -> None:
        """See `Messages.delete`."""
        async with self._database.writing() as connection:
            await MESSAGES.delete(connection, tenant, message_id)

    async def truncate_from(self, tenant: str, message_id: str) -> int:
        """See `Messages.truncate_from`."""
        columns = MESSAGES.table.c
        async with self._database.writing() as connection:
            row = await MESSAGES.row(connection, tenant, message_id)
            place = MESSAGES.bound(Place(row["created_at"], row["id"]))
            from_there = sa.delete(MESSAGES.table).where(
                columns.tenant == tenant,
                columns.conversation_id == row["conversation_id"],
                sa.tuple_(columns.created_at, columns.id) >= place,
            )
            return (await connection.execute(from_there)).rowcount


async def add_messages(connection: AsyncConnection, records: Sequence[Message]) -> None:
    """Insert messages, which `admit` has let in, with their parts."""
    newest = {record.conversation_id: record for record in records}
    for conversation_id, record in newest.items():
        touched = {"updated_at": record.created_at}
        if not await CONVERSATIONS.change(connection, record.tenant, conversation_id, touched):
            raise missing(CONVERSATIONS.noun)
    if records:
        await connection.execute(sa.insert(MESSAGES.table), [counted_row(record) for record in records])
    rows = [row for record in records for row in _part_rows(record, record.parts, 0)]
    if rows:
        await connection.execute(sa.insert(_PARTS), rows)


async def put_messages(connection: AsyncConnection, records: Sequence[Message]) -> None:
    """Insert those of `records` that are not there, and let the others stand in the place of what is."""
    new = [record for record in records if not await _replaced(connection, record)]
    await add_messages(connection, new)


async def _replaced(connection: AsyncConnection, record: Message) -> bool:
    """Whether it was there."""
    row = counted_row(record)
    values = {name: row[name] for name in ("status", "metadata", "row_bytes")}
    if not await MESSAGES.change(connection, record.tenant, record.id, values):
        return False
    await connection.execute(sa.delete(_PARTS).where(_PARTS.c.message_id == record.id))
    await _add_parts(connection, record, record.parts, 0)
    return True


async def _add_parts(connection: AsyncConnection, message: Message, parts: Sequence[Part], position: int) -> None:
    rows = _part_rows(message, parts, position)
    if rows:
        await connection.execute(sa.insert(_PARTS), rows)


def _part_rows(message: Message, parts: Sequence[Part], position: int) -> list[dict[str, Any]]:
    return [
        {**to_row(part), "tenant": message.tenant, "message_id": message.id, "position": place}
        for place, part in enumerate(parts, start=position)
    ]


async def _attach(connection: AsyncConnection, tenant: str, message_id: str, executions: Sequence[str]) -> None:
    """Let executions and all their outputs belong to a message."""
    for execution_id in sorted({check_id(execution_id, EXECUTIONS.noun) for execution_id in executions}):
        if not await EXECUTIONS.change(connection, tenant, execution_id, {"message_id": message_id}):
            raise missing(EXECUTIONS.noun)
        theirs = OUTPUTS.table.c.execution_id == execution_id
        await connection.execute(sa.update(OUTPUTS.table).where(theirs).values(message_id=message_id))


async def _whole(connection: AsyncConnection, tenant: str, message_id: str) -> Message:
    row = await MESSAGES.row(connection, tenant, message_id)
    return (await _with_parts(connection, [row]))[0]


async def _with_parts(connection: AsyncConnection, rows: Sequence[Mapping[Any, Any]]) -> list[Message]:
    parts: dict[str, list[Part]] = {row["id"]: [] for row in rows}
    query = sa.select(_PARTS).where(_PARTS.c.message_id.in_(list(parts))).order_by(_PARTS.c.position)
    for part in (await connection.execute(query)).mappings():
        parts[part["message_id"]].append(from_row(Part, part))
    return [from_row(Message, row, parts=tuple(parts[row["id"]])) for row in rows]
