"""Conversations, messages and runs in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from bichat.domain import StoredFile
from bichat.errors import ConflictError, NotFoundError
from bichat.repository.changes import cancelled, check_newest, check_over, check_saving, handed_over, over, saved
from bichat.repository.moments import utc_now
from bichat.repository.pages import DEFAULT_LIMIT, Page, check_limit
from bichat.repository.records import Conversation, Json, Lease, Message, Part, Run, RunEvent, RunState
from bichat.repository.rows import admit, admitted_parts
from bichat.repository.text import fit_short, plain_json
from bichat.testing.memory.kept_files import publish
from bichat.testing.memory.tables import Tables


class MemoryConversations:
    """Implements `Conversations`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def add(self, tenant: str, conversation: Conversation) -> Conversation:
        """See `Conversations.add`."""
        with self._tables.transaction():
            added = self._tables.conversations.add(admit(tenant, conversation))
            self._tables.hold_rows(tenant)
            return added

    async def get(self, tenant: str, conversation_id: str) -> Conversation:
        """See `Conversations.get`."""
        return self._tables.conversations.get(tenant, conversation_id)

    async def page(
        self,
        tenant: str,
        *,
        user: str | None = None,
        archived: bool | None = False,
        limit: int = DEFAULT_LIMIT,
        cursor: str = "",
    ) -> Page[Conversation]:
        """See `Conversations.page`."""

        def is_wanted(conversation: Conversation) -> bool:
            return user in (None, conversation.user) and archived in (None, conversation.archived)

        return self._tables.conversations.page(tenant, is_wanted, limit, cursor)

    async def change(
        self,
        tenant: str,
        conversation_id: str,
        *,
        title: str | None = None,
        pinned: bool | None = None,
        archived: bool | None = None,
        metadata: Json | None = None,
    ) -> Conversation:
        """See `Conversations.change`."""
        values: dict[str, Any] = {
            "title": title,
            "pinned": pinned,
            "archived": archived,
            "metadata": None if metadata is None else plain_json(metadata),
        }
        given = {name: value for name, value in values.items() if value is not None}
        before = self._tables.conversations.get(tenant, conversation_id)
        return self._tables.conversations.put(replace(before, **given, updated_at=utc_now()))

    async def delete(self, tenant: str, conversation_id: str) -> None:
        """See `Conversations.delete`."""
        conversations = self._tables.conversations
        self._tables.drop(conversations, conversations.get(tenant, conversation_id))


class MemoryMessages:
    """Implements `Messages`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def add(
        self,
        tenant: str,
        message: Message,
        *,
        published: Mapping[str, StoredFile] | None = None,
        executions: Sequence[str] = (),
    ) -> Message:
        """See `Messages.add`."""
        tables = self._tables
        with tables.transaction():
            record = self.put(tenant, message)
            publish(tables, tables.outputs, tenant, published or {}, message_id=record.id)
            for execution_id in executions:
                execution = tables.executions.get(tenant, execution_id)
                tables.executions.put(replace(execution, message_id=record.id))
                for made in tables.outputs.those(lambda made, its=execution.id: made.execution_id == its):
                    tables.outputs.put(replace(made, message_id=record.id))
            if not published and not executions:
                tables.hold_rows(tenant)
        return record

    def put(self, tenant: str, message: Message) -> Message:
        """Add it, whatever the tenant's quota is."""
        record, tables = admit(tenant, message), self._tables
        conversation = tables.conversations.get(tenant, record.conversation_id)
        tables.conversations.put(replace(conversation, updated_at=record.created_at))
        tables.messages.add(record)
        return record

    async def add_all(self, tenant: str, messages: Sequence[Message]) -> None:
        """See `Messages.add_all`."""
        with self._tables.transaction():
            for message in messages:
                self.put(tenant, message)
            self._tables.hold_rows(tenant)

    async def get(self, tenant: str, message_id: str) -> Message:
        """See `Messages.get`."""
        return self._tables.messages.get(tenant, message_id)

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
        whose = self._tables.conversations.get(tenant, conversation_id).id
        return self._tables.messages.page(
            tenant, lambda message: message.conversation_id == whose, limit, cursor, oldest_first=oldest_first
        )

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
        whose = self._tables.runs.get(tenant, run_id).id
        return self._tables.messages.page(
            tenant,
            lambda message: (message.run_id, message.is_input) == (whose, is_input),
            limit,
            cursor,
            oldest_first=oldest_first,
        )

    async def save(self, tenant: str, message: Message) -> Message:
        """See `Messages.save`."""
        record = admit(tenant, message)
        before = self._tables.messages.get(tenant, record.id)
        return self._tables.messages.put(
            replace(before, parts=record.parts, status=record.status, metadata=record.metadata)
        )

    async def append(
        self, tenant: str, message_id: str, parts: Sequence[Part], *, status: str | None = None
    ) -> Message:
        """See `Messages.append`."""
        before = self._tables.messages.get(tenant, message_id)
        parts = (*before.parts, *admitted_parts(tuple(parts)))
        status = before.status if status is None else fit_short(status, "status")
        return self._tables.messages.put(replace(before, parts=parts, status=status))

    async def delete(self, tenant: str, message_id: str) -> None:
        """See `Messages.delete`."""
        messages = self._tables.messages
        self._tables.drop(messages, messages.get(tenant, message_id))

    async def truncate_from(self, tenant: str, message_id: str) -> int:
        """See `Messages.truncate_from`."""
        messages = self._tables.messages
        first = messages.get(tenant, message_id)
        gone = messages.those(
            lambda message: (
                message.conversation_id == first.conversation_id
                and messages.position(message) >= messages.position(first)
            )
        )
        for message in gone:
            self._tables.drop(messages, message)
        return len(gone)


