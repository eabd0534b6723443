"""Work on one run, in the process that has its lease, from its first turn to its end on record."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import anyio
from anyio.abc import TaskGroup

from bichat.conversation import run_events
from bichat.conversation.history import latest, load
from bichat.conversation.journal import Journal
from bichat.conversation.loop import Ending, Loop
from bichat.conversation.planner import Planners
from bichat.conversation.request import Bounds, RunRequest
from bichat.conversation.scribe import Scribe
from bichat.conversation.tool import Tool
from bichat.errors import BichatError, ConflictError, NotFoundError
from bichat.repository.chat_repository import ChatRepository
from bichat.repository.records import CALLER, Lease, Message, Run, RunState
from bichat.spans import fail, span

Json = Mapping[str, Any]

#: The code of the error of a run that came to a limit; `reason` says which.
INCOMPLETE: Final = "incomplete"
_STOPPED: Final[Json] = {
    "code": "server_stopped",
    "message": "the server was stopped while it worked on this",
    "stage": "run",
    "remedy": "Ask again.",
}
_INTERNAL: Final[Json] = {
    "code": "internal_error",
    "message": "something went wrong in the server; its log says what",
    "stage": "run",
    "remedy": "Tell the operator the id of this answer.",
}

#: How long code that is to end may take to do so; then it is ended, and nothing is known of what it left.
_HEED_S: Final = 5.0

logger = logging.getLogger(__name__)


class Toolbox(Protocol):
    """What is plugged in: the tools of each run, and what models are told of them."""

    async def home(self, tenant: str, request: RunRequest, history: Sequence[Message]) -> str:
        """The owner (`Lease.owner`) of the process that alone can work on it; empty where any can.

        Raises:
            BichatError: nobody can: the session that it asks for has ended, say.
        """
        ...

    async def tools(self, run: Run, request: RunRequest, history: Sequence[Message]) -> Sequence[Tool]:
        """Those that its model may call."""
        ...

    async def readied(self, tenant: str, history: Sequence[Message], *, sees_images: bool) -> list[Message]:
        """What was said, with the images and files that it refers to as a model can be given them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    state: RunState
    error: Json | None = None
    calls: tuple[Json, ...] = ()
    notes: Json = field(default_factory=dict[str, Any])


