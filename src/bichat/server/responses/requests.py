"""What a request for a response asks for: every field of it is carried out, without effect here, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bichat.conversation.planner import Sampling, ToolSpec
from bichat.conversation.request import CODE_TOOL, CodeOptions, RunRequest, Said
from bichat.server import checks, naming
from bichat.server.network import NoNetwork
from bichat.server.problems import FieldError, MissingError
from bichat.server.responses.inputs import INPUT, Reference, file_row, read_input
from bichat.server.responses.items import ENCRYPTED, LIVE_OUTPUT, OUTPUTS
from bichat.server.responses.response import ECHOED
from bichat.server.schemas import (
    ANY_OBJECT,
    Array,
    Choice,
    Either,
    Flag,
    Id,
    Ignored,
    Integer,
    Metadata,
    Number,
    Object,
    Refused,
    Schema,
    Text,
    Variants,
    given_in,
)

Json = Mapping[str, Any]

#: Values of `include` that have an effect, and those that are taken because others' servers know them.
INCLUDES: Final = (OUTPUTS, ENCRYPTED, LIVE_OUTPUT)
_OTHER_INCLUDES: Final = (
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "message.output_text.logprobs",
)
INCLUDE: Final = Array(Choice((*INCLUDES, *_OTHER_INCLUDES)), 100)
MEMORY: Final = Choice(("1g", "4g", "16g", "64g"))
EFFORT: Final = Choice(("none", "minimal", "low", "medium", "high", "xhigh", "max"))
MOST_TOOLS: Final = 128
MOST_TOKENS: Final = 100_000_000
TEMPERATURE: Final = Number(least=0, most=2)
TOP_P: Final = Number(least=0, most=1)
MODEL: Final = Text(most=256)
#: Characters of JSON that tools have together, or a schema for the answer.
_MOST_SCHEMAS: Final = 1 << 20
NAME: Final = Text(pattern="[a-zA-Z0-9_-]{1,64}", problem="letters, digits, _ and - are taken, 64 at most")
FUNCTION: Final = Object(
    fields={"name": NAME, "description": Text(most=100_000), "parameters": ANY_OBJECT, "strict": Flag()},
    required=("name",),
    is_open=True,
)
_AUTO: Final = Object(
    fields={
        "type": Choice(("auto",)),
        "file_ids": Array(Id((naming.FILE,)), 50),
        "memory_limit": MEMORY,
        "network_policy": NoNetwork(),
        "skills": Refused("skills are not served here", or_empty=True),
    },
    required=("type",),
    is_open=True,
)
CONTAINER: Final = Either((Id((naming.CONTAINER,)), _AUTO))
TOOLS: Final = Array(
    Variants(
        what="tools",
        name="Tool",
        kinds={
            "code_interpreter": Object(fields={"container": CONTAINER}, required=("container",), is_open=True),
            "function": FUNCTION,
        },
    ),
    MOST_TOOLS,
)
_CHOSEN: Final = {
    "code_interpreter": ANY_OBJECT,
    "function": Object(fields={"name": Text()}, required=("name",), is_open=True),
}
MODES: Final = Choice(("none", "auto", "required"))
_TOOL_CHOICE: Final = Either(
    (
        MODES,
        Variants(
            what="choices",
            name="ToolChoice",
            kinds={
                **_CHOSEN,
                "allowed_tools": Object(
                    fields={
                        "mode": Choice(("auto", "required")),
                        "tools": Array(Variants(what="choices", kinds=_CHOSEN), MOST_TOOLS),
                    },
                    required=("mode", "tools"),
                    is_open=True,
                ),
            },
        ),
    )
)
SCHEMA_FORMAT: Final = Object(
    fields={"name": NAME, "schema": ANY_OBJECT, "description": Text(), "strict": Flag()},
    required=("name", "schema"),
    is_open=True,
)
_FORMAT: Final = Variants(
    what="formats",
    name="TextFormat",
    kinds={"text": ANY_OBJECT, "json_object": ANY_OBJECT, "json_schema": SCHEMA_FORMAT},
)
_CONVERSATION: Final = Id((naming.CONVERSATION,))
_TOLD: Final = Ignored(Text(most=512))

#: Every field of a request for a response: carried out, taken without effect, or refused.  Those that have none are told
#: in the response as they were given, where it has them.
FIELDS: Final[Mapping[str, Schema]] = {
    "background": Flag(usual=False),
    "conversation": Either((Object(fields={"id": _CONVERSATION}, required=("id",), is_open=True), _CONVERSATION)),
    "include": INCLUDE,
    "input": INPUT,
    "instructions": Text(most=10_485_760),
    "max_output_tokens": Integer(least=1, most=MOST_TOKENS),
    "max_tool_calls": Integer(least=1, most=1_000_000),
    "metadata": Metadata(),
    "model": MODEL,
    "parallel_tool_calls": Flag(),
    "previous_response_id": Id((naming.RESPONSE,)),
    "reasoning": Object(
        fields={"effort": EFFORT, "summary": Ignored(Choice(("auto", "concise", "detailed")))}, is_open=True
    ),
    "store": Flag(usual=True),
    "stream": Flag(usual=False),
    "temperature": TEMPERATURE,
    "text": Object(fields={"format": _FORMAT, "verbosity": Ignored(Choice(("low", "medium", "high")))}, is_open=True),
    "tool_choice": _TOOL_CHOICE,
    "tools": TOOLS,
    "top_p": TOP_P,
    "truncation": Choice(("auto", "disabled"), usual="disabled"),
    "access_programs": Ignored(),
    "background_options": Ignored(),
    "prompt_cache_key": _TOLD,
    "prompt_cache_options": Ignored(),
    "prompt_cache_retention": Ignored(),
    "safety_identifier": _TOLD,
    "service_tier": Ignored(Choice(("auto", "default", "flex", "scale", "priority", "fast"))),
    "stream_options": Ignored(),
    "top_logprobs": Ignored(Integer(least=0, most=20)),
    "user": _TOLD,
    "context_management": Refused(
        'compaction is not served here; ask with truncation "auto" to have old items left out'
    ),
    "image": Refused("settings of images are not served here"),
    "moderation": Refused("moderation is not served here"),
    "prompt": Refused("stored prompts are not served here; send instructions and input"),
}
IGNORED: Final = frozenset(name for name, schema in FIELDS.items() if isinstance(schema, Ignored))
REFUSED: Final = frozenset(name for name, schema in FIELDS.items() if isinstance(schema, Refused))
SUPPORTED: Final = FIELDS.keys() - IGNORED - REFUSED
BODY: Final = Object(fields=FIELDS, required=("model",), name="ResponseRequest")


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for a response, as far as it can be judged without looking anything up."""

    run: RunRequest
    inputs: Sequence[Said | Reference]
    streams: bool
    is_background: bool


