"""`/v1/chat/completions`: one answer over the same core, with the code interpreter in it; nothing of it is kept."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, Final, cast
from urllib.parse import quote

import anyio
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from bichat.conversation import parts, run_events
from bichat.errors import BichatError
from bichat.repository.records import CodeInterpreterOutput, Run, RunState
from bichat.server import checks
from bichat.server.answers import JsonAnswer
from bichat.server.attempts import Attempts, attempt_of
from bichat.server.document import operation
from bichat.server.door import caller_of, own_address, services_of
from bichat.server.forms import json_body
from bichat.server.problems import FailedError, RefusedError, error_body
from bichat.server.responses.inputs import CONTENT
from bichat.server.responses.requests import (
    CONTAINER,
    EFFORT,
    FUNCTION,
    MODEL,
    MODES,
    MOST_TOKENS,
    SCHEMA_FORMAT,
    TEMPERATURE,
    TOP_P,
    read_ask,
)
from bichat.server.responses.response import error_of
from bichat.server.responses.service import Responses
from bichat.server.responses.stream import EventStream
from bichat.server.schemas import (
    ANY_OBJECT,
    COUNT,
    Array,
    Choice,
    Either,
    Flag,
    Integer,
    Metadata,
    Nullable,
    Object,
    Refused,
    Schema,
    Text,
    Variants,
    answer,
    constant,
)
from bichat.server.services import Caller, Services
from bichat.settings.settings import DEFAULT_PUBLIC_URL

Json = Mapping[str, Any]

_PIECE: Final = Variants(
    what="content",
    name="ChatContent",
    kinds={
        "text": Object(fields={"text": Text(most=10_485_760)}, required=("text",), is_open=True),
        "refusal": CONTENT.kinds["refusal"],
        "image_url": Object(
            fields={
                "image_url": Object(
                    fields={
                        "url": CONTENT.kinds["input_image"].fields["image_url"],
                        "detail": Choice(("auto", "low", "high")),
                    },
                    required=("url",),
                    is_open=True,
                )
            },
            required=("image_url",),
            is_open=True,
        ),
        "file": Object(fields={"file": CONTENT.kinds["input_file"]}, required=("file",), is_open=True),
    },
)
_CALL: Final = Object(
    fields={
        "id": Text(most=200),
        "function": Object(
            fields={"name": Text(most=128), "arguments": Text(most=10_485_760)},
            required=("name", "arguments"),
            is_open=True,
        ),
    },
    required=("id", "function"),
    is_open=True,
)
_MESSAGE: Final = Object(
    name="ChatMessage",
    fields={
        "role": Choice(("system", "developer", "user", "assistant", "tool")),
        "content": Either((Text(most=10_485_760), Array(_PIECE, 1000))),
        "tool_call_id": Text(most=200),
        "tool_calls": Array(_CALL, 1000),
    },
    required=("role",),
    is_open=True,
)
_FORMAT: Final = Variants(
    what="formats",
    name="ChatFormat",
    kinds={
        "text": ANY_OBJECT,
        "json_object": ANY_OBJECT,
        "json_schema": Object(fields={"json_schema": SCHEMA_FORMAT}, required=("json_schema",), is_open=True),
    },
)
_NAMED: Final = Object(fields={"name": Text()}, required=("name",), is_open=True)
_CHOICE: Final = Variants(
    what="choices",
    name="ChatToolChoice",
    kinds={
        "function": Object(fields={"function": _NAMED}, required=("function",), is_open=True),
        "code_interpreter": ANY_OBJECT,
    },
)
_TOOL: Final = Variants(
    what="tools",
    name="ChatTool",
    kinds={
        "function": Object(fields={"function": FUNCTION}, required=("function",), is_open=True),
        "code_interpreter": Object(fields={"container": CONTAINER}, required=("container",), is_open=True),
    },
)
_SUPPORTED: Final[Mapping[str, Schema]] = {
    "max_completion_tokens": Integer(least=1, most=MOST_TOKENS),
    "max_tokens": Integer(least=1, most=MOST_TOKENS),
    "messages": Array(_MESSAGE, 10_000),
    "metadata": Metadata(),
    "model": MODEL,
    "parallel_tool_calls": Flag(),
    "reasoning_effort": EFFORT,
    "response_format": _FORMAT,
    "stream": Flag(usual=False),
    "stream_options": Object(fields={"include_usage": Flag()}, is_open=True),
    "temperature": TEMPERATURE,
    "tool_choice": Either((_CHOICE, MODES)),
    "tools": Array(_TOOL, 127),
    "top_p": TOP_P,
}
_REFUSED: Final[Mapping[str, Schema]] = {
    "audio": Refused("answers are text"),
    "functions": Refused("send tools"),
    "function_call": Refused("send tool_choice"),
    "stop": Refused("answers end where the model ends them", or_empty=True),
}
#: Fields that are carried out; others are taken and have no effect, but for those that are refused.
SUPPORTED: Final = frozenset(_SUPPORTED)
BODY: Final = Object(
    name="ChatRequest",
    fields={**_SUPPORTED, **_REFUSED, "n": Integer(least=1, most=1, usual=1)},
    required=("messages", "model"),
    is_open=True,
)
_FINISH: Final = Choice(("stop", "length", "tool_calls", "content_filter"))
COMPLETION: Final = answer(
    "ChatCompletion",
    {
        "id": Text(),
        "object": constant("chat.completion"),
        "created": COUNT,
        "model": Text(),
        "service_tier": Text(),
        "system_fingerprint": Nullable(Text()),
        "choices": Array(
            answer(
                "",
                {
                    "index": COUNT,
                    "message": answer(
                        "",
                        {
                            "role": constant("assistant"),
                            "content": Nullable(Text()),
                            "refusal": Nullable(Text()),
                            "annotations": Array(ANY_OBJECT),
                            "tool_calls": Array(_CALL),
                        },
                        optional=("tool_calls",),
                    ),
                    "logprobs": Nullable(ANY_OBJECT),
                    "finish_reason": _FINISH,
                },
            )
        ),
        "usage": answer(
            "",
            {
                "prompt_tokens": COUNT,
                "completion_tokens": COUNT,
                "total_tokens": COUNT,
                "prompt_tokens_details": answer("", {"cached_tokens": COUNT}),
                "completion_tokens_details": answer("", {"reasoning_tokens": COUNT}),
            },
        ),
    },
)
#: How long links to files in an answer lead somewhere.
_LINK_S: Final = 24 * 3600.0
_FINISHES: Final = {"max_output_tokens": "length", "max_turns": "length", "content_filter": "content_filter"}

router = APIRouter(tags=["chat"])
#: As Azure's clients ask, which put the model into the path.
deployments = APIRouter()
Who = Annotated[Caller, Depends(caller_of)]
What = Annotated[Services, Depends(services_of)]


@router.post("/chat/completions", openapi_extra=operation(body=BODY, gives=COMPLETION, streams=True, may_fail=True))
async def complete(request: Request, caller: Who, services: What) -> Response:
    """An answer: whole, or as a stream of chunks."""
    body = dict(await json_body(request))
    if body.get("model") is None and "deployment" in request.path_params:
        body["model"] = request.path_params["deployment"]
    ask = read_ask(as_response_request(body), user=caller.user)
    options: Json = body.get("stream_options") or {}
    has_usage = bool(options.get("include_usage"))
    responses: Responses = request.app.state.responses
    attempts: Attempts = request.app.state.attempts
    attempt = attempt_of(request, caller)
    ask = replace(ask, run=attempt.of(ask.run))
    run = await attempts.begun(caller, attempt, partial(responses.start, caller, ask))
    answer = _Answer(services, responses, caller, run, own_address(request))
    if ask.streams:
        return EventStream(_chunks(answer, has_usage=has_usage))
    try:
        async with aclosing(answer.deltas()) as deltas:
            async for _ in deltas:
                pass
    except BichatError:
        await answer.forget()
        raise
    whole = answer.whole()
    if await attempts.is_answered(request, run):
        await answer.forget()
    return JsonAnswer(whole)


deployments.add_api_route("/deployments/{deployment}/chat/completions", complete, methods=["POST"])


# ------------------------------------------------------------------------------------------------------------- request


def as_response_request(body: Json) -> dict[str, Any]:
    """The request for a response that asks for the same.

    Raises:
        FieldError: a field is not as it must be, or asks for what is not served.
    """
    BODY.check(body, "")
    messages = enumerate(body["messages"])
    choice: Any = body.get("tool_choice")
    form: Any = body.get("response_format")
    made: dict[str, Any] = {
        "input": [item for number, each in messages for item in _items(each, f"messages[{number}]")],
        "tools": _tools(body.get("tools") or ()),
        "tool_choice": {**choice["function"], "type": "function"} if _is(choice, "function") else choice,
        "text": {"format": {**form["json_schema"], "type": "json_schema"} if _is(form, "json_schema") else form},
        "reasoning": {"effort": body.get("reasoning_effort")},
        "max_output_tokens": body.get("max_completion_tokens", body.get("max_tokens")),
        "store": False,
    }
    same = ("model", "temperature", "top_p", "parallel_tool_calls", "metadata", "stream")
    return made | {name: body[name] for name in same if name in body}


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, Mapping) and cast("Json", value)["type"] == kind


def _items(message: Json, param: str) -> list[dict[str, Any]]:
    role, content = message["role"], message.get("content")
    pieces = content if isinstance(content, str) or content is None else [_piece(each, role) for each in content]
    if role == "tool":
        if message.get("tool_call_id") is None or pieces is None:
            raise checks.missing(f"{param}.{'content' if pieces is None else 'tool_call_id'}")
        return [{"type": "function_call_output", "call_id": message["tool_call_id"], "output": pieces}]
    items: list[dict[str, Any]] = [{"type": "message", "role": role, "content": pieces}] if pieces else []
    for call in message.get("tool_calls") or ():
        given = {name: call["function"][name] for name in ("name", "arguments")}
        items.append({"type": "function_call", "call_id": call["id"], **given})
    return items


def _piece(piece: Json, role: str) -> dict[str, Any]:
    match piece["type"]:
        case "text":
            return {"type": "output_text" if role == "assistant" else "input_text", "text": piece["text"]}
        case "image_url":
            image: Json = piece["image_url"]
            return {"type": "input_image", "image_url": image["url"], "detail": image.get("detail")}
        case "file":
            return {**piece["file"], "type": "input_file"}
        case _:
            return {"type": "refusal", "refusal": piece["refusal"]}


def _tools(given: Sequence[Json]) -> list[Json]:
    """The caller's functions, and the code interpreter, which every answer has."""
    tools = [{**tool["function"], "type": "function"} if _is(tool, "function") else tool for tool in given]
    if not any(_is(tool, "code_interpreter") for tool in tools):
        tools.append({"type": "code_interpreter", "container": {"type": "auto"}})
    return tools


