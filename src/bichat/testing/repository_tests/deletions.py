"""Deleting takes everything along, and forgets no bytes."""

from __future__ import annotations

import random
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from bichat.errors import NotFoundError
from bichat.repository import ChatRepository
from bichat.repository.chat_repository import CLAIM_S, MAX_BACKOFF_S
from bichat.repository.records import (
    ApiKey,
    AuditEntry,
    CodeInterpreterOutput,
    Deletion,
    ExecutionRecord,
    Message,
    Policy,
    Role,
    Usage,
)
from bichat.testing.repository_tests.chat import (
    Chat,
    everything,
    lease,
    moment,
    output,
    stored,
    tenant_name,
)


class DeletionTests:
    """Tests of `RepositoryConformance`."""

    pytestmark = pytest.mark.anyio

    @pytest.mark.parametrize(
        "what", ["message", "conversation", "session", "execution", "output", "tenant", "truncate"]
    )
    async def test_deleting_notes_every_key_of_what_goes_with_it(
        self, repository: ChatRepository, chat: Chat, tenant: str, what: str
    ) -> None:
        conversation = await chat.conversation()
        message = await chat.message(conversation, "x")
        session = await chat.session(conversation_id=conversation.id)
        execution = await chat.execution(session, message_id=message.id)
        made = await chat.output(execution, message_id=message.id)
        pending = await repository.outputs.reserve(tenant, output(tenant, execution.id))
        bystander = Chat(repository, tenant_name())
        untouched = await bystander.output(await bystander.execution())

        deletions: dict[str, Callable[[], Awaitable[Any]]] = {
            "message": lambda: repository.messages.delete(tenant, message.id),
            "truncate": lambda: repository.messages.truncate_from(tenant, message.id),
            "conversation": lambda: repository.conversations.delete(tenant, conversation.id),
            "session": lambda: repository.sessions.delete(tenant, session.id),
            "execution": lambda: repository.executions.delete(tenant, execution.id),
            "output": lambda: repository.outputs.delete(tenant, made.id),
            "tenant": lambda: repository.tenants.delete(tenant),
        }
        await deletions[what]()

        noted = {key: deletion.reason for key, deletion in (await chat.waiting()).items()}
        expected = {made.storage_key: "deleted"}
        if what != "output":
            expected[pending.storage_key] = "abandoned"
            with pytest.raises(NotFoundError):
                await repository.executions.get(tenant, execution.id)
        assert noted == expected
        with pytest.raises(NotFoundError):
            await repository.outputs.get(tenant, made.id)
        assert await repository.outputs.get(bystander.tenant, untouched.id) == untouched
        assert await bystander.waiting() == {}

    @pytest.mark.parametrize("seed", range(5))
    async def test_whatever_happens_in_whatever_order_no_bytes_are_forgotten_and_none_are_deleted_too_early(
        self, repository: ChatRepository, chat: Chat, tenant: str, seed: int
    ) -> None:
        chance = random.Random(seed)  # noqa: S311  # an order that can be had again
        conversations = [await chat.conversation() for _ in range(3)]
        sessions = [await chat.session(conversation_id=chance.choice(conversations).id) for _ in range(3)]
        messages: list[Message] = []
        executions: list[ExecutionRecord] = []
        reserved: dict[str, CodeInterpreterOutput] = {}

        async def reserve() -> None:
            execution = chance.choice(executions)
            until = lease(until=moment(chance.randint(0, 2)))
            made = await repository.outputs.reserve(tenant, output(tenant, execution.id, lease=until))
            reserved[made.storage_key] = made

        async def publish() -> None:
            made = chance.choice(list(reserved.values()))
            await repository.outputs.publish(tenant, made.id, stored(made.storage_key))

        async def say() -> None:
            some = [chance.choice(executions).id] if executions else []
            record = Message(tenant=tenant, conversation_id=chance.choice(conversations).id, role=Role.ASSISTANT)
            messages.append(await repository.messages.add(tenant, record, executions=some))

        async def execute() -> None:
            executions.append(await chat.execution(chance.choice(sessions)))

        async def end() -> None:
            if chance.random() < 0.1:
                await repository.sessions.delete(tenant, chance.choice(sessions).id)

        steps: list[Callable[[], Awaitable[Any]]] = [
            *[execute, reserve, reserve, publish, publish, say],
            lambda: repository.outputs.abandon(tenant, chance.choice(list(reserved.values())).id),
            lambda: repository.outputs.delete(tenant, chance.choice(list(reserved.values())).id),
            lambda: repository.messages.delete(tenant, chance.choice(messages).id),
            lambda: repository.messages.truncate_from(tenant, chance.choice(messages).id),
            lambda: repository.executions.delete(tenant, chance.choice(executions).id),
            lambda: repository.upkeep.sweep(moment(1)),
            end,
        ]
        for _ in range(120):
            with suppress(NotFoundError, IndexError):
                await chance.choice(steps)()

        kept = {made.storage_key for made in await everything(repository.outputs.page, tenant)}
        noted = set(await chat.waiting())
        assert kept.isdisjoint(noted)
        usage = await repository.tenants.usage(tenant)
        assert usage.files == len(reserved) - len(noted)
        await repository.tenants.delete(tenant)
        assert set(await chat.waiting()) == set(reserved)

    async def test_a_tenant_that_is_deleted_leaves_its_audit_and_nothing_else(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        conversation = await chat.conversation()
        await chat.message(conversation, "x")
        await chat.run(conversation)
        file = await chat.upload()
        key = ApiKey(tenant=tenant, name="k", prefix="bk", sha256=secrets.token_hex(32))
        await repository.keys.add(tenant, key)
        await repository.tenants.set_policy(tenant, Policy(quota_files=1))
        entry = AuditEntry(tenant=tenant, action="execution", outcome="completed", at=moment())
        await repository.audit.add(tenant, entry)

        await repository.tenants.delete(tenant)

        assert (await repository.conversations.page(tenant)).items == ()
        assert (await repository.keys.page(tenant)).items == ()
        assert await repository.tenants.policy(tenant) == Policy()
        assert await repository.tenants.usage(tenant) == Usage(size_bytes=0, files=0)
        with pytest.raises(NotFoundError):
            await repository.keys.find(key.sha256)
        assert set(await chat.waiting()) == {file.storage_key}
        assert (await repository.audit.page(tenant)).items == (entry,)

    async def test_a_deletion_is_claimed_by_one_tried_again_ever_later_and_dropped_by_success_alone(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        file = await chat.upload()
        await repository.files.delete(tenant, file.id)
        now = datetime.now(UTC) + timedelta(minutes=1)

        async def claimed(at: datetime) -> list[Deletion]:
            return [one for one in await repository.outbox.claim(at, limit=100_000) if one.tenant == tenant]

        (deletion,) = await claimed(now)
        assert (deletion.storage_key, deletion.attempts) == (file.storage_key, 1)
        assert await claimed(now) == []
        # Whoever claimed it is gone: once the claim is over it is somebody else's.
        now += timedelta(seconds=CLAIM_S + 1)
        assert [one.attempts for one in await claimed(now)] == [2]

        waits: list[float] = []
        for _ in range(14):
            await repository.outbox.failed(deletion.id, "disk\0 on fire" * 100, now)
            (waiting,) = (await chat.waiting()).values()
            assert waiting.last_error.startswith("disk\0 on fire")
            waits.append((waiting.next_attempt_at - now).total_seconds())
            assert await claimed(waiting.next_attempt_at - timedelta(seconds=1)) == []
            now = waiting.next_attempt_at
            assert len(await claimed(now)) == 1
        assert waits == [min(30.0 * 2**attempt, MAX_BACKOFF_S) for attempt in range(1, 15)]

        await repository.outbox.done(deletion.id)
        await repository.outbox.done(deletion.id)
        assert await chat.waiting() == {}

    async def test_claims_that_are_made_side_by_side_do_not_meet(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        for _ in range(20):
            await repository.files.delete(tenant, (await chat.upload()).id)
        now = datetime.now(UTC) + timedelta(minutes=1)
        claimed: list[str] = []

        async def work() -> None:
            while some := await repository.outbox.claim(now, limit=3):
                claimed.extend(one.storage_key for one in some if one.tenant == tenant)

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(work)

        assert sorted(claimed) == sorted(await chat.waiting())
        assert len(claimed) == 20
