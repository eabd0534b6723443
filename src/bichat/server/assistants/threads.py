"""Threads and their messages over the conversation core: what the routes do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

import anyio

from bichat.agent.toolbox import THREAD, TOOLS
from bichat.conversation import parts
from bichat.conversation.request import Said
from bichat.conversation.run_events import item_payload
from bichat.errors import BichatError, NotFoundError
from bichat.repository.chat_repository import Definitions
from bichat.repository.pages import Page
from bichat.repository.records import Conversation, Definition, Message, Run
from bichat.server import naming
from bichat.server.assistants.objects import (
    METADATA,
    RESOURCES,
    is_message,
    message_object,
)
from bichat.server.assistants.requests import ThreadAsk
from bichat.server.assistants.tools import Resources
from bichat.server.files import find as find_file
from bichat.server.lists import as_list, asked, part
from bichat.server.problems import FieldError, MissingError
from bichat.server.services import Caller, Services

Json = Mapping[str, Any]

ASSISTANT: Final = "assistant"
VECTOR_STORE: Final = "vector_store"
#: How long a deletion waits for a run to end.
_END_S: Final = 20.0
_PAGE: Final = 100


class Threads:
    """Of one process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._core = services.core
        self._repository = services.repository

    @property
    def definitions(self) -> Definitions:
        """Where assistants and vector stores are recorded."""
        return self._repository.definitions

    # --------------------------------------------------------------------------------------------------- definitions

    async def assistant(self, caller: Caller, wire_id: str, *, param: str = "assistant_id") -> Definition:
        """The assistant of an id.

        Raises:
            MissingError: there is none.
        """
        row_id = naming.row_id(wire_id, naming.ASSISTANT)
        try:
            return await self._repository.definitions.get(caller.tenant, row_id, kind=ASSISTANT)
        except NotFoundError as error:
            raise MissingError(f"No assistant found with id '{wire_id[:100]}'.", param=param) from error

    async def resources(self, caller: Caller, asked: Resources) -> dict[str, Any]:
        """What tools are given, as it is told: files that are there; a store that was asked for is made.

        Raises:
            MissingError: there is no such file.
        """
        store_files = asked.new_store["file_ids"] if asked.new_store is not None else ()
        for file_id in (*(asked.file_ids or ()), *store_files):
            await find_file(self._services, caller, file_id)
        if asked.new_store is None:
            return asked.to_dict()
        content = {"name": "", "expires_after": None, **asked.new_store}
        made = Definition(tenant=caller.tenant, user=caller.user, kind=VECTOR_STORE, content=content)
        await self._repository.definitions.add(caller.tenant, made)
        return replace(asked, vector_store_ids=(naming.on_wire(naming.VECTOR_STORE, made.id),)).to_dict()

    # ------------------------------------------------------------------------------------------------------- threads

    async def make_thread(self, caller: Caller, ask: ThreadAsk) -> Conversation:
        """A thread with its first messages.

        Raises:
            MissingError: a file that it names is not there.
        """
        await self.check_files(caller, ask.messages)
        resources = await self.resources(caller, ask.resources) if ask.resources is not None else {}
        metadata = {METADATA: ask.metadata or {}, RESOURCES: _with_files(resources, ask.messages)}
        made = Conversation(tenant=caller.tenant, user=caller.user, metadata=metadata)
        conversation = await self._repository.conversations.add(caller.tenant, made)
        if ask.messages:
            messages = [_message(caller, conversation, said) for said in ask.messages]
            try:
                await self._repository.messages.add_all(caller.tenant, messages)
            except BichatError:
                await self._repository.conversations.delete(caller.tenant, conversation.id)
                raise
        return conversation

    async def thread(self, caller: Caller, wire_id: str) -> Conversation:
        """The conversation that a thread is.

        Raises:
            MissingError: there is none.
        """
        row_id = naming.row_id(wire_id, naming.THREAD)
        try:
            return await self._repository.conversations.get(caller.tenant, row_id)
        except NotFoundError as error:
            raise MissingError(f"No thread found with id '{wire_id[:100]}'.", param="thread_id") from error

    async def change_thread(self, caller: Caller, conversation: Conversation, ask: ThreadAsk) -> Conversation:
        """It, with what is given in the place of what there was."""
        metadata = dict(conversation.metadata)
        if ask.metadata is not None:
            metadata[METADATA] = ask.metadata
        if ask.resources is not None:
            metadata[RESOURCES] = {
                **metadata.get(RESOURCES, {}),
                **await self.resources(caller, ask.resources),
            }
        return await self._repository.conversations.change(caller.tenant, conversation.id, metadata=metadata)

    async def delete_thread(self, caller: Caller, conversation: Conversation) -> None:
        """Delete it with all that was said in it and with its session; a run that goes on is ended first."""
        active = await self._repository.runs.active(caller.tenant, conversation.id)
        if active is not None:
            await self._core.cancel(caller.tenant, active.id)
            with anyio.move_on_after(_END_S):
                await self._core.wait(caller.tenant, active.id)
        sessions = await self._sessions(caller, conversation)
        await self._repository.conversations.delete(caller.tenant, conversation.id)
        for session_id in sessions:
            with suppress(BichatError):
                await self._services.sessions.delete_anywhere(caller.tenant, session_id)

    async def _sessions(self, caller: Caller, conversation: Conversation) -> list[str]:
        """Those that were opened for it."""
        named: dict[str, None] = {}
        cursor = ""
        while True:
            page = await self._repository.messages.page(caller.tenant, conversation.id, limit=_PAGE, cursor=cursor)
            for message in page.items:
                if message.parts and message.parts[0].kind == parts.CODE:
                    named[message.parts[0].content.get("session_id", "")] = None
            cursor = page.next_cursor
            if not cursor:
                break
        found: list[str] = []
        for session_id in named:
            with suppress(NotFoundError):
                record = await self._repository.sessions.get(caller.tenant, session_id)
                details: Json = record.options.get("details") or {}
                if details.get(THREAD) == conversation.id:
                    found.append(record.id)
        return found

    # ------------------------------------------------------------------------------------------------------ messages

    async def add_message(self, caller: Caller, conversation: Conversation, said: Said) -> dict[str, Any]:
        """A message that somebody puts into a thread.

        Raises:
            FieldError: a run goes on in it.
            MissingError: a file that it names is not there.
        """
        await self.check_files(caller, [said])
        await self._check_quiet(caller, conversation, "add messages to")
        message = await self._repository.messages.add(caller.tenant, _message(caller, conversation, said))
        await self.give(caller, conversation, [said])
        return message_object(item_payload(message), conversation.id, None)

    async def _check_quiet(self, caller: Caller, conversation: Conversation, what: str) -> None:
        active = await self._repository.runs.active(caller.tenant, conversation.id)
        if active is not None:
            thread_id = naming.on_wire(naming.THREAD, conversation.id)
            run_id = naming.on_wire(naming.RUN, active.id)
            raise FieldError(f"Can't {what} {thread_id} while a run {run_id} is active.", wire_code=None)

    async def give(self, caller: Caller, conversation: Conversation, said: Sequence[Said]) -> None:
        """Let a thread's tools have what was attached to messages."""
        before = conversation.metadata.get(RESOURCES, {})
        after = _with_files(before, said)
        if after != before:
            fresh = await self._repository.conversations.get(caller.tenant, conversation.id)
            metadata = {**fresh.metadata, RESOURCES: _with_files(fresh.metadata.get(RESOURCES, {}), said)}
            await self._repository.conversations.change(caller.tenant, conversation.id, metadata=metadata)

    async def check_files(self, caller: Caller, messages: Sequence[Said]) -> None:
        """Nothing, where every file that messages name is there.

        Raises:
            MissingError: one is not.
        """
        named = [part.content["file_id"] for said in messages for part in said.parts if part.content.get("file_id")]
        for row_id in dict.fromkeys(named):
            await find_file(self._services, caller, naming.on_wire(naming.FILE, row_id))

    async def message(self, caller: Caller, conversation: Conversation, wire_id: str) -> Message:
        """One message of a thread.

        Raises:
            MissingError: there is none.
        """
        try:
            message = await self._repository.messages.get(caller.tenant, naming.row_id(wire_id, naming.MESSAGE))
        except NotFoundError as error:
            raise _no_message(wire_id) from error
        if message.conversation_id != conversation.id or not is_message(item_payload(message)):
            raise _no_message(wire_id)
        return message

    async def messages(self, caller: Caller, conversation: Conversation, query: Mapping[str, str]) -> dict[str, Any]:
        """The list of them that a query asks for; with `run_id` those that a run made."""
        run = await self.run(caller, conversation, query["run_id"]) if "run_id" in query else None

        async def pages(*, limit: int, cursor: str, oldest_first: bool) -> Page[Message]:
            messages, whose = self._repository.messages, caller.tenant
            if run is None:
                return await messages.page(
                    whose, conversation.id, limit=limit, cursor=cursor, oldest_first=oldest_first
                )
            return await messages.of_run(
                whose, run.id, is_input=False, limit=limit, cursor=cursor, oldest_first=oldest_first
            )

        found = await part(
            pages,
            asked(query, naming.MESSAGE),
            partial(self._repository.messages.get, caller.tenant),
            is_listed=lambda message: is_message(item_payload(message)),
        )
        return as_list(await self.shown(caller, found.rows), has_more=found.has_more)

    async def shown(self, caller: Caller, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Message objects."""
        runs: dict[str, Run | None] = {}
        for message in messages:
            if message.run_id is not None and message.run_id not in runs:
                runs[message.run_id] = None
                with suppress(NotFoundError):
                    runs[message.run_id] = await self._repository.runs.get(caller.tenant, message.run_id)
        return [
            message_object(
                item_payload(message),
                message.conversation_id,
                runs.get(message.run_id or ""),
                is_input=message.is_input,
            )
            for message in messages
        ]

    async def change_message(self, caller: Caller, message: Message, metadata: Json) -> Message:
        """It, with other metadata of its caller's."""
        changed = replace(message, metadata={**message.metadata, METADATA: metadata})
        return await self._repository.messages.save(caller.tenant, changed)

    async def delete_message(self, caller: Caller, conversation: Conversation, message: Message) -> None:
        """Delete it.

        Raises:
            FieldError: a run goes on in its thread.
        """
        await self._check_quiet(caller, conversation, "delete messages of")
        await self._repository.messages.delete(caller.tenant, message.id)

    # ---------------------------------------------------------------------------------------------------------- runs

    async def run(self, caller: Caller, conversation: Conversation, wire_id: str) -> Run:
        """One run of a thread.

        Raises:
            MissingError: there is none.
        """
        try:
            run = await self._core.get(caller.tenant, naming.row_id(wire_id, naming.RUN))
        except NotFoundError as error:
            raise _no_run(wire_id) from error
        if run.conversation_id != conversation.id or not is_run(run):
            raise _no_run(wire_id)
        return run


def _message(caller: Caller, conversation: Conversation, said: Said) -> Message:
    return Message(
        tenant=caller.tenant,
        conversation_id=conversation.id,
        role=said.role,
        author=caller.user,
        parts=said.parts,
        metadata=said.metadata,
    )


def _with_files(resources: Json, messages: Sequence[Said]) -> dict[str, Any]:
    """What tools are given, and files that came with messages for the code interpreter."""
    attached = [
        naming.on_wire(naming.FILE, part.content["file_id"])
        for said in messages
        for part in said.parts
        if "code_interpreter" in part.content.get(TOOLS, ())
    ]
    if not attached:
        return dict(resources)
    before = resources.get("code_interpreter", {}).get("file_ids", ())
    return {**resources, "code_interpreter": {"file_ids": list(dict.fromkeys((*before, *attached)))}}


def is_run(run: Run) -> bool:
    """Whether it is a run of a thread: the same conversation may have responses."""
    return run.request.get("view", {}).get("kind") == "run"


def _no_message(wire_id: str) -> MissingError:
    return MissingError(f"No message found with id '{wire_id[:100]}'.", param="message_id")


def _no_run(wire_id: str) -> MissingError:
    return MissingError(f"No run found with id '{wire_id[:100]}'.", param="run_id")
