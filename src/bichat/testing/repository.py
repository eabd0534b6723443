"""What every `ChatRepository` promises, as tests.

    class TestMyRepository(RepositoryConformance):
        @pytest.fixture
        async def repository(self):
            yield MyRepository(...)

The fixture gives a repository that nobody else uses meanwhile; what other tests left in it does not matter.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import anyio
import pytest

from bichat.domain import StoredFile
from bichat.errors import ConflictError, LimitError, NotFoundError, UserInputError
from bichat.repository import ChatRepository, new_id
from bichat.repository.chat_repository import CLAIM_S, MAX_BACKOFF_S
from bichat.repository.pages import Page
from bichat.repository.records import (
    LOST,
    ApiKey,
    AuditEntry,
    CodeInterpreterOutput,
    Conversation,
    Deletion,
    ExecutionRecord,
    FileRecord,
    FileState,
    KeptFile,
    Lease,
    Message,
    Part,
    Policy,
    Pruned,
    Role,
    Run,
    RunEvent,
    RunState,
    SessionRecord,
    Usage,
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
NO_TENANTS: tuple[Any, ...] = ("", " ", "a/b", "..", "a" * 65, "\0", None)
NO_IDS = ("", "1", "' OR 1=1 --", "../../x", "\0", "g" * 36)


def tenant_name() -> str:
    """A tenant that no other test has."""
    return f"t{secrets.token_hex(8)}"


def moment(seconds: float = 0) -> datetime:
    """So many seconds after a day long ago: before everything that has no such time."""
    return datetime(2020, 1, 1, 12, 0, 0, 123_456, tzinfo=UTC) + timedelta(seconds=seconds)


def lease(owner: str = "process-1", until: datetime | None = None) -> Lease:
    """A lease that nothing in these tests outlives, or until then."""
    return Lease(owner=owner, until=until or datetime.now(UTC) + timedelta(hours=1))


def stored(key: str, content: bytes = b"content") -> StoredFile:
    """What a storage returns that keeps `content`."""
    return StoredFile(
        key=key,
        name="a",
        mime_type="text/plain",
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        created_at=datetime.now(UTC),
    )


def key_of(tenant: str) -> str:
    """A key as storages make them."""
    return f"{tenant}/{secrets.token_hex(16)}"


def output(tenant: str, execution_id: str, **others: Any) -> CodeInterpreterOutput:
    """One to reserve, with the rest as most tests have it."""
    given: dict[str, Any] = {
        "name": "chart.png",
        "mime_type": "image/png",
        "url": "/files/1",
        "size_bytes": 7,
        "source": "file",
        "storage_key": key_of(tenant),
        "sha256": "",
        "lease": lease(),
    }
    return CodeInterpreterOutput(tenant=tenant, execution_id=execution_id, **given | others)


def upload(tenant: str, **others: Any) -> FileRecord:
    """One to reserve, likewise."""
    given: dict[str, Any] = {
        "name": "sales.csv",
        "purpose": "user_data",
        "mime_type": "text/csv",
        "size_bytes": 7,
        "storage_key": key_of(tenant),
        "sha256": "",
        "lease": lease(),
    }
    return FileRecord(tenant=tenant, **given | others)


class Chat:
    """Makes what a test starts from."""

    def __init__(self, repository: ChatRepository, tenant: str) -> None:
        """For one tenant."""
        self.repository = repository
        self.tenant = tenant

    async def conversation(self, **others: Any) -> Conversation:
        """One without messages."""
        return await self.repository.conversations.add(self.tenant, Conversation(tenant=self.tenant, **others))

    async def message(self, conversation: Conversation, *texts: str, **others: Any) -> Message:
        """One with a part for each text."""
        parts = tuple(Part(kind="text", content={"text": text}) for text in texts)
        record = Message(tenant=self.tenant, conversation_id=conversation.id, role=Role.USER, parts=parts, **others)
        return await self.repository.messages.add(self.tenant, record)

    async def session(self, **others: Any) -> SessionRecord:
        """One that lives."""
        record = SessionRecord(tenant=self.tenant, environment="data", **{"lease": lease()} | others)
        return await self.repository.sessions.add(self.tenant, record)

    async def execution(self, session: SessionRecord | None = None, **others: Any) -> ExecutionRecord:
        """One that runs, in a session of its own where none is named."""
        session = session or await self.session()
        given = {"code": "1 + 1", "code_sha256": "0" * 64, "environment": "data", "lock_hash": "abc", "lease": lease()}
        record = ExecutionRecord(tenant=self.tenant, session_id=session.id, **given | others)
        return await self.repository.executions.add(self.tenant, record)

    async def output(self, execution: ExecutionRecord, **others: Any) -> CodeInterpreterOutput:
        """One whose bytes are there."""
        reserved = await self.repository.outputs.reserve(self.tenant, output(self.tenant, execution.id, **others))
        return await self.repository.outputs.publish(self.tenant, reserved.id, stored(reserved.storage_key))

    async def upload(self, **others: Any) -> FileRecord:
        """One whose bytes are there."""
        reserved = await self.repository.files.reserve(self.tenant, upload(self.tenant, **others))
        return await self.repository.files.publish(self.tenant, reserved.id, stored(reserved.storage_key))

    async def run(self, conversation: Conversation, **others: Any) -> Run:
        """One that somebody works on."""
        given: dict[str, Any] = {"state": RunState.RUNNING, "lease": lease()}
        record = Run(tenant=self.tenant, conversation_id=conversation.id, **given | others)
        return await self.repository.runs.add(self.tenant, record)

    async def waiting(self) -> dict[str, Deletion]:
        """What the outbox has of this tenant, by key."""
        return {
            deletion.storage_key: deletion
            for deletion in await self.repository.outbox.waiting(limit=100_000)
            if deletion.tenant == self.tenant
        }


async def everything(page: Callable[..., Awaitable[Page[Any]]], *args: Any, limit: int = 7, **others: Any) -> list[Any]:
    """All entries of a list, page by page."""
    found: list[Any] = []
    cursor = ""
    while True:
        some = await page(*args, limit=limit, cursor=cursor, **others)
        assert len(some.items) <= limit
        found += some.items
        cursor = some.next_cursor
        if not cursor:
            return found


class RepositoryConformance:
    """Subclass it; see the module."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def tenant(self) -> str:
        return tenant_name()

    @pytest.fixture
    def chat(self, repository: ChatRepository, tenant: str) -> Chat:
        return Chat(repository, tenant)

    # ---------------------------------------------------------------------------------------------- what comes back

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

    async def test_what_fits_no_column_is_refused_on_every_database(self, chat: Chat, tenant: str) -> None:
        for others in ({"purpose": "p" * 256}, {"size_bytes": 1 << 63}, {"sha256": "0" * 65}, {"size_bytes": -1}):
            with pytest.raises(UserInputError):
                await chat.upload(**others)

    # ------------------------------------------------------------------------------------------------ whose it is

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

    # ---------------------------------------------------------------------------------------------------- messages

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

    async def test_more_messages_than_one_page_never_lose_the_newest(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        conversation = await chat.conversation()
        said = [await chat.message(conversation, str(number), created_at=moment(number)) for number in range(101)]

        first = await repository.messages.page(tenant, conversation.id, limit=100)

        assert first.items == tuple(reversed(said[1:]))
        rest = await repository.messages.page(tenant, conversation.id, limit=100, cursor=first.next_cursor)
        assert (rest.items, rest.next_cursor) == ((said[0],), "")

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

    # ----------------------------------------------------------------------------------------------- conversations

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

    # -------------------------------------------------------------------------------------------------------- runs

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

    # ---------------------------------------------------------------------------------------- sessions, executions

    async def test_a_session_is_saved_and_ended_by_its_owner(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        session = await chat.session()
        used = replace(
            session, last_used_at=moment(5), files=(KeptFile(name="a", storage_key="k", size_bytes=1, sha256=""),)
        )

        assert await repository.sessions.save(tenant, used, owner="process-1") == used
        with pytest.raises(ConflictError):
            await repository.sessions.save(tenant, used, owner="process-2")
        ended = await repository.sessions.save(tenant, replace(used, end_reason="idle", ended_at=moment(6)))

        assert ended == replace(used, end_reason="idle", ended_at=moment(6), lease=None)
        alive = await chat.session()
        assert await everything(repository.sessions.page, tenant, live=True) == [alive]
        assert await everything(repository.sessions.page, tenant, live=False) == [ended]

    async def test_an_execution_ends_together_with_its_outputs_and_once(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        execution = await chat.execution()
        made = await repository.outputs.reserve(tenant, output(tenant, execution.id))
        ended = replace(
            execution, status="completed", stdout="2\n", timings={"run_s": 0.5}, stdout_omitted_bytes=1 << 40
        )

        with pytest.raises(NotFoundError):
            await repository.executions.finish(tenant, ended, published={new_id(): stored("a")})
        assert (await repository.executions.get(tenant, execution.id)).status == "running"
        after = await repository.executions.finish(tenant, ended, published={made.id: stored(made.storage_key)})

        assert after == replace(ended, lease=None, ended_at=after.ended_at)
        assert after.ended_at is not None
        assert await repository.executions.get(tenant, execution.id) == after
        assert (await repository.outputs.get(tenant, made.id)).sha256 == stored("").sha256
        with pytest.raises(ConflictError):
            await repository.executions.finish(tenant, ended)
        assert await everything(repository.executions.page, tenant, execution.session_id) == [after]

    async def test_an_execution_publishes_its_own_outputs_alone(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        one, other = await chat.execution(), await chat.execution()
        made = await repository.outputs.reserve(tenant, output(tenant, other.id))

        with pytest.raises(NotFoundError):
            await repository.executions.finish(
                tenant, replace(one, status="completed"), published={made.id: stored(made.storage_key)}
            )

    # -------------------------------------------------------------------------------------------------- kept files

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

    # ------------------------------------------------------------------------------------------------------- quotas

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

    async def test_a_policy_of_impossible_numbers_is_refused(self, repository: ChatRepository, tenant: str) -> None:
        for policy in (Policy(quota_bytes=-1), Policy(retention_days=float("nan")), Policy(quota_files=-5)):
            with pytest.raises(UserInputError):
                await repository.tenants.set_policy(tenant, policy)

    # ------------------------------------------------------------------------------------------- deleting, the outbox

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

    # ------------------------------------------------------------------------------------------- leases, sweeps, age

    async def test_a_sweep_takes_what_has_lost_its_owner_and_nothing_else(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        await repository.upkeep.sweep(moment(10), limit=100_000)
        gone = lease("gone", moment(0))
        alive = lease("alive", moment(20))
        dead_execution = await chat.execution(await chat.session(lease=gone), lease=gone)
        execution = await chat.execution(await chat.session(lease=alive), lease=alive)
        dead_run = await chat.run(await chat.conversation(), lease=gone)
        run = await chat.run(await chat.conversation(), lease=alive)
        dead = await repository.outputs.reserve(tenant, output(tenant, dead_execution.id, lease=gone))
        made = await repository.outputs.reserve(tenant, output(tenant, execution.id, lease=alive))
        dead_file = await repository.files.reserve(tenant, upload(tenant, lease=gone))
        done = await chat.upload(lease=gone)

        swept = await repository.upkeep.sweep(moment(10))

        assert (swept.outputs, swept.files, swept.executions, swept.sessions, swept.runs) == (1, 1, 1, 1, 1)
        lost = await repository.executions.get(tenant, dead_execution.id)
        assert (lost.status, lost.ended_at, lost.lease) == (LOST, moment(10), None)
        session = await repository.sessions.get(tenant, dead_execution.session_id)
        assert (session.end_reason, session.ended_at, session.lease) == ("lost", moment(10), None)
        failed = await repository.runs.get(tenant, dead_run.id)
        assert failed.error is not None
        assert (failed.state, failed.error["code"], failed.lease) == (RunState.FAILED, "owner_lost", None)
        assert set(await chat.waiting()) == {dead.storage_key, dead_file.storage_key}
        for late, kept in ((dead, repository.outputs), (dead_file, repository.files)):
            with pytest.raises(NotFoundError):
                await kept.publish(tenant, late.id, stored(late.storage_key))
        with pytest.raises(ConflictError):
            await repository.runs.save(tenant, dead_run, owner="gone")
        assert await repository.executions.get(tenant, execution.id) == execution
        assert await repository.runs.get(tenant, run.id) == run
        assert await repository.files.get(tenant, done.id) == done
        await repository.outputs.publish(tenant, made.id, stored(made.storage_key))

    async def test_a_renewed_lease_keeps_work_from_sweeps(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        mine = lease(f"me-{tenant}", moment(0))
        execution = await chat.execution(await chat.session(lease=mine), lease=mine)
        run = await chat.run(await chat.conversation(), lease=mine)
        made = await repository.outputs.reserve(tenant, output(tenant, execution.id, lease=mine))
        file = await repository.files.reserve(tenant, upload(tenant, lease=mine))

        assert await repository.upkeep.renew(mine.owner, moment(100)) == 5
        assert await repository.upkeep.renew("nobody", moment(100)) == 0
        await repository.upkeep.sweep(moment(50), limit=100_000)

        assert (await repository.runs.get(tenant, run.id)).lease == Lease(owner=mine.owner, until=moment(100))
        await repository.outputs.publish(tenant, made.id, stored(made.storage_key))
        await repository.files.publish(tenant, file.id, stored(file.storage_key))
        assert (await repository.executions.get(tenant, execution.id)).status == "running"

    async def test_files_go_at_their_expiry_and_at_their_tenants_age(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        now = moment()
        await _pruned(repository, now)
        await repository.tenants.set_policy(tenant, Policy(retention_days=10))
        execution = await chat.execution()
        old = await chat.output(execution, created_at=now - timedelta(days=11))
        new = await chat.output(execution, created_at=now - timedelta(days=9))
        expired = await chat.upload(created_at=now - timedelta(days=1), expires_at=now)
        lasting = await chat.upload(created_at=now - timedelta(days=1), expires_at=now + timedelta(seconds=1))
        under_way = await repository.files.reserve(tenant, upload(tenant, created_at=now - timedelta(days=99)))
        unbounded = Chat(repository, tenant_name())
        kept = await unbounded.upload(created_at=now - timedelta(days=5_000))

        would = await repository.upkeep.prune(now, dry_run=True)
        assert would == Pruned(outputs=1, files=1, size_bytes=14)
        assert await chat.waiting() == {}
        assert await _pruned(repository, now) == would

        assert {key: one.reason for key, one in (await chat.waiting()).items()} == {
            old.storage_key: "expired",
            expired.storage_key: "expired",
        }
        assert await everything(repository.outputs.page, tenant) == [new]
        assert await everything(repository.files.page, tenant) == [lasting]
        assert await repository.files.get(unbounded.tenant, kept.id) == kept
        await repository.files.publish(tenant, under_way.id, stored(under_way.storage_key))

    async def test_pruning_takes_no_more_at_a_time_than_it_may(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        await _pruned(repository, moment())
        for _ in range(5):
            await chat.upload(expires_at=moment(), created_at=moment(-1))

        steps = [(await repository.upkeep.prune(moment(), limit=2)).files for _ in range(4)]

        assert steps == [2, 2, 1, 0]

    # --------------------------------------------------------------------------------------------------- keys, audit

    async def test_a_key_is_found_by_its_hash_and_revoked_once(self, repository: ChatRepository, tenant: str) -> None:
        key = ApiKey(tenant=tenant, user="ann", name="ci", prefix="bk_abc", sha256=secrets.token_hex(32))
        await repository.keys.add(tenant, key)
        await repository.keys.use(tenant, key.id, moment(1))

        assert await repository.keys.find(key.sha256) == replace(key, last_used_at=moment(1))
        revoked = await repository.keys.revoke(tenant, key.id, moment(2))
        assert await repository.keys.revoke(tenant, key.id, moment(3)) == revoked
        assert revoked.revoked_at == moment(2)
        assert (await repository.keys.page(tenant)).items == (revoked,)
        for nothing in ("", "\0", "0" * 64, "x" * 1_000):
            with pytest.raises(NotFoundError):
                await repository.keys.find(nothing)
        with pytest.raises(ConflictError):
            await repository.keys.add(tenant, replace(key, id=new_id()))

    async def test_the_audit_log_says_who_ran_what_when(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        execution = await chat.execution()
        entries = [
            AuditEntry(
                tenant=tenant,
                user="ann",
                api_key_id=new_id(),
                action="execution",
                session_id=execution.session_id,
                execution_id=execution.id,
                code_sha256=execution.code_sha256,
                outcome=str(number),
                at=moment(number),
            )
            for number in range(9)
        ]
        for entry in entries:
            await repository.audit.add(tenant, entry)
        await repository.sessions.delete(tenant, execution.session_id)

        assert await everything(repository.audit.page, tenant, limit=4) == entries[::-1]


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


async def _pruned(repository: ChatRepository, now: datetime) -> Pruned:
    """All that goes, step by step."""
    total = Pruned()
    while (step := await repository.upkeep.prune(now)) != Pruned():
        total = Pruned(
            outputs=total.outputs + step.outputs,
            files=total.files + step.files,
            size_bytes=total.size_bytes + step.size_bytes,
        )
    return total


__all__ = ["Chat", "RepositoryConformance"]
