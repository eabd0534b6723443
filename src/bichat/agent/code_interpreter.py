"""The tool `python`: code that a model writes runs in the conversation's session."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from bichat.agent.logs import Logs
from bichat.conversation import run_events
from bichat.conversation.partial_json import ArgumentsError, StringMember
from bichat.conversation.planner import ToolSpec
from bichat.conversation.request import CODE_TOOL
from bichat.conversation.tool import Call, Outcome, Progress
from bichat.domain import Artifact, ExecutionResult, Origin, Status
from bichat.errors import LimitError, NotFoundError, SessionEndedError, UserInputError
from bichat.events import Completed, Displayed, Event, Stderr, Stdout
from bichat.live_sessions import LiveSessions
from bichat.session import Session
from bichat.sizes import KIB, MIB, format_size
from bichat.spans import fail, span

Json = Mapping[str, Any]

#: Output of one call that a model is given, half from the head and half from the tail.
TOLD_CHARS: Final = 16_000
#: Output of one call that is kept with it.
LOGGED_CHARS: Final = 512 * KIB
#: What is told of one call while it runs, in characters, and what each piece costs beside its own: all of it is on record.
LIVE_CHARS: Final = 512 * KIB
_PIECE_CHARS: Final = 100
NO_MORE: Final = "\n... more was printed; what is kept of it comes with the end ...\n"
#: What a model is told of a session that has ended and has none in its place.
_ENDED: Final = (
    "The container of this code has ended, and there is none in its place: no more code can be run in this answer. "
    "Tell the user that a new container is needed."
)
_FENCED: Final = re.compile(r"```(?:python|py|python3)?[ \t]*\n(.*?)\n?```", re.DOTALL)
#: Files that a model is told of by name.
_MOST_NAMED: Final = 30
#: Images of one call that a model is shown, and how large one may be.
_MOST_SHOWN: Final = 4
_SHOWN_BYTES: Final = 4 * MIB
_SEEN_TYPES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})

SPEC: Final = ToolSpec(
    name=CODE_TOOL,
    description=(
        "Runs Python in a Jupyter-like session that keeps its variables between calls, and returns what was printed, "
        "the last expression's value, the traceback of an error, and the names of new files and images."
    ),
    parameters={
        "type": "object",
        "properties": {"code": {"type": "string", "description": "Python source, as for a notebook's cell."}},
        "required": ["code"],
        "additionalProperties": False,
    },
)


@dataclass(frozen=True, slots=True)
class Place:
    """The session that a run's code runs in."""

    session_id: str
    notes: Json
    """What its caller should know: that it is a new one in the place of one that has ended, say."""


class _Live:
    """How much of a call is still told while it runs."""

    def __init__(self) -> None:
        self._left = LIVE_CHARS

    def part(self, text: str) -> str:
        """What is told of a piece: all of it, or what is the last that is told, or nothing."""
        room = self._left - _PIECE_CHARS
        if room <= 0:
            return ""
        self._left = room - len(text)
        return text if len(text) < room - _PIECE_CHARS else text[:room] + NO_MORE


