"""Sessions by their ids: those that live in this process, those that live in another one, those that were."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal, Self
from uuid import UUID
from weakref import WeakValueDictionary

import anyio

from bichat.archive import Archive
from bichat.errors import DatabaseError, LimitError, NotFoundError, SessionElsewhereError, SessionEndedError
from bichat.interpreter import CodeInterpreter
from bichat.names import safe_file_name
from bichat.repository.ids import check_id
from bichat.repository.pages import Page
from bichat.repository.records import CodeInterpreterOutput, FileRecord, SessionRecord
from bichat.sandbox.background import Background
from bichat.session import Session
from bichat.settings.location import make_data_dir
from bichat.settings.settings import Settings
from bichat.sizes import MIB, format_size
from bichat.storage import FileStorage

FOLDER: Final = "/mnt/data/"
#: Seconds without use after which the session of a thread ends.
THREAD_IDLE_S: Final = 3600.0
#: Largest file that a thread has under its own name beside its id.
MOST_NAMED_BYTES: Final = 64 * MIB
#: Outputs and input files of one session that are looked at, newest first.
_MOST_FILES: Final = 10_000
_PAGE: Final = 100
#: How often a process looks whether others have deleted sessions of its.
_LOOK_EVERY_S: Final = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOfSession:
    """A file that lies in a session's folder, or lay there last, or an image that its code displayed."""

    id: str
    """Of its record."""
    name: str
    """Path below `/mnt/data`; of an image what it is called."""
    source: Literal["user", "assistant"]
    """Whether somebody put it there, or the code made it."""
    size_bytes: int
    mime_type: str
    created_at: datetime
    record: FileRecord | CodeInterpreterOutput

    @property
    def path(self) -> str:
        """Where code finds it."""
        return FOLDER + self.name


