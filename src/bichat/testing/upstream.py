"""A provider of models for tests: a small OpenAI-compatible server on loopback that plays a script.

    with Upstream([Answer(Call("python", '{"code": ', '"1 + 1"}')), Answer("It is ", "2.")]) as upstream:
        ...  # BICHAT_MODEL_BASE_URL=upstream.url, any key
        upstream.requests[0].body["messages"]

It speaks HTTP on a real socket, so that what is tested is the real code of the provider's client: its streams, its errors,
its connections that break.  Nothing in it waits for time to pass: an answer waits where its script has a
`threading.Event`, until somebody sets it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from bichat.testing.loopback import Handler, Loopback

#: Longest wait for an event of a script; a test that takes so long has failed.
_PATIENCE_S: Final = 30.0
_MODEL: Final = "scripted"


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of what the model says of its thinking, as `reasoning_content`."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool; its arguments come in these pieces, which need not be JSON, or not at all."""

    name: str
    pieces: tuple[str, ...]
    id: str

    def __init__(self, name: str, *pieces: str, id: str = "call_1") -> None:  # noqa: A002  # the wire's word
        for key, value in (("name", name), ("pieces", pieces), ("id", id)):
            object.__setattr__(self, key, value)


@dataclass(frozen=True, slots=True)
class Raw:
    """Data of one event of the stream as it goes over the wire: broken JSON, an error object."""

    data: str


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection breaks here."""


#: A piece of text, or one of the others; an event is waited for.
Step = str | Reasoning | Call | Raw | Cut | threading.Event


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says to one request, streamed where that was asked for."""

    steps: tuple[Step, ...]
    finish: str | None
    """`finish_reason`; by default `tool_calls` if there is a call, else `stop`.  None: the stream ends without one."""
    usage: Mapping[str, Any]
    """As on the wire."""

    def __init__(self, *steps: Step, finish: str | None = "", usage: Mapping[str, Any] | None = None) -> None:
        calls = any(isinstance(step, Call) for step in steps)
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "finish", ("tool_calls" if calls else "stop") if finish == "" else finish)
        given = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15} if usage is None else usage
        object.__setattr__(self, "usage", given)


@dataclass(frozen=True, slots=True)
class Failure:
    """An HTTP error in a request's place."""

    status: int
    error: Mapping[str, Any] | str = field(default_factory=lambda: {"message": "as the script wants it"})
    """The `error` member of the body; a text is the whole body."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Received:
    """A request that was made."""

    path: str
    headers: Mapping[str, str]
    """Names in small letters."""
    body: Mapping[str, Any]


Script = Iterable[Answer | Failure | Cut] | Callable[[Received], Answer | Failure | Cut]


class _Handler(Handler):
    def answer(self) -> None:
        """See `Handler.answer`."""
        where = (self.command, self.path.rpartition("/v1/")[2])
        if where == ("GET", "models"):
            data = [{"id": name, "object": "model", "created": 0, "owned_by": "test"} for name in self._upstream.models]
            self._reply(200, {"object": "list", "data": data})
        elif where == ("POST", "chat/completions"):
            self._complete()
        else:
            self._reply(404, {"error": {"message": "not here"}})

    def _complete(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body: dict[str, Any] = json.loads(self.rfile.read(length) or b"{}")
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self._upstream.answer(Received(self.path, headers, body))
        try:
            match answer:
                case Cut():
                    self.close_connection = True
                case Failure():
                    given = answer.error
                    self._reply(answer.status, given if isinstance(given, str) else {"error": given}, answer.headers)
                case _ if body.get("stream"):
                    self._stream(answer, body)
                case _:
                    self._reply(200, _whole(answer, body))
        except OSError:  # the client has gone
            self.close_connection = True

    @property
    def _upstream(self) -> Upstream:
        return self.owner

    def _reply(self, status: int, body: Mapping[str, Any] | str, headers: Mapping[str, str] | None = None) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.reply(status, data, "text/plain" if isinstance(body, str) else "application/json", headers)

    def _stream(self, answer: Answer, body: Mapping[str, Any]) -> None:
        self.head(200, "text/event-stream", {"Transfer-Encoding": "chunked"})
        for step in _events(answer, body):
            if isinstance(step, threading.Event):
                step.wait(_PATIENCE_S)
            elif step is None:
                self.close_connection = True
                return
            else:
                data = f"data: {step}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")


class Upstream(Loopback):
    """Serves `/v1/chat/completions` and `/v1/models` while it is entered."""

    handler = _Handler

    def __init__(self, script: Script = (), *, models: Iterable[str] = (_MODEL,)) -> None:
        """`script`: answers in the order of the requests, one more is an error 500; or what makes one of a request."""
        self._answers: Iterator[Answer | Failure | Cut] = iter(()) if callable(script) else iter(script)
        self._make = script if callable(script) else None
        self._lock = threading.Lock()
        self.models = tuple(models)
        self.requests: list[Received] = []
        """Those of chat completions, oldest first."""

    @property
    def url(self) -> str:
        """For `BICHAT_MODEL_BASE_URL`."""
        return f"{self.root}/v1"

    def answer(self, received: Received) -> Answer | Failure | Cut:
        """The next of the script."""
        with self._lock:
            self.requests.append(received)
            if self._make is not None:
                return self._make(received)
            return next(self._answers, Failure(500, {"message": "the script is at its end"}))


def _events(answer: Answer, body: Mapping[str, Any]) -> Iterator[str | threading.Event | None]:  # noqa: C901  # a case for each step
    """The data of each event; None where the connection breaks."""

    def chunk(delta: Mapping[str, Any] | None, finish: str | None = None, **more: object) -> str:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        return json.dumps(_head("chat.completion.chunk", body) | {"choices": choices} | more)

    yield chunk({"role": "assistant", "content": ""})
    calls = 0
    for step in answer.steps:
        match step:
            case str():
                yield chunk({"content": step})
            case Reasoning(text):
                yield chunk({"reasoning_content": text})
            case Call():
                begun = {"index": calls, "id": step.id, "type": "function", "function": {"name": step.name}}
                yield chunk({"tool_calls": [begun]})
                for piece in step.pieces:
                    yield chunk({"tool_calls": [{"index": calls, "function": {"arguments": piece}}]})
                calls += 1
            case Raw(data):
                yield data
            case Cut():
                yield None
            case _:
                yield step
    if answer.finish is not None:
        yield chunk({}, answer.finish)
        options = cast("Mapping[str, Any]", body.get("stream_options") or {})
        if options.get("include_usage"):
            yield chunk(None, usage=answer.usage)
        yield "[DONE]"


def _whole(answer: Answer, body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer as one completion."""
    calls = [
        {"id": step.id, "type": "function", "function": {"name": step.name, "arguments": "".join(step.pieces)}}
        for step in answer.steps
        if isinstance(step, Call)
    ]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(step for step in answer.steps if isinstance(step, str)) or None,
    }
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "finish_reason": answer.finish or "stop"}
    return _head("chat.completion", body) | {"choices": [choice], "usage": answer.usage}


def _head(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": body.get("model", _MODEL)}
