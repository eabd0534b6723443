"""What requests for runs ask for: every field is carried out, without effect here, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bichat.conversation.planner import Sampling
from bichat.conversation.request import CodeOptions, RunRequest, Said
from bichat.server import checks
from bichat.server.assistants.requests import (
    MOST_CHARS,
    MOST_INSTRUCTIONS,
    MOST_MESSAGES,
    ThreadAsk,
    known,
    read_messages,
    read_sampled,
    read_thread,
)
from bichat.server.assistants.tools import (
    Resources,
    Tools,
    read_choice,
    read_resources,
    read_response_format,
    read_tools,
)
from bichat.server.problems import FieldError

Json = Mapping[str, Any]

#: Fields that are carried out; `requests.IGNORED` are taken too, and there are no others.
_BOTH_RUN_FIELDS: Final = frozenset(
    {
        "assistant_id",
        "instructions",
        "max_completion_tokens",
        "max_prompt_tokens",
        "metadata",
        "model",
        "parallel_tool_calls",
        "reasoning_effort",
        "response_format",
        "stream",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
        "truncation_strategy",
    }
)
RUN_FIELDS: Final = _BOTH_RUN_FIELDS | {"additional_instructions", "additional_messages"}
THREAD_RUN_FIELDS: Final = _BOTH_RUN_FIELDS | {"thread", "tool_resources"}
#: In a run's metadata: what was asked for and is not served.
SEARCH_NOTE: Final = "bichat.file_search"
_IGNORED_SEARCH: Final = "file_search is not served here and was ignored; files are given to code_interpreter"
#: Seconds after its making at which a run expires.
LIVES_S: Final = 600.0

_MOST_TOKENS: Final = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAsk:
    """A request for a run, before its assistant is looked up."""

    assistant_id: str
    """On the wire."""
    fields: Json
    messages: Sequence[Said]
    thread: ThreadAsk | None
    """Of a run that makes its thread."""
    resources: Resources | None
    streams: bool


def read_run(body: Any, *, makes_thread: bool = False) -> RunAsk:
    """A request for a run.

    Raises:
        FieldError: a field is not as it must be.
    """
    given = known(body, THREAD_RUN_FIELDS if makes_thread else RUN_FIELDS)
    if given.get("assistant_id") is None:
        raise checks.missing("assistant_id")
    fields = {name: value for name, value in given.items() if value is not None}
    resources = None
    if "tool_resources" in fields:
        resources = read_resources(fields["tool_resources"])
    return RunAsk(
        assistant_id=checks.text(fields["assistant_id"], "assistant_id", most=256),
        fields=fields,
        messages=read_messages(fields.get("additional_messages"), "additional_messages"),
        thread=read_thread(fields.get("thread") or {}, "thread") if makes_thread else None,
        resources=resources,
        streams=checks.flag(fields.get("stream", False), "stream"),
    )


def run_request(ask: RunAsk, assistant: Json, *, user: str, conversation_id: str) -> RunRequest:
    """The run that is asked for of an assistant.

    Args:
        ask: what was asked for; what it does not say, the assistant does.
        assistant: its content.
        user: who asks.
        conversation_id: of the thread; empty where it is made.

    Raises:
        FieldError: a field is not as it must be.
    """
    fields = ask.fields
    tools = read_tools(fields["tools"] if "tools" in fields else assistant.get("tools", []))
    sampled = {**_defaults(assistant), **read_sampled(fields)}
    model = checks.text(fields.get("model", assistant["model"]), "model", most=256)
    instructions = _instructions(fields, assistant)
    limits = {
        name: checks.integer(fields[name], name, least=1, most=_MOST_TOKENS) if name in fields else None
        for name in ("max_completion_tokens", "max_prompt_tokens")
    }
    truncation = _truncation(fields.get("truncation_strategy", {"type": "auto"}))
    parallel = fields.get("parallel_tool_calls")
    if parallel is not None:
        checks.flag(parallel, "parallel_tool_calls")
    choice = fields.get("tool_choice", "auto")
    echo = {
        "model": model,
        "instructions": instructions,
        "tools": list(tools.echo),
        "tool_resources": {} if ask.resources is None else ask.resources.to_dict(),
        "temperature": 1.0 if sampled["temperature"] is None else sampled["temperature"],
        "top_p": 1.0 if sampled["top_p"] is None else sampled["top_p"],
        "reasoning_effort": sampled["reasoning_effort"],
        "response_format": sampled["response_format"] or "auto",
        "truncation_strategy": truncation,
        "tool_choice": choice,
        "parallel_tool_calls": True if parallel is None else parallel,
        **limits,
    }
    return RunRequest(
        inputs=ask.messages,
        conversation_id=conversation_id or None,
        user=user,
        model=model,
        instructions=instructions,
        code=CodeOptions(is_thread=True) if tools.has_code else None,
        client_tools=tools.functions,
        waits_for_caller=True,
        tool_choice=read_choice(choice, tools),
        sampling=Sampling(
            max_output_tokens=limits["max_completion_tokens"],
            temperature=sampled["temperature"],
            top_p=sampled["top_p"],
            parallel_tool_calls=parallel,
            reasoning_effort=sampled["reasoning_effort"],
            text_format=read_response_format(sampled["response_format"]),
        ),
        max_input_tokens=limits["max_prompt_tokens"],
        last_messages=truncation["last_messages"],
        lives_s=LIVES_S,
        truncates=True,
        metadata=_run_metadata(fields, tools),
        view={"kind": "run", "assistant_id": ask.assistant_id, "echo": echo},
    )


def _run_metadata(fields: Json, tools: Tools) -> Json:
    note = {SEARCH_NOTE: _IGNORED_SEARCH} if tools.has_search else {}
    return checks.metadata(fields.get("metadata")) | note


def _defaults(assistant: Json) -> dict[str, Any]:
    return {name: assistant.get(name) for name in ("temperature", "top_p", "reasoning_effort", "response_format")}


def _instructions(fields: Json, assistant: Json) -> str:
    given = fields.get("instructions", assistant.get("instructions") or "")
    more = fields.get("additional_instructions", "")
    texts = (
        checks.text(given, "instructions", most=MOST_INSTRUCTIONS),
        checks.text(more, "additional_instructions", most=MOST_INSTRUCTIONS),
    )
    return "\n\n".join(text for text in texts if text)


def _truncation(value: Any) -> dict[str, Any]:
    given = known(value, ("type", "last_messages"), "truncation_strategy")
    kind = checks.one_of(given.get("type"), "truncation_strategy.type", ("auto", "last_messages"))
    count = given.get("last_messages")
    if kind == "auto":
        return {"type": kind, "last_messages": None}
    if count is None:
        raise checks.missing("truncation_strategy.last_messages")
    least = checks.integer(count, "truncation_strategy.last_messages", least=1, most=1_000_000)
    return {"type": kind, "last_messages": least}


def read_outputs(body: Any) -> tuple[dict[str, str], bool]:
    """What came of the functions that a run waits for, by the ids of their calls; and whether a stream is wanted.

    Raises:
        FieldError: it is not as it must be.
    """
    given = known(body, ("tool_outputs", "stream"))
    if given.get("tool_outputs") is None:
        raise checks.missing("tool_outputs")
    outputs: dict[str, str] = {}
    for number, each in enumerate(checks.array(given["tool_outputs"], "tool_outputs", most=MOST_MESSAGES)):
        place = f"tool_outputs[{number}]"
        entry = known(each, ("tool_call_id", "output"), place)
        if entry.get("tool_call_id") is None:
            raise checks.missing(f"{place}.tool_call_id")
        call_id = checks.text(entry["tool_call_id"], f"{place}.tool_call_id", most=1000)
        if call_id in outputs:
            raise FieldError(f"Duplicate tool output for call_id '{call_id[:100]}'.", param=place)
        output = entry.get("output")
        outputs[call_id] = "" if output is None else checks.text(output, f"{place}.output", most=MOST_CHARS)
    return outputs, checks.flag(given.get("stream") or False, "stream")