def read_ask(body: Any, *, user: str = "") -> Ask:
    """The request in a body.

    Raises:
        FieldError: a field is not as it must be, or asks for what is not served.
        MissingError: it names a container that cannot be there.
    """
    BODY.check(body, "")
    fields = given_in(body)
    for name in ("tools", "tool_choice", "text"):
        checks.compact(fields.get(name), name, most=_MOST_SCHEMAS)
    inputs = read_input(fields.get("input", []))
    code, functions = _tools(fields.get("tools", []))
    code, functions, choice = _choice(fields.get("tool_choice", "auto"), code, functions)
    is_background, is_stored = fields.get("background", False), fields.get("store", True)
    if is_background and not is_stored:
        raise FieldError("Background mode requires 'store' to be true.", param="store")
    conversation_id, previous = _before(fields)
    include = fields.get("include", [])
    sampling, text_echo, reasoning_echo = _sampling(fields)
    echo = {name: fields[name] for name in ECHOED if name in fields} | {"text": text_echo, "reasoning": reasoning_echo}
    if conversation_id is not None:
        echo["conversation"] = {"id": naming.on_wire(naming.CONVERSATION, conversation_id)}
    run = RunRequest(
        conversation_id=conversation_id,
        previous_run_id=previous,
        user=user,
        model=fields["model"],
        instructions=fields.get("instructions", ""),
        code=code,
        client_tools=functions,
        tool_choice=choice,
        sampling=sampling,
        max_tool_calls=fields.get("max_tool_calls"),
        truncates=fields.get("truncation") == "auto",
        is_kept=is_stored,
        metadata=fields.get("metadata", {}),
        view={"kind": "response", "echo": echo, "include": include},
    )
    return Ask(run, inputs, fields.get("stream", False), is_background)


def _before(fields: Json) -> tuple[str | None, str | None]:
    """What it goes on with: a conversation, or a response."""
    if "conversation" in fields and "previous_response_id" in fields:
        raise FieldError(
            "Mutually exclusive parameters: 'conversation' and 'previous_response_id' cannot be used together.",
            param="conversation",
            wire_code="mutually_exclusive_parameters",
        )
    if "conversation" in fields:
        value = fields["conversation"]
        given: str = value if isinstance(value, str) else value["id"]
        found = naming.row_id(given, naming.CONVERSATION)
        if not found:
            raise MissingError(f"Conversation with id '{given[:100]}' not found.", param="conversation")
        return found, None
    if "previous_response_id" in fields:
        given = fields["previous_response_id"]
        found = naming.row_id(given, naming.RESPONSE)
        if not found:
            raise previous_missing(given)
        return None, found
    return None, None


