"""Conversations that are answered: runs begun, followed, cancelled and gone on with, from any process on the database."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

import anyio

from bichat.archive.upkeep import Upkeep
from bichat.conversation import parts, run_events
from bichat.conversation.history import PARENT, load, unanswered
from bichat.conversation.planner import Planners
from bichat.conversation.request import Bounds, RunRequest
from bichat.conversation.worker import Toolbox, Worker
from bichat.errors import BichatError, ConflictError, NotFoundError, SessionEndedError, UserInputError
from bichat.repository.chat_repository import ChatRepository
from bichat.repository.moments import utc_now
from bichat.repository.pages import Page
from bichat.repository.records import (
    CALLER,
    Conversation,
    Lease,
    Message,
    Part,
    Role,
    Run,
    RunEvent,
    RunState,
)
from bichat.sandbox.background import Background
from bichat.tenants import check_tenant

#: How often a process looks for what others want of its runs.
_LOOK_EVERY_S: Final = 0.25
#: How often one who follows a run of another process looks for more.
_POLL_S: Final = (0.05, 0.5)
#: How long a run may lie that was given to another process: longer than it takes until that is known to be gone, when
#: whoever gave it takes it back.
_HAND_OVER_S: Final = 180.0
#: How long it lies before that is looked at, and how long at most between two looks.
_LOOK_AFTER_S: Final = (2.0, 8.0)
_EVENTS: Final = 100

logger = logging.getLogger(__name__)


class Core:
    """Used inside `async with`.  Several processes may have one on the same database: all see the same runs."""

    def __init__(
        self,
        repository: ChatRepository,
        upkeep: Upkeep,
        planners: Planners,
        toolbox: Toolbox,
        *,
        bounds: Bounds | None = None,
        instructions: Callable[[], str] = str,
    ) -> None:
        """`upkeep`: its owner is whom runs belong to here, and renews their leases; `instructions`: before all others."""
        self.planners = planners
        self._repository = repository
        self._upkeep = upkeep
        self._toolbox = toolbox
        self._bounds = bounds or Bounds()
        self._instructions = instructions
        self._workers: dict[str, Worker] = {}
        self._background = Background()
        self._is_idle = anyio.Event()

    async def __aenter__(self) -> Self:
        self._background.start(self._watch)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.stop()
        await self._background.close()

    async def drain(self, patience_s: float) -> None:
        """Wait until no run goes on here, for so long at most; what goes on then fails as `server_stopped` on leaving."""
        with anyio.move_on_after(patience_s):
            while self._workers:
                self._is_idle = anyio.Event()
                await self._is_idle.wait()

    def stop(self) -> None:
        """End every run that goes on here: it fails as `server_stopped`."""
        for worker in tuple(self._workers.values()):
            worker.stop()

    # ------------------------------------------------------------------------------------------------------ begin

    async def start(self, tenant: str, request: RunRequest) -> Run:
        """A run for `request`.  It and what goes into it are on record when this returns, and it goes on by itself.

        Raises:
            PlannerError: `not_configured`; or `context_too_long`.
            NotFoundError: there is no such conversation or run of the tenant's.
            ConflictError: the conversation has a run that is not over.
            UserInputError: the run that it is to follow is not over; or a result is given of no call.
            As `Toolbox.home`.
        """
        check_tenant(tenant)
        self.planners.planner(request.model)
        if request.previous_run_id is None:
            return await self._add(tenant, request, *await self._conversation(tenant, request))
        before = await self._repository.runs.get(tenant, request.previous_run_id)
        if not before.state.is_final:
            raise UserInputError("the answer that this one is to follow is not over", stage="conversation")
        newest = await self._repository.runs.page(tenant, before.conversation_id, limit=1)
        if newest.items[0].id == before.id:
            conversation = await self._repository.conversations.get(tenant, before.conversation_id)
            with suppress(ConflictError):  # others go on from it at the same time
                return await self._add(tenant, request, conversation, is_new=False)
        parent = {"conversation_id": before.conversation_id, "run_id": before.id}
        fork = Conversation(tenant=tenant, user=request.user, metadata={PARENT: parent})
        return await self._add(tenant, request, fork, is_new=True)

    async def _conversation(self, tenant: str, request: RunRequest) -> tuple[Conversation, bool]:
        """The one that it goes on with, and whether it is new."""
        if request.conversation_id is not None:
            return await self._repository.conversations.get(tenant, request.conversation_id), False
        return Conversation(tenant=tenant, user=request.user), True

    async def _add(self, tenant: str, request: RunRequest, conversation: Conversation, is_new: bool) -> Run:  # noqa: FBT001
        run = Run(
            tenant=tenant,
            conversation_id=conversation.id,
            state=RunState.RUNNING,
            model=request.model,
            request=request.to_dict(),
            attempt=request.attempt,
            metadata=request.metadata,
            lease=self._upkeep.lease(),
            started_at=utc_now(),
        )
        inputs = _inputs(run, request)
        history = await load(
            self._repository, conversation, inputs=inputs, bounds=self._bounds, truncates=request.truncates
        )
        home = await self._toolbox.home(tenant, request, history)
        is_elsewhere = home not in ("", self._upkeep.owner)
        if is_elsewhere:
            lease = Lease(owner=home, until=_in(_HAND_OVER_S))
            run = replace(run, state=RunState.QUEUED, lease=lease, started_at=None)
        run = await self._repository.runs.add(
            tenant,
            run,
            conversation=conversation if is_new else None,
            inputs=inputs,
            after=None if is_new else request.previous_run_id,
        )
        if is_elsewhere:
            self._background.start(lambda: self._see_taken(run, home))
        else:
            self._begin(run, history=history)
        return run

    def _begin(self, run: Run, *, is_new: bool = True, history: Sequence[Message] = ()) -> None:
        """Work on it from now on."""
        worker = Worker(
            self._repository,
            run,
            planners=self.planners,
            toolbox=self._toolbox,
            bounds=self._bounds,
            owner=self._upkeep.owner,
            instructions=self._instructions(),
            is_new=is_new,
            history=history,
        )
        self._workers[run.id] = worker
        self._background.start(lambda: self._work(worker))

    # --------------------------------------------------------------------------------------------------------- look

    async def get(self, tenant: str, run_id: str) -> Run:
        """The run as it is now.

        Raises:
            NotFoundError: there is no such run of the tenant's.
        """
        run = await self._repository.runs.get(tenant, run_id)
        if run.state is RunState.WAITING and run.lease is not None and run.lease.until < utc_now():
            await self._upkeep.sweep()  # its caller's time is over, and whoever looks is to see it
            run = await self._repository.runs.get(tenant, run_id)
        return run

    async def wait(self, tenant: str, run_id: str) -> Run:
        """The run, once it is over or waits for its caller.

        Raises:
            NotFoundError: there is no such run, or it was deleted meanwhile.
        """
        pause_s = _POLL_S[0]
        while True:
            worker = self._workers.get(run_id)
            run = await self.get(tenant, run_id)
            if worker is not None:
                await worker.journal.closed()
            elif run.state.is_final or run.state is RunState.WAITING:
                return run
            else:
                await anyio.sleep(pause_s)
                pause_s = min(2 * pause_s, _POLL_S[1])

    async def follow(self, tenant: str, run_id: str, *, after: int = 0) -> AsyncGenerator[RunEvent]:
        """Its events behind the number `after`, as they come; ends behind `run.ended`, or where it waits for its caller.

        Raises:
            NotFoundError: there is no such run, or it was deleted meanwhile.
        """
        await self.get(tenant, run_id)
        pause_s = _POLL_S[0]
        while True:
            worker = self._workers.get(run_id)
            run = None if worker is not None else await self.get(tenant, run_id)
            events = await self._behind(tenant, run_id, worker, after)
            for event in events:
                after = event.sequence
                yield event
            if events:
                pause_s = _POLL_S[0]
            elif run is not None and run.state.is_final:
                yield run_events.ended(run, after + 1)
                return
            elif run is not None and run.state is RunState.WAITING:
                return
            elif worker is not None:
                await worker.journal.more(after)
            else:
                await anyio.sleep(pause_s)
                pause_s = min(2 * pause_s, _POLL_S[1])

    async def _behind(self, tenant: str, run_id: str, worker: Worker | None, after: int) -> tuple[RunEvent, ...]:
        recent = worker.journal.behind(after) if worker is not None else None
        if recent is None:
            return await self._repository.runs.events(tenant, run_id, after=after, limit=_EVENTS)
        return recent

    async def items(self, tenant: str, run_id: str) -> tuple[Message, ...]:
        """What came out of it so far, oldest first."""
        found: list[Message] = []
        cursor = ""
        while True:
            page = await self._repository.messages.of_run(
                tenant, run_id, is_input=False, limit=100, cursor=cursor, oldest_first=True
            )
            found += page.items
            cursor = page.next_cursor
            if not cursor:
                return tuple(found)

    async def inputs(
        self, tenant: str, run_id: str, *, limit: int, cursor: str = "", oldest_first: bool = False
    ) -> Page[Message]:
        """What went into it."""
        return await self._repository.messages.of_run(
            tenant, run_id, is_input=True, limit=limit, cursor=cursor, oldest_first=oldest_first
        )

    # ------------------------------------------------------------------------------------------------------- change

    async def cancel(self, tenant: str, run_id: str) -> Run:
        """Have it end, wherever it goes on; the run as it is: `cancelling`, or over.  Code that runs is interrupted."""
        run = await self._repository.runs.cancel(tenant, run_id)
        if run_id in self._workers:
            self._workers[run_id].cancel()
        return run

    async def resume(self, tenant: str, run_id: str, outputs: Mapping[str, Any]) -> Run:
        """Go on with a run that waits, now that its caller has carried out what it waits for.

        Args:
            tenant: whose it is.
            run_id: one that waits.
            outputs: what came of each call, by its `call_id`: text, or a list of contents.

        Raises:
            ConflictError: it does not wait.
            UserInputError: not exactly the calls that it waits for.
        """
        run = await self.get(tenant, run_id)
        if run.state is not RunState.WAITING:
            raise ConflictError(f"the run does not wait for outputs of tools: it is {run.state.value}", stage="run")
        wanted = [call["call_id"] for call in await self.awaited(run)]
        if set(outputs) != set(wanted):
            raise UserInputError(
                "outputs are wanted for exactly these calls: " + ", ".join(wanted),
                stage="run",
                remedy="Submit all of them at once, and no others.",
            )
        results = [
            Message(
                tenant=tenant,
                conversation_id=run.conversation_id,
                role=Role.USER,
                parts=(Part(kind=parts.TOOL_RESULT, content={"call_id": call_id, "output": outputs[call_id]}),),
                run_id=run.id,
            )
            for call_id in wanted
        ]
        home = await self._home(run)
        is_elsewhere = home not in ("", self._upkeep.owner)
        run = await self._repository.runs.hand_over(
            tenant,
            run_id,
            Lease(owner=home, until=_in(_HAND_OVER_S)) if is_elsewhere else self._upkeep.lease(),
            state=RunState.QUEUED if is_elsewhere else RunState.RUNNING,
            owner=CALLER,
            messages=results,
        )
        if is_elsewhere:
            self._background.start(lambda: self._see_taken(run, home))
        else:
            self._begin(run, is_new=False)
        return run

    async def _home(self, run: Run) -> str:
        """The owner of the process that alone can go on with it; empty where any can."""
        request = RunRequest.from_dict(run.request)
        conversation = await self._repository.conversations.get(run.tenant, run.conversation_id)
        history = await load(self._repository, conversation, bounds=self._bounds, truncates=True)
        return await self._toolbox.home(run.tenant, request, history)

    async def awaited(self, run: Run) -> Sequence[Mapping[str, Any]]:
        """The calls that a waiting run waits for: `call_id`, `name`, `arguments` of each, oldest first."""
        made = await self.items(run.tenant, run.id)
        return [call.parts[0].content for call in unanswered(made) if not call.metadata.get("internal")]

    async def forget(self, tenant: str, run_id: str) -> None:
        """Delete a run that is over, with what was said in it; its conversation too where nothing else is in it.

        Raises:
            ConflictError: it is not over.
            NotFoundError: there is none.
        """
        run = await self.get(tenant, run_id)
        await self._repository.runs.delete(tenant, run_id)
        rest = await self._repository.messages.page(tenant, run.conversation_id, limit=1)
        others = await self._repository.runs.page(tenant, run.conversation_id, limit=1)
        if not rest.items and not others.items:
            with suppress(NotFoundError):
                await self._repository.conversations.delete(tenant, run.conversation_id)

    # --------------------------------------------------------------------------------------------------------- work

    async def _watch(self) -> None:
        """What others want of this process: runs to be cancelled, runs to be begun."""
        while True:
            await anyio.sleep(_LOOK_EVERY_S)
            try:
                owner = self._upkeep.owner
                for run in await self._repository.upkeep.runs(owner, (RunState.CANCELLING, RunState.QUEUED)):
                    await self._attend(run)
            except BichatError as error:
                logger.warning("runs could not be looked after: %s", error)
            except Exception:
                logger.exception("runs could not be looked after")

    async def _attend(self, run: Run) -> None:
        """Do what is wanted of a run that belongs to this process."""
        if run.id in self._workers:
            if run.state is RunState.CANCELLING:
                self._workers[run.id].cancel()
        elif run.state is RunState.QUEUED:
            await self._take(run)
        else:  # cancelled before it was begun
            with suppress(ConflictError, NotFoundError):
                await self._repository.runs.save(
                    run.tenant, replace(run, state=RunState.CANCELLED), owner=self._upkeep.owner
                )

    async def _take(self, run: Run) -> None:
        """Begin with a run that another process has given to this one."""
        owner = self._upkeep.owner
        with suppress(ConflictError, NotFoundError):
            lease = self._upkeep.lease()
            taken = await self._repository.runs.hand_over(
                run.tenant, run.id, lease, state=RunState.RUNNING, owner=owner
            )
            happened = await self._repository.runs.events(run.tenant, run.id, limit=1)
            self._begin(taken, is_new=not happened)

    async def _see_taken(self, run: Run, home: str) -> None:
        """Begin with a run that was given to another process, should that be gone: nothing of it has run there."""
        pause_s, most_s = _LOOK_AFTER_S
        while True:
            await anyio.sleep(pause_s)
            pause_s = min(2 * pause_s, most_s)
            try:
                run = await self._repository.runs.get(run.tenant, run.id)
                if run.state not in (RunState.QUEUED, RunState.CANCELLING) or not run.lease or run.lease.owner != home:
                    return
                await self._upkeep.sweep()  # what a process had that is gone, nobody has
                needed = await self._needed(run)
                if needed == home:
                    continue
                await self._take_back(run, home, needed)
                if needed in ("", self._upkeep.owner):
                    return
                home = needed
            except (ConflictError, NotFoundError):  # it was taken, or deleted
                return
            except BichatError as error:
                logger.warning("a run that waits for another process could not be looked after: %s", error)

    async def _needed(self, run: Run) -> str:
        """As `_home`; empty where its session has ended for good, which whoever works on it finds out."""
        try:
            return await self._home(run)
        except SessionEndedError:
            return ""

    async def _take_back(self, run: Run, home: str, needed: str) -> None:
        """Let a run that lies with `home` go on where it can now, here or elsewhere."""
        if run.state is RunState.CANCELLING:
            await self._repository.runs.save(run.tenant, replace(run, state=RunState.CANCELLED), owner=home)
        elif needed in ("", self._upkeep.owner):
            lease = self._upkeep.lease()
            taken = await self._repository.runs.hand_over(run.tenant, run.id, lease, state=RunState.RUNNING, owner=home)
            happened = await self._repository.runs.events(run.tenant, run.id, limit=1)
            self._begin(taken, is_new=not happened)
        else:
            lease = Lease(owner=needed, until=_in(_HAND_OVER_S))
            await self._repository.runs.hand_over(run.tenant, run.id, lease, state=RunState.QUEUED, owner=home)

    async def _work(self, worker: Worker) -> None:
        try:
            await worker.work()
        finally:
            del self._workers[worker.run.id]
            if not self._workers:
                self._is_idle.set()


def _inputs(run: Run, request: RunRequest) -> list[Message]:
    """What goes into a run, as messages of its conversation."""
    return [
        Message(
            tenant=run.tenant,
            conversation_id=run.conversation_id,
            role=said.role,
            author=request.user if said.role is Role.USER else "",
            parts=said.parts,
            run_id=run.id,
            is_input=True,
            status=said.status,
            metadata=said.metadata,
        )
        for said in request.inputs
    ]


def _in(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)
