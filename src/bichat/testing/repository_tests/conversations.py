"""Conversations are changed and listed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bichat.repository import ChatRepository
from bichat.repository.records import (
    Conversation,
)
from bichat.testing.repository_tests.chat import (
    Chat,
    everything,
    moment,
)


class ConversationTests:
    """Tests of `RepositoryConformance`."""

    pytestmark = pytest.mark.anyio

    async def test_conversations_are_changed_one_word_at_a_time(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        made = await chat.conversation(title="a", metadata={"k": 1})

        changed = await repository.conversations.change(tenant, made.id, archived=True)
        changed = await repository.conversations.change(tenant, made.id, title="b", pinned=True)

        assert changed == replace(made, title="b", pinned=True, archived=True, updated_at=changed.updated_at)
        assert changed.updated_at > made.updated_at
        assert (await repository.conversations.change(tenant, made.id, metadata={}, title="")).metadata == {}

    async def test_conversations_are_listed_by_user_and_without_archived_ones(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        mine = await chat.conversation(user="ann", created_at=moment(1))
        shelved = await chat.conversation(user="ann", archived=True, created_at=moment(2))
        theirs = await chat.conversation(user="bob", created_at=moment(3))

        async def listed(**others: Any) -> list[Conversation]:
            return await everything(repository.conversations.page, tenant, limit=1, **others)

        assert await listed() == [theirs, mine]
        assert await listed(user="ann") == [mine]
        assert await listed(user="ann", archived=None) == [shelved, mine]
        assert await listed(archived=True) == [shelved]
