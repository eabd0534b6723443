"""The stream of a response: events of OpenAI's wire, made of the events of its run.

The fold begins with the run's first event and depends on nothing else that could be different another time, so that event
number n is the same for everybody: who lost the stream has it folded again, and is sent what he has not seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bichat.conversation import parts, run_events
from bichat.repository.records import Run, RunEvent
from bichat.server.responses.items import LIVE_OUTPUT, Rendering, content_part, is_hidden, render, wire_id
from bichat.server.responses.response import response_object

Json = Mapping[str, Any]

HEARTBEAT: Final = b": ping\n\n"
#: What a code call prints while it runs; sent only where it was asked for.
LIVE_EVENT: Final = "bichat.code_interpreter_call.output"
#: How a stream ends, by the response's status.  There is no event of its own for a cancelled one.
_ENDINGS: Final = {"completed": "completed", "failed": "failed", "incomplete": "incomplete", "cancelled": "incomplete"}


def encode(event: Json) -> bytes:
    """One event as it is sent."""
    # ASCII: lone surrogates, which code can print, have no other form; and no line separator breaks it.
    return f"event: {event['type']}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n".encode("ascii")


@dataclass(slots=True)
class _Open:
    """An item that has begun."""

    index: int
    payload: Json
    grown: list[str] = field(default_factory=list[str])
    is_interpreting: bool = False

    @property
    def id(self) -> str:
        return wire_id(self.payload)


class ResponseStream:
    """Of one run, from its beginning; `run` may be replaced by a newer reading of its row before it ends."""

    def __init__(self, run: Run, include: Iterable[str] = ()) -> None:
        """`include`: what is shown beyond what the run was asked for with; no event has another number for that."""
        self.run = run
        view: Json = run.request.get("view", {})
        asked = frozenset(view.get("include", ()))
        self._include = asked | frozenset(include)
        self._is_background = bool(view.get("echo", {}).get("background"))
        self._is_live = LIVE_OUTPUT in asked
        self._next = 0
        self._made: list[dict[str, Any]] = []
        self._open: dict[str, _Open] = {}
        self._count = 0

    def begin(self) -> list[dict[str, Any]]:
        """What comes before anything has happened."""
        if not self._is_background:
            return [self._lifecycle("created", "in_progress")]
        return [self._lifecycle("created", "queued"), self._lifecycle("queued", "queued")]

    def feed(self, event: RunEvent, images: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """What follows from the run's next event; `images` as `Rendering.images`, for the end of a code call."""
        payload = event.payload
        match event.kind:
            case run_events.RUN_STARTED:
                return [self._lifecycle("in_progress", "in_progress")]
            case run_events.ITEM_ADDED:
                return self._added(payload["item"])
            case run_events.ITEM_DONE:
                return self._done(payload["item"], Rendering(include=self._include, images=images or {}))
            case run_events.RUN_ENDED:
                return [self._ended()]
            case _:
                item = self._open.get(payload.get("item", ""))
                return [] if item is None else self._grown(event.kind, item, payload)

    # ------------------------------------------------------------------------------------------------------ items

    def _added(self, payload: Json) -> list[dict[str, Any]]:
        if is_hidden(payload):
            return []
        item = _Open(self._count, payload)
        self._count += 1
        self._open[payload["id"]] = item
        events = [self._event("output_item.added", output_index=item.index, item=render(payload, Rendering()))]
        match payload["kind"]:
            case parts.CODE:
                events.append(self._of("code_interpreter_call.in_progress", item))
            case parts.REASONING:
                part = {"type": "summary_text", "text": ""}
                events.append(self._of("reasoning_summary_part.added", item, summary_index=0, part=part))
            case parts.TEXT | parts.REFUSAL:
                empty = {"kind": payload["kind"], "content": {"text": ""}}
                part = content_part(empty)
                events.append(self._of("content_part.added", item, content_index=0, part=part))
            case _:
                pass
        return events

    def _grown(self, kind: str, item: _Open, payload: Json) -> list[dict[str, Any]]:
        match kind:
            case run_events.CODE_RUNNING:
                return self._interpreting(item, payload["code"])
            case run_events.CODE_OUTPUT:
                if not self._is_live:
                    return []
                event = self._of("", item, stream=payload["stream"], text=payload["text"])
                return [{**event, "type": LIVE_EVENT}]
            case (
                run_events.TEXT_DELTA | run_events.REASONING_DELTA | run_events.CODE_DELTA | run_events.ARGUMENTS_DELTA
            ):
                return [self._delta(item, payload["delta"])]
            case _:
                return []

    def _delta(self, item: _Open, delta: str) -> dict[str, Any]:
        item.grown.append(delta)
        match item.payload["kind"]:
            case parts.CODE:
                return self._of("code_interpreter_call_code.delta", item, delta=delta)
            case parts.REASONING:
                return self._of("reasoning_summary_text.delta", item, summary_index=0, delta=delta)
            case parts.TOOL_CALL:
                return self._of("function_call_arguments.delta", item, delta=delta)
            case parts.REFUSAL:
                return self._of("refusal.delta", item, content_index=0, delta=delta)
            case _:
                return self._of("output_text.delta", item, content_index=0, delta=delta, logprobs=[])

    def _rest(self, item: _Open, whole: str) -> list[dict[str, Any]]:
        """What the deltas have not said of it: they and the whole are the same to who puts them together."""
        grown = "".join(item.grown)
        return [self._delta(item, whole[len(grown) :])] if len(whole) > len(grown) and whole.startswith(grown) else []

    def _interpreting(self, item: _Open, code: str) -> list[dict[str, Any]]:
        if item.is_interpreting:
            return []
        item.is_interpreting = True
        return [
            *self._rest(item, code),
            self._of("code_interpreter_call_code.done", item, code=code),
            self._of("code_interpreter_call.interpreting", item),
        ]

    def _done(self, payload: Json, rendering: Rendering) -> list[dict[str, Any]]:
        if is_hidden(payload):
            return []
        events: list[dict[str, Any]] = []
        if payload["id"] not in self._open:
            events += self._added({**payload, "status": "in_progress", "parts": _emptied(payload)})
        item = self._open.pop(payload["id"])
        content: Json = payload["parts"][0]["content"] if payload["parts"] else {}
        match payload["kind"]:
            case parts.CODE:
                events += self._code_done(item, content, payload["status"])
            case parts.REASONING:
                events += self._reasoning_done(item, content.get("text") or "")
            case parts.TOOL_CALL:
                events += self._rest(item, content["arguments"])
                events.append(self._of("function_call_arguments.done", item, arguments=content["arguments"]))
            case parts.TEXT | parts.REFUSAL:
                events += self._message_done(item, payload["parts"][0])
            case _:
                pass
        whole = render(payload, rendering) or {}
        self._keep(item.index, whole)
        return [*events, self._event("output_item.done", output_index=item.index, item=whole)]

    def _code_done(self, item: _Open, content: Json, status: str) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        if not item.is_interpreting:  # it was never run
            code = content.get("code", "")
            events += [*self._rest(item, code), self._of("code_interpreter_call_code.done", item, code=code)]
        if status in ("completed", "failed"):
            events.append(self._of("code_interpreter_call.completed", item))
        return events

    def _reasoning_done(self, item: _Open, text: str) -> list[dict[str, Any]]:
        part = {"type": "summary_text", "text": text}
        return [
            *self._rest(item, text),
            self._of("reasoning_summary_text.done", item, summary_index=0, text=text),
            self._of("reasoning_summary_part.done", item, summary_index=0, part=part),
        ]

    def _message_done(self, item: _Open, part: Json) -> list[dict[str, Any]]:
        whole = content_part(part)
        text = part["content"]["text"]
        events = self._rest(item, text)
        if whole["type"] == "refusal":
            events.append(self._of("refusal.done", item, content_index=0, refusal=text))
        else:
            events += [
                self._of(
                    "output_text.annotation.added",
                    item,
                    content_index=0,
                    annotation_index=number,
                    annotation=annotation,
                )
                for number, annotation in enumerate(whole["annotations"])
            ]
            events.append(self._of("output_text.done", item, content_index=0, text=text, logprobs=[]))
        return [*events, self._of("content_part.done", item, content_index=0, part=whole)]

    def _keep(self, index: int, item: dict[str, Any]) -> None:
        self._made += [{}] * (index + 1 - len(self._made))
        self._made[index] = item

    # ----------------------------------------------------------------------------------------------------- the whole

    def _ended(self) -> dict[str, Any]:
        for item in self._open.values():  # its process died with it
            self._keep(item.index, render(_cut_off(item), Rendering(include=self._include)) or {})
        whole = response_object(self.run, self._made)
        return self._event(_ENDINGS.get(whole["status"], "failed"), response=whole)

    def _lifecycle(self, kind: str, status: str) -> dict[str, Any]:
        return self._event(kind, response=response_object(self.run, (), status=status))

    def _of(self, kind: str, item: _Open, **values: Any) -> dict[str, Any]:
        return self._event(kind, item_id=item.id, output_index=item.index, **values)

    def _event(self, kind: str, **values: Any) -> dict[str, Any]:
        event = {"type": f"response.{kind}", "sequence_number": self._next, **values}
        self._next += 1
        return event


def _emptied(payload: Json) -> list[Json]:
    """The parts of an item that has only begun."""
    growing = {parts.TEXT: "text", parts.REASONING: "text", parts.CODE: "code", parts.TOOL_CALL: "arguments"}
    return [
        {"kind": part["kind"], "content": {**part["content"], growing.get(part["kind"], "text"): ""}}
        for part in payload["parts"][:1]
    ]


def _cut_off(item: _Open) -> Json:
    """An item that nothing more comes of, with what there is of it."""
    (part, *_) = _emptied(item.payload)
    name = {parts.CODE: "code", parts.TOOL_CALL: "arguments"}.get(item.payload["kind"], "text")
    content = {**part["content"], name: "".join(item.grown)}
    return {**item.payload, "status": "incomplete", "parts": [{"kind": part["kind"], "content": content}]}
