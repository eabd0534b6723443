"""Storage and repository together: files that people bring, and files that executions leave, each a row and its bytes.

The row goes first, pending, under this process's lease; then the bytes; then the row is available.  Whatever ends in
between leaves a row that a sweep finds, and the key of its bytes in the outbox.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import anyio
import anyio.to_thread

from bichat.archive.ledger import Ledger
from bichat.archive.upkeep import Upkeep, is_in_doubt
from bichat.domain import Artifact, ExecutionResult, Limits
from bichat.errors import ConflictError, DatabaseError, NotFoundError, StorageError
from bichat.repository.chat_repository import ChatRepository
from bichat.repository.ids import new_id
from bichat.repository.quota import check_quota
from bichat.repository.records import (
    CodeInterpreterOutput,
    FileRecord,
    KeptFile,
    SessionRecord,
)
from bichat.sandbox.inputs import InputFile, input_at
from bichat.storage import FileStorage, new_key
from bichat.storage.incoming import too_large
from bichat.tenants import check_tenant

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a session had, brought back."""

    session: SessionRecord
    files: tuple[KeptFile, ...]
    inputs: tuple[InputFile, ...]
    """The same, to be put into a folder."""
    lost: tuple[str, ...]
    """Names of those that are not there any more."""

    @property
    def limits(self) -> Limits:
        """Those that it had."""
        return Limits(**self.session.options["limits"])

    @property
    def notice(self) -> str:
        """What whoever runs code in it should know."""
        words = f"The session had ended ({self.session.end_reason}) and was opened again: its variables are gone"
        words += f", {len(self.files):,} files are back." if self.files else "; there were no files to bring back."
        if self.lost:
            words += f" Files that could not be kept, or were deleted since, are not: {', '.join(self.lost[:20])}."
        return words


