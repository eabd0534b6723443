"""What requests for runs ask for: every field is carried out, without effect here, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bichat.conversation.planner import Sampling
from bichat.conversation.request import CodeOptions, RunRequest, Said
from bichat.server import checks, naming
from bichat.server.assistants.requests import (
    IGNORED,
    INSTRUCTIONS,
    MESSAGES,
    MOST_MESSAGES,
    SAMPLED,
    THREAD,
    WORDS,
    ThreadAsk,
    checked,
    read_messages,
    read_sampled,
    read_thread,
)
from bichat.server.assistants.tools import (
    RESOURCES,
    TOOL_CHOICE,
    TOOLS,
    Resources,
    Tools,
    read_choice,
    read_resources,
    read_response_format,
    read_tools,
)
from bichat.server.problems import FieldError
from bichat.server.responses.requests import MODEL, MOST_TOKENS
from bichat.server.schemas import Array, Choice, Flag, Id, Ignored, Integer, Metadata, Object, Schema, Text, given_in

Json = Mapping[str, Any]

_TOKENS: Final = Integer(least=1, most=MOST_TOKENS)
_TAKEN: Final = dict.fromkeys(IGNORED, Ignored())
_BOTH: Final[Mapping[str, Schema]] = {
    "assistant_id": Id((naming.ASSISTANT,)),
    "instructions": INSTRUCTIONS,
    "max_completion_tokens": _TOKENS,
    "max_prompt_tokens": _TOKENS,
    "metadata": Metadata(),
    "model": MODEL,
    "parallel_tool_calls": Flag(),
    "stream": Flag(usual=False),
    "tool_choice": TOOL_CHOICE,
    "tools": TOOLS,
    "truncation_strategy": Object(
        fields={"type": Choice(("auto", "last_messages")), "last_messages": Integer(least=1, most=1_000_000)},
        required=("type",),
    ),
    **SAMPLED,
    **_TAKEN,
}
RUN: Final = Object(
    name="RunRequest",
    fields={**_BOTH, "additional_instructions": INSTRUCTIONS, "additional_messages": MESSAGES},
    required=("assistant_id",),
)
THREAD_RUN: Final = Object(
    name="ThreadAndRunRequest",
    fields={**_BOTH, "thread": THREAD, "tool_resources": RESOURCES},
    required=("assistant_id",),
)
#: Fields that are carried out; `requests.IGNORED` are taken too, and there are no others.
RUN_FIELDS: Final = RUN.fields.keys() - IGNORED
THREAD_RUN_FIELDS: Final = THREAD_RUN.fields.keys() - IGNORED
_TOOL_OUTPUT: Final = Object(
    fields={"tool_call_id": Text(most=1000), "output": WORDS, **_TAKEN}, required=("tool_call_id",)
)
OUTPUTS: Final = Object(
    fields={"tool_outputs": Array(_TOOL_OUTPUT, MOST_MESSAGES), "stream": Flag(usual=False), **_TAKEN},
    required=("tool_outputs",),
    name="ToolOutputsRequest",
)
#: In a run's metadata: what was asked for and is not served.
SEARCH_NOTE: Final = "bichat.file_search"
_IGNORED_SEARCH: Final = "file_search is not served here and was ignored; files are given to code_interpreter"
#: Seconds after its making at which a run expires.
LIVES_S: Final = 600.0


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
    fields = given_in(checked(body, THREAD_RUN if makes_thread else RUN))
    return RunAsk(
        assistant_id=fields["assistant_id"],
        fields=fields,
        messages=read_messages(fields.get("additional_messages"), "additional_messages"),
        thread=read_thread(fields.get("thread") or {}, "thread") if makes_thread else None,
        resources=read_resources(fields["tool_resources"]) if "tool_resources" in fields else None,
        streams=fields.get("stream", False),
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
    model = fields.get("model", assistant["model"])
    instructions = _instructions(fields, assistant)
    limits = {name: fields.get(name) for name in ("max_completion_tokens", "max_prompt_tokens")}
    truncation = _truncation(fields.get("truncation_strategy", {"type": "auto"}))
    parallel = fields.get("parallel_tool_calls")
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
    return fields.get("metadata", {}) | note


def _defaults(assistant: Json) -> dict[str, Any]:
    return {name: assistant.get(name) for name in ("temperature", "top_p", "reasoning_effort", "response_format")}


def _instructions(fields: Json, assistant: Json) -> str:
    given = fields.get("instructions", assistant.get("instructions") or "")
    return "\n\n".join(text for text in (given, fields.get("additional_instructions", "")) if text)


def _truncation(given: Json) -> dict[str, Any]:
    if given["type"] == "auto":
        return {"type": "auto", "last_messages": None}
    if given.get("last_messages") is None:
        raise checks.missing("truncation_strategy.last_messages")
    return {"type": "last_messages", "last_messages": given["last_messages"]}


def read_outputs(body: Any) -> tuple[dict[str, str], bool]:
    """What came of the functions that a run waits for, by the ids of their calls; and whether a stream is wanted.

    Raises:
        FieldError: it is not as it must be.
    """
    given = checked(body, OUTPUTS)
    outputs: dict[str, str] = {}
    for number, each in enumerate(given["tool_outputs"]):
        call_id = each["tool_call_id"]
        if call_id in outputs:
            raise FieldError(f"Duplicate tool output for call_id '{call_id[:100]}'.", param=f"tool_outputs[{number}]")
        outputs[call_id] = each.get("output") or ""
    return outputs, given.get("stream") or False
