"""Renewals, sweeps and pruning in SQL.

Each table is a transaction of its own, with rows locked in the order of their ids: who holds rows of one table and waits
for those of another could wait for somebody who does it the other way round.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bichat.repository import schema
from bichat.repository.changes import OWNER_LOST
from bichat.repository.chat_repository import BATCH
from bichat.repository.database import Database
from bichat.repository.moments import check_moment
from bichat.repository.records import (
    CALLER,
    EVENTS_KEPT,
    IS_KEPT,
    LOST,
    UNKEPT_FOR,
    FileState,
    Pruned,
    Run,
    RunState,
    Swept,
)
from bichat.repository.rows import from_row, lease_columns
from bichat.repository.sql.runs import delete_run
from bichat.repository.text import stored

#: Runs that one transaction forgets: each may have tens of thousands of events.
_FORGOTTEN: Final = 20
_LEASED = (schema.outputs, schema.files, schema.executions, schema.sessions, schema.runs, schema.leftovers)


class SqlUpkeep:
    """Implements `Upkeep`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def renew(self, owner: str, until: datetime) -> int:
        """See `Upkeep.renew`."""
        moment, renewed = check_moment(until), 0
        for table in _LEASED:
            async with self._database.writing() as connection:
                renewed += await _renewed(connection, table, stored(owner), moment)
        return renewed

    async def sweep(self, now: datetime, *, limit: int = BATCH) -> Swept:
        """See `Upkeep.sweep`."""
        moment = check_moment(now)
        ended = {"ended_at": moment} | lease_columns(None)
        return Swept(
            outputs=await self._take(schema.outputs, moment, limit, None),
            files=await self._take(schema.files, moment, limit, None),
            executions=await self._take(schema.executions, moment, limit, {"status": LOST} | ended),
            sessions=await self._take(schema.sessions, moment, limit, {"end_reason": LOST} | ended),
            runs=await self._take(schema.runs, moment, limit, _runs_end() | ended),
            leftovers=await self._take(
                schema.leftovers, moment, limit, {"next_attempt_at": moment} | lease_columns(None)
            ),
        )

    async def runs(self, owner: str, states: Collection[RunState]) -> tuple[Run, ...]:
        """See `Upkeep.runs`."""
        columns = schema.runs.c
        held = sa.and_(columns.owner == stored(owner), columns.lease_until.is_not(None))
        query = sa.select(schema.runs).where(held, columns.state.in_([state.value for state in states]))
        async with self._database.reading() as connection:
            found = await connection.execute(query.order_by(columns.id))
            return tuple(from_row(Run, row) for row in found.mappings())

    async def prune(self, now: datetime, *, dry_run: bool = False, limit: int = BATCH) -> Pruned:
        """See `Upkeep.prune`."""
        moment = check_moment(now)
        outputs = await self._prune(schema.outputs, moment, dry_run=dry_run, limit=limit)
        files = await self._prune(schema.files, moment, dry_run=dry_run, limit=limit)
        runs = await self._forget(moment, dry_run=dry_run, limit=min(limit, _FORGOTTEN))
        return Pruned(outputs=outputs[0], files=files[0], size_bytes=outputs[1] + files[1], runs=runs)

    async def _take(self, table: sa.Table, now: datetime, limit: int, values: dict[str, Any] | None) -> int:
        """Delete what has no owner any more, or set `values` in it; how many."""
        async with self._database.writing() as connection:
            ids = await _locked(connection, table, table.c.lease_until < now, limit=limit, skip_locked=True)
            these = table.c.id.in_(ids)
            statement = (
                sa.delete(table).where(these) if values is None else sa.update(table).where(these).values(values)
            )
            if ids:
                await connection.execute(statement)
            return len(ids)

    async def _forget(self, now: datetime, *, dry_run: bool, limit: int) -> int:
        """Delete the events of old runs, and runs that are not to be kept; how many."""
        runs, events = schema.runs.c, schema.run_events.c
        is_unkept = runs.request[IS_KEPT].as_boolean().is_(False)
        due = sa.and_(
            # Those that have events, not all that there ever were.
            runs.id.in_(sa.select(events.run_id).distinct()),
            sa.or_(runs.ended_at <= now - EVENTS_KEPT, sa.and_(is_unkept, runs.ended_at <= now - UNKEPT_FOR)),
        )
        if dry_run:
            async with self._database.reading() as connection:
                return (await connection.execute(sa.select(sa.func.count()).where(due))).scalar_one()
        query = sa.select(runs.id, runs.tenant, runs.conversation_id, is_unkept.label("is_unkept")).where(due)
        query = query.order_by(runs.id).limit(limit).with_for_update(skip_locked=True)
        async with self._database.writing() as connection:
            found = (await connection.execute(query)).all()
            ids = [run.id for run in found]
            await connection.execute(sa.delete(schema.run_events).where(events.run_id.in_(ids)))
            for run in found:
                if run.is_unkept:
                    await delete_run(connection, run.tenant, run.id)
                    await _delete_if_empty(connection, run.conversation_id)
            return len(found)

    async def _prune(self, table: sa.Table, now: datetime, *, dry_run: bool, limit: int) -> tuple[int, int]:
        """How many rows of `table` go, and how many bytes."""
        number, size_bytes = 0, 0
        async with self._database.reading() as connection:
            conditions = [*_expired(table, now), *await _too_old(connection, table, now)]
        if dry_run:
            totals = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(table.c.size_bytes), 0))
            async with self._database.reading() as connection:
                total = (
                    await connection.execute(totals.where(_available(table), sa.or_(sa.false(), *conditions)))
                ).one()
                return total[0], int(total[1])
        for condition in conditions:
            async with self._database.writing() as connection:
                gone = await _deleted(connection, table, condition, limit - number)
            number, size_bytes = number + len(gone), size_bytes + sum(gone)
        return number, size_bytes


