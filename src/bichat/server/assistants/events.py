"""The stream of a run: events of the Assistants API, made of the events of its run.

Clients put deltas together by their `index` and join texts: each fragment is sent once, and the object that ends a message
or a step is all of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bichat.agent.code_interpreter import LOGGED_CHARS, NO_MORE
from bichat.conversation import parts, run_events
from bichat.repository.records import Run, RunEvent
from bichat.server.assistants.objects import (
    file_links,
    image_block,
    is_message,
    last_error,
    message_object,
    run_object,
)
from bichat.server.assistants.steps import Step, call_id, call_object, outputs, step_object

Json = Mapping[str, Any]

#: How a stream ends.
DONE: Final = b"event: done\ndata: [DONE]\n\n"
#: Of what a call prints; what comes behind it may not be shown whole.
_MOST_LIVE: Final = LOGGED_CHARS // 2


def encode(event: str, data: Json) -> bytes:
    """One event as it is sent."""
    # ASCII: lone surrogates, which code can print, have no other form; and no line separator breaks it.
    return f"event: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode("ascii")


def error_event(code: str, message: str) -> bytes:
    """Something failed; the stream goes on to its end.

    Bare, as the wire has it; and once more as `data`, for the official client, which does not put it there itself for
    every kind of stream, and then takes it for none of its events.
    """
    bare = {"code": code, "message": message, "param": None, "type": code}
    return encode("error", {**bare, "event": "error", "data": bare})


@dataclass(slots=True)
class _Open:
    """An item that has begun."""

    step: Step
    payload: Json
    index: int
    """Of its call within its step; of the text of a message within its content."""
    grown: str = ""
    logged: str = ""
    is_logging: bool = True
    is_told: bool = False
    """Whether a text's first delta was sent."""