# -------------------------------------------------------------------------------------------------------------- answer


@dataclass(slots=True)
class _Answer:
    """An answer as it is made."""

    services: Services
    responses: Responses
    caller: Caller
    run: Run
    address: str
    """Where whoever asked reaches the server; empty where nobody knows."""
    text: list[str] = field(default_factory=list[str])
    calls: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    async def deltas(self) -> AsyncGenerator[dict[str, Any]]:
        """What is added to the message, piece by piece.

        Raises:
            FailedError: it failed, and no code has run.
            RefusedError: it failed otherwise: asking again would run code again.
        """
        async with aclosing(self.services.core.follow(self.caller.tenant, self.run.id)) as events:
            async for event in events:
                for delta in await self._delta(event.kind, event.payload):
                    yield delta
        self.run = await self.services.core.get(self.caller.tenant, self.run.id)
        if self.run.state in (RunState.COMPLETED, RunState.INCOMPLETE):
            return
        error: Json = self.run.error or {}
        if error and not error.get("code_ran"):
            raise FailedError(error)
        raise RefusedError(422, error_of(self.run)["message"], wire_code=self.run.state.value)

    async def _delta(self, kind: str, payload: Json) -> list[dict[str, Any]]:
        match kind:
            case run_events.ITEM_ADDED if payload["item"]["kind"] == parts.TEXT and self.text:
                return [self._said("\n\n")]
            case run_events.TEXT_DELTA:
                return [self._said(payload["delta"])]
            case run_events.ITEM_DONE if payload["item"]["kind"] == parts.TEXT:
                links = await self._links(payload["item"]["parts"][0]["content"].get("citations") or ())
                return [self._said(links)] if links else []
            case run_events.ITEM_DONE if payload["item"]["kind"] == parts.TOOL_CALL:
                return self._called(payload["item"])
            case _:
                return []

    def _said(self, text: str) -> dict[str, Any]:
        self.text.append(text)
        return {"content": text}

    def _called(self, item: Json) -> list[dict[str, Any]]:
        if item["metadata"].get("internal"):
            return []
        content: Json = item["parts"][0]["content"]
        function = {"name": content["name"], "arguments": content["arguments"]}
        call = {"id": content["call_id"], "type": "function", "function": function}
        self.calls.append(call)
        return [{"tool_calls": [{"index": len(self.calls) - 1, **call}]}]

    async def _links(self, citations: Sequence[Json]) -> str:
        """Addresses of the files of a text, below it: nothing else of this wire could carry them."""
        lines: list[str] = []
        for cited in {each["output_id"]: each for each in citations}.values():
            with suppress(BichatError):
                kept = await self.services.repository.outputs.get(self.caller.tenant, cited["output_id"])
                url = await self._url(kept)
                mark = "!" if kept.mime_type.startswith("image/") else ""
                lines.append(f"\n\n{mark}[{kept.name}]({url})")
        return "".join(lines)

    async def _url(self, kept: CodeInterpreterOutput) -> str:
        url = await self.services.storage.url(kept.storage_key, expires_in_s=_LINK_S)
        usual = self.services.settings.public_url
        if usual != DEFAULT_PUBLIC_URL or not url.startswith(f"{usual}/"):
            return url
        return self.address + url.removeprefix(usual) if self.address else f"sandbox:/mnt/data/{quote(kept.name)}"

    @property
    def finish(self) -> str:
        """Why it ended."""
        if self.calls:
            return "tool_calls"
        reason = (self.run.error or {}).get("reason", "")
        return _FINISHES.get(reason, "length") if self.run.state is RunState.INCOMPLETE else "stop"

    def head(self, kind: str) -> dict[str, Any]:
        """What every object of it begins with."""
        return {
            "id": f"chatcmpl-{self.run.id.replace('-', '')}",
            "object": kind,
            "created": int(self.run.created_at.timestamp()),
            "model": self.run.model,
            "service_tier": "default",
            "system_fingerprint": None,
        }

    def usage(self) -> dict[str, Any]:
        """What it took."""
        counted = self.run.usage
        return {
            "prompt_tokens": counted.get("input_tokens", 0),
            "completion_tokens": counted.get("output_tokens", 0),
            "total_tokens": counted.get("total_tokens", 0),
            "prompt_tokens_details": {"cached_tokens": counted.get("cached_tokens", 0)},
            "completion_tokens_details": {"reasoning_tokens": counted.get("reasoning_tokens", 0)},
        }

    def whole(self) -> dict[str, Any]:
        """All of it, as one object."""
        text = "".join(self.text)
        message = {
            "role": "assistant",
            "content": text or None,
            "refusal": None,
            "annotations": [],
            **({"tool_calls": self.calls} if self.calls else {}),
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish}
        return {**self.head("chat.completion"), "choices": [choice], "usage": self.usage()}

    async def forget(self) -> None:
        """Leave nothing of it; whoever has gone gets no answer any more."""
        core, tenant = self.services.core, self.caller.tenant
        with anyio.CancelScope(shield=True), suppress(BichatError):
            run = await core.get(tenant, self.run.id)
            if not run.state.is_final:
                await core.cancel(tenant, run.id)
                await core.wait(tenant, run.id)
            await self.responses.forget(self.caller, run.id)


async def _chunks(answer: _Answer, *, has_usage: bool) -> AsyncGenerator[bytes]:
    def chunk(delta: Json, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        usage = {"usage": None} if has_usage else {}
        return _line({**answer.head("chat.completion.chunk"), "choices": [choice], **usage})

    try:
        yield chunk({"role": "assistant", "content": "", "refusal": None})
        async with aclosing(answer.deltas()) as deltas:
            async for delta in deltas:
                yield chunk(delta)
        yield chunk({}, answer.finish)
        if has_usage:
            yield _line({**answer.head("chat.completion.chunk"), "choices": [], "usage": answer.usage()})
        yield b"data: [DONE]\n\n"
    except BichatError as error:
        yield _line(error_body(error))
    finally:
        await answer.forget()


def _line(value: Json) -> bytes:
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n".encode("ascii")
