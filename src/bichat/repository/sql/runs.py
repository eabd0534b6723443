"""Runs and their events in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bichat.repository import schema
from bichat.repository.changes import cancelled, check_newest, check_over, check_saving, handed_over, over, saved
from bichat.repository.database import Database
from bichat.repository.ids import check_id, missing
from bichat.repository.pages import DEFAULT_LIMIT, Page, check_limit
from bichat.repository.records import ACTIVE_STATES, Conversation, Json, Lease, Message, Run, RunEvent, RunState
from bichat.repository.rows import admit, from_row, lease_columns, to_row
from bichat.repository.sql.kept_files import hold_rows
from bichat.repository.sql.messages import add_messages, put_messages
from bichat.repository.sql.shelves import CONVERSATIONS, EXECUTIONS, MESSAGES, OUTPUTS, RUNS
from bichat.repository.text import fit_short, plain_json, stored

_EVENTS = schema.run_events
_ACTIVE = RUNS.table.c.state.in_([state.value for state in ACTIVE_STATES])
#: No run has more events; drivers refuse greater numbers.
_LAST = 1 << 62
_SAVED = ("state", "error", "usage", "metadata", "started_at", "ended_at")


class SqlRuns:
    """Implements `Runs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        tenant: str,
        run: Run,
        *,
        conversation: Conversation | None = None,
        inputs: Sequence[Message] = (),
        after: str | None = None,
    ) -> Run:
        """See `Runs.add`."""
        record = admit(tenant, run)
        messages = [admit(tenant, message) for message in inputs]
        async with self._database.writing() as connection:
            if conversation is not None:
                await CONVERSATIONS.add(connection, admit(tenant, conversation))
            await CONVERSATIONS.require(connection, tenant, record.conversation_id)
            await RUNS.add(connection, record)
            if after is not None:  # from here on nobody else can add one: this one is not over
                others = sa.and_(RUNS.table.c.conversation_id == record.conversation_id, RUNS.table.c.id != record.id)
                newest = await RUNS.page(connection, tenant, others, limit=1, cursor="")
                check_newest(newest.items, after)
            await add_messages(connection, messages)
            await hold_rows(connection, tenant)
            return record

    async def get(self, tenant: str, run_id: str) -> Run:
        """See `Runs.get`."""
        async with self._database.reading() as connection:
            return await RUNS.get(connection, tenant, run_id)

    async def active(self, tenant: str, conversation_id: str) -> Run | None:
        """See `Runs.active`."""
        columns = RUNS.table.c
        query = sa.select(RUNS.table).where(
            columns.tenant == tenant,
            columns.conversation_id == check_id(conversation_id, CONVERSATIONS.noun),
            _ACTIVE,
        )
        async with self._database.reading() as connection:
            await CONVERSATIONS.get(connection, tenant, conversation_id)
            row = (await connection.execute(query)).mappings().first()
            return None if row is None else from_row(Run, row)

    async def attempted(self, tenant: str, attempt: str) -> Run | None:
        """See `Runs.attempted`."""
        theirs = sa.and_(RUNS.table.c.attempt == attempt, RUNS.table.c.attempt != "")
        async with self._database.reading() as connection:
            page = await RUNS.page(connection, tenant, theirs, limit=1, cursor="")
            return page.items[0] if page.items else None

    async def answered(self, tenant: str, run_id: str) -> None:
        """See `Runs.answered`."""
        async with self._database.writing() as connection:
            await RUNS.change(connection, tenant, run_id, {"attempt": ""})

    async def page(
        self,
        tenant: str,
        conversation_id: str,
        *,
        limit: int = DEFAULT_LIMIT,
        cursor: str = "",
        oldest_first: bool = False,
    ) -> Page[Run]:
        """See `Runs.page`."""
        of_it = RUNS.table.c.conversation_id == check_id(conversation_id, CONVERSATIONS.noun)
        async with self._database.reading() as connection:
            await CONVERSATIONS.get(connection, tenant, conversation_id)
            return await RUNS.page(connection, tenant, of_it, limit=limit, cursor=cursor, oldest_first=oldest_first)

    async def save(self, tenant: str, run: Run, *, owner: str | None = None) -> Run:
        """See `Runs.save`."""
        record = admit(tenant, run)
        async with self._database.writing() as connection:
            before = await _locked(connection, tenant, record.id)
            check_saving(before, owner)
            after = saved(before, record)
            row = to_row(after)
            values = {name: row[name] for name in _SAVED} | lease_columns(after.lease)
            await RUNS.change(connection, tenant, record.id, values)
            return after

    async def describe(self, tenant: str, run_id: str, metadata: Json) -> Run:
        """See `Runs.describe`."""
        values = {"metadata": plain_json(metadata)}
        async with self._database.writing() as connection:
            if not await RUNS.change(connection, tenant, run_id, values):
                raise missing(RUNS.noun)
            return await RUNS.get(connection, tenant, run_id)

    async def hand_over(
        self,
        tenant: str,
        run_id: str,
        lease: Lease,
        *,
        state: RunState,
        owner: str,
        events: Sequence[tuple[str, Json]] = (),
        messages: Sequence[Message] = (),
    ) -> Run:
        """See `Runs.hand_over`."""
        rows = _event_rows(events)
        records = [admit(tenant, message) for message in messages]
        async with self._database.writing() as connection:
            after = handed_over(await _locked(connection, tenant, run_id), lease, state, owner)
            values = {"state": after.state.value, "started_at": after.started_at} | lease_columns(after.lease)
            await RUNS.change(connection, tenant, run_id, values)
            await add_messages(connection, records)
            await _recorded(connection, after, rows)
            return after

    async def delete(self, tenant: str, run_id: str) -> None:
        """See `Runs.delete`."""
        async with self._database.writing() as connection:
            run = await _locked(connection, tenant, run_id)
            check_over(run)
            await delete_run(connection, tenant, run.id)

    async def cancel(self, tenant: str, run_id: str) -> Run:
        """See `Runs.cancel`."""
        async with self._database.writing() as connection:
            after = cancelled(await _locked(connection, tenant, run_id))
            values = {"state": after.state.value, "ended_at": after.ended_at} | lease_columns(after.lease)
            await RUNS.change(connection, tenant, run_id, values)
            return after

    async def record(
        self, tenant: str, run_id: str, events: Sequence[tuple[str, Json]], *, messages: Sequence[Message] = ()
    ) -> int:
        """See `Runs.record`."""
        records = [admit(tenant, message) for message in messages]
        rows = _event_rows(events)
        async with self._database.writing() as connection:
            run = await _locked(connection, tenant, run_id)
            if (rows or records) and run.state.is_final:
                raise over()
            await put_messages(connection, records)
            return await _recorded(connection, run, rows)

    async def events(self, tenant: str, run_id: str, *, after: int = 0, limit: int = 100) -> tuple[RunEvent, ...]:
        """See `Runs.events`."""
        columns = _EVENTS.c
        async with self._database.reading() as connection:
            run = await RUNS.get(connection, tenant, run_id)
            query = sa.select(_EVENTS).where(columns.run_id == run.id, columns.sequence > min(after, _LAST))
            found = await connection.execute(query.order_by(columns.sequence).limit(check_limit(limit)))
            return tuple(from_row(RunEvent, row) for row in found.mappings())


def _event_rows(events: Sequence[tuple[str, Json]]) -> list[dict[str, Any]]:
    return [{"kind": stored(fit_short(kind, "kind")), "payload": plain_json(payload)} for kind, payload in events]


async def _recorded(connection: AsyncConnection, run: Run, rows: Sequence[dict[str, Any]]) -> int:
    """Number the events of a run that is locked, and insert them; the number of the last one."""
    highest = sa.select(sa.func.max(_EVENTS.c.sequence)).where(_EVENTS.c.run_id == run.id)
    last = (await connection.execute(highest)).scalar() or 0
    numbered = [
        row | {"run_id": run.id, "tenant": run.tenant, "sequence": number}
        for number, row in enumerate(rows, start=last + 1)
    ]
    if numbered:
        await connection.execute(sa.insert(_EVENTS), numbered)
    return last + len(numbered)


async def delete_run(connection: AsyncConnection, tenant: str, run_id: str) -> None:
    """Delete a run with what was said in it; what was run and made then stays with its session."""
    columns = MESSAGES.table.c
    its = sa.and_(columns.tenant == tenant, columns.run_id == run_id)
    said = sa.select(columns.id).where(its)
    for table in (EXECUTIONS.table, OUTPUTS.table):
        of_run = table.c.message_id.in_(said)
        await connection.execute(sa.update(table).where(of_run).values(message_id=None))
    await connection.execute(sa.delete(MESSAGES.table).where(its))
    await RUNS.delete(connection, tenant, run_id)


async def _locked(connection: AsyncConnection, tenant: str, run_id: str) -> Run:
    return from_row(Run, await RUNS.row(connection, tenant, run_id, for_update=True))
