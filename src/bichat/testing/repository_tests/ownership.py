"""Nobody sees what is another tenant's, and nobody is everybody."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from bichat.errors import ConflictError, NotFoundError, UserInputError
from bichat.repository import ChatRepository, new_id
from bichat.repository.records import (
    ApiKey,
    AuditEntry,
    Conversation,
    Policy,
    RunState,
)
from bichat.testing.repository_tests.chat import (
    Chat,
    everything,
    moment,
    stored,
    tenant_name,
    upload,
)

NO_TENANTS: tuple[Any, ...] = ("", " ", "a/b", "..", "a" * 65, "\0", None)
NO_IDS = ("", "1", "' OR 1=1 --", "../../x", "\0", "g" * 36)


class OwnershipTests:
    """Tests of `RepositoryConformance`."""

    pytestmark = pytest.mark.anyio

    @pytest.mark.parametrize("nobody", NO_TENANTS)
    async def test_no_tenant_is_an_error_and_never_everybody(self, repository: ChatRepository, nobody: Any) -> None:
        some = new_id()
        attempts: list[Callable[[], Awaitable[Any]]] = [
            lambda: repository.conversations.add(nobody, Conversation(tenant=nobody)),
            lambda: repository.conversations.get(nobody, some),
            lambda: repository.conversations.page(nobody),
            lambda: repository.conversations.change(nobody, some, title="x"),
            lambda: repository.conversations.delete(nobody, some),
            lambda: repository.messages.get(nobody, some),
            lambda: repository.messages.page(nobody, some),
            lambda: repository.messages.append(nobody, some, ()),
            lambda: repository.messages.delete(nobody, some),
            lambda: repository.messages.truncate_from(nobody, some),
            lambda: repository.runs.get(nobody, some),
            lambda: repository.runs.active(nobody, some),
            lambda: repository.runs.page(nobody, some),
            lambda: repository.runs.cancel(nobody, some),
            lambda: repository.runs.record(nobody, some, [("a", {})]),
            lambda: repository.runs.events(nobody, some),
            lambda: repository.sessions.get(nobody, some),
            lambda: repository.sessions.page(nobody),
            lambda: repository.sessions.delete(nobody, some),
            lambda: repository.executions.get(nobody, some),
            lambda: repository.executions.page(nobody, some),
            lambda: repository.executions.delete(nobody, some),
            lambda: repository.outputs.get(nobody, some),
            lambda: repository.outputs.page(nobody),
            lambda: repository.outputs.publish(nobody, some, stored("a")),
            lambda: repository.outputs.abandon(nobody, some),
            lambda: repository.outputs.delete(nobody, some),
            lambda: repository.files.reserve(nobody, upload(nobody)),
            lambda: repository.files.get(nobody, some),
            lambda: repository.files.page(nobody),
            lambda: repository.files.delete(nobody, some),
            lambda: repository.keys.page(nobody),
            lambda: repository.keys.revoke(nobody, some, moment()),
            lambda: repository.keys.use(nobody, some, moment()),
            lambda: repository.tenants.policy(nobody),
            lambda: repository.tenants.set_policy(nobody, Policy()),
            lambda: repository.tenants.usage(nobody),
            lambda: repository.tenants.delete(nobody),
            lambda: repository.audit.page(nobody),
            lambda: repository.audit.add(nobody, AuditEntry(tenant=nobody, action="a", outcome="b")),
        ]

        for attempt in attempts:
            with pytest.raises(UserInputError):
                await attempt()

    async def test_another_tenants_ids_and_ids_that_never_were_are_not_found(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        conversation = await chat.conversation()
        message = await chat.message(conversation, "x")
        run = await chat.run(conversation)
        session = await chat.session()
        execution = await chat.execution(session)
        made = await chat.output(execution)
        file = await chat.upload()
        key = await repository.keys.add(
            tenant, ApiKey(tenant=tenant, name="k", prefix="bk", sha256=secrets.token_hex(32))
        )

        for whose, them in (
            (tenant_name(), (conversation, message, run, session, execution, made, file, key)),
            *((tenant, tuple(replace(conversation, id=no_id) for _ in range(8))) for no_id in (*NO_IDS, new_id())),
        ):
            ids = [record.id for record in them]
            for attempt in _look_ups(repository, whose, ids):
                with pytest.raises(NotFoundError):
                    await attempt()
        assert await repository.messages.get(tenant, message.id) == message
        assert await repository.outputs.get(tenant, made.id) == made
        assert (await repository.runs.get(tenant, run.id)).state is RunState.RUNNING

    async def test_nothing_is_added_to_what_is_another_tenants(self, repository: ChatRepository, chat: Chat) -> None:
        theirs = Chat(repository, tenant_name())
        conversation = await theirs.conversation()
        message = await theirs.message(conversation)
        session, execution = await theirs.session(), await theirs.execution()

        attempts: list[Callable[[], Awaitable[Any]]] = [
            lambda: chat.message(conversation, "x"),
            lambda: chat.run(conversation),
            lambda: chat.session(conversation_id=conversation.id),
            lambda: chat.execution(session),
            lambda: chat.execution(message_id=message.id),
            lambda: chat.output(execution),
        ]

        for attempt in attempts:
            with pytest.raises(NotFoundError):
                await attempt()
        with pytest.raises(UserInputError):
            await repository.conversations.add(chat.tenant, Conversation(tenant=theirs.tenant))

    async def test_lists_hold_the_tenants_own_and_no_others(self, repository: ChatRepository, chat: Chat) -> None:
        theirs = Chat(repository, tenant_name())
        for whose in (chat, theirs):
            execution = await whose.execution()
            await whose.output(execution)
            await whose.upload()
            await whose.conversation()

        for page in (
            repository.conversations.page,
            repository.sessions.page,
            repository.outputs.page,
            repository.files.page,
        ):
            assert [record.tenant for record in await everything(page, chat.tenant)] == [chat.tenant]

    async def test_an_id_is_taken_once(self, repository: ChatRepository, chat: Chat, tenant: str) -> None:
        conversation = await chat.conversation()
        message = await chat.message(conversation, "x")
        file = await chat.upload()

        with pytest.raises(ConflictError):
            await repository.conversations.add(tenant, conversation)
        with pytest.raises(ConflictError):
            await repository.messages.add(tenant, message)
        with pytest.raises(ConflictError):
            await chat.upload(storage_key=file.storage_key)


def _look_ups(repository: ChatRepository, tenant: str, ids: list[str]) -> list[Callable[[], Awaitable[Any]]]:
    """Every method that takes an id, with ids that must not be found."""
    conversation, message, run, session, execution, made, file, key = ids
    return [
        lambda: repository.conversations.get(tenant, conversation),
        lambda: repository.conversations.change(tenant, conversation, title="x"),
        lambda: repository.conversations.delete(tenant, conversation),
        lambda: repository.messages.get(tenant, message),
        lambda: repository.messages.page(tenant, conversation),
        lambda: repository.messages.append(tenant, message, ()),
        lambda: repository.messages.delete(tenant, message),
        lambda: repository.messages.truncate_from(tenant, message),
        lambda: repository.runs.get(tenant, run),
        lambda: repository.runs.active(tenant, conversation),
        lambda: repository.runs.page(tenant, conversation),
        lambda: repository.runs.cancel(tenant, run),
        lambda: repository.runs.describe(tenant, run, {}),
        lambda: repository.runs.record(tenant, run, [("a", {})]),
        lambda: repository.runs.events(tenant, run),
        lambda: repository.sessions.get(tenant, session),
        lambda: repository.sessions.delete(tenant, session),
        lambda: repository.executions.get(tenant, execution),
        lambda: repository.executions.page(tenant, session),
        lambda: repository.executions.delete(tenant, execution),
        lambda: repository.outputs.get(tenant, made),
        lambda: repository.outputs.publish(tenant, made, stored("a")),
        lambda: repository.outputs.delete(tenant, made),
        lambda: repository.files.get(tenant, file),
        lambda: repository.files.publish(tenant, file, stored("a")),
        lambda: repository.files.delete(tenant, file),
        lambda: repository.keys.use(tenant, key, moment()),
        lambda: repository.keys.revoke(tenant, key, moment()),
    ]
