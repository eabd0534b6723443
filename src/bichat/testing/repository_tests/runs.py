"""Runs have one owner at a time, and events that no stream loses."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from bichat.errors import ConflictError, NotFoundError
from bichat.repository import ChatRepository, new_id
from bichat.repository.records import (
    CALLER,
    Conversation,
    Message,
    Part,
    Role,
    Run,
    RunEvent,
    RunState,
)
from bichat.testing.repository_tests.chat import (
    Chat,
    everything,
    lease,
    moment,
)


class RunTests:
    """Tests of `RepositoryConformance`."""

    pytestmark = pytest.mark.anyio

    async def test_a_conversation_has_one_run_at_a_time(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        conversation, other = await chat.conversation(), await chat.conversation()
        run = await chat.run(conversation)
        await chat.run(other)

        for state in (RunState.QUEUED, RunState.RUNNING, RunState.WAITING, RunState.CANCELLING):
            await repository.runs.save(tenant, replace(run, state=state))
            with pytest.raises(ConflictError):
                await chat.run(conversation)
        assert (await repository.runs.active(tenant, conversation.id)) == await repository.runs.get(tenant, run.id)

        over = await repository.runs.save(tenant, replace(run, state=RunState.COMPLETED, usage={"tokens": 1}))
        assert (over.lease, over.usage) == (None, {"tokens": 1})
        assert over.ended_at is not None
        assert await repository.runs.active(tenant, conversation.id) is None
        following = await chat.run(conversation)
        assert await everything(repository.runs.page, tenant, conversation.id) == [following, over]

    async def test_of_many_runs_that_begin_at_once_one_does(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        conversation = await chat.conversation()
        begun: list[Run] = []

        async def begin() -> None:
            try:
                begun.append(await chat.run(conversation))
            except ConflictError:
                return

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(begin)

        assert len(begun) == 1
        assert await everything(repository.runs.page, tenant, conversation.id) == begun

    async def test_a_run_that_follows_another_one_is_recorded_where_that_is_the_newest(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        conversation = await chat.conversation()
        first = await repository.runs.save(tenant, replace(await chat.run(conversation), state=RunState.COMPLETED))

        async def follow(run: Run) -> Run:
            made = replace(run, id=new_id(), state=RunState.RUNNING, ended_at=None)
            return await repository.runs.add(tenant, made, after=first.id)

        second = await follow(first)
        with pytest.raises(ConflictError):
            await follow(first)  # the second goes on
        await repository.runs.save(tenant, replace(second, state=RunState.COMPLETED))
        with pytest.raises(ConflictError):
            await follow(first)  # it has come between

        assert [run.id for run in await everything(repository.runs.page, tenant, conversation.id)] == [
            second.id,
            first.id,
        ]

    async def test_a_run_is_found_by_the_attempt_that_began_it_until_its_caller_has_the_answer(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        runs: list[Run] = []
        for attempt in ("one", "one", "other", ""):
            conversation = await chat.conversation()
            run = Run(tenant=tenant, conversation_id=conversation.id, state=RunState.QUEUED, attempt=attempt)
            runs.append(await repository.runs.add(tenant, run))

        assert await repository.runs.attempted(tenant, "one") == runs[1]
        assert await repository.runs.attempted(tenant, "other") == runs[2]
        await repository.runs.save(tenant, replace(runs[2], state=RunState.COMPLETED))
        await repository.runs.answered(tenant, runs[1].id)
        await repository.runs.answered("somebody", runs[2].id)
        await repository.runs.answered(tenant, new_id())

        assert await repository.runs.attempted(tenant, "one") == runs[0]
        assert (await repository.runs.attempted(tenant, "other") or runs[0]).id == runs[2].id
        assert await repository.runs.attempted(tenant, "") is None
        assert await repository.runs.attempted("somebody", "other") is None

    async def test_only_who_holds_a_run_changes_it_and_what_is_over_stays_so(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        run = await chat.run(await chat.conversation())

        with pytest.raises(ConflictError):
            await repository.runs.save(tenant, replace(run, state=RunState.COMPLETED), owner="process-2")
        over = await repository.runs.save(tenant, replace(run, state=RunState.FAILED), owner="process-1")
        with pytest.raises(ConflictError):
            await repository.runs.save(tenant, replace(run, state=RunState.COMPLETED))
        with pytest.raises(ConflictError):
            await repository.runs.record(tenant, run.id, [("late", {})])

        assert await repository.runs.cancel(tenant, run.id) == over

    async def test_a_wish_to_cancel_outlives_what_the_owner_saves(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        run = await chat.run(await chat.conversation())
        await repository.runs.cancel(tenant, run.id)

        seen = await repository.runs.save(tenant, replace(run, usage={"tokens": 3}), owner="process-1")

        assert (seen.state, seen.usage, seen.lease) == (RunState.CANCELLING, {"tokens": 3}, run.lease)
        over = await repository.runs.save(tenant, replace(run, state=RunState.CANCELLED), owner="process-1")
        assert over.state is RunState.CANCELLED

    async def test_a_stream_is_picked_up_again_where_it_was_lost(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        run = await chat.run(await chat.conversation())

        assert await repository.runs.record(tenant, run.id, []) == 0
        assert await repository.runs.record(tenant, run.id, [("text", {"n": 1}), ("text", {"n": "\0"})]) == 2
        assert await repository.runs.record(tenant, run.id, [("done", {})]) == 3

        assert await repository.runs.events(tenant, run.id, after=1) == (
            RunEvent(sequence=2, kind="text", payload={"n": "\0"}),
            RunEvent(sequence=3, kind="done", payload={}),
        )
        assert [event.sequence for event in await repository.runs.events(tenant, run.id, limit=2)] == [1, 2]

    async def test_events_recorded_side_by_side_are_numbered_without_gaps(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        run = await chat.run(await chat.conversation())

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(repository.runs.record, tenant, run.id, [("a", {"n": number}), ("b", {"n": number})])

        events = await repository.runs.events(tenant, run.id)
        assert [event.sequence for event in events] == list(range(1, 21))
        assert [(one.kind, other.kind) for one, other in zip(events[::2], events[1::2], strict=True)] == [
            ("a", "b")
        ] * 10

    async def test_a_run_is_handed_over_by_its_owner_and_by_nobody_else(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        run = await chat.run(await chat.conversation())
        to_second = lease("process-2")

        with pytest.raises(ConflictError):
            await repository.runs.hand_over(tenant, run.id, to_second, state=RunState.QUEUED, owner="process-2")
        said = Message(tenant=tenant, conversation_id=run.conversation_id, role=Role.USER, run_id=run.id)
        given = await repository.runs.hand_over(
            tenant,
            run.id,
            to_second,
            state=RunState.QUEUED,
            owner="process-1",
            events=[("given", {})],
            messages=[said],
        )

        assert (given.state, given.lease, given.started_at) == (RunState.QUEUED, to_second, None)
        assert (await repository.messages.of_run(tenant, run.id, is_input=False)).items == (said,)
        assert [event.kind for event in await repository.runs.events(tenant, run.id)] == ["given"]
        assert await repository.runs.get(tenant, run.id) == given
        assert given in await repository.upkeep.runs("process-2", [RunState.QUEUED])
        assert given not in await repository.upkeep.runs("process-2", [RunState.RUNNING])
        assert given not in await repository.upkeep.runs("process-1", [RunState.QUEUED])
        with pytest.raises(ConflictError):
            await repository.runs.save(tenant, replace(run, state=RunState.COMPLETED), owner="process-1")
        await repository.runs.cancel(tenant, run.id)
        with pytest.raises(ConflictError):
            await repository.runs.hand_over(tenant, run.id, lease(), state=RunState.QUEUED, owner="process-2")

    async def test_a_run_is_described_otherwise_whether_it_is_over_or_not(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        run = await chat.run(await chat.conversation(), metadata={"a": "1"})
        first = await repository.runs.describe(tenant, run.id, {"b": "2"})
        over = await repository.runs.save(tenant, replace(first, state=RunState.COMPLETED))

        second = await repository.runs.describe(tenant, run.id, {"c": "3"})

        assert first == replace(run, metadata={"b": "2"})
        assert second == replace(over, metadata={"c": "3"})
        assert await repository.runs.get(tenant, run.id) == second

    async def test_a_run_that_waits_for_its_caller_is_cancelled_at_once_and_expires_in_the_end(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        waiting = [
            await chat.run(await chat.conversation(), state=RunState.WAITING, lease=lease(CALLER, moment(1)))
            for _ in range(2)
        ]
        unwanted = await chat.run(await chat.conversation(), lease=lease(until=moment(1)))
        await repository.runs.cancel(tenant, unwanted.id)

        cancelled = await repository.runs.cancel(tenant, waiting[0].id)
        await repository.upkeep.sweep(moment(2))
        expired = await repository.runs.get(tenant, waiting[1].id)

        assert (cancelled.state, cancelled.lease) == (RunState.CANCELLED, None)
        assert cancelled.ended_at is not None
        assert (expired.state, expired.error, expired.lease) == (RunState.EXPIRED, None, None)
        unwanted = await repository.runs.get(tenant, unwanted.id)
        assert (unwanted.state, unwanted.error) == (RunState.CANCELLED, None)

    async def test_a_run_is_deleted_with_its_events_and_with_what_was_said_in_it(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        conversation = await chat.conversation()
        before = await chat.message(conversation, "before")
        run = await chat.run(conversation)
        asked = await chat.message(conversation, "asked", run_id=run.id, is_input=True)
        said = await chat.message(conversation, "said", run_id=run.id)
        await repository.runs.record(tenant, run.id, [("text", {})])
        with pytest.raises(ConflictError):
            await repository.runs.delete(tenant, run.id)
        assert (await repository.messages.of_run(tenant, run.id, is_input=True)).items == (asked,)
        assert (await repository.messages.of_run(tenant, run.id, is_input=False)).items == (said,)
        await repository.runs.save(tenant, replace(run, state=RunState.COMPLETED))
        execution = await chat.execution(message_id=said.id)
        made = await chat.output(execution, message_id=said.id)

        await repository.runs.delete(tenant, run.id)

        with pytest.raises(NotFoundError):
            await repository.runs.get(tenant, run.id)
        assert (await repository.messages.page(tenant, conversation.id)).items == (before,)
        assert (await repository.executions.get(tenant, execution.id)).message_id is None
        assert (await repository.outputs.get(tenant, made.id)).message_id is None

    async def test_a_run_comes_with_its_conversation_and_its_inputs_or_not_at_all(
        self, repository: ChatRepository, tenant: str
    ) -> None:
        conversation = Conversation(tenant=tenant)
        run = Run(tenant=tenant, conversation_id=conversation.id, state=RunState.RUNNING, lease=lease())
        asked = Message(tenant=tenant, conversation_id=conversation.id, role=Role.USER, run_id=run.id, is_input=True)

        assert await repository.runs.add(tenant, run, conversation=conversation, inputs=[asked]) == run
        second, more = replace(run, id=new_id()), replace(asked, id=new_id())
        with pytest.raises(ConflictError):
            await repository.runs.add(tenant, second, inputs=[more])

        assert (await repository.messages.of_run(tenant, run.id, is_input=True)).items == (asked,)
        assert (await repository.messages.page(tenant, conversation.id)).items == (asked,)

    async def test_events_come_with_the_messages_that_they_tell_of_or_not_at_all(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        conversation = await chat.conversation()
        run = await chat.run(conversation)
        part = Part(kind="text", content={"text": "so far"})
        begun = Message(
            tenant=tenant, conversation_id=conversation.id, role=Role.ASSISTANT, run_id=run.id, status="in_progress"
        )
        done = replace(begun, parts=(part,), status="completed")

        assert await repository.runs.record(tenant, run.id, [("added", {})], messages=[begun]) == 1
        assert await repository.messages.get(tenant, begun.id) == begun
        other = replace(begun, id=new_id(), parts=(part, part))
        assert await repository.runs.record(tenant, run.id, [("done", {})], messages=[done, other]) == 2

        assert (await repository.messages.of_run(tenant, run.id, is_input=False)).items == (other, done)
        await repository.runs.save(tenant, replace(run, state=RunState.COMPLETED))
        with pytest.raises(ConflictError):
            await repository.runs.record(tenant, run.id, [], messages=[begun])
        assert await repository.messages.get(tenant, begun.id) == done