class Worker:
    """Of one run."""

    def __init__(
        self,
        repository: ChatRepository,
        run: Run,
        *,
        planners: Planners,
        toolbox: Toolbox,
        bounds: Bounds,
        owner: str,
        instructions: str,
        is_new: bool = True,
        history: Sequence[Message] = (),
    ) -> None:
        """`owner` has the run's lease; `instructions` go before all others.

        `is_new`: nothing has happened in it; `history`: all that was said, where that is known.
        """
        self.run = run
        self.journal = Journal(repository, run)
        self._repository = repository
        self._request = RunRequest.from_dict(run.request)
        self._planners = planners
        self._toolbox = toolbox
        self._bounds = bounds
        self._owner = owner
        self._instructions = instructions
        self._is_new = is_new
        self._history = history
        self._scope = anyio.CancelScope()
        self._interrupted: _Ended | None = None
        self._loop: Loop | None = None
        self._tasks: TaskGroup | None = None

    def cancel(self) -> None:
        """End it: whoever asked does not want it any more."""
        self._interrupt(_Ended(state=RunState.CANCELLED))

    def stop(self) -> None:
        """End it: this process ends."""
        self._interrupt(_Ended(state=RunState.FAILED, error=_STOPPED))

    def _interrupt(self, ended: _Ended) -> None:
        if self._interrupted is None:
            self._interrupted = ended
            if self._loop is None or self._tasks is None:
                self._scope.cancel()
            else:
                self._tasks.start_soon(self._end_soon, self._loop)

    async def _end_soon(self, loop: Loop) -> None:
        """What code that runs had printed and left is kept, where the code heeds that it is to end."""
        with anyio.move_on_after(_HEED_S):
            await loop.interrupt()
        self._scope.cancel()

    async def work(self) -> None:
        """Until it is over, or waits for its caller; ends early by `cancel` and `stop` alone."""
        attributes = {"bichat.run.id": self.run.id, "gen_ai.request.model": self.run.model}
        with anyio.CancelScope(shield=True), span("run", attributes=attributes) as begun:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.journal.write)
                self._tasks = tasks
                scribe = Scribe(self.journal, self.run)
                try:
                    ended = await self._ended(scribe)
                    if ended.state is RunState.FAILED:
                        fail(begun, (ended.error or {}).get("code"))
                    await self._conclude(ended, scribe)
                    begun.set_attribute("bichat.run.state", self.run.state.value)
                except ConflictError as error:
                    logger.warning("run %s was taken from this process: %s", self.run.id, error)
                except BichatError as error:
                    # Its lease runs out, and then a sweep ends it.
                    logger.error("the end of run %s could not be recorded: %s", self.run.id, error)  # noqa: TRY400
                finally:
                    self._tasks = None
                    self.journal.close()

    async def _ended(self, scribe: Scribe) -> _Ended:
        try:
            with self._scope, anyio.CancelScope(deadline=anyio.current_time() + self._left_s(self._bounds.run_s)):
                return self._of(await self._go(scribe))
        except ConflictError:
            if self.journal.is_lost:
                raise
            logger.exception("run %s failed", self.run.id)
            return self._interrupted or self._failed(_INTERNAL)
        except BichatError as error:
            # What fails once nobody wants it any more is no failure: the sweep sees it so too.
            return self._interrupted or self._failed(error.to_dict())
        except Exception:
            logger.exception("run %s failed", self.run.id)
            return self._interrupted or self._failed(_INTERNAL)
        if self._interrupted is not None:
            return self._interrupted
        return _Ended(state=RunState.EXPIRED, notes=self._notes)

    async def _go(self, scribe: Scribe) -> Ending:
        run, request = self.run, self._request
        if self._is_new:
            await self.journal.note(run_events.RUN_STARTED, {})
        planner = self._planners.planner(run.model)
        history = self._history
        if not history:
            conversation = await self._repository.conversations.get(run.tenant, run.conversation_id)
            history = await load(self._repository, conversation, bounds=self._bounds, truncates=request.truncates)
        tools = await self._toolbox.tools(run, request, history)
        used = tools if request.tool_choice != "none" else ()
        told = [self._instructions, *[await tool.instructions() for tool in used], request.instructions]
        history = latest(history, request.last_messages, run_id=run.id)
        history = await self._toolbox.readied(run.tenant, history, sees_images=planner.sees_images)
        self._loop = Loop(
            run,
            request,
            planner=planner,
            tools=tools,
            history=history,
            scribe=scribe,
            journal=self.journal,
            bounds=self._bounds,
            instructions="\n\n".join(text for text in told if text),
        )
        return await self._loop.go()

    def _left_s(self, most: float) -> float:
        """Seconds that it may go on, `most` at most."""
        if self._request.lives_s is None:
            return most
        return min(most, self._request.lives_s - (datetime.now(UTC) - self.run.created_at).total_seconds())

    def _of(self, ending: Ending) -> _Ended:
        error = {"code": INCOMPLETE, "reason": ending.reason} if ending.reason else None
        return _Ended(state=ending.state, error=error, calls=ending.calls, notes=self._notes)

    def _failed(self, error: Json) -> _Ended:
        return _Ended(state=RunState.FAILED, error=error, notes=self._notes)

    @property
    def _notes(self) -> Json:
        return self._loop.notes if self._loop is not None else {}

    async def _conclude(self, ended: _Ended, scribe: Scribe) -> None:
        """Write down how it ended: what is half said first, its row last."""
        try:
            await scribe.leave()
            await self.journal.settle()
        except ConflictError:
            raise
        except BichatError as error:
            ended = self._failed(error.to_dict())
        await self._save(ended)

    async def _save(self, ended: _Ended) -> None:
        run, tenant = self.run, self.run.tenant
        described = await self._repository.runs.get(tenant, run.id)  # somebody may have done so meanwhile
        error = None if ended.error is None else {**ended.error, "code_ran": self.code_ran}
        record = replace(
            run,
            state=run.state if ended.state is RunState.WAITING else ended.state,
            error=error,
            usage=self._loop.usage if self._loop is not None else run.usage,
            metadata={**described.metadata, **ended.notes},
        )
        self.run = await self._repository.runs.save(tenant, record, owner=self._owner)
        if ended.state is RunState.WAITING:
            lease = Lease(
                owner=CALLER, until=datetime.now(UTC) + timedelta(seconds=self._left_s(self._bounds.caller_s))
            )
            # Who sees the event may answer it at once.
            events = [(run_events.RUN_WAITING, {"calls": list(ended.calls)})]
            try:
                self.run = await self._repository.runs.hand_over(
                    tenant, run.id, lease, state=RunState.WAITING, owner=self._owner, events=events
                )
            except ConflictError:  # cancelled meanwhile
                with suppress(NotFoundError):
                    record = replace(record, state=RunState.CANCELLED)
                    self.run = await self._repository.runs.save(tenant, record, owner=self._owner)

    @property
    def code_ran(self) -> bool:
        """Whether any code was started in it, before or now."""
        return bool(self._loop and self._loop.code_ran)
