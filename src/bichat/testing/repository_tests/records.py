"""What comes back is what was given, whatever it is."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from bichat.errors import UserInputError
from bichat.repository import ChatRepository, new_id
from bichat.repository.records import (
    ApiKey,
    KeptFile,
    Lease,
)
from bichat.testing.repository_tests.chat import (
    Chat,
    key_of,
    moment,
)

#: What PostgreSQL refuses and SQLite does not, or the other way round; what looks like our own escape; plain trouble.
ARBITRARY_TEXTS = (
    "",
    "a\0b\0",
    "\ud800 and \udfff",
    "␛0000 ␛",
    "'; DROP TABLE bichat_messages; --",
    "%s %(a)s :b {c} \\0 \\u0000",
    "naïve 北京 👩‍👩‍👧 \u202e \U0010ffff",
    "line\r\nline\x1b[31m\x7f",
)


class RecordTests:
    """Tests of `RepositoryConformance`."""

    pytestmark = pytest.mark.anyio

    async def test_records_come_back_as_they_were(self, repository: ChatRepository, chat: Chat, tenant: str) -> None:
        conversation = await chat.conversation(
            user="ann", title="Sales", pinned=True, metadata={"a": [1, 2.5, None, {"b": "ü"}]}, created_at=moment()
        )
        message = await chat.message(conversation, "one", "two", author="ann", status="in_progress", run_id=new_id())
        session = await chat.session(
            conversation_id=conversation.id,
            options={"memory_bytes": 1 << 40},
            files=(KeptFile(name="a/b.csv", storage_key=key_of(tenant), size_bytes=5, sha256="0" * 64),),
            expires_at=moment(60),
        )
        execution = await chat.execution(session, message_id=message.id, results=({"data": {"text/plain": "2"}},))
        file = await chat.upload(user="ann", metadata={"x": 1}, expires_at=moment(60))
        made = await chat.output(execution, message_id=message.id)
        run = await chat.run(conversation, model="m", request={"a": 1}, usage={"tokens": 5}, metadata={"k": "v"})

        assert await repository.conversations.get(tenant, conversation.id) == replace(
            conversation, updated_at=message.created_at
        )
        assert await repository.messages.get(tenant, message.id) == message
        assert await repository.sessions.get(tenant, session.id) == session
        assert await repository.executions.get(tenant, execution.id) == execution
        assert await repository.files.get(tenant, file.id) == file
        assert await repository.outputs.get(tenant, made.id) == made
        assert await repository.runs.get(tenant, run.id) == run

    async def test_an_output_is_told_in_the_words_of_old(self, chat: Chat) -> None:
        made = await chat.output(await chat.execution(), created_at=moment())

        assert made.to_dict() == {
            "id": made.id,
            "message_id": None,
            "name": "chart.png",
            "mime_type": "image/png",
            "url": "/files/1",
            "size": 7,
            "created_at": "2020-01-01T12:00:00.123456+00:00",
        }

    @pytest.mark.parametrize("text", ARBITRARY_TEXTS)
    async def test_text_of_every_kind_comes_back_as_it_was(
        self, repository: ChatRepository, chat: Chat, tenant: str, text: str
    ) -> None:
        conversation = await chat.conversation(title=text, user=text, metadata={text: [text]})
        message = await chat.message(conversation, text, author=text)
        execution = await chat.execution(code=text)
        ended = replace(execution, status="error", stdout=text, stderr=text, error={"message": text})
        await repository.executions.finish(tenant, ended)

        kept = await repository.conversations.get(tenant, conversation.id)
        assert (kept.title, kept.user, kept.metadata) == (text, text, {text: [text]})
        assert (await repository.conversations.page(tenant, user=text)).items == (kept,)
        assert (await repository.messages.get(tenant, message.id)).parts[0].content == {"text": text}
        found = await repository.executions.get(tenant, execution.id)
        assert (found.code, found.stdout, found.stderr, found.error) == (text, text, text, {"message": text})

    async def test_what_is_no_number_in_json_is_null(self, repository: ChatRepository, chat: Chat, tenant: str) -> None:
        made = await chat.conversation(metadata={"a": float("nan"), "b": [float("inf")], "c": (1, 2)})

        assert made.metadata == {"a": None, "b": [None], "c": [1, 2]}
        assert await repository.conversations.get(tenant, made.id) == made

    async def test_what_is_no_json_is_refused(self, chat: Chat) -> None:
        deep: list[Any] = []
        for _ in range(5_000):
            deep = [deep]

        for value in (b"bytes", datetime.now(UTC), object(), deep, 10**5_000):
            with pytest.raises(UserInputError):
                await chat.conversation(metadata={"value": value})

    async def test_moments_are_kept_to_the_microsecond_whatever_their_zone(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        there = datetime(2026, 3, 29, 2, 30, 0, 999_999, tzinfo=timezone(timedelta(hours=5, minutes=45)))
        made = await chat.conversation(created_at=there)

        kept = await repository.conversations.get(tenant, made.id)

        assert kept.created_at == there
        assert kept.created_at.utcoffset() == timedelta(0)

    async def test_a_moment_without_a_zone_is_refused_at_the_door(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        naive = datetime(2026, 1, 1)  # noqa: DTZ001  # the subject
        key = await repository.keys.add(
            tenant, ApiKey(tenant=tenant, name="k", prefix="bk", sha256=secrets.token_hex(32))
        )

        attempts: list[Callable[[], Awaitable[Any]]] = [
            lambda: chat.conversation(created_at=naive),
            lambda: chat.session(lease=Lease(owner="a", until=naive)),
            lambda: chat.upload(expires_at=naive),
            lambda: repository.upkeep.sweep(naive),
            lambda: repository.upkeep.renew("a", naive),
            lambda: repository.upkeep.prune(naive),
            lambda: repository.outbox.claim(naive),
            lambda: repository.outbox.failed(1, "x", naive),
            lambda: repository.keys.use(tenant, key.id, naive),
            lambda: repository.keys.revoke(tenant, key.id, naive),
        ]

        for attempt in attempts:
            with pytest.raises(UserInputError):
                await attempt()

    @pytest.mark.parametrize(
        "name, kept",
        [
            pytest.param("a" * 255, "a" * 255, id="as long as may be"),
            pytest.param("a" * 300 + ".csv", "a" * 251 + ".csv", id="with an extension"),
            pytest.param("北" * 300 + ".xlsx", "北" * 250 + ".xlsx", id="in characters of three bytes"),
            pytest.param("x." + "b" * 300, "x." + "b" * 253, id="with an extension that is none"),
        ],
    )
    async def test_a_name_is_cut_to_what_its_column_holds_and_keeps_its_extension(
        self, chat: Chat, name: str, kept: str
    ) -> None:
        assert (await chat.upload(name=name)).name == kept
        assert (await chat.output(await chat.execution(), name=name)).name == kept

    async def test_a_mime_type_that_is_too_long_is_unknown(self, chat: Chat) -> None:
        assert (await chat.upload(mime_type="a/" + "b" * 98)).mime_type == "a/" + "b" * 98
        assert (await chat.upload(mime_type="a/" + "b" * 99)).mime_type == "application/octet-stream"

    async def test_what_fits_no_column_is_refused_on_every_database(self, chat: Chat) -> None:
        for others in ({"purpose": "p" * 256}, {"size_bytes": 1 << 63}, {"sha256": "0" * 65}, {"size_bytes": -1}):
            with pytest.raises(UserInputError):
                await chat.upload(**others)