class CodeInterpreterTool:
    """Implements `Tool` for one run."""

    def __init__(
        self, sessions: LiveSessions, find: Callable[[str], Awaitable[Place]], told: Callable[[], Awaitable[str]]
    ) -> None:
        """What it stands on.

        Args:
            sessions: those of this process.
            find: gives the session, and opens one where there is none, or in the place of the one of this id, which has
                ended; raises `SessionEndedError` or `NotFoundError` where there may be none in its place.
            told: what models are told before.
        """
        self._sessions = sessions
        self._find = find
        self._told = told
        self._place: Place | None = None
        self._ended = ""
        """Id of the session that this run has seen the end of."""
        self._running: Session | None = None

    @property
    def spec(self) -> ToolSpec:
        """See `Tool.spec`."""
        return SPEC

    @property
    def kind(self) -> Literal["code", "tool_call"]:
        """See `Tool.kind`."""
        return "code"

    async def instructions(self) -> str:
        """See `Tool.instructions`."""
        return await self._told()

    async def begin(self, call: Call) -> Json:  # noqa: ARG002  # a session is the run's, not the call's
        """See `Tool.begin`: opens the session where it is not open yet."""
        try:
            return {"session_id": (await self._found()).session_id}
        except (SessionEndedError, NotFoundError):
            if not self._ended:
                raise
            return {"session_id": self._ended}  # the model is told when it calls

    async def _found(self) -> Place:
        """Where the next code runs."""
        if self._place is None:
            self._place = await self._find(self._ended)
        return self._place

    def _leave(self, place: Place) -> None:
        """It has ended: the next code runs elsewhere."""
        self._place, self._ended = None, place.session_id

    async def _entered(self, stack: AsyncExitStack, tenant: str) -> tuple[Place, Session]:
        """The session, held by `stack`; the one in its place where it has ended since it was found: nothing has run there."""
        place = await self._found()
        try:
            return place, await stack.enter_async_context(self._sessions.held(tenant, place.session_id))
        except (SessionEndedError, NotFoundError):
            self._leave(place)
        place = await self._found()
        return place, await stack.enter_async_context(self._sessions.held(tenant, place.session_id))

    async def interrupt(self) -> bool:
        """See `Tool.interrupt`."""
        with suppress(SessionEndedError):
            return self._running is not None and await self._running.interrupt()
        return False

    async def call(self, call: Call, arguments: str) -> AsyncGenerator[Progress | Outcome]:
        """See `Tool.call`."""
        try:
            code = _code(arguments)
        except ArgumentsError as error:
            yield Outcome(told=str(error), is_ok=False)
            return
        async with AsyncExitStack() as stack:
            try:
                place, session = await self._entered(stack, call.tenant)
            except (SessionEndedError, NotFoundError):
                yield _failed(code, self._ended, _ENDED)
                return
            yield Progress(kind=run_events.CODE_RUNNING, payload={"code": code})
            self._running = session
            try:
                async with aclosing(self._run(call, code, place, session)) as news:
                    async for piece in news:
                        yield piece
            finally:
                self._running = None

    async def _run(self, call: Call, code: str, place: Place, session: Session) -> AsyncGenerator[Progress | Outcome]:
        logs, live, result = Logs(LOGGED_CHARS), _Live(), None
        try:
            with span("execution", attributes={"bichat.session.id": place.session_id}, is_current=False) as begun:
                origin = Origin(message_id=call.message_id, run_id=call.run_id)
                async with aclosing(session.stream(_unfenced(code), origin=origin)) as events:
                    async for event in events:
                        if isinstance(event, Completed):
                            result = event.result
                            begun.set_attribute("bichat.execution.id", result.id)
                            if result.status is not Status.COMPLETED:
                                fail(begun, result.status.value)
                        elif (told := _progress(event, logs, live)) is not None:
                            yield told
        except (UserInputError, LimitError) as error:  # the code itself is unusable: the model can mend it
            yield _failed(code, place.session_id, error.message)
            return
        except SessionEndedError as error:  # it may have run, in part: it is not run again
            self._leave(place)
            logs.add_line(f"The session has ended ({error.reason}): its variables are gone.")
            yield _failed(code, place.session_id, logs.cut(TOLD_CHARS), logs)
            return
        if result is None:
            raise AssertionError("an execution ends with Completed")
        if not result.session_alive:
            self._leave(place)
        yield _outcome(code, place, result, logs)


def _progress(event: Event, logs: Logs, live: _Live) -> Progress | None:
    """Note what happened; what is told of it while the code still runs."""
    match event:
        case Stdout(text) | Stderr(text):
            logs.add(text)
            stream = "stdout" if isinstance(event, Stdout) else "stderr"
            told = live.part(text)
            return Progress(kind=run_events.CODE_OUTPUT, payload={"stream": stream, "text": told}) if told else None
        case Displayed(shown):
            text = live.part(logs.add_shown(shown) or " ")
            payload = {"mime_types": list(shown.data), "text": text if text.strip() else ""}
            return Progress(kind=run_events.CODE_SHOWN, payload=payload) if text else None
        case _:
            return None


