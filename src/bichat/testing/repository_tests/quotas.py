"""What a tenant may keep."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from bichat.errors import LimitError, UserInputError
from bichat.repository import ChatRepository
from bichat.repository.ids import new_id
from bichat.repository.moments import utc_now
from bichat.repository.quota import MAX_RETENTION_DAYS
from bichat.repository.records import Message, Part, Policy, Pruned, Role, Usage
from bichat.testing.repository_tests.chat import (
    Chat,
    stored,
    upload,
)


class QuotaTests:
    """Tests of `RepositoryConformance`."""

    pytestmark = pytest.mark.anyio

    async def test_a_quota_is_refused_before_any_byte_is_written(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        execution = await chat.execution()
        await repository.tenants.set_policy(tenant, Policy(quota_bytes=10))
        await chat.output(execution, size_bytes=7)
        await repository.files.reserve(tenant, upload(tenant, size_bytes=3))

        with pytest.raises(LimitError):
            await chat.upload(size_bytes=1)
        with pytest.raises(LimitError):
            await chat.output(execution, size_bytes=1)

        assert await repository.tenants.usage(tenant) == Usage(size_bytes=7 + 3, files=2)

    async def test_a_file_that_grew_is_counted_again_when_it_is_published(
        self, repository: ChatRepository, tenant: str
    ) -> None:
        await repository.tenants.set_policy(tenant, Policy(quota_bytes=10))
        file = await repository.files.reserve(tenant, upload(tenant, size_bytes=4))

        with pytest.raises(LimitError):
            await repository.files.publish(tenant, file.id, stored(file.storage_key, b"x" * 11))
        await repository.files.publish(tenant, file.id, stored(file.storage_key, b"x" * 10))

        assert await repository.tenants.usage(tenant) == Usage(size_bytes=10, files=1)

    async def test_the_number_of_files_has_a_quota_that_deleting_gives_back(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        await repository.tenants.set_policy(tenant, Policy(quota_files=1))
        assert await repository.tenants.policy(tenant) == Policy(quota_files=1)
        file = await chat.upload()

        with pytest.raises(LimitError):
            await chat.upload()
        await repository.files.delete(tenant, file.id)
        await chat.upload()
        await repository.tenants.set_policy(tenant, Policy())
        await chat.upload()

    async def test_many_that_reserve_at_once_stay_within_the_quota(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        await repository.tenants.set_policy(tenant, Policy(quota_files=3))
        refused: list[LimitError] = []

        async def try_one() -> None:
            try:
                await chat.upload()
            except LimitError as error:
                refused.append(error)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(try_one)

        assert len(refused) == 7
        assert (await repository.tenants.usage(tenant)).files == 3

    async def test_what_is_said_counts_and_is_refused_above_the_quota_until_something_is_deleted(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        conversation = await chat.conversation()
        message = await chat.message(conversation, "x" * 10_000)
        said = await repository.tenants.usage(tenant)
        assert 10_000 < said.row_bytes < 13_000
        await repository.tenants.set_policy(tenant, Policy(quota_bytes=said.row_bytes + 5_000))

        with pytest.raises(LimitError):
            await chat.message(conversation, "y" * 10_000)
        with pytest.raises(LimitError):
            await repository.messages.add_all(tenant, [replace(message, id=new_id())])
        with pytest.raises(LimitError):
            await chat.run(conversation, request={"view": "z" * 10_000})
        with pytest.raises(LimitError):
            await chat.conversation(metadata={"metadata": "z" * 10_000})
        with pytest.raises(LimitError):
            await chat.upload(size_bytes=10_000)
        assert await repository.tenants.usage(tenant) == said
        await repository.messages.delete(tenant, message.id)
        await chat.message(conversation, "y" * 10_000)

        run = await chat.run(conversation)
        answer = Message(
            tenant=tenant,
            conversation_id=conversation.id,
            role=Role.ASSISTANT,
            parts=(Part(kind="text", content={"text": "a" * 10_000}),),
            run_id=run.id,
        )
        await repository.runs.record(tenant, run.id, [], messages=[answer])  # what was answered is kept
        assert (await repository.tenants.usage(tenant)).row_bytes > 20_000
        await repository.conversations.delete(tenant, conversation.id)
        assert await repository.tenants.usage(tenant) == Usage(size_bytes=0, files=0)

    async def test_a_policy_of_impossible_numbers_is_refused(self, repository: ChatRepository, tenant: str) -> None:
        for policy in (
            Policy(quota_bytes=-1),
            Policy(quota_bytes=1 << 63),
            Policy(quota_files=-5),
            Policy(quota_files=1 << 63),
            Policy(retention_days=float("nan")),
            Policy(retention_days=float("inf")),
            Policy(retention_days=1e9),
        ):
            with pytest.raises(UserInputError):
                await repository.tenants.set_policy(tenant, policy)

    async def test_the_longest_retention_keeps_nobody_from_being_pruned(
        self, repository: ChatRepository, tenant: str
    ) -> None:
        longest = Policy(retention_days=MAX_RETENTION_DAYS, quota_bytes=(1 << 63) - 1, quota_files=(1 << 63) - 1)
        await repository.tenants.set_policy(tenant, longest)

        assert await repository.upkeep.prune(utc_now()) == Pruned()
        assert await repository.tenants.policy(tenant) == longest
