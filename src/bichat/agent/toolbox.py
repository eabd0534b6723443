"""What each run's model may call, and where its code runs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

from bichat.agent.code_interpreter import CodeInterpreterTool, Place
from bichat.conversation import parts
from bichat.conversation.request import CodeOptions, RunRequest
from bichat.conversation.tool import Tool
from bichat.errors import NotFoundError, SessionEndedError
from bichat.live_sessions import LiveSessions
from bichat.repository.chat_repository import ChatRepository
from bichat.repository.moments import utc_now
from bichat.repository.records import FileRecord, Message, Part, Run, SessionRecord
from bichat.sizes import MIB
from bichat.storage import FileStorage

#: In a run's metadata: what became of its conversation's session.
SESSION_NOTE: Final = "bichat.container"
#: In the details of a session: the conversation that it is a thread's, and goes with.
THREAD: Final = "thread"
#: In the content of a file's part: it was given to a thread, for these tools.
TOOLS: Final = "tools"
#: Images that people gave and that a model is shown: of one, and of all together.
_IMAGE_BYTES: Final = 8 * MIB
_ALL_IMAGES_BYTES: Final = 24 * MIB
#: Files in the session that models are told of by name.
_MOST_NAMED: Final = 50

_DELETED: Final = "the container had been deleted; a new one has been opened, its files and variables are gone"
_WORDS: Final = (
    "You can run Python with the tool `python`. The working directory is /mnt/data: read input files there and save "
    "every file that the user should get there. In your answer name each such file as a link, for example "
    "[report.csv](sandbox:/mnt/data/report.csv). matplotlib figures are shown to the user when plt.show() is called or "
    "the code ends. There is no network. numpy, pandas, polars, pyarrow, duckdb, matplotlib, plotly, altair, openpyxl, "
    "reportlab and scikit-learn are among what is installed; pip is not available."
)


@dataclass(frozen=True, slots=True)
class _Last:
    """The session that code ran in."""

    id: str
    record: SessionRecord | None
    """None: it was deleted."""

    @property
    def end_reason(self) -> str:
        return "deleted" if self.record is None else self.record.end_reason


class CodeToolbox:
    """Implements `Toolbox`: the code interpreter, in the session of the run's conversation."""

    def __init__(
        self,
        sessions: LiveSessions,
        repository: ChatRepository,
        storage: FileStorage,
        *,
        is_strict: bool = False,
    ) -> None:
        """`storage` keeps the bytes of what `repository` records; `is_strict`: as `CodeOptions.is_strict`, for all."""
        self._is_strict = is_strict
        self._sessions = sessions
        self._repository = repository
        self._storage = storage

    async def home(self, tenant: str, request: RunRequest, history: Sequence[Message]) -> str:
        """See `Toolbox.home`."""
        options = request.code
        if options is None:
            return ""
        last = await self._last(tenant, request, history)
        self._check(options, last)
        if last is None or last.record is None or last.record.end_reason:
            return ""
        return last.record.lease.owner if last.record.lease is not None else ""

    def _check(self, options: CodeOptions, last: _Last | None) -> None:
        """Nothing, where code may run in a new session, should that one have ended.

        Raises:
            SessionEndedError: it may not.
        """
        if last is None or not last.end_reason or not (options.session_id or options.is_strict or self._is_strict):
            return
        record = last.record
        raise SessionEndedError(
            f"the session {last.id} has ended",
            reason=last.end_reason,
            ended_at=utc_now() if record is None else record.ended_at or record.last_used_at,
        )

    async def tools(self, run: Run, request: RunRequest, history: Sequence[Message]) -> Sequence[Tool]:
        """See `Toolbox.tools`."""
        if request.code is None:
            return ()
        place: list[Place] = []

        async def find(ended: str) -> Place:
            if not place or place[0].session_id == ended:
                place[:] = [await self._place(run, request, history, ended)]
            return place[0]

        async def told() -> str:
            return await self._told(run.tenant, request, history)

        return (CodeInterpreterTool(self._sessions, find, told),)

    async def _last(
        self, tenant: str, request: RunRequest, history: Sequence[Message], ended: str = ""
    ) -> _Last | None:
        """The session asked for, or the one that the conversation's code ran in last; None where there is none.

        Raises:
            NotFoundError: the one asked for is not there.
        """
        if request.code is not None and request.code.session_id:
            session_id = request.code.session_id
            return _Last(session_id, await self._sessions.record(tenant, session_id))
        session_id = ended or _session_of(history)
        if not session_id:
            return None
        try:
            return _Last(session_id, await self._sessions.record(tenant, session_id))
        except NotFoundError:
            return _Last(session_id, None)

    async def _place(self, run: Run, request: RunRequest, history: Sequence[Message], ended: str) -> Place:
        """The session that the run's code runs in from now on: found, brought back, or opened."""
        options = request.code
        assert options is not None  # noqa: S101  # tools without it are none
        last = await self._last(run.tenant, request, history, ended)
        self._check(options, last)
        files = await self._files(run.tenant, options, history)
        record = None if last is None else last.record
        if record is None:
            details = {"name": "", THREAD: run.conversation_id} if options.is_thread else {"name": ""}
            opened = await self._sessions.open(
                run.tenant,
                user=request.user,
                memory=options.memory,
                files=files,
                details=details,
                is_thread=options.is_thread,
            )
            return Place(opened.id, {} if last is None else {SESSION_NOTE: _DELETED})
        notes: dict[str, Any] = {}
        if record.end_reason:
            reopened = await self._sessions.reopen(run.tenant, record.id)
            notes[SESSION_NOTE] = (
                f"the container had expired ({record.end_reason}); a new one has its files, its variables are gone"
            )
            record = reopened
        await self._sessions.mount(run.tenant, record.id, files, is_thread=options.is_thread)
        return Place(record.id, notes)

    async def _files(self, tenant: str, options: CodeOptions, history: Sequence[Message]) -> list[FileRecord]:
        """Those that were asked for, and those that were given and are still there.

        Raises:
            NotFoundError: one that was asked for is not there, and this is no thread's.
        """
        found: list[FileRecord] = []
        asked = () if options.is_thread else options.file_ids
        for file_id in dict.fromkeys((*options.file_ids, *_given(history))):
            try:
                found.append(await self._repository.files.get(tenant, file_id))
            except NotFoundError:
                if file_id in asked:
                    raise
        return found

    async def _told(self, tenant: str, request: RunRequest, history: Sequence[Message]) -> str:
        """What the model is to know: the rules, and the files that it will find."""
        options = request.code
        assert options is not None  # noqa: S101
        paths = [
            f"{self._sessions.path_of(file, is_thread=True)} ({file.name})"
            if options.is_thread
            else self._sessions.path_of(file)
            for file in await self._files(tenant, options, history)
        ]
        last = await self._last(tenant, request, history)
        record = None if last is None else last.record
        if record is not None and not options.session_id:
            paths += [f"/mnt/data/{file.name}" for file in record.files]
        elif record is not None:
            paths += [f"/mnt/data/{file.name}" for file in await self._sessions.files(tenant, record.id)]
        paths = list(dict.fromkeys(paths))
        if not paths:
            return _WORDS
        rest = len(paths) - _MOST_NAMED
        more = f"\n... and {rest:,} more" if rest > 0 else ""
        return f"{_WORDS}\nFiles that are there:\n" + "\n".join(paths[:_MOST_NAMED]) + more

    async def readied(self, tenant: str, history: Sequence[Message], *, sees_images: bool) -> list[Message]:
        """See `Toolbox.readied`: files by their paths in words, images as data where they can be seen."""
        left = _ALL_IMAGES_BYTES if sees_images else 0
        ready: list[Message] = []
        for message in reversed(history):  # the newest images first
            pieces: list[Part] = []
            for part in message.parts:
                if part.kind not in (parts.IMAGE, parts.FILE) or not part.content.get("file_id"):
                    pieces.append(part)
                    continue
                try:
                    file = await self._repository.files.get(tenant, part.content["file_id"])
                except NotFoundError:
                    pieces.append(_note("[a file that was deleted]"))
                    continue
                if part.kind == parts.IMAGE and file.size_bytes <= min(left, _IMAGE_BYTES):
                    left -= file.size_bytes
                    url = await self._data_url(file)
                    pieces.append(Part(kind=parts.IMAGE, content={**part.content, "url": url}))
                else:
                    path = self._sessions.path_of(file, is_thread=TOOLS in part.content)
                    pieces.append(_note(f"[the file {file.name} lies at {path}]"))
            ready.append(replace(message, parts=tuple(pieces)))
        ready.reverse()
        return ready

    async def _data_url(self, file: FileRecord) -> str:
        data = bytearray()
        async with aclosing(self._storage.open(file.storage_key)) as chunks:
            async for chunk in chunks:
                data += chunk
        return f"data:{file.mime_type};base64,{base64.b64encode(data).decode('ascii')}"


def _session_of(history: Sequence[Message]) -> str:
    """Id of the session that code ran in last; empty where none has."""
    for message in reversed(history):
        if message.parts and message.parts[0].kind == parts.CODE:
            session_id: str = message.parts[0].content.get("session_id") or ""
            if session_id:
                return session_id
    return ""


def _given(history: Sequence[Message]) -> list[str]:
    """Ids of the files that people gave with what they said."""
    return [
        part.content["file_id"]
        for message in history
        for part in message.parts
        if part.kind in (parts.IMAGE, parts.FILE) and part.content.get("file_id")
    ]


def _note(text: str) -> Part:
    return Part(kind=parts.TEXT, content={"text": text, parts.NOTE: True})
