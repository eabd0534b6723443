"""Responses and conversations over the conversation core: what the routes do."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

import anyio

from bichat.agent.toolbox import SESSION_NOTE
from bichat.archive import Archive
from bichat.conversation import run_events
from bichat.conversation.core import Core
from bichat.conversation.request import RunRequest, Said
from bichat.domain import Limits
from bichat.errors import BichatError, ConflictError, NotFoundError
from bichat.repository.chat_repository import ChatRepository
from bichat.repository.records import Conversation, Message, Role, Run
from bichat.sandbox.background import Background
from bichat.server import naming
from bichat.server.containers import check_memory
from bichat.server.problems import FailedError, FieldError, MissingError
from bichat.server.responses.enclosures import Enclosures, check_number, own_files, repeated
from bichat.server.responses.events import ResponseStream, encode
from bichat.server.responses.inputs import Reference
from bichat.server.responses.items import OUTPUTS, Rendering, images_of, item_of
from bichat.server.responses.refusals import container_param, file_params, told_to_caller
from bichat.server.responses.requests import Ask, previous_missing
from bichat.server.responses.response import response_object
from bichat.server.services import Caller

Json = Mapping[str, Any]

#: Displayed images that are shown as data in one answer: of one, and of all.
_IMAGE_BYTES: Final = 16 * 1024 * 1024
_ALL_IMAGES_BYTES: Final = 64 * 1024 * 1024
#: How long a deletion waits for a run to end.
_END_S: Final = 20.0
#: How long a file is kept that came within a request of which nothing is to be kept, should nobody be left to delete it.
_UNKEPT_FILES: Final = timedelta(days=1)
#: In the view of a run: ids of the files that came within its inputs.
_OWN_FILES: Final = "own_files"


class Responses:
    """Of one process.  Used inside `async with`, inside the core's."""

    def __init__(self, core: Core, archive: Archive, bounds: Limits) -> None:
        """`archive` keeps what the core records; `bounds` are the operator's for containers."""
        self._bounds = bounds
        self._core = core
        self._archive = archive
        self._repository = archive.repository
        self._storage = archive.storage
        self._enclosures = Enclosures(archive)
        self._background = Background()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._background.close()

    # ------------------------------------------------------------------------------------------------------- create

    async def start(self, caller: Caller, ask: Ask) -> Run:
        """The run that `ask` asks for, on record and under way.

        Raises:
            MissingError: a file, container, conversation or item that it names is not there.
            FieldError: the response that it goes on from is not there, or not over; its conversation is busy.
            As `Core.start`.
        """
        # Callers send back what an answer had: a note of ours is of that one.
        pairs = {name: value for name, value in ask.run.metadata.items() if name != SESSION_NOTE}
        request = replace(ask.run, inputs=await self.resolved(caller, ask.inputs), metadata=pairs)
        await self._check(caller, request)
        # Nothing is kept before all else is known to be there, and nothing stays where it is refused all the same.
        expires_at = None if request.is_kept else datetime.now(UTC) + _UNKEPT_FILES
        inputs = await self._enclosures.kept(caller, request.inputs, expires_at=expires_at)
        own = own_files(part for said in inputs for part in said.parts)
        request = replace(request, inputs=inputs, view={**request.view, _OWN_FILES: own} if own else request.view)
        try:
            run = await self._core.start(caller.tenant, request)
        except BaseException as error:
            await self._enclosures.drop(caller.tenant, own)
            if isinstance(error, BichatError):
                raise told_to_caller(error, request) from error
            raise
        if not request.is_kept:
            self._background.start(lambda: self._forget_later(caller, run.id))
        return run

    async def _check(self, caller: Caller, request: RunRequest) -> None:
        """Look up all that it names, without leaving anything."""
        check_number(request.inputs)
        if request.code is not None and request.code.memory:
            check_memory(request.code.memory, self._bounds, f"{container_param(request)}.memory_limit")
        self._core.planners.planner(request.model)
        await self._check_files(caller, request.inputs, request)
        if request.conversation_id is not None:
            await self.conversation(caller, request.conversation_id, param="conversation")
        if request.previous_run_id is not None:
            await self._check_previous(caller, request.previous_run_id)
        if request.code is not None and request.code.session_id:
            await self._check_session(caller, request)

    async def _check_previous(self, caller: Caller, run_id: str) -> None:
        given = naming.on_wire(naming.RESPONSE, run_id)
        try:
            before = await self._get(caller, run_id)
        except NotFoundError as error:
            raise previous_missing(given) from error
        if not before.state.is_final:
            raise FieldError(f"Previous response with id '{given}' is not over.", param="previous_response_id")

    async def _check_session(self, caller: Caller, request: RunRequest) -> None:
        session_id = request.code.session_id if request.code is not None else ""
        try:
            await self._repository.sessions.get(caller.tenant, session_id)
        except NotFoundError as error:
            given = naming.on_wire(naming.CONTAINER, session_id)
            raise MissingError(f"Container with id '{given}' not found.", param=container_param(request)) from error

    async def _check_files(self, caller: Caller, inputs: Sequence[Said], request: RunRequest | None = None) -> None:
        named = [*file_params(request)] if request is not None else []
        named += [
            (part.content["file_id"], f"input[{number}].content[{place}].file_id")
            for number, said in enumerate(inputs)
            for place, part in enumerate(said.parts)
            if _names_file(part)
        ]
        first: dict[str, str] = {}
        for file_id, param in named:
            first.setdefault(file_id, param)
        for file_id, param in first.items():
            try:
                await self._repository.files.get(caller.tenant, file_id)
            except NotFoundError as error:
                given = naming.on_wire(naming.FILE, file_id)
                raise MissingError(f"No such File object: {given}", param=param) from error

    async def resolved(self, caller: Caller, inputs: Sequence[Said | Reference]) -> list[Said]:
        """Inputs, with what is only referred to in its place.

        Raises:
            MissingError: one is not there.
        """
        return [each if isinstance(each, Said) else await self._referred(caller, each) for each in inputs]

    async def _referred(self, caller: Caller, reference: Reference) -> Said:
        try:
            found = await self._repository.messages.get(caller.tenant, reference.row_id)
        except NotFoundError as error:
            if reference.replayed is not None:
                return reference.replayed
            raise MissingError(f"Item with id '{reference.wire_id[:100]}' not found.", param=reference.param) from error
        status = "incomplete" if found.status in ("in_progress", "interpreting") else found.status
        return Said(role=found.role, parts=repeated(found.parts), status=status, metadata=found.metadata)

    # ---------------------------------------------------------------------------------------------------------- look

    async def get(self, caller: Caller, wire_id: str) -> Run:
        """The run of a response that is kept.

        Raises:
            MissingError: there is none of this id.
        """
        run_id = naming.row_id(wire_id, naming.RESPONSE)
        try:
            return await self._get(caller, run_id)
        except NotFoundError as error:
            raise MissingError(f"Response with id '{wire_id[:100]}' not found.", param="id") from error

    async def _get(self, caller: Caller, run_id: str) -> Run:
        run = await self._core.get(caller.tenant, run_id)
        view: Json = run.request.get("view", {})
        if view.get("kind") != "response" or not run.request.get("is_kept", True):
            raise NotFoundError("there is no such response")
        return run

    async def wait(self, caller: Caller, ask: Ask, run: Run) -> dict[str, Any]:
        """The response, once it is over.

        Raises:
            FailedError: it failed before any code was started; nothing of it is left, so that asking again is safe.
        """
        run = await self._core.wait(caller.tenant, run.id)
        error: Json = run.error or {}
        if run.state.value == "failed" and not error.get("code_ran") and not await self._made(caller, run):
            with suppress(BichatError):
                await self.forget(caller, run.id)
            raise FailedError(error)
        return await self.shown(caller, run, frozenset(ask.run.view["include"]))

    async def _made(self, caller: Caller, run: Run) -> bool:
        return bool(await self._core.items(caller.tenant, run.id))

    async def shown(self, caller: Caller, run: Run, include: frozenset[str]) -> dict[str, Any]:
        """The response object as it is now."""
        items = await self._core.items(caller.tenant, run.id)
        if run.state.is_final:  # what nobody ended any more
            items = [replace(item, status="incomplete") if item.status == "in_progress" else item for item in items]
        rendered = await self.rendered(caller, items, include)
        return response_object(run, rendered)

    async def rendered(self, caller: Caller, items: Sequence[Message], include: frozenset[str]) -> list[dict[str, Any]]:
        """Items of the wire, of those that it has."""
        images: dict[str, str] = {}
        if OUTPUTS in include:
            for item in items:
                images |= await self.images(caller, run_events.item_payload(item))
        rendering = Rendering(include=include, images=images)
        return [shown for item in items if (shown := item_of(item, rendering)) is not None]

    async def images(self, caller: Caller, payload: Json) -> dict[str, str]:
        """Displayed images of a code call as data URLs, as far as they are kept and not too large."""
        found: dict[str, str] = {}
        left = _ALL_IMAGES_BYTES
        for output_id in images_of(payload):
            with suppress(BichatError):
                output = await self._repository.outputs.get(caller.tenant, output_id)
                if output.size_bytes <= min(left, _IMAGE_BYTES):
                    left -= output.size_bytes
                    data = bytearray()
                    async with aclosing(self._storage.open(output.storage_key)) as chunks:
                        async for chunk in chunks:
                            data += chunk
                    found[output_id] = f"data:{output.mime_type};base64,{base64.b64encode(data).decode('ascii')}"
        return found

    async def stream(
        self,
        caller: Caller,
        run: Run,
        *,
        after: int = -1,
        ask: Ask | None = None,
        include: frozenset[str] = frozenset(),
    ) -> AsyncGenerator[bytes]:
        """Its events as they are sent, behind the one numbered `after`, from whichever process it goes on in.

        `include`: what is shown beyond what it was asked for with.
        """
        fold = ResponseStream(run, include)
        has_outputs = OUTPUTS in include.union(run.request["view"]["include"])
        try:
            for event in fold.begin():
                if event["sequence_number"] > after:
                    yield encode(event)
            async with aclosing(self._core.follow(caller.tenant, run.id)) as events:
                async for happened in events:
                    images: dict[str, str] = {}
                    if happened.kind == run_events.RUN_ENDED:
                        fold.run = await self._core.get(caller.tenant, run.id)
                    elif happened.kind == run_events.ITEM_DONE and has_outputs:
                        images = await self.images(caller, happened.payload["item"])
                    for event in fold.feed(happened, images):
                        if event["sequence_number"] > after:
                            yield encode(event)
        finally:
            if ask is not None:
                with anyio.CancelScope(shield=True):
                    await self.forget_unstored(caller, ask, run.id)

    # --------------------------------------------------------------------------------------------------------- change

    async def cancel(self, caller: Caller, run: Run) -> Run:
        """Have it end; as it is a moment later.  One that is over stays as it is."""
        run = await self._core.cancel(caller.tenant, run.id)
        if not run.state.is_final:
            with anyio.move_on_after(_END_S):
                run = await self._core.wait(caller.tenant, run.id)
        return await self._core.get(caller.tenant, run.id)

    async def delete(self, caller: Caller, run: Run) -> None:
        """Delete it with its items; one that goes on is ended first.

        Raises:
            FieldError: it does not end.
        """
        if not run.state.is_final:
            await self.cancel(caller, run)
        try:
            await self.forget(caller, run.id)
        except ConflictError as error:
            raise FieldError("The response does not end; try again.", param="id", wire_code=None) from error

    async def forget_unstored(self, caller: Caller, ask: Ask, run_id: str) -> None:
        """Leave nothing of a response that was not to be stored, where it is over already."""
        if not ask.run.is_kept:
            with suppress(BichatError):
                await self.forget(caller, run_id)

    async def forget(self, caller: Caller, run_id: str) -> None:
        """Delete a response with the files that came within it.

        Raises:
            As `Core.forget`.
        """
        run = await self._core.get(caller.tenant, run_id)
        await self._core.forget(caller.tenant, run_id)
        await self._enclosures.drop(caller.tenant, run.request.get("view", {}).get(_OWN_FILES, ()))

    async def _forget_later(self, caller: Caller, run_id: str) -> None:
        """The same, where nobody is left who waits for it."""
        with suppress(BichatError):
            await self._core.wait(caller.tenant, run_id)
            try:
                # Who reads the last of it must find it: he forgets it himself, and this is for when he has gone.
                await anyio.sleep(_END_S)
            finally:
                with anyio.CancelScope(shield=True):
                    await self.forget(caller, run_id)

    # -------------------------------------------------------------------------------------------------- conversations

    async def conversation(
        self, caller: Caller, conversation_id: str, *, param: str = "conversation_id"
    ) -> Conversation:
        """The conversation of a row's id, which `param` names.

        Raises:
            MissingError: there is none.
        """
        try:
            return await self._repository.conversations.get(caller.tenant, conversation_id)
        except NotFoundError as error:
            given = naming.on_wire(naming.CONVERSATION, conversation_id)
            raise MissingError(f"Conversation with id '{given}' not found.", param=param) from error

    async def add_items(
        self, caller: Caller, conversation: Conversation, inputs: Sequence[Said | Reference]
    ) -> list[Message]:
        """Items that go into a conversation by themselves.

        Raises:
            FieldError: it has a response that is not over.
        """
        said = await self.resolved(caller, inputs)
        await self._check_files(caller, said)
        if await self._repository.runs.active(caller.tenant, conversation.id) is not None:
            raise FieldError(
                "The conversation has a response that is not over. Wait until it is, or cancel it.",
                param="conversation_id",
                wire_code="conversation_locked",
            )
        said = await self._enclosures.kept(caller, said)
        messages = [
            Message(
                tenant=caller.tenant,
                conversation_id=conversation.id,
                role=each.role,
                author=caller.user if each.role is Role.USER else "",
                parts=each.parts,
                status=each.status,
                metadata=each.metadata,
            )
            for each in said
        ]
        if messages:
            try:
                await self._repository.messages.add_all(caller.tenant, messages)
            except BaseException:
                await self._enclosures.drop(caller.tenant, own_files(part for each in said for part in each.parts))
                raise
        return messages

    async def delete_item(self, caller: Caller, message: Message) -> None:
        """Delete an item of a conversation, with the files that came within it."""
        await self._repository.messages.delete(caller.tenant, message.id)
        await self._enclosures.drop(caller.tenant, own_files(message.parts))

    async def message(self, caller: Caller, row_id: str, problem: BichatError) -> Message:
        """One message; `problem` is raised where there is none."""
        try:
            return await self._repository.messages.get(caller.tenant, row_id)
        except NotFoundError:
            raise problem from None

    async def delete_conversation(self, caller: Caller, conversation: Conversation) -> None:
        """Delete it with all that was said in it; a response that goes on is ended first."""
        active = await self._repository.runs.active(caller.tenant, conversation.id)
        if active is not None:
            await self.cancel(caller, active)
        own: list[str] = []
        cursor = ""
        while True:
            page = await self._repository.messages.page(caller.tenant, conversation.id, limit=100, cursor=cursor)
            own += own_files(part for message in page.items for part in message.parts)
            cursor = page.next_cursor
            if not cursor:
                break
        await self._repository.conversations.delete(caller.tenant, conversation.id)
        await self._enclosures.drop(caller.tenant, own)

    @property
    def repository(self) -> ChatRepository:
        """The core's."""
        return self._repository

    @property
    def core(self) -> Core:
        """What it stands on."""
        return self._core


def _names_file(part: Any) -> bool:
    return bool(part.content.get("file_id"))