class MemoryRuns:
    """Implements `Runs`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

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
        record, tables = admit(tenant, run), self._tables
        with tables.transaction():
            if conversation is not None:
                tables.conversations.add(admit(tenant, conversation))
            if not record.state.is_final and await self.active(tenant, record.conversation_id):
                raise ConflictError("the conversation has a run already that is not over", stage="repository")
            tables.conversations.require(tenant, record.conversation_id)
            if after is not None:
                check_newest((await self.page(tenant, record.conversation_id, limit=1)).items, after)
            tables.runs.add(record)
            for message in inputs:
                MemoryMessages(tables).put(tenant, message)
            tables.hold_rows(tenant)
        return record

    async def get(self, tenant: str, run_id: str) -> Run:
        """See `Runs.get`."""
        return self._tables.runs.get(tenant, run_id)

    async def attempted(self, tenant: str, attempt: str) -> Run | None:
        """See `Runs.attempted`."""
        found = self._tables.runs.page(tenant, lambda run: run.attempt == attempt != "", 1, "").items
        return found[0] if found else None

    async def answered(self, tenant: str, run_id: str) -> None:
        """See `Runs.answered`."""
        with suppress(NotFoundError):
            self._tables.runs.put(replace(self._tables.runs.get(tenant, run_id), attempt=""))

    async def active(self, tenant: str, conversation_id: str) -> Run | None:
        """See `Runs.active`."""
        whose = self._tables.conversations.get(tenant, conversation_id).id
        found = self._tables.runs.those(lambda run: run.conversation_id == whose and not run.state.is_final)
        return found[0] if found else None

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
        whose = self._tables.conversations.get(tenant, conversation_id).id
        return self._tables.runs.page(
            tenant, lambda run: run.conversation_id == whose, limit, cursor, oldest_first=oldest_first
        )

    async def save(self, tenant: str, run: Run, *, owner: str | None = None) -> Run:
        """See `Runs.save`."""
        record = admit(tenant, run)
        before = self._tables.runs.get(tenant, record.id)
        check_saving(before, owner)
        return self._tables.runs.put(saved(before, record))

    async def describe(self, tenant: str, run_id: str, metadata: Json) -> Run:
        """See `Runs.describe`."""
        before = self._tables.runs.get(tenant, run_id)
        return self._tables.runs.put(replace(before, metadata=plain_json(metadata)))

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
        with self._tables.transaction():
            after = self._tables.runs.put(handed_over(self._tables.runs.get(tenant, run_id), lease, state, owner))
            await self.record(tenant, run_id, events)
            for message in messages:
                MemoryMessages(self._tables).put(tenant, message)
            return after

    async def delete(self, tenant: str, run_id: str) -> None:
        """See `Runs.delete`."""
        run = self._tables.runs.get(tenant, run_id)
        check_over(run)
        self._tables.forget(run)

    async def cancel(self, tenant: str, run_id: str) -> Run:
        """See `Runs.cancel`."""
        return self._tables.runs.put(cancelled(self._tables.runs.get(tenant, run_id)))

    async def record(
        self, tenant: str, run_id: str, events: Sequence[tuple[str, Json]], *, messages: Sequence[Message] = ()
    ) -> int:
        """See `Runs.record`."""
        rows = [(fit_short(kind, "kind"), plain_json(payload)) for kind, payload in events]
        run = self._tables.runs.get(tenant, run_id)
        if (rows or messages) and run.state.is_final:
            raise over()
        said = MemoryMessages(self._tables)
        with self._tables.transaction():
            for message in messages:
                if message.id in self._tables.messages.rows:
                    await said.save(tenant, message)
                else:
                    said.put(tenant, message)
        before = self._tables.events.get(run.id, ())
        more = tuple(
            RunEvent(sequence=number, kind=kind, payload=payload)
            for number, (kind, payload) in enumerate(rows, start=len(before) + 1)
        )
        self._tables.events[run.id] = before + more
        return len(before) + len(more)

    async def events(self, tenant: str, run_id: str, *, after: int = 0, limit: int = 100) -> tuple[RunEvent, ...]:
        """See `Runs.events`."""
        run = self._tables.runs.get(tenant, run_id)
        behind = [event for event in self._tables.events.get(run.id, ()) if event.sequence > after]
        return tuple(behind[: check_limit(limit)])