class LiveSessions:
    """Of one process, over an interpreter that keeps a record.

    Inside `async with` it ends those whose record another process has deleted (`delete_anywhere`), within seconds.
    Every method takes the tenant; another tenant's session is not found.
    """

    def __init__(self, interpreter: CodeInterpreter, settings: Settings, archive: Archive) -> None:
        """`interpreter` has `settings`, and keeps its record in `archive`."""
        self._interpreter = interpreter
        self._settings = settings
        self._archive = archive
        self._repository = archive.repository
        self._here: dict[str, Session] = {}
        self._reopening: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()
        self._reopened: dict[str, str] = {}
        self._background = Background()

    async def __aenter__(self) -> Self:
        self._background.start(self._watch)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._background.close()

    @property
    def storage(self) -> FileStorage:
        """Where the bytes of files are."""
        return self._archive.storage

    async def open(
        self,
        tenant: str,
        *,
        user: str = "",
        idle_s: float | None = None,
        memory: str | int | None = None,
        files: Sequence[FileRecord] = (),
        details: Mapping[str, Any] | None = None,
        is_thread: bool = False,
    ) -> SessionRecord:
        """A fresh session that lives here.

        Args:
            tenant: whose it is.
            user: whose within the tenant.
            idle_s: seconds without use after which it ends; the installation's default if None.
            memory: such as `"4g"`; likewise.
            files: uploaded ones that lie in its folder from the start, each where `path_of` says.
            details: what else is recorded with it.
            is_thread: as `path_of`; it lives for an hour without use then, or as long as the operator allows.

        Raises:
            LimitError: above a bound of the operator's.
            As `CodeInterpreter.open_session`, and `mount`.
        """
        if is_thread:
            idle_s = min(THREAD_IDLE_S, self._settings.bounds.idle_s)
        limits = self._settings.limits if idle_s is None else replace(self._settings.limits, idle_s=idle_s)
        session = await self._interpreter.open_session(
            tenant=tenant, user=user, limits=limits, memory=memory, details=details
        )
        self._keep(session)
        try:
            await self.mount(tenant, session.id, files, is_thread=is_thread)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await session.close()
            raise
        return await self.record(tenant, session.id)

    async def reopen(self, tenant: str, session_id: str) -> SessionRecord:
        """A session with the files of one that has ended, and with its limits; its variables are gone.

        Who asks for the same at the same time gets the same.

        Raises:
            As `CodeInterpreter.open_session`.
        """
        async with self._reopening.setdefault(session_id, anyio.Lock()):
            before = await self.record(tenant, session_id)
            session = self._here.get(self._reopened.get(before.id, ""))
            if session is not None and session.alive:
                return await self.record(tenant, session.id)
            session = await self._interpreter.open_session(
                tenant=tenant, user=before.user, resume=session_id, details=before.options.get("details")
            )
            self._keep(session)
            self._reopened[before.id] = session.id
        return await self.record(tenant, session.id)

    def _keep(self, session: Session) -> None:
        self._here = {key: kept for key, kept in self._here.items() if kept.alive}
        self._here[session.id] = session
        self._reopened = {old: new for old, new in self._reopened.items() if new in self._here}

    async def record(self, tenant: str, session_id: str) -> SessionRecord:
        """Its row; one that has ended has an `end_reason`.

        Raises:
            NotFoundError: there is no such session.
        """
        record = await self._repository.sessions.get(tenant, session_id)
        session = self._here.get(record.id)
        if session is not None and not record.end_reason and not session.alive:
            await session.recorded()
            record = await self._repository.sessions.get(tenant, session_id)
        return record

    async def touched(self, tenant: str, session_id: str) -> SessionRecord:
        """Its row; where it lives here, it counts as used now.

        Raises:
            NotFoundError: there is no such session.
        """
        record = await self.record(tenant, session_id)
        session = self._here.get(record.id)
        if session is None or record.end_reason:
            return record
        with suppress(SessionEndedError):
            await session.touch()
        return await self._repository.sessions.get(tenant, session_id)

    @asynccontextmanager
    async def held(self, tenant: str, session_id: str) -> AsyncGenerator[Session]:
        """The session, which lives here.

        Raises:
            NotFoundError: there is no such session.
            SessionEndedError: it has ended; says when and why.
            SessionElsewhereError: it lives in another process.
        """
        record = await self.record(tenant, session_id)
        session = self._here.get(record.id)
        if record.end_reason:
            at = record.ended_at or record.last_used_at
            message = f"the session ended at {at:%Y-%m-%d %H:%M:%S} UTC ({record.end_reason})"
            raise SessionEndedError(message, reason=record.end_reason, ended_at=at)
        if session is None:
            raise SessionElsewhereError(
                "the session lives in another process of this server",
                stage="session",
                remedy="Ask again: another process may get the request.",
            )
        yield session

    def path_of(self, file: FileRecord, *, is_thread: bool = False) -> str:
        """Where a session has an uploaded file: models know the form.  That of a thread has it by its id."""
        return FOLDER + (_thread_name(file) if is_thread else _mount_name(file))

    async def mount(
        self, tenant: str, session_id: str, files: Sequence[FileRecord], *, is_thread: bool = False
    ) -> None:
        """Copy uploaded files into the session's folder, those that are not there yet.

        For a thread they lie there under their own names too, where nothing else does and they are not too large.

        Raises:
            As `held`, and `Session.put`.
        """
        if not files:
            return
        async with self.held(tenant, session_id) as session:
            there = {file.name for file in await session.files()}
            for file in files:
                names = [_thread_name(file) if is_thread else _mount_name(file)]
                if is_thread and file.size_bytes <= min(MOST_NAMED_BYTES, session.limits.disk_bytes // 8):
                    names.append(safe_file_name(file.name).name)
                for name in names:
                    if name not in there:
                        async with aclosing(self.storage.open(file.storage_key)) as chunks:
                            await self._put(session, name, chunks, file.size_bytes)
                        there.add(name)

    async def put(self, tenant: str, session_id: str, name: str, chunks: AsyncIterable[bytes]) -> FileOfSession:
        """Copy a file into the session's folder, in the place of one of its name.

        Raises:
            LimitError: it is larger than a file may be, or than the session's disk.
            As `held`, and `Session.put`.
        """
        async with self.held(tenant, session_id) as session:
            await self._put(session, name, chunks, session.limits.artifact_bytes)
        for file in await self.files(tenant, session_id):
            if file.name == name and file.source == "user":
                return file
        raise NotFoundError("the file was replaced or deleted meanwhile", stage="session")

    async def _put(self, session: Session, name: str, chunks: AsyncIterable[bytes], most: int) -> None:
        """By way of a file on the host, so that it never sits in memory."""
        spool = make_data_dir(make_data_dir(self._settings.data_dir) / "spool")
        with TemporaryDirectory(dir=spool, prefix="put-") as folder:
            path = Path(folder) / "content"
            size = 0
            async with await anyio.open_file(path, "wb") as target:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > most:
                        raise LimitError(
                            f"the file is larger than {format_size(most)}",
                            stage="input",
                            remedy="Give less, or have the operator raise BICHAT_DEFAULT_ARTIFACT_BYTES.",
                        )
                    await target.write(chunk)
            await session.put(name, path)

    async def files(self, tenant: str, session_id: str) -> tuple[FileOfSession, ...]:
        """What lies in its folder, as far as it is kept, and the images that it displayed; newest first.

        Raises:
            NotFoundError: there is no such session.
        """
        record = await self.record(tenant, session_id)
        keys = {file.storage_key for file in record.files}
        found = [
            _of(output, "assistant")
            async for output in self._all(self._repository.outputs.page, tenant, record.id)
            if output.source == "display" or output.storage_key in keys
        ]
        found += [
            _of(file, "user")
            async for file in self._all(self._repository.files.page, tenant, record.id)
            if file.storage_key in keys
        ]
        found.sort(key=lambda file: (file.created_at, file.id), reverse=True)
        return tuple(found)

    async def _all(self, page: Any, tenant: str, session_id: str) -> AsyncGenerator[Any]:
        cursor, count = "", 0
        while count < _MOST_FILES:
            some: Page[Any] = await page(tenant, session_id=session_id, limit=_PAGE, cursor=cursor)
            for item in some.items:
                yield item
            count, cursor = count + len(some.items), some.next_cursor
            if not cursor:
                return

    async def file(self, tenant: str, session_id: str, file_id: str) -> FileOfSession:
        """One of `files`, or one that was: what code wrote over or deleted is had by its id for as long as it is kept.

        Raises:
            NotFoundError: there is no such file of this session's.
        """
        session_id, wanted = check_id(session_id, "session"), check_id(file_id, "file")
        with suppress(NotFoundError):
            output = await self._repository.outputs.get(tenant, wanted)
            execution = await self._repository.executions.get(tenant, output.execution_id)
            if execution.session_id == session_id:
                return _of(output, "assistant")
        with suppress(NotFoundError):
            given = await self._repository.files.get(tenant, wanted)
            if given.session_id == session_id:
                return _of(given, "user")
        raise NotFoundError("there is no such file of this session", stage="session")

    async def remove(self, tenant: str, session_id: str, file_id: str) -> None:
        """Delete a file's record, and remove it from the session's folder where it is what lies there.

        Of an ended session, and of a file that code has written over or deleted, the record alone goes.

        Raises:
            NotFoundError: there is no such file of this session's.
            SessionElsewhereError: the session lives in another process.
        """
        file = await self.file(tenant, session_id, file_id)
        with suppress(SessionEndedError):
            async with self.held(tenant, session_id) as session:
                lying = (await self.record(tenant, session_id)).files
                if any((kept.name, kept.storage_key) == (file.name, file.record.storage_key) for kept in lying):
                    await session.remove(file.name)
        if isinstance(file.record, FileRecord):
            await self._repository.files.delete(tenant, file.id)
        else:
            await self._repository.outputs.delete(tenant, file.id)

    async def delete(self, tenant: str, session_id: str) -> None:
        """End it, and delete its record with the executions and files that it left.

        Raises:
            NotFoundError: there is no such session.
            SessionElsewhereError: it lives in another process.
        """
        with suppress(SessionEndedError):
            async with self.held(tenant, session_id) as session:
                await session.close()
        await self._repository.sessions.delete(tenant, session_id)
        self._here.pop(check_id(session_id, "session"), None)

    async def delete_anywhere(self, tenant: str, session_id: str) -> None:
        """As `delete`, also where it lives in another process, which ends it within seconds.

        Raises:
            NotFoundError: there is no such session.
        """
        try:
            await self.delete(tenant, session_id)
        except SessionElsewhereError:
            await self._repository.sessions.delete(tenant, session_id)

    async def _watch(self) -> None:
        while True:
            await anyio.sleep(_LOOK_EVERY_S)
            try:
                for session in [each for each in self._here.values() if each.alive]:
                    await self._end_if_deleted(session)
            except DatabaseError as error:
                logger.warning("it cannot be seen which sessions were deleted: %s", error)

    async def _end_if_deleted(self, session: Session) -> None:
        try:
            await self._repository.sessions.get(session.tenant, session.id)
        except NotFoundError:
            self._here.pop(session.id, None)
            await session.close()


def _mount_name(file: FileRecord) -> str:
    return str(safe_file_name(f"file-{UUID(file.id).hex}-{safe_file_name(file.name).name}"))


def _thread_name(file: FileRecord) -> str:
    return f"file-{UUID(file.id).hex}"


def _of(record: FileRecord | CodeInterpreterOutput, source: Literal["user", "assistant"]) -> FileOfSession:
    return FileOfSession(
        id=record.id,
        name=record.name,
        source=source,
        size_bytes=record.size_bytes,
        mime_type=record.mime_type,
        created_at=record.created_at,
        record=record,
    )
