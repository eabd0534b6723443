"""Responses and conversations over the conversation core: what the routes do."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, Final, Self

import anyio

from bichat.archive import Archive
from bichat.conversation import parts, run_events
from bichat.conversation.core import Core
from bichat.conversation.request import Said
from bichat.errors import BichatError, ConflictError, NotFoundError
from bichat.names import safe_file_name
from bichat.repository.chat_repository import ChatRepository
from bichat.repository.records import Conversation, Message, Part, Role, Run
from bichat.sandbox.background import Background
from bichat.sandbox.mime import HEAD_BYTES, sniff
from bichat.server import naming
from bichat.server.problems import FailedError, FieldError, MissingError
from bichat.server.responses.events import ResponseStream, encode
from bichat.server.responses.inputs import Reference
from bichat.server.responses.items import OUTPUTS, Rendering, images_of, item_of
from bichat.server.responses.requests import Ask, previous_missing
from bichat.server.responses.response import response_object
from bichat.server.services import Caller

Json = Mapping[str, Any]

#: Displayed images that are shown as data in one answer: of one, and of all.
_IMAGE_BYTES: Final = 16 * 1024 * 1024
_ALL_IMAGES_BYTES: Final = 64 * 1024 * 1024
#: How long a deletion waits for a run to end.
_END_S: Final = 20.0
#: How long a file is kept that came within a request of which nothing is to be kept: code may still want it.
_UNKEPT_FILES: Final = timedelta(days=1)


class Responses:
    """Of one process.  Used inside `async with`, inside the core's."""

    def __init__(self, core: Core, archive: Archive) -> None:
        """`archive` keeps what the core records."""
        self._core = core
        self._archive = archive
        self._repository = archive.repository
        self._storage = archive.storage
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
        request = replace(ask.run, inputs=await self.resolved(caller, ask.inputs, is_kept=ask.run.is_kept))
        await self._check_files(caller, request.inputs, request.code.file_ids if request.code else ())
        if request.conversation_id is not None:
            await self.conversation(caller, request.conversation_id)
        if request.previous_run_id is not None:
            await self._check_previous(caller, request.previous_run_id)
        if request.code is not None and request.code.session_id:
            await self._check_session(caller, request.code.session_id)
        try:
            run = await self._core.start(caller.tenant, request)
        except ConflictError as error:
            raise FieldError(
                "The conversation has a response that is not over. Wait until it is, or cancel it.",
                param="conversation",
                wire_code="conversation_locked",
            ) from error
        if not request.is_kept:
            self._background.start(lambda: self._forget_later(caller, run.id))
        return run

    async def _check_previous(self, caller: Caller, run_id: str) -> None:
        given = naming.on_wire(naming.RESPONSE, run_id)
        try:
            before = await self._get(caller, run_id)
        except NotFoundError as error:
            raise previous_missing(given) from error
        if not before.state.is_final:
            raise FieldError(f"Previous response with id '{given}' is not over.", param="previous_response_id")

    async def _check_session(self, caller: Caller, session_id: str) -> None:
        try:
            await self._repository.sessions.get(caller.tenant, session_id)
        except NotFoundError as error:
            given = naming.on_wire(naming.CONTAINER, session_id)
            raise MissingError(f"Container with id '{given}' not found.", param="tools") from error

    async def _check_files(self, caller: Caller, inputs: Sequence[Said], others: Sequence[str]) -> None:
        named = [*others, *(part.content["file_id"] for said in inputs for part in said.parts if _names_file(part))]
        for file_id in dict.fromkeys(named):
            try:
                await self._repository.files.get(caller.tenant, file_id)
            except NotFoundError as error:
                given = naming.on_wire(naming.FILE, file_id)
                raise MissingError(f"No such File object: {given}", param="file_id") from error

    async def resolved(self, caller: Caller, inputs: Sequence[Said | Reference], *, is_kept: bool = True) -> list[Said]:
        """Inputs, with what is only referred to in its place, and files that came with them kept (`_UNKEPT_FILES`)."""
        found = [each if isinstance(each, Said) else await self._referred(caller, each) for each in inputs]
        expires_at = None if is_kept else datetime.now(UTC) + _UNKEPT_FILES
        return [await self._with_files(caller, said, expires_at) for said in found]

    async def _with_files(self, caller: Caller, said: Said, expires_at: datetime | None) -> Said:
        """With files that came as data kept as uploaded ones, so that code finds them."""
        if not any(part.kind == parts.FILE and part.content.get("data") for part in said.parts):
            return said
        return replace(said, parts=tuple([await self._kept(caller, part, expires_at) for part in said.parts]))

    async def _kept(self, caller: Caller, part: Part, expires_at: datetime | None) -> Part:
        given: str | None = part.content.get("data")
        if part.kind != parts.FILE or not given:
            return part
        data = base64.b64decode(given.rpartition(",")[2])
        name = str(safe_file_name(PurePosixPath(part.content["name"]).name or "file"))

        async def chunks() -> AsyncGenerator[bytes]:
            yield data

        file = await self._archive.upload(
            caller.tenant,
            chunks(),
            name=name,
            mime_type=sniff(name, data[:HEAD_BYTES], is_complete=len(data) < HEAD_BYTES),
            purpose="user_data",
            max_bytes=len(data),
            expected_bytes=len(data),
            user=caller.user,
            expires_at=expires_at,
        )
        return Part(kind=parts.FILE, content={"file_id": file.id, "name": name})

    async def _referred(self, caller: Caller, reference: Reference) -> Said:
        try:
            found = await self._repository.messages.get(caller.tenant, reference.row_id)
        except NotFoundError as error:
            if reference.replayed is not None:
                return reference.replayed
            raise MissingError(f"Item with id '{reference.wire_id[:100]}' not found.", param=reference.param) from error
        status = "incomplete" if found.status in ("in_progress", "interpreting") else found.status
        return Said(role=found.role, parts=found.parts, status=status, metadata=found.metadata)

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
        try:
            run = await self._core.wait(caller.tenant, run.id)
            error: Json = run.error or {}
            if run.state.value == "failed" and not error.get("code_ran") and not await self._made(caller, run):
                with suppress(BichatError):
                    await self._core.forget(caller.tenant, run.id)
                raise FailedError(error)
            return await self.shown(caller, run, frozenset(ask.run.view["include"]))
        finally:
            await self._forget_unstored(caller, ask, run.id)

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
        self, caller: Caller, run: Run, *, after: int = -1, ask: Ask | None = None
    ) -> AsyncGenerator[bytes]:
        """Its events as they are sent, behind the one numbered `after`, from whichever process it goes on in."""
        fold = ResponseStream(run)
        has_outputs = OUTPUTS in run.request["view"]["include"]
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
                    await self._forget_unstored(caller, ask, run.id)

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
            await self._core.forget(caller.tenant, run.id)
        except ConflictError as error:
            raise FieldError("The response does not end; try again.", param="id", wire_code=None) from error

    async def _forget_unstored(self, caller: Caller, ask: Ask, run_id: str) -> None:
        """Leave nothing of a response that was not to be stored, where it is over already."""
        if not ask.run.is_kept:
            with suppress(BichatError):
                await self._core.forget(caller.tenant, run_id)

    async def _forget_later(self, caller: Caller, run_id: str) -> None:
        """The same, where nobody is left who waits for it."""
        with suppress(BichatError):
            await self._core.wait(caller.tenant, run_id)
            try:
                # Who reads the last of it must find it: he forgets it himself, and this is for when he has gone.
                await anyio.sleep(_END_S)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._core.forget(caller.tenant, run_id)

    # -------------------------------------------------------------------------------------------------- conversations

    async def conversation(self, caller: Caller, conversation_id: str) -> Conversation:
        """The conversation of a row's id.

        Raises:
            MissingError: there is none.
        """
        try:
            return await self._repository.conversations.get(caller.tenant, conversation_id)
        except NotFoundError as error:
            given = naming.on_wire(naming.CONVERSATION, conversation_id)
            raise MissingError(f"Conversation with id '{given}' not found.", param="conversation_id") from error

    async def add_items(
        self, caller: Caller, conversation: Conversation, inputs: Sequence[Said | Reference]
    ) -> list[Message]:
        """Items that go into a conversation by themselves.

        Raises:
            FieldError: it has a response that is not over.
        """
        said = await self.resolved(caller, inputs)
        await self._check_files(caller, said, ())
        if await self._repository.runs.active(caller.tenant, conversation.id) is not None:
            raise FieldError(
                "The conversation has a response that is not over. Wait until it is, or cancel it.",
                param="conversation_id",
                wire_code="conversation_locked",
            )
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
            await self._repository.messages.add_all(caller.tenant, messages)
        return messages

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
        await self._repository.conversations.delete(caller.tenant, conversation.id)

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
