"""Runs of threads and their steps over the conversation core: what the routes do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import anyio

from bichat.conversation import run_events
from bichat.conversation.request import RunRequest
from bichat.conversation.run_events import item_payload
from bichat.errors import BichatError, ConflictError, NotFoundError, UserInputError
from bichat.repository.records import Conversation, Definition, Run, RunState
from bichat.server import naming
from bichat.server.assistants.events import DONE, RunStream, encode, error_event
from bichat.server.assistants.objects import (
    RESOURCES,
    STATUSES,
    run_object,
    thread_object,
)
from bichat.server.assistants.requests import ThreadAsk
from bichat.server.assistants.run_requests import RunAsk, run_request
from bichat.server.assistants.steps import Step, step_object, steps_of
from bichat.server.assistants.threads import Threads, is_run
from bichat.server.attempts import Attempt
from bichat.server.lists import as_list, asked, pages_of, part
from bichat.server.problems import FieldError, MissingError
from bichat.server.services import Caller, Services

Json = Mapping[str, Any]

#: Pairs of a run's metadata that are ours begin so.
_OURS: Final = "bichat."
#: How long clients go on trying.
_RETRIED: Final = timedelta(minutes=5)
_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class _Listed:
    """A step in a list."""

    id: str
    created_at: datetime


class Runs:
    """Of one process."""

    def __init__(self, services: Services, threads: Threads) -> None:
        self._threads = threads
        self._core = services.core
        self._repository = services.repository

    async def start(self, caller: Caller, conversation: Conversation, ask: RunAsk, attempt: Attempt) -> Run:
        """A run in a thread, on record and under way.

        Raises:
            MissingError: its assistant is not there, or a file.
            FieldError: another one goes on in the thread.
            As `Core.start`.
        """
        assistant = await self._threads.assistant(caller, ask.assistant_id)
        asked = run_request(ask, assistant.content, user=caller.user, conversation_id=conversation.id)
        await self._threads.check_files(caller, ask.messages)
        active = await self._repository.runs.active(caller.tenant, conversation.id)
        if active is not None:
            raise _already(conversation, active)
        try:
            supplied = self._supplied(asked, ask, assistant, conversation)
            run = await self._core.start(caller.tenant, attempt.of(supplied))
        except ConflictError as error:
            active = await self._repository.runs.active(caller.tenant, conversation.id)
            raise _already(conversation, active) from error
        await self._threads.give(caller, conversation, ask.messages)
        return run

    async def start_with_thread(self, caller: Caller, ask: RunAsk, attempt: Attempt) -> Run:
        """A run in a thread of its own.

        Raises:
            As `start`; nothing is left of the thread then.
        """
        assistant = await self._threads.assistant(caller, ask.assistant_id)
        asked = run_request(ask, assistant.content, user=caller.user, conversation_id="")
        self._core.planners.planner(asked.model)
        if ask.resources is not None:
            await self._threads.resources(caller, replace(ask.resources, new_store=None))
        conversation = await self._threads.make_thread(caller, ask.thread or ThreadAsk())
        try:
            return await self.start(caller, conversation, ask, attempt)
        except BichatError:
            await self._repository.conversations.delete(caller.tenant, conversation.id)
            raise

    async def thread_of(self, run: Run) -> Conversation:
        """The thread that it belongs to."""
        return await self._repository.conversations.get(run.tenant, run.conversation_id)

    def _supplied(
        self, request: RunRequest, ask: RunAsk, assistant: Definition, conversation: Conversation
    ) -> RunRequest:
        """The request, with the files that its code has: the assistant's, or those asked for in their place; the thread's."""
        if request.code is None:
            return request
        own = ask.resources.to_dict() if ask.resources is not None else assistant.content.get(RESOURCES) or {}
        files = [
            file_id
            for resources in (own, conversation.metadata.get(RESOURCES, {}))
            for file_id in resources.get("code_interpreter", {}).get("file_ids", ())
        ]
        rows = tuple(dict.fromkeys(naming.row_id(file_id, naming.FILE) for file_id in files))
        return replace(request, code=replace(request.code, file_ids=rows))

    async def runs(self, caller: Caller, conversation: Conversation, query: Mapping[str, str]) -> dict[str, Any]:
        """The list of them that a query asks for."""
        found = await part(
            partial(self._repository.runs.page, caller.tenant, conversation.id),
            asked(query, naming.RUN),
            partial(self._repository.runs.get, caller.tenant),
            is_listed=is_run,
        )
        return as_list([await self.shown_run(run) for run in found.rows], has_more=found.has_more)

    async def settled(self, caller: Caller, run: Run, patience_s: float) -> Run:
        """It, once it is over or waits for its caller, or as it is after so long."""
        if run.state.is_final or run.state is RunState.WAITING:
            return run
        with anyio.move_on_after(patience_s):
            await self._core.wait(caller.tenant, run.id)
        return await self._core.get(caller.tenant, run.id)

    async def shown_run(self, run: Run) -> dict[str, Any]:
        """The run object as it is now."""
        return run_object(run, awaited=await self._core.awaited(run) if run.state is RunState.WAITING else ())

    async def change_run(self, caller: Caller, run: Run, metadata: Json) -> Run:
        """It, with other metadata of its caller's."""
        ours = {key: value for key, value in run.metadata.items() if key.startswith(_OURS)}
        return await self._repository.runs.describe(caller.tenant, run.id, {**metadata, **ours})

    async def cancel(self, caller: Caller, run: Run) -> Run:
        """Have it end; as it is: `cancelling`, or over.

        Raises:
            FieldError: it is over already.
        """
        if run.state.is_final:
            raise FieldError(f"Cannot cancel run with status '{STATUSES[run.state]}'.", wire_code=None)
        return await self._core.cancel(caller.tenant, run.id)

    async def submit(
        self, caller: Caller, run: Run, outputs: Mapping[str, str], *, is_retry: bool = False
    ) -> tuple[Run, Sequence[Step], int]:
        """Go on with a run that waits: it, the steps that have ended with that, and the number of its last event before.

        `is_retry`: the client says that it has sent them before, and has had no answer: what has been taken already is told
        once more.

        Raises:
            FieldError: it does not wait, or for other calls.
        """
        if is_retry and (taken := await self._taken_before(caller, run, outputs)) is not None:
            return taken
        if run.state is not RunState.WAITING:
            raise _no_outputs(run)
        before = [step.id for step in await self._steps(caller, run) if step.is_functions and _waits(step)]
        try:
            last = await self._repository.runs.record(caller.tenant, run.id, ())
            resumed = await self._core.resume(caller.tenant, run.id, outputs)
        except ConflictError as error:
            raise _no_outputs(await self._core.get(caller.tenant, run.id)) from error
        except UserInputError as error:
            wanted = [call["call_id"] for call in await self._core.awaited(run)]
            message = f"Expected tool outputs for call_ids {wanted}, got {[each[:100] for each in outputs]}"
            raise FieldError(message, wire_code=None) from error
        ended = [step for step in await self._steps(caller, resumed) if step.id in before]
        return resumed, ended, last

    async def _taken_before(
        self, caller: Caller, run: Run, outputs: Mapping[str, str]
    ) -> tuple[Run, Sequence[Step], int] | None:
        """What `submit` gave when these outputs were taken; None where they never were."""
        for step in reversed(await self._steps(caller, run)):
            calls = {item["parts"][0]["content"]["call_id"]: item["id"] for item in step.items if step.is_functions}
            if set(calls) != set(outputs) or _waits(step):
                continue
            given = {name: step.results[item_id]["parts"][0]["content"]["output"] for name, item_id in calls.items()}
            if given != dict(outputs):
                return None
            after, number = 0, 0
            while events := await self._repository.runs.events(caller.tenant, run.id, after=number, limit=_PAGE):
                number = events[-1].sequence
                for event in events:
                    if event.kind == run_events.RUN_WAITING and _names(event.payload["calls"]) == set(outputs):
                        after = event.sequence
            return run, [step], after
        return None

    # -------------------------------------------------------------------------------------------------------- stream

    async def stream(
        self,
        caller: Caller,
        run: Run,
        *,
        thread: Conversation | None = None,
        resumed: tuple[Sequence[Step], int] | None = None,
    ) -> AsyncGenerator[bytes]:
        """Its events as they are sent, from whichever process it goes on in.

        Args:
            caller: who asks.
            run: that was started, or goes on.
            thread: the one that was made with it.
            resumed: of one that goes on, the steps that ended with that, and the event behind which the stream begins.
        """
        fold = RunStream(run)
        steps, after = resumed or ((), 0)
        if thread is not None:
            yield encode("thread.created", thread_object(thread))
        for piece in fold.begin() if resumed is None else fold.resume(steps):
            yield piece
        try:
            async with aclosing(self._core.follow(caller.tenant, run.id, after=after)) as events:
                async for event in events:
                    if event.kind == run_events.RUN_ENDED:
                        fold.run = await self._core.get(caller.tenant, run.id)
                    elif event.kind == run_events.RUN_WAITING:
                        fold.awaited = event.payload["calls"]
                    for piece in fold.feed(event):
                        yield piece
        except NotFoundError:
            yield error_event("server_error", "the thread was deleted")
        yield DONE

    # --------------------------------------------------------------------------------------------------------- steps

    async def _steps(self, caller: Caller, run: Run) -> list[Step]:
        return steps_of([item_payload(item) for item in await self._core.items(caller.tenant, run.id)])

    async def steps(self, caller: Caller, run: Run, query: Mapping[str, str]) -> dict[str, Any]:
        """The list of a run's steps that a query asks for."""
        steps = {step.row_id: step for step in await self._steps(caller, run)}
        rows = {row_id: _Listed(row_id, step.created_at) for row_id, step in steps.items()}

        async def find(row_id: str) -> _Listed:
            if row_id not in rows:
                raise NotFoundError("there is no such step")
            return rows[row_id]

        found = await part(pages_of(rows.values()), asked(query, naming.STEP), find)
        shown = [step_object(steps[row.id], run) for row in found.rows]
        return as_list(shown, has_more=found.has_more)

    async def step(self, caller: Caller, run: Run, wire_id: str) -> dict[str, Any]:
        """One step of a run.

        Raises:
            MissingError: there is none.
        """
        for step in await self._steps(caller, run):
            if step.id == wire_id:
                return step_object(step, run)
        raise MissingError(f"No run step found with id '{wire_id[:100]}'.", param="step_id")


def _waits(step: Step) -> bool:
    return any(item["id"] not in step.results for item in step.items)


def _names(calls: Sequence[Json]) -> set[str]:
    return {call["call_id"] for call in calls}


def _already(conversation: Conversation, active: Run | None) -> FieldError:
    thread_id = naming.on_wire(naming.THREAD, conversation.id)
    run_id = f" {naming.on_wire(naming.RUN, active.id)}" if active is not None else ""
    return FieldError(f"Thread {thread_id} already has an active run{run_id}.", wire_code=None)


def _no_outputs(run: Run) -> FieldError:
    return FieldError(f'Runs in status "{STATUSES[run.state]}" do not accept tool outputs.', wire_code=None)