class RunStream:
    """Of one run; `run` is to be replaced by a newer reading of its row before its end is fed."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.awaited: Sequence[Json] = ()
        """The calls that it waits for, once it does."""
        self._open: dict[str, _Open] = {}
        self._functions: list[Step] = []
        self._joins = False
        self._left: list[_Open] = []

    def begin(self) -> list[bytes]:
        """What comes before anything has happened."""
        return [self._run(kind, "queued") for kind in ("created", "queued")]

    def resume(self, steps: Sequence[Step]) -> list[bytes]:
        """What comes first where it goes on: the steps that its caller has ended."""
        ended = [self._step("completed", step) for step in steps]
        return [*ended, self._run("queued", "queued"), self._run("in_progress", "in_progress")]

    def feed(self, event: RunEvent) -> list[bytes]:
        """What follows from the run's next event."""
        payload = event.payload
        match event.kind:
            case run_events.RUN_STARTED:
                return [self._run("in_progress", "in_progress")]
            case run_events.ITEM_ADDED:
                return self._added(payload["item"])
            case run_events.ITEM_DONE:
                return self._done(payload["item"])
            case run_events.RUN_WAITING:
                data = run_object(self.run, awaited=self.awaited, status="requires_action")
                return [encode("thread.run.requires_action", data)]
            case run_events.RUN_ENDED:
                return self._ended()
            case _:
                item = self._open.get(payload.get("item", ""))
                return [] if item is None else self._grown(event.kind, item, payload)

    # -------------------------------------------------------------------------------------------------------- items

    def _added(self, payload: Json) -> list[bytes]:
        kind = payload["kind"]
        if payload["metadata"].get("internal") or kind in (parts.REASONING, parts.TOOL_RESULT):
            return []
        if kind == parts.TOOL_CALL and self._joins:
            step = self._functions[-1]
            step.items.append(payload)
            item = _Open(step, payload, len(step.items) - 1)
            self._open[payload["id"]] = item
            return [self._first_call(item)]
        step = Step([payload])
        self._joins = kind == parts.TOOL_CALL
        self._functions += [step] if self._joins else []
        shown: Sequence[Json] = payload["parts"][0]["content"].get("shown") or ()
        item = _Open(step, payload, len(shown) if is_message(payload) else 0)
        self._open[payload["id"]] = item
        events = [self._step(kind, step, is_new=True) for kind in ("created", "in_progress")]
        if not is_message(payload):
            return [*events, self._first_call(item)]
        begun = message_object(payload, self.run.conversation_id, self.run)
        events += [encode(f"thread.message.{kind}", begun) for kind in ("created", "in_progress")]
        return events + [self._message_delta(item, {"index": n, **image_block(each)}) for n, each in enumerate(shown)]

    def _first_call(self, item: _Open) -> bytes:
        call = call_object(item.payload)
        if item.payload["kind"] == parts.CODE:
            call["code_interpreter"] = {"input": "", "outputs": []}
        else:
            call["function"]["arguments"] = ""
        return self._call_delta(item, call)

    def _grown(self, kind: str, item: _Open, payload: Json) -> list[bytes]:
        match kind:
            case run_events.TEXT_DELTA | run_events.CODE_DELTA | run_events.ARGUMENTS_DELTA:
                return self._more(item, payload["delta"])
            case run_events.CODE_RUNNING:
                code: str = payload["code"]
                return self._rest(item, code)
            case run_events.CODE_OUTPUT | run_events.CODE_SHOWN:
                return self._log(item, payload.get("text", ""))
            case _:
                return []

    def _more(self, item: _Open, delta: str) -> list[bytes]:
        if not delta:
            return []
        item.grown += delta
        if item.step.is_message:
            text: dict[str, Any] = {"value": delta} | ({} if item.is_told else {"annotations": []})
            item.is_told = True
            return [self._message_delta(item, {"index": item.index, "type": "text", "text": text})]
        if item.payload["kind"] == parts.CODE:
            return [self._call_delta(item, {"type": "code_interpreter", "code_interpreter": {"input": delta}})]
        return [self._call_delta(item, {"type": "function", "function": {"arguments": delta}})]

    def _rest(self, item: _Open, whole: str) -> list[bytes]:
        """What was not sent of it; nothing where that is no beginning of it."""
        return self._more(item, whole[len(item.grown) :]) if whole.startswith(item.grown) else []

    def _log(self, item: _Open, text: str) -> list[bytes]:
        """What it prints, as far as it is sure to stand so in the end."""
        is_last = text.endswith(NO_MORE)
        text = text.removesuffix(NO_MORE)[: _MOST_LIVE - len(item.logged)]
        if not text or not item.is_logging:
            return []
        item.is_logging = not is_last
        item.logged += text
        return [self._output_delta(item, {"index": 0, "type": "logs", "logs": text})]

    def _done(self, payload: Json) -> list[bytes]:
        item = self._open.get(payload["id"])
        if item is None:
            return []
        item.step.items = [payload if each["id"] == payload["id"] else each for each in item.step.items]
        item.payload = payload
        content: Json = payload["parts"][0]["content"]
        if payload["status"] not in ("completed", "failed"):
            self._left.append(item)  # why is known when its run has ended
            return []
        del self._open[payload["id"]]
        if item.step.is_functions:
            return self._rest(item, content["arguments"])  # the step goes on until its caller has ended it
        if not item.step.is_message:
            events = [*self._rest(item, content.get("code", "")), *self._outputs(item, content)]
            return [*events, self._step(payload["status"], item.step)]
        events = self._rest(item, content["text"])
        if noted := file_links(content):
            indexed = [{"index": number, **each} for number, each in enumerate(noted)]
            events.append(
                self._message_delta(item, {"index": item.index, "type": "text", "text": {"annotations": indexed}})
            )
        whole = message_object(payload, self.run.conversation_id, self.run)
        return [*events, encode("thread.message.completed", whole), self._step("completed", item.step)]

    def _outputs(self, item: _Open, content: Json) -> list[bytes]:
        """What it printed and was not sent, and the images that it displayed."""
        events: list[bytes] = []
        for number, output in enumerate(outputs(content)):
            if output["type"] == "image":
                events.append(self._output_delta(item, {"index": number, **output}))
            elif output["logs"].startswith(item.logged) and output["logs"] != item.logged:
                rest = output["logs"][len(item.logged) :]
                events.append(self._output_delta(item, {"index": number, "type": "logs", "logs": rest}))
        return events

    # ---------------------------------------------------------------------------------------------------- the whole

    def _ended(self) -> list[bytes]:
        """What is left half done, then the end."""
        run = self.run
        told: str = run_object(run)["status"]
        events = [self._run("cancelling", "cancelling")] if told == "cancelled" else []
        open_steps = {item.step.id: item for item in self._open.values()}  # its process died with it, or it was left
        for step in self._functions:
            open_steps.setdefault(step.id, _Open(step, step.items[0], 0))
        for item in open_steps.values():
            if item.step.is_message:
                payload = item.payload if item in self._left else _as_grown(item)
                whole = message_object(payload, run.conversation_id, run)
                events.append(encode("thread.message.incomplete", whole))
            ended = step_object(item.step, run)
            events.append(encode(f"thread.run.step.{ended['status']}", ended))
        if told == "failed":
            error = last_error(run)
            events.append(error_event(error["code"], error["message"]))
        return [*events, encode(f"thread.run.{told}", run_object(run))]

    def _run(self, kind: str, status: str) -> bytes:
        return encode(f"thread.run.{kind}", run_object(self.run, status=status))

    def _step(self, kind: str, step: Step, *, is_new: bool = False) -> bytes:
        return encode(f"thread.run.step.{kind}", step_object(step, self.run, is_new=is_new))

    def _message_delta(self, item: _Open, block: Json) -> bytes:
        message_id = message_object(item.payload, self.run.conversation_id, self.run)["id"]
        data = {"id": message_id, "object": "thread.message.delta", "delta": {"content": [block]}}
        return encode("thread.message.delta", data)

    def _call_delta(self, item: _Open, call: Json) -> bytes:
        details = {"type": "tool_calls", "tool_calls": [{"index": item.index, **call}]}
        data = {"id": item.step.id, "object": "thread.run.step.delta", "delta": {"step_details": details}}
        return encode("thread.run.step.delta", data)

    def _output_delta(self, item: _Open, output: Json) -> bytes:
        return self._call_delta(item, {"type": "code_interpreter", "code_interpreter": {"outputs": [output]}})


def _as_grown(item: _Open) -> Json:
    """An item that nothing more comes of, with what there is of it."""
    (part, *_) = item.payload["parts"]
    content = {**part["content"], "text": item.grown}
    return {**item.payload, "status": "incomplete", "parts": [{"kind": part["kind"], "content": content}]}


__all__: Sequence[str] = ["DONE", "RunStream", "call_id", "encode", "error_event"]
