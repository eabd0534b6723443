"""Rows with bytes: reserved, published, given up."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from bichat.errors import NotFoundError, UserInputError
from bichat.repository import ChatRepository, new_id
from bichat.repository.records import (
    CodeInterpreterOutput,
    FileState,
)
from bichat.testing.repository_tests.chat import (
    Chat,
    everything,
    output,
    stored,
    upload,
)


class KeptFileTests:
    """Tests of `RepositoryConformance`."""

    pytestmark = pytest.mark.anyio

    async def test_a_file_is_nowhere_to_be_seen_before_its_bytes_are_there(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        execution = await chat.execution()
        made = await repository.outputs.reserve(tenant, output(tenant, execution.id))
        file = await repository.files.reserve(tenant, upload(tenant))

        assert (made.state, file.state) == (FileState.PENDING, FileState.PENDING)
        for kept, record in ((repository.outputs, made), (repository.files, file)):
            with pytest.raises(NotFoundError):
                await kept.get(tenant, record.id)
            with pytest.raises(NotFoundError):
                await kept.delete(tenant, record.id)
            assert await everything(kept.page, tenant) == []
        content = b"more than was said"
        published = await repository.files.publish(tenant, file.id, stored(file.storage_key, content))

        assert published == replace(
            file,
            state=FileState.AVAILABLE,
            lease=None,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        assert await everything(repository.files.page, tenant) == [published]

    async def test_what_was_published_or_given_up_is_not_published_again(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        file = await chat.upload()
        given_up = await repository.files.reserve(tenant, upload(tenant))
        await repository.files.abandon(tenant, given_up.id)
        await repository.files.abandon(tenant, given_up.id)
        await repository.files.abandon(tenant, file.id)

        for record in (file, given_up):
            with pytest.raises(NotFoundError):
                await repository.files.publish(tenant, record.id, stored(record.storage_key))
        assert await repository.files.get(tenant, file.id) == file
        assert {key: deletion.reason for key, deletion in (await chat.waiting()).items()} == {
            given_up.storage_key: "abandoned"
        }

    async def test_a_reservation_without_a_lease_is_refused(self, chat: Chat) -> None:
        with pytest.raises(UserInputError):
            await chat.upload(lease=None)

    async def test_outputs_are_listed_by_message_execution_and_session(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        session = await chat.session()
        first, second = await chat.execution(session), await chat.execution(session)
        elsewhere = await chat.output(await chat.execution())
        made = [await chat.output(first, name="a"), await chat.output(second, name="b")]

        async def listed(**others: Any) -> list[CodeInterpreterOutput]:
            return await everything(repository.outputs.page, tenant, limit=1, **others)

        assert await listed(execution_id=first.id) == made[:1]
        assert await listed(session_id=session.id) == made[::-1]
        assert await listed() == [*made[::-1], elsewhere]
        assert await listed(message_id=new_id()) == []

    async def test_files_are_listed_by_user_and_purpose(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        anns, bobs = await chat.upload(user="ann"), await chat.upload(user="bob", purpose="assistants")

        assert await everything(repository.files.page, tenant, user="ann") == [anns]
        assert await everything(repository.files.page, tenant, purpose="assistants") == [bobs]
        assert await everything(repository.files.page, tenant, purpose="assistants", user="ann") == []
        session = await chat.session()
        inside = await chat.upload(user="ann", session_id=session.id)
        assert await everything(repository.files.page, tenant, in_session=True) == [inside]
        assert await everything(repository.files.page, tenant, in_session=False, oldest_first=True) == [anns, bobs]