async def _delete_if_empty(connection: AsyncConnection, conversation_id: str) -> None:
    """Delete a conversation in which nothing was said."""
    conversations = schema.conversations
    others = (sa.exists().where(table.c.conversation_id == conversation_id) for table in (schema.messages, schema.runs))
    where = sa.and_(conversations.c.id == conversation_id, *(~other for other in others))
    await connection.execute(sa.delete(conversations).where(where))


def _runs_end() -> dict[str, Any]:
    """What becomes of a run whose lease has run out: it depends on who should have worked on it."""
    columns = schema.runs.c
    is_callers, is_unwanted = columns.owner == CALLER, columns.state == RunState.CANCELLING.value
    lost = sa.literal(dict(OWNER_LOST), columns.error.type)
    ends = ((is_callers, RunState.EXPIRED.value), (is_unwanted, RunState.CANCELLED.value))
    return {
        "state": sa.case(*ends, else_=RunState.FAILED.value),
        "error": sa.case((sa.or_(is_callers, is_unwanted), sa.null()), else_=lost),
    }


async def _renewed(connection: AsyncConnection, table: sa.Table, owner: str, until: datetime) -> int:
    held = sa.and_(table.c.owner == owner, table.c.lease_until.is_not(None))
    ids = await _locked(connection, table, held)
    if ids:
        await connection.execute(sa.update(table).where(held).values(lease_until=until))
    return len(ids)


async def _locked(
    connection: AsyncConnection,
    table: sa.Table,
    where: sa.ColumnElement[bool],
    *,
    limit: int | None = None,
    skip_locked: bool = False,
) -> list[str]:
    """The ids for which `where` holds; nobody else changes them before the transaction ends."""
    query = sa.select(table.c.id).where(where).order_by(table.c.id).limit(limit)
    return list((await connection.execute(query.with_for_update(skip_locked=skip_locked))).scalars())


def _available(table: sa.Table) -> sa.ColumnElement[bool]:
    return table.c.state == FileState.AVAILABLE.value


def _expired(table: sa.Table, now: datetime) -> list[sa.ColumnElement[bool]]:
    """The condition for rows past an expiry of their own, where they can have one."""
    return [table.c.expires_at <= now] if "expires_at" in table.c else []


async def _too_old(connection: AsyncConnection, table: sa.Table, now: datetime) -> list[sa.ColumnElement[bool]]:
    """For each tenant that has a retention, the condition for its rows that are past it."""
    tenants = schema.tenants.c
    query = sa.select(tenants.tenant, tenants.retention_days).where(tenants.retention_days.is_not(None))
    return [
        sa.and_(table.c.tenant == tenant, table.c.created_at <= now - timedelta(days=days))
        for tenant, days in await connection.execute(query)
    ]


async def _deleted(
    connection: AsyncConnection, table: sa.Table, where: sa.ColumnElement[bool], limit: int
) -> list[int]:
    """Delete up to `limit` rows, and say why in the outbox; the sizes of what is gone."""
    expired = sa.and_(_available(table), where)
    ids = await _locked(connection, table, expired, limit=max(limit, 0), skip_locked=True)
    if not ids:
        return []
    gone = sa.delete(table).where(table.c.id.in_(ids)).returning(table.c.storage_key, table.c.size_bytes)
    rows = (await connection.execute(gone)).all()
    of_them = schema.deletions.c.storage_key.in_([row.storage_key for row in rows])
    await connection.execute(sa.update(schema.deletions).where(of_them).values(reason="expired"))
    return [row.size_bytes for row in rows]
