"""What the tests of repositories start from."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from bichat.domain import StoredFile
from bichat.repository import ChatRepository
from bichat.repository.pages import Page
from bichat.repository.records import (
    CodeInterpreterOutput,
    Conversation,
    Deletion,
    ExecutionRecord,
    FileRecord,
    Lease,
    Message,
    Part,
    Role,
    Run,
    RunState,
    SessionRecord,
)


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
        record = SessionRecord(tenant=self.tenant, environment="data", **dict[str, Any](lease=lease()) | others)
        return await self.repository.sessions.add(self.tenant, record)

    async def execution(self, session: SessionRecord | None = None, **others: Any) -> ExecutionRecord:
        """One that runs, in a session of its own where none is named."""
        session = session or await self.session()
        given: dict[str, Any] = {
            "code": "1 + 1",
            "code_sha256": "0" * 64,
            "environment": "data",
            "lock_hash": "abc",
            "lease": lease(),
        }
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
