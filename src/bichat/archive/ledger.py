"""What one session has done, put on record as it happens: its executions, their outputs, the files in its folder."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Final

import anyio

from bichat.archive.contents import saved
from bichat.archive.upkeep import Upkeep, is_in_doubt
from bichat.domain import Artifact, ExecutionResult, Origin, Status, StoredFile
from bichat.errors import BichatError
from bichat.repository.chat_repository import ChatRepository
from bichat.repository.ids import new_id
from bichat.repository.records import (
    AuditEntry,
    CodeInterpreterOutput,
    ExecutionRecord,
    FileRecord,
    KeptFile,
    SessionRecord,
)
from bichat.storage import FileStorage, new_key

#: Where the server gives an output out to whoever may have it; behind it comes its id.
OUTPUT_PATH: Final = "/outputs/"
#: What a session's own input files are kept for.
SESSION_PURPOSE: Final = "session"
_NOT_KEPT: Final = "this installation keeps no files (BICHAT_STORAGE_URL)"

logger = logging.getLogger(__name__)


class Ledger:
    """One session's, in one process; its calls come one at a time."""

    def __init__(
        self,
        storage: FileStorage,
        repository: ChatRepository,
        upkeep: Upkeep,
        session: SessionRecord,
        lock_hash: str,
    ) -> None:
        """Made by `Archive.begin_session`."""
        self._storage = storage
        self._repository = repository
        self._upkeep = upkeep
        self._session = session
        self._lock_hash = lock_hash
        self._files = {file.name: file for file in session.files}
        self._saving = anyio.Lock()

    @property
    def session_id(self) -> str:
        """The id of the session's row."""
        return self._session.id

    async def begin(self, code: str, origin: Origin) -> ExecutionRecord:
        """Record that `code` is about to run.

        Raises:
            DatabaseError: it could not be recorded; so it must not run.
        """
        tenant = self._session.tenant
        execution = ExecutionRecord(
            id=new_id(),
            tenant=tenant,
            session_id=self._session.id,
            message_id=origin.message_id,
            run_id=origin.run_id,
            code=code,
            code_sha256=hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest(),
            environment=self._session.environment,
            lock_hash=self._lock_hash,
            lease=self._upkeep.lease(),
            created_at=datetime.now(UTC),
        )
        try:
            execution = await self._repository.executions.add(tenant, execution, entry=self._entry(execution, "begun"))
        except BaseException as error:
            if is_in_doubt(error):
                await self.give_up(execution, Status.CANCELLED)
            raise
        return execution

    async def conclude(
        self, execution: ExecutionRecord, result: ExecutionResult, present: Iterable[str] | None
    ) -> ExecutionResult:
        """The result with the ids and addresses of what was kept, once it is.

        What cannot be kept is said in it, and nothing is raised: the code has run, and its caller is to have what came
        out of it all the same.

        Args:
            execution: as `begin` gave it.
            result: what came out.
            present: names of what lies in the session's folder now; None where nobody will open it again.
        """
        kept, published = await self._keep(execution, result.artifacts)
        finished = replace(
            execution,
            status=result.status.value,
            stdout=result.stdout,
            stderr=result.stderr,
            stdout_omitted_bytes=result.stdout_omitted_bytes,
            stderr_omitted_bytes=result.stderr_omitted_bytes,
            error=asdict(result.error) if result.error else None,
            results=tuple(each.to_dict() for each in result.results),
            timings=asdict(result.timings),
            isolation=result.isolation.level,
            ended_at=datetime.now(UTC),
        )
        before = self._files
        async with self._saving:  # what was saved last is all that is known by then
            if present is not None:
                names = set(present)
                self._remember(kept)
                self._files = {name: file for name, file in self._files.items() if name in names}
            try:
                await self._repository.executions.finish(
                    self._session.tenant,
                    finished,
                    published=published,
                    entry=self._entry(finished, result.status.value),
                    session=None if present is None else self._lying(),
                )
            except BichatError as error:
                logger.error("an execution could not be recorded: %s", error)  # noqa: TRY400  # a traceback could hold what was to be written
                why = error.message
                self._files = before
            else:
                return replace(result, artifacts=kept, id=execution.id)
        await self._unpublish(finished, published)
        unkept = tuple(replace(artifact, not_kept=why) for artifact in result.artifacts)
        self._remember(unkept)
        return replace(result, artifacts=unkept, id=execution.id, not_recorded=why)

    async def _unpublish(self, finished: ExecutionRecord, published: Mapping[str, StoredFile]) -> None:
        """The execution has ended, but nothing is known to be kept of it."""
        for output_id, stored in published.items():
            await self._upkeep.abandon(self._repository.outputs, finished.tenant, output_id, stored.key)
        entry = self._entry(finished, finished.status)
        await self._upkeep.see_to(lambda: self._repository.executions.finish(finished.tenant, finished, entry=entry))

    def _remember(self, artifacts: Iterable[Artifact]) -> None:
        """These lie in the session's folder now, in the place of older versions."""
        self._files |= {artifact.name: _kept_file(artifact) for artifact in artifacts if artifact.source == "file"}

    async def give_up(self, execution: ExecutionRecord, status: Status) -> None:
        """Its caller has left, or its sandbox was lost, and nobody will conclude it.  Not to be cancelled."""
        ended = replace(execution, status=status.value, ended_at=datetime.now(UTC))
        entry = self._entry(ended, status.value)
        await self._upkeep.see_to(lambda: self._repository.executions.finish(ended.tenant, ended, entry=entry))

    async def miss(self, name: str, size_bytes: int) -> None:
        """A file lies in the session's folder that is not kept, and cannot be brought back.

        Raises:
            DatabaseError: that could not be recorded.
        """
        self._files[name] = KeptFile(name=name, storage_key="", size_bytes=size_bytes, sha256="")
        await self._save_session()

    async def touch(self) -> None:
        """The session is used.

        Raises:
            DatabaseError: that could not be recorded.
        """
        await self._save_session()

    async def forget(self, name: str) -> None:
        """A file lies in the session's folder no longer.

        Raises:
            DatabaseError: that could not be recorded.
        """
        if self._files.pop(name, None) is not None:
            await self._save_session()

    async def put(self, artifact: Artifact) -> None:
        """Keep a file that was put into the session's folder, so that it can be brought back.

        Raises:
            LimitError: it is above the tenant's quota.
            StorageError, DatabaseError: it could not be kept.
        """
        tenant = self._session.tenant
        if not self._storage.keeps:
            await self.miss(artifact.name, artifact.size_bytes)
            return
        file = FileRecord(
            id=new_id(),
            tenant=tenant,
            user=self._session.user,
            name=artifact.name,
            purpose=SESSION_PURPOSE,
            mime_type=artifact.mime_type,
            size_bytes=artifact.size_bytes,
            storage_key=new_key(tenant),
            sha256=artifact.sha256,
            session_id=self._session.id,
            lease=self._upkeep.lease(),
            created_at=datetime.now(UTC),
        )
        async with self._upkeep.reserved(self._repository.files, file):
            stored = await saved(self._storage, file.storage_key, artifact)
            await self._repository.files.publish(tenant, file.id, stored)
        self._files[artifact.name] = KeptFile(
            name=artifact.name,
            storage_key=file.storage_key,
            size_bytes=artifact.size_bytes,
            sha256=artifact.sha256,
        )
        await self._save_session()

    async def end(self, reason: str) -> None:
        """The session has ended, for a reason of `SessionEndedError`.  Not to be cancelled."""
        self._session = replace(self._session, end_reason=reason, ended_at=datetime.now(UTC))
        await self._upkeep.see_to(self._save_session)

    async def _keep(
        self, execution: ExecutionRecord, artifacts: tuple[Artifact, ...]
    ) -> tuple[tuple[Artifact, ...], dict[str, StoredFile]]:
        """The artifacts, each with the id of its output or why there is none; and what the storage keeps, by that id."""
        kept: list[Artifact] = []
        published: dict[str, StoredFile] = {}
        for artifact in artifacts:
            if not self._storage.keeps:
                kept.append(replace(artifact, not_kept=_NOT_KEPT))
                continue
            output = self._output(execution, artifact)
            try:
                published[output.id] = await self._kept(output, artifact)
                kept.append(replace(artifact, id=output.id, url=output.url, storage_key=output.storage_key))
            except BichatError as error:
                logger.warning("a file that came out of an execution could not be kept: %s", error)
                kept.append(replace(artifact, not_kept=error.message))
        return tuple(kept), published

    async def _kept(self, output: CodeInterpreterOutput, artifact: Artifact) -> StoredFile:
        """Its bytes in the storage, and a row that is pending; neither where this raises."""
        async with self._upkeep.reserved(self._repository.outputs, output):
            return await saved(self._storage, output.storage_key, artifact)

    def _output(self, execution: ExecutionRecord, artifact: Artifact) -> CodeInterpreterOutput:
        output_id = new_id()
        return CodeInterpreterOutput(
            id=output_id,
            tenant=execution.tenant,
            message_id=execution.message_id,
            execution_id=execution.id,
            name=artifact.name,
            mime_type=artifact.mime_type,
            url=f"{OUTPUT_PATH}{output_id}",
            size_bytes=artifact.size_bytes,
            source=artifact.source,
            storage_key=new_key(execution.tenant),
            sha256=artifact.sha256,
            lease=self._upkeep.lease(),
            created_at=datetime.now(UTC),
        )

    async def _save_session(self) -> None:
        async with self._saving:  # what was saved last is all that is known by then
            await self._repository.sessions.save(self._session.tenant, self._lying())

    def _lying(self) -> SessionRecord:
        """The session with what lies in its folder now."""
        self._session = replace(self._session, files=tuple(self._files.values()), last_used_at=datetime.now(UTC))
        return self._session

    def _entry(self, execution: ExecutionRecord, outcome: str) -> AuditEntry:
        return AuditEntry(
            id=new_id(),
            tenant=execution.tenant,
            user=self._session.user,
            action="execution",
            subject_id=execution.id,
            code_sha256=execution.code_sha256,
            outcome=outcome,
            at=datetime.now(UTC),
        )


def _kept_file(artifact: Artifact) -> KeptFile:
    """What lies in the folder now; its key is empty where it could not be kept, and an older version is not meant."""
    return KeptFile(
        name=artifact.name,
        storage_key=artifact.storage_key,
        size_bytes=artifact.size_bytes,
        sha256=artifact.sha256,
    )
