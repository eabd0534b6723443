"""What came out of another server, stored, and on record where there is a repository."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final, Protocol

import anyio

from bichat.archive import Archive, Ledger, output_of
from bichat.archive.contents import saved
from bichat.clients.job import Job
from bichat.domain import Artifact, ExecutionResult, Limits, Origin, Status
from bichat.errors import BichatError
from bichat.repository.ids import new_id
from bichat.repository.records import CodeInterpreterOutput, ExecutionRecord
from bichat.storage import FileStorage, new_key

#: How long an address is good that a storage gives, where no server of ours gives files out.
URL_S: Final = 7 * 24 * 3600.0

logger = logging.getLogger(__name__)


class Keeper(Protocol):
    """Of one execution."""

    async def conclude(self, result: ExecutionResult) -> tuple[ExecutionResult, tuple[CodeInterpreterOutput, ...]]:
        """The result with what became of its artifacts, and those that are stored.  Nothing is raised for a file."""
        ...

    async def give_up(self, status: Status) -> None:
        """Nothing came out.  Not to be cancelled."""
        ...


class Recorded:
    """Implements `Keeper`: a session at another server, with one execution."""

    def __init__(self, archive: Archive, ledger: Ledger, execution: ExecutionRecord) -> None:
        """See `begin`."""
        self._archive = archive
        self._ledger = ledger
        self._execution = execution

    @classmethod
    async def begin(cls, archive: Archive, job: Job, *, environment: str) -> Recorded:
        """Record that the code is about to run.

        Raises:
            NotFoundError: there is no such message.
            DatabaseError: it could not be recorded.
        """
        ledger = await archive.begin_session(
            job.tenant,
            environment=environment,
            lock_hash="",
            limits=Limits(timeout_s=job.timeout_s),
            user=job.user,
            details={"name": environment},
        )
        try:
            execution = await ledger.begin(job.code or job.text, Origin(message_id=job.message_id))
        except BaseException:
            await ledger.end("closed")
            raise
        return cls(archive, ledger, execution)

    async def conclude(self, result: ExecutionResult) -> tuple[ExecutionResult, tuple[CodeInterpreterOutput, ...]]:
        """See `Keeper.conclude`."""
        result = await self._ledger.conclude(self._execution, result, None)
        await self._ledger.end("closed")
        row = self._execution
        return result, await self._archive.outputs_of(row.tenant, result, message_id=row.message_id)

    async def give_up(self, status: Status) -> None:
        """See `Keeper.give_up`."""
        await self._ledger.give_up(self._execution, status)
        await self._ledger.end("closed")


class Unrecorded:
    """Implements `Keeper`: files alone, and nobody knows of them but the caller."""

    def __init__(self, storage: FileStorage, job: Job) -> None:
        self._storage = storage
        self._job = job

    async def conclude(self, result: ExecutionResult) -> tuple[ExecutionResult, tuple[CodeInterpreterOutput, ...]]:
        """See `Keeper.conclude`."""
        tenant, execution_id = self._job.tenant, new_id()
        kept: list[Artifact] = []
        try:
            for artifact in result.artifacts:
                kept.append(await self._kept(tenant, artifact))  # noqa: PERF401  # those before a failure are needed
        except BaseException:
            for artifact in kept:  # nobody will ever know of them
                with anyio.CancelScope(shield=True):
                    await self._forgotten(artifact)
            raise
        outputs = tuple(
            output_of(each, tenant, self._job.message_id, execution_id) for each in kept if each.storage_key
        )
        return replace(result, artifacts=tuple(kept), id=execution_id), outputs

    async def give_up(self, status: Status) -> None:
        """See `Keeper.give_up`."""

    async def _forgotten(self, artifact: Artifact) -> None:
        try:
            if artifact.storage_key:
                await self._storage.delete(artifact.storage_key)
        except BichatError as error:
            logger.warning("a file that nobody knows of stays in the storage: %s", error)

    async def _kept(self, tenant: str, artifact: Artifact) -> Artifact:
        key = new_key(tenant)
        try:
            await saved(self._storage, key, artifact)
            url = await self._storage.url(key, expires_in_s=URL_S) if self._storage.keeps else ""
        except BichatError as error:
            logger.warning("a file that came out of an execution could not be kept: %s", error)
            return replace(artifact, not_kept=error.message)
        return replace(artifact, id=new_id(), url=url, storage_key=key)