def _code(arguments: str) -> str:
    reader = StringMember("code")
    reader.feed(arguments)
    return reader.end()


def _unfenced(code: str) -> str:
    """Without the fence that some models put around it: no Python begins with one."""
    fenced = _FENCED.fullmatch(code.strip())
    return fenced[1] if fenced else code


def _failed(code: str, session_id: str, told: str, logs: Logs | None = None) -> Outcome:
    """Of code that has no result; its caller is told the same as the model."""
    shown = logs.text if logs is not None else told
    content = {"code": code, "session_id": session_id, "outputs": [{"type": "logs", "logs": shown}]}
    return Outcome(told=told, content=content, is_ok=False)


def _outcome(code: str, place: Place, result: ExecutionResult, logs: Logs) -> Outcome:
    if result.error is not None:
        logs.add_line(result.error.traceback or f"{result.error.name}: {result.error.message}")
    images = [artifact for artifact in result.artifacts if artifact.source == "display"]
    content = {
        "code": code,
        "session_id": place.session_id,
        "execution_id": result.id,
        "outputs": [*_logged(logs), *map(_image, images)],
        "files": [_file(artifact) for artifact in result.artifacts],
        "error": None if result.error is None else {"name": result.error.name, "message": result.error.message},
        "status": result.status.value,
    }
    return Outcome(
        told=_told(result, logs),
        content=content,
        shown=tuple(_data_url(image) for image in images[:_MOST_SHOWN] if _is_seen(image)),
        # Code that raises is a call that was carried out; only what the platform or a limit ended has failed.
        is_ok=result.status in (Status.COMPLETED, Status.ERROR),
        notes=place.notes,
    )


def _logged(logs: Logs) -> list[dict[str, Any]]:
    return [{"type": "logs", "logs": logs.text}] if logs.text else []


def _image(artifact: Artifact) -> dict[str, Any]:
    return {"type": "image", "output_id": artifact.id, "name": artifact.name, "mime_type": artifact.mime_type}


def _file(artifact: Artifact) -> dict[str, Any]:
    return {
        "output_id": artifact.id,
        "name": artifact.name,
        "mime_type": artifact.mime_type,
        "size_bytes": artifact.size_bytes,
        "source": artifact.source,
    }


def _told(result: ExecutionResult, logs: Logs) -> str:
    """What the model is given: the output, then in brackets what happened beside it."""
    beside: list[str] = []
    if result.notice:
        beside.append(result.notice)
    if result.status not in (Status.COMPLETED, Status.ERROR):
        beside.append(f"The code was ended: {result.status.value}.")
    if not result.session_alive:
        beside.append("The session has ended with it: its variables are gone.")
    beside += _named("New or changed files in /mnt/data", [a for a in result.artifacts if a.source == "file"])
    beside += _named("Images shown to the user", [a for a in result.artifacts if a.source == "display"])
    beside += [f"Not kept: {each.name} ({each.reason})." for each in result.refused[:_MOST_NAMED]]
    beside += [f"Not kept: {a.name} ({a.not_kept})." for a in result.artifacts if a.not_kept]
    output = logs.cut(TOLD_CHARS)
    if not output and not beside:
        return "(no output)"
    if not beside:
        return output
    return "\n".join(filter(None, (output.rstrip("\n"), *(f"[{line}]" for line in beside))))


def _named(what: str, artifacts: list[Artifact]) -> list[str]:
    if not artifacts:
        return []
    names = [f"{artifact.name} ({format_size(artifact.size_bytes)})" for artifact in artifacts[:_MOST_NAMED]]
    rest = len(artifacts) - len(names)
    return [f"{what}: {', '.join(names)}{f' and {rest:,} more' if rest else ''}."]


def _is_seen(artifact: Artifact) -> bool:
    return artifact.mime_type in _SEEN_TYPES and artifact.size_bytes <= _SHOWN_BYTES


def _data_url(artifact: Artifact) -> str:
    data = b"".join(artifact.content.chunks())
    return f"data:{artifact.mime_type};base64,{base64.b64encode(data).decode('ascii')}"