def previous_missing(given: str) -> FieldError:
    """There is no such response to go on from."""
    return FieldError(
        f"Previous response with id '{given[:100]}' not found.",
        param="previous_response_id",
        wire_code="previous_response_not_found",
    )


def read_include(value: list[str]) -> list[str]:
    """Values of `include` in a query.

    Raises:
        FieldError: one is not known.
    """
    INCLUDE.check(value, "include")
    return value


# --------------------------------------------------------------------------------------------------------------- tools


def _tools(tools: Sequence[Json]) -> tuple[CodeOptions | None, tuple[ToolSpec, ...]]:
    code: CodeOptions | None = None
    functions: list[ToolSpec] = []
    for number, tool in enumerate(tools):
        param = f"tools[{number}]"
        if tool["type"] == "function":
            functions.append(function_spec(tool))
        elif code is not None:
            raise FieldError(f"Invalid '{param}': code_interpreter is given twice.", param=param)
        else:
            code = _code(tool["container"], f"{param}.container")
    names = [spec.name for spec in functions] + ([CODE_TOOL] if code is not None else [])
    for name in names:
        if names.count(name) > 1:
            what = " (the code interpreter's own name)" if name == CODE_TOOL and code is not None else ""
            raise FieldError(f"Invalid 'tools': two tools have the name {name!r}{what}.", param="tools")
    return code, tuple(functions)


def function_spec(tool: Json) -> ToolSpec:
    """A function of the caller's, which is as `FUNCTION` takes it."""
    parameters = tool.get("parameters")
    return ToolSpec(
        name=tool["name"],
        description=tool.get("description") or "",
        parameters={"type": "object", "properties": {}} if parameters is None else dict(parameters),
        is_strict=tool.get("strict"),
    )


def _code(container: str | Json, param: str) -> CodeOptions:
    if isinstance(container, str):
        found = naming.row_id(container, naming.CONTAINER)
        if not found:
            raise MissingError(f"Container with id '{container[:100]}' not found.", param=param)
        return CodeOptions(session_id=found)
    files = container.get("file_ids") or ()
    rows = [file_row(each, f"{param}.file_ids[{number}]") for number, each in enumerate(files)]
    return CodeOptions(file_ids=tuple(dict.fromkeys(rows)), memory=container.get("memory_limit"))


def _choice(
    value: str | Json, code: CodeOptions | None, functions: tuple[ToolSpec, ...]
) -> tuple[CodeOptions | None, tuple[ToolSpec, ...], str]:
    """What the model must call, and what is left for it to choose from."""
    if isinstance(value, str):
        if value == "required" and code is None and not functions:
            raise FieldError("Tool choice 'required' must be specified with 'tools'.", param="tool_choice")
        return code, functions, value
    if value["type"] == "allowed_tools":
        allowed = enumerate(value["tools"])
        names = {_chosen(each, f"tool_choice.tools[{number}]", code, functions) for number, each in allowed}
        kept = tuple(spec for spec in functions if spec.name in names)
        return (code if CODE_TOOL in names else None), kept, value["mode"]
    return code, functions, _chosen(value, "tool_choice", code, functions)


def _chosen(given: Json, param: str, code: CodeOptions | None, functions: Sequence[ToolSpec]) -> str:
    is_code = given["type"] == "code_interpreter"
    name = CODE_TOOL if is_code else given["name"]
    is_there = code is not None if is_code else any(spec.name == name for spec in functions)
    if not is_there:
        raise FieldError(
            f"Tool choice {name[:100]!r} not found in 'tools' parameter.", param=param, wire_code="invalid_value"
        )
    return name


# ------------------------------------------------------------------------------------------------------------ sampling


def _sampling(fields: Json) -> tuple[Sampling, Json, Json]:
    text: Json = fields.get("text", {})
    reasoning: Json = fields.get("reasoning", {})
    effort, temperature, top_p = reasoning.get("effort"), fields.get("temperature"), fields.get("top_p")
    sampling = Sampling(
        max_output_tokens=fields.get("max_output_tokens"),
        temperature=None if temperature is None else float(temperature),
        top_p=None if top_p is None else float(top_p),
        parallel_tool_calls=fields.get("parallel_tool_calls"),
        reasoning_effort=effort,
        text_format=read_format(text.get("format")),
    )
    text_echo = {"format": text.get("format") or {"type": "text"}, "verbosity": text.get("verbosity") or "medium"}
    return sampling, text_echo, {"effort": effort, "summary": reasoning.get("summary")}


def read_format(given: Json | None) -> Json | None:
    """How an answer is to be built, as a planner is told; None for plain text."""
    kind = "text" if given is None else given["type"]
    if given is None or kind == "text":
        return None
    if kind == "json_object":
        return {"type": kind}
    return {
        "type": kind,
        "name": given["name"],
        "schema": dict(given["schema"]),
        "description": given.get("description") or "",
        "strict": given.get("strict"),
    }
