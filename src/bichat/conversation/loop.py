"""The one loop: a planner's turn, the calls that come out of it, their results, the next turn."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Final

import anyio

from bichat.conversation import parts, run_events
from bichat.conversation.citations import KnownFiles, citations_json
from bichat.conversation.journal import Journal
from bichat.conversation.partial_json import StringMember
from bichat.conversation.planner import (
    Planner,
    PlannerError,
    ReasoningDelta,
    ReasoningEnded,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    ToolSpec,
    Turn,
    TurnEnded,
)
from bichat.conversation.request import Bounds, RunRequest
from bichat.conversation.scribe import OpenItem, Scribe
from bichat.conversation.tool import Call, Outcome, Progress, Tool
from bichat.repository.records import Message, Part, Role, Run, RunState
from bichat.spans import SpanKind, span

Json = Mapping[str, Any]

_COUNTED: Final = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
#: How a turn ends that does not end by itself.
_CUT: Final = ("length", "content_filter")
#: Of what code had printed that was ended before it was over, what later turns are told.
_CUT_CHARS: Final = 16_000


@dataclass(frozen=True, slots=True)
class Ending:
    """How a loop ended."""

    state: RunState
    reason: str = ""
    """Of `RunState.INCOMPLETE`: `max_output_tokens`, `max_input_tokens`, `content_filter`, `max_turns`."""
    calls: tuple[Json, ...] = ()
    """Of `RunState.WAITING`: what the caller is to carry out."""


@dataclass(slots=True)
class _OpenCall:
    """A call whose arguments are being written."""

    id: str
    name: str
    item: OpenItem
    tool: Tool | None
    """None: the caller's, or nobody's."""
    arguments: list[str] = field(default_factory=list[str])
    code: StringMember | None = None

    @property
    def text(self) -> str:
        return "".join(self.arguments)


class Loop:
    """Of one run, in the process that works on it."""

    def __init__(
        self,
        run: Run,
        request: RunRequest,
        *,
        planner: Planner,
        tools: Sequence[Tool],
        history: Sequence[Message],
        scribe: Scribe,
        journal: Journal,
        bounds: Bounds,
        instructions: str,
    ) -> None:
        """`history`: what was said before, with what the run was given; `instructions`: all of them."""
        self._run = run
        self._request = request
        self._planner = planner
        self._tools = {tool.spec.name: tool for tool in tools}
        self._history = list(history)
        self._scribe = scribe
        self._journal = journal
        self._bounds = bounds
        self._instructions = instructions
        self._files = KnownFiles()
        self._calls_made = 0
        self._is_interrupted = False
        self._running: tuple[Tool, anyio.Event] | None = None
        self.usage: dict[str, int] = {**dict.fromkeys((*_COUNTED, "total_tokens"), 0), **run.usage}
        """Of all turns so far."""
        self.notes: dict[str, Any] = {}
        """What tools have left for the run's metadata."""
        self.code_ran = False
        """Whether any code was started."""
        its_own = [message for message in history if message.run_id == run.id and not message.is_input]
        self._is_begun = bool(its_own)
        for message in history:
            self._know(message, is_new=message.run_id == run.id and not message.is_input)
        for message in its_own:
            self.code_ran = self.code_ran or _kind(message) == parts.CODE
            if _kind(message) == parts.TEXT:
                self._files.told(message.parts[0].content)

    async def go(self) -> Ending:
        """Until there is an answer, a limit, or something that the caller alone can do.

        Raises:
            PlannerError: the model did not do its part.
            BichatError: the platform did not.
        """
        ending = await self._go()
        if ending.state is not RunState.WAITING:  # which goes on, and may name them yet
            await self._name_rest()
        return ending

    async def interrupt(self) -> None:
        """Let the call that is carried out end, with what had come of it on record, and begin nothing more."""
        self._is_interrupted = True
        if self._running is not None:
            tool, is_over = self._running
            if await tool.interrupt():
                await is_over.wait()

    async def _go_on(self) -> None:
        """Nothing more is begun once it is interrupted: whoever did that cancels it."""
        if self._is_interrupted:
            await anyio.sleep_forever()

    async def _go(self) -> Ending:
        for number in range(self._bounds.turns):
            await self._go_on()
            start = len(self._history)
            ended, calls = await self._turn(is_first=number == 0 and not self._is_begun)
            if ended.finish in ("length", "content_filter"):
                reason = "max_output_tokens" if ended.finish == "length" else "content_filter"
                return Ending(RunState.INCOMPLETE, reason)
            if not calls:
                return Ending(RunState.COMPLETED)
            for call in calls:
                if not self._is_callers(call):
                    await self._carry_out(call)
            # As it will be read another time: calls in the order in which they began, then what came of them.
            self._history[start:] = sorted(self._history[start:], key=lambda message: (message.created_at, message.id))
            theirs = [call for call in calls if self._is_callers(call)]
            if theirs:
                waiting = tuple({"call_id": call.id, "name": call.name, "arguments": call.text} for call in theirs)
                return Ending(RunState.WAITING if self._request.waits_for_caller else RunState.COMPLETED, calls=waiting)
            if self._tokens_left == 0:
                return Ending(RunState.INCOMPLETE, "max_output_tokens")
            if self.usage["input_tokens"] > (self._request.max_input_tokens or sys.maxsize):
                return Ending(RunState.INCOMPLETE, "max_input_tokens")
        return Ending(RunState.INCOMPLETE, "max_turns")

    # ---------------------------------------------------------------------------------------------------- one turn

    async def _turn(self, *, is_first: bool) -> tuple[TurnEnded, list[_OpenCall]]:
        """What a planner makes of all that was said, as items; the calls in the order in which they began."""
        turn = Turn(
            model=self._request.model,
            instructions=self._instructions,
            history=tuple(self._history),
            tools=self._specs(),
            tool_choice=self._request.tool_choice if is_first or self._request.tool_choice == "none" else "auto",
            sampling=replace(self._request.sampling, max_output_tokens=self._tokens_left),
            is_first=is_first,
        )
        calls: dict[str, _OpenCall] = {}
        growing: OpenItem | None = None
        asked = {"gen_ai.operation.name": "chat", "gen_ai.request.model": self._planner.name}
        with span("model", kind=SpanKind.CLIENT, attributes=asked) as begun:
            async with aclosing(self._planner.turn(turn)) as events:
                async for event in events:
                    match event:
                        case TextDelta(text):
                            growing = await self._grow(growing, parts.TEXT, text)
                        case ReasoningDelta(text):
                            growing = await self._grow(growing, parts.REASONING, text)
                        case ReasoningEnded(provider):
                            growing = await self._end_reasoning(growing, provider)
                        case ToolCallBegun(call_id, name):
                            _check_call(call_id not in calls)
                            # The answer ends with what its caller is to carry out: files are named before that.
                            is_last = self._hands_over(name)
                            growing = await self._end_growing(growing, is_last=is_last)
                            if is_last:
                                await self._name_rest()
                            calls[call_id] = await self._begin_call(call_id, name)
                        case ToolCallDelta(call_id, text):
                            _check_call(call_id in calls)
                            await self._grow_call(calls[call_id], text)
                        case TurnEnded():
                            is_last = not calls and event.finish == "stop"
                            self._count(event)
                            begun.set_attribute("gen_ai.usage.input_tokens", event.input_tokens)
                            begun.set_attribute("gen_ai.usage.output_tokens", event.output_tokens)
                            # What a turn took is its last item's.
                            last = next(reversed(calls.values())).item if calls else growing
                            if last is not None:
                                last.metadata["usage"] = _usage(event)
                            await self._end_growing(growing, is_last=is_last, is_cut=event.finish in _CUT)
                            _check_call(bool(calls) or event.finish != "tool_calls")
                            return event, await self._ended_calls(calls, is_cut=event.finish == "length")
        raise PlannerError("the model's answer broke off", reason="cut_off")

    async def _grow(self, growing: OpenItem | None, kind: str, text: str) -> OpenItem | None:
        if not text:
            return growing
        if growing is not None and growing.kind != kind:
            growing = await self._end_growing(growing)
        if growing is None:
            shown = self._files.shown() if kind == parts.TEXT else []
            growing = await self._scribe.begin(kind, {"text": ""} | ({"shown": citations_json(shown)} if shown else {}))
        await self._scribe.grow(growing, text)
        return growing

    async def _end_reasoning(self, growing: OpenItem | None, provider: Json) -> OpenItem | None:
        if growing is None or growing.kind != parts.REASONING:
            if not provider:
                return growing
            await self._end_growing(growing)
            growing = await self._scribe.begin(parts.REASONING, {"text": ""})
        self._history.append(await self._scribe.done(growing, {"provider": dict(provider)}))
        return None

    async def _end_growing(self, growing: OpenItem | None, *, is_last: bool = False, is_cut: bool = False) -> None:
        """A text is whole: with the files that it names, and the last one, or one that is cut, with those that none has."""
        if growing is None:
            return
        content: dict[str, Any] = {}
        if growing.kind == parts.TEXT:
            cited = self._files.named(growing.grown)
            content["citations"] = citations_json(cited + (self._files.unnamed() if is_last or is_cut else []))
        status = "incomplete" if is_cut else "completed"
        self._history.append(await self._scribe.done(growing, content, status=status))

    async def _name_rest(self) -> None:
        """Let a text without words have the files that no text has named: an answer may end without any."""
        if rest := self._files.unnamed():
            shown = self._files.shown()
            item = await self._scribe.begin(
                parts.TEXT, {"text": ""} | ({"shown": citations_json(shown)} if shown else {})
            )
            self._history.append(await self._scribe.done(item, {"citations": citations_json(rest)}))

    def _count(self, ended: TurnEnded) -> None:
        for name, count in _usage(ended).items():
            self.usage[name] += count
        self.usage["total_tokens"] = self.usage["input_tokens"] + self.usage["output_tokens"]

    @property
    def _tokens_left(self) -> int | None:
        most = self._request.sampling.max_output_tokens
        return None if most is None else max(0, most - self.usage["output_tokens"])

    def _specs(self) -> tuple[ToolSpec, ...]:
        """None once no more calls are carried out: what is called all the same is told so."""
        ours = [] if self._calls_left <= 0 else [tool.spec for tool in self._tools.values()]
        return (*ours, *self._request.client_tools)

    @property
    def _calls_left(self) -> int:
        if self._request.tool_choice == "none":
            return 0
        asked = self._request.max_tool_calls
        return (self._bounds.tool_calls if asked is None else min(asked, self._bounds.tool_calls)) - self._calls_made

    # ---------------------------------------------------------------------------------------------------- its calls

    def _is_callers(self, call: _OpenCall) -> bool:
        return call.tool is None and self._has_client_tool(call.name)

    def _has_client_tool(self, name: str) -> bool:
        return any(spec.name == name for spec in self._request.client_tools)

    def _hands_over(self, name: str) -> bool:
        """Whether the run is over with a call of this name."""
        return not self._request.waits_for_caller and name not in self._tools and self._has_client_tool(name)

    async def _begin_call(self, call_id: str, name: str) -> _OpenCall:
        tool = self._tools.get(name)
        if tool is not None and tool.kind == parts.CODE:
            content: dict[str, Any] = {"call_id": call_id, "code": "", "session_id": "", "outputs": [], "files": []}
            content.update(await tool.begin(self._call(call_id, "")))
            item = await self._scribe.begin(parts.CODE, content)
            return _OpenCall(call_id, name, item, tool, code=StringMember("code"))
        is_callers = self._has_client_tool(name)
        content = {"call_id": call_id, "name": name, "arguments": ""}
        item = await self._scribe.begin(parts.TOOL_CALL, content, metadata={} if is_callers else {"internal": True})
        return _OpenCall(call_id, name, item, tool)

    async def _grow_call(self, call: _OpenCall, text: str) -> None:
        call.arguments.append(text)
        await self._scribe.grow(call.item, text if call.code is None else call.code.feed(text))

    async def _ended_calls(self, calls: Mapping[str, _OpenCall], *, is_cut: bool) -> list[_OpenCall]:
        """Calls whose arguments are whole.  Those that are not are no calls: they are never carried out."""
        if is_cut:
            await self._scribe.leave()
            return []
        for call in calls.values():
            if call.code is None:
                self._history.append(await self._scribe.done(call.item))
            else:
                await self._scribe.grow(call.item, call.code.rest())
        return list(calls.values())

    async def _carry_out(self, call: _OpenCall) -> None:
        """Run it on our side, and let the model know what came of it."""
        if call.tool is None:
            await self._answer(call, f"There is no tool called {call.name!r}.")
        elif self._calls_left <= 0:
            await self._answer(call, "This was not carried out: no more calls of tools are allowed in this answer.")
        else:
            self._calls_made += 1
            with span("tool", attributes={"gen_ai.tool.name": call.name, "gen_ai.tool.call.id": call.id}):
                try:
                    await self._run_tool(call, call.tool)
                finally:
                    if self._running is not None:
                        self._running[1].set()
                        self._running = None

    async def _run_tool(self, call: _OpenCall, tool: Tool) -> None:
        outcome: Outcome | None = None
        printed: list[str] = []
        await self._journal.settle()  # its message is on record before it does anything
        await self._go_on()
        self._running = tool, anyio.Event()
        try:
            async with aclosing(tool.call(self._call(call.id, call.item.id), call.text)) as news:
                async for piece in news:
                    if isinstance(piece, Progress):
                        self.code_ran = self.code_ran or piece.kind == run_events.CODE_RUNNING
                        printed.append(piece.payload.get("text", ""))
                        await self._journal.note(piece.kind, {"item": call.item.id, **piece.payload})
                    else:
                        outcome = piece
        finally:
            if outcome is None and call.item.kind == parts.CODE:  # the run is over with it
                call.item.content.update(_cut_off("".join(printed)))
        if outcome is None:
            raise AssertionError("a call ends with Outcome")
        self.notes |= outcome.notes
        await self._answer(call, outcome.told, outcome)

    async def _answer(self, call: _OpenCall, told: str, outcome: Outcome | None = None) -> None:
        """What came of a call, for the model and on record."""
        if call.item.kind == parts.CODE:
            content = dict(outcome.content) if outcome is not None else {"outputs": [{"type": "logs", "logs": told}]}
            status = "completed" if outcome is not None and outcome.is_ok else "failed"
            if self._is_interrupted:
                status = "incomplete"
            message = await self._scribe.done(call.item, content | {"told": told}, status=status)
            self._know(message, is_new=True)
            self._history.append(_showing(message, outcome.shown if outcome is not None else ()))
        else:
            result = {"call_id": call.id, "output": told}
            made = await self._scribe.add(parts.TOOL_RESULT, result, role=Role.USER, metadata={"internal": True})
            self._history.append(made)

    def _know(self, message: Message, *, is_new: bool) -> None:
        if _kind(message) == parts.CODE:
            self._files.add(message.parts[0].content, is_new=is_new)

    def _call(self, call_id: str, message_id: str) -> Call:
        return Call(
            tenant=self._run.tenant,
            user=self._request.user,
            conversation_id=self._run.conversation_id,
            run_id=self._run.id,
            message_id=message_id,
            call_id=call_id,
        )


def _cut_off(printed: str) -> dict[str, Any]:
    """Of a code call that was ended before there was an outcome: what had come of it."""
    outputs = [{"type": "logs", "logs": printed}] if printed else []
    told = f"{printed[-_CUT_CHARS:]}\n" if printed else ""
    return {"outputs": outputs, "told": f"{told}[The code was ended before it was over.]"}


def _kind(message: Message) -> str:
    return message.parts[0].kind if message.parts else ""


def _usage(ended: TurnEnded) -> dict[str, int]:
    return {name: getattr(ended, name) for name in _COUNTED}


def _check_call(is_sound: bool) -> None:  # noqa: FBT001
    if not is_sound:
        raise PlannerError("the model's calls of tools are none, or cannot be told apart", reason="malformed")


def _showing(message: Message, shown: tuple[str, ...]) -> Message:
    """For the model alone: images are no part of what is recorded of a call."""
    if not shown:
        return message
    content = {**message.parts[0].content, "shown": list(shown)}
    return replace(message, parts=(Part(kind=parts.CODE, content=content),))