class Archive:
    """Used inside `async with`, which keeps its leases and does what is to be done behind the calls."""

    def __init__(self, storage: FileStorage, repository: ChatRepository) -> None:
        self.storage = storage
        self.repository = repository
        self.upkeep = Upkeep(storage, repository)

    async def __aenter__(self) -> Self:
        self.upkeep.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.upkeep.close()

    async def begin_session(
        self,
        tenant: str,
        *,
        environment: str,
        lock_hash: str,
        limits: Limits,
        user: str = "",
        details: Mapping[str, Any] | None = None,
        restored: Restored | None = None,
    ) -> Ledger:
        """Record that a session has been opened; what happens in it is told to the ledger.

        Raises:
            DatabaseError: it could not be recorded.
        """
        now = datetime.now(UTC)
        record = SessionRecord(
            id=new_id(),
            tenant=check_tenant(tenant),
            user=user,
            environment=environment,
            options={
                "limits": asdict(limits),
                "resumed": restored.session.id if restored else "",
                "details": dict(details or {}),
            },
            files=restored.files if restored else (),
            lease=self.upkeep.lease(),
            created_at=now,
            last_used_at=now,
        )
        ledger = Ledger(self.storage, self.repository, self.upkeep, record, lock_hash)
        try:
            await self.repository.sessions.add(tenant, record)
        except BaseException as error:
            if is_in_doubt(error):
                await ledger.end("closed")
            raise
        return ledger

    @asynccontextmanager
    async def restored(self, tenant: str, session_id: str, folder: Path) -> AsyncGenerator[Restored]:
        """What a session that has ended had, its files in `folder` for as long as the block lasts.

        A file whose bytes are gone is named in the notice, and does not keep the others from coming back.

        Raises:
            NotFoundError: there is no such session of the tenant's.
            ConflictError: it lives.
            StorageError: the storage does not answer, or the folder cannot be written.
        """
        session = await self.repository.sessions.get(tenant, session_id)
        if not session.end_reason:
            raise ConflictError(
                "the session lives: nothing is to be brought back",
                stage="session",
                remedy="Use it where it was opened, or close it first.",
            )
        with TemporaryDirectory(dir=folder, prefix="restored-") as place:
            inputs: list[InputFile] = []
            files: list[KeptFile] = []
            lost: list[str] = []
            for number, file in enumerate(session.files):
                path = Path(place) / str(number)
                if not await self._loaded(file, path):
                    lost.append(file.name)
                    continue
                files.append(file)
                inputs.append(await anyio.to_thread.run_sync(input_at, file.name, path))
            yield Restored(session=session, files=tuple(files), inputs=tuple(inputs), lost=tuple(lost))

    async def _loaded(self, file: KeptFile, path: Path) -> bool:
        """Whether its bytes are in `path` now: they may not have been kept, or be gone since."""
        if not file.storage_key:
            return False
        try:
            async with (
                aclosing(self.storage.open(file.storage_key)) as pieces,
                await anyio.open_file(path, "wb") as target,
            ):
                async for piece in pieces:
                    await target.write(piece)
        except NotFoundError:
            return False
        return True

    async def check_room(self, tenant: str, size_bytes: int) -> None:
        """Nothing, where a file of this size is within the tenant's quota by now: before it is received at all.

        Raises:
            LimitError: it is above.
        """
        tenants = self.repository.tenants
        policy = await tenants.policy(tenant)
        if (policy.quota_bytes, policy.quota_files) != (None, None):
            check_quota(policy, await tenants.usage(tenant), size_bytes=size_bytes, files=1)

    async def upload(
        self,
        tenant: str,
        chunks: AsyncIterable[bytes],
        *,
        name: str,
        mime_type: str,
        purpose: str,
        max_bytes: int,
        expected_bytes: int = 0,
        user: str = "",
        expires_at: datetime | None = None,
    ) -> FileRecord:
        """Keep a file that somebody brings.

        Args:
            tenant: whose it is.
            chunks: its bytes.
            name: what its owner calls it.
            mime_type: what it is.
            purpose: what it is brought for.
            max_bytes: a larger one is refused.
            expected_bytes: its size as far as it is known: what is above the tenant's quota is refused before a byte
                is written.
            user: who brings it.
            expires_at: when it is deleted; never by itself, by default.

        Raises:
            LimitError: it is larger than `max_bytes`, or above the tenant's quota.
            StorageError, DatabaseError: it could not be kept; nothing of it is.
        """
        file = FileRecord(
            id=new_id(),
            tenant=check_tenant(tenant),
            user=user,
            name=name,
            purpose=purpose,
            mime_type=mime_type,
            size_bytes=expected_bytes,
            storage_key=new_key(tenant),
            sha256="",
            lease=self.upkeep.lease(),
            created_at=datetime.now(UTC),
            expires_at=expires_at,
        )
        if expected_bytes > max_bytes:
            raise too_large(max_bytes)
        async with self.upkeep.reserved(self.repository.files, file):
            stored = await self.storage.save(
                file.storage_key, chunks, name=name, mime_type=mime_type, max_bytes=max_bytes
            )
            return await self.repository.files.publish(tenant, file.id, stored)

    async def outputs_of(
        self, tenant: str, result: ExecutionResult, *, message_id: str | None
    ) -> tuple[CodeInterpreterOutput, ...]:
        """The rows of a result's artifacts that are kept, in their order.

        Where the database does not answer now, each is as it was recorded; all but its moment is known.
        """
        kept = [artifact for artifact in result.artifacts if artifact.id]
        try:
            return tuple([await self.repository.outputs.get(tenant, artifact.id) for artifact in kept])
        except DatabaseError as error:
            logger.warning("outputs that were recorded cannot be read: %s", error)
            return tuple(output_of(artifact, tenant, message_id, result.id) for artifact in kept)

    @asynccontextmanager
    async def opened(
        self, kept: CodeInterpreterOutput | FileRecord | KeptFile, *, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[AsyncGenerator[bytes]]:
        """The bytes of a row, from `start` up to `end` (excluded).

        Raises:
            StorageError: they are not there, though the row is: somebody has removed them.
        """
        pieces = self.storage.open(kept.storage_key, start=start, end=end)
        try:
            yield _as_lost(pieces)
        finally:
            await pieces.aclose()


def output_of(artifact: Artifact, tenant: str, message_id: str | None, execution_id: str) -> CodeInterpreterOutput:
    """An artifact that is kept, as what it is kept as."""
    return CodeInterpreterOutput(
        id=artifact.id,
        tenant=tenant,
        message_id=message_id,
        execution_id=execution_id,
        name=artifact.name,
        mime_type=artifact.mime_type,
        url=artifact.url,
        size_bytes=artifact.size_bytes,
        source=artifact.source,
        storage_key=artifact.storage_key,
        sha256=artifact.sha256,
    )


async def _as_lost(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    try:
        async for piece in pieces:
            yield piece
    except NotFoundError as error:
        raise StorageError(
            "the bytes of this file are gone from the storage, though it was never deleted",
            stage="storage",
            remedy="Restore the storage from the backup that belongs to the database's.",
        ) from error
