"""History in pages, and messages that are saved whole or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bichat.errors import ConflictError, NotFoundError, UserInputError
from bichat.repository import ChatRepository, new_id
from bichat.repository.records import (
    FileState,
    Message,
    Part,
    Role,
)
from bichat.testing.repository_tests.chat import (
    Chat,
    everything,
    moment,
    output,
    stored,
)


class MessageTests:
    """Tests of `RepositoryConformance`."""

    pytestmark = pytest.mark.anyio

    async def test_history_comes_newest_first_page_by_page_and_parts_in_their_order(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        conversation, other = await chat.conversation(), await chat.conversation()
        # Several at the same moment: then ids decide.
        said = [
            await chat.message(
                conversation, *(f"{number}.{part}" for part in range(12)), created_at=moment(number // 3)
            )
            for number in range(23)
        ]
        await chat.message(other, "elsewhere")

        found = await everything(repository.messages.page, tenant, conversation.id)

        assert found == said[::-1]
        oldest_first = await everything(repository.messages.page, tenant, conversation.id, oldest_first=True)
        assert oldest_first == said

    async def test_more_messages_than_one_page_never_lose_the_newest(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        conversation = await chat.conversation()
        said = [await chat.message(conversation, str(number), created_at=moment(number)) for number in range(101)]

        first = await repository.messages.page(tenant, conversation.id, limit=100)

        assert first.items == tuple(reversed(said[1:]))
        rest = await repository.messages.page(tenant, conversation.id, limit=100, cursor=first.next_cursor)
        assert (rest.items, rest.next_cursor) == ((said[0],), "")

    async def test_many_messages_are_saved_at_once_or_none_of_them(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        conversation = await chat.conversation()
        said = [
            Message(
                tenant=tenant,
                conversation_id=conversation.id,
                role=Role.USER,
                parts=tuple(Part(kind="text", content={"text": f"{number}.{part}"}) for part in range(number % 3)),
            )
            for number in range(250)
        ]

        await repository.messages.add_all(tenant, said)
        await repository.messages.add_all(tenant, [])
        more = replace(said[0], id=new_id())
        with pytest.raises(ConflictError):
            await repository.messages.add_all(tenant, [more, said[1]])

        assert await everything(repository.messages.page, tenant, conversation.id, limit=100) == said[::-1]

    async def test_a_message_is_saved_with_other_parts_in_the_place_of_those_that_it_had(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        before = await chat.message(await chat.conversation(), "a", "b", "c", status="in_progress")
        wanted = replace(
            before, parts=(Part(kind="code", content={"code": "1"}),), status="completed", metadata={"n": 1}
        )

        saved = await repository.messages.save(tenant, wanted)

        assert saved == wanted == await repository.messages.get(tenant, before.id)
        with pytest.raises(NotFoundError):
            await repository.messages.save(tenant, replace(wanted, id=new_id()))

    async def test_messages_that_come_while_pages_are_turned_double_nothing(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        conversation = await chat.conversation()
        said = [await chat.message(conversation, str(number), created_at=moment(number)) for number in range(6)]
        first = await repository.messages.page(tenant, conversation.id, limit=3)
        await chat.message(conversation, "new", created_at=moment(100))
        await repository.messages.delete(tenant, said[1].id)

        rest = await repository.messages.page(tenant, conversation.id, limit=3, cursor=first.next_cursor)

        assert rest.items == (said[2], said[0])

    async def test_a_page_that_cannot_be_is_refused(self, repository: ChatRepository, chat: Chat, tenant: str) -> None:
        conversation = await chat.conversation()

        for limit in (0, -1, 101):
            with pytest.raises(UserInputError):
                await repository.messages.page(tenant, conversation.id, limit=limit)
        for cursor in ("x", "AAAA", "ä", "\0", "=" * 32, "f" * 1_000, "7" + "f" * 31):
            with pytest.raises(UserInputError):
                await repository.messages.page(tenant, conversation.id, cursor=cursor)

    async def test_parts_are_appended_while_a_message_is_being_made(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        message = await chat.message(await chat.conversation(), "one", status="in_progress")
        more = (Part(kind="code", content={"code": "1"}), Part(kind="text", content={"text": "three"}))

        whole = await repository.messages.append(tenant, message.id, more, status="completed")

        assert whole == replace(message, parts=(*message.parts, *more), status="completed")
        assert await repository.messages.get(tenant, message.id) == whole

    async def test_truncating_takes_a_message_and_all_later_ones(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        conversation, other = await chat.conversation(), await chat.conversation()
        said = [await chat.message(conversation, str(number), created_at=moment(number // 2)) for number in range(8)]
        elsewhere = await chat.message(other, "elsewhere", created_at=moment(100))

        gone = await repository.messages.truncate_from(tenant, said[5].id)

        assert gone == 3
        assert await everything(repository.messages.page, tenant, conversation.id) == said[4::-1]
        assert await repository.messages.get(tenant, elsewhere.id) == elsewhere

    async def test_a_message_is_saved_with_its_parts_and_outputs_at_once(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        conversation, execution = await chat.conversation(), await chat.execution()
        early = await chat.output(execution)
        late = await repository.outputs.reserve(tenant, output(tenant, execution.id))
        message = Message(tenant=tenant, conversation_id=conversation.id, role=Role.ASSISTANT)

        await repository.messages.add(
            tenant, message, published={late.id: stored(late.storage_key)}, executions=[execution.id]
        )

        found = await everything(repository.outputs.page, tenant, message_id=message.id)
        assert {made.id for made in found} == {early.id, late.id}
        assert {made.state for made in found} == {FileState.AVAILABLE}
        assert (await repository.executions.get(tenant, execution.id)).message_id == message.id

    async def test_a_message_whose_outputs_cannot_be_published_is_not_there_at_all(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        conversation, execution = await chat.conversation(), await chat.execution()
        good = await repository.outputs.reserve(tenant, output(tenant, execution.id))
        message = Message(
            tenant=tenant, conversation_id=conversation.id, role=Role.USER, parts=(Part(kind="text", content={}),)
        )

        for published, executions, error in (
            ({good.id: stored(good.storage_key), new_id(): stored("a")}, [], NotFoundError),
            ({good.id: stored("another/key")}, [], UserInputError),
            ({good.id: stored(good.storage_key)}, [new_id()], NotFoundError),
        ):
            with pytest.raises(error):
                await repository.messages.add(tenant, message, published=published, executions=executions)

        with pytest.raises(NotFoundError):
            await repository.messages.get(tenant, message.id)
        with pytest.raises(NotFoundError):
            await repository.outputs.get(tenant, good.id)
        await repository.messages.add(tenant, message, published={good.id: stored(good.storage_key)})
        assert (await repository.outputs.get(tenant, good.id)).message_id == message.id
