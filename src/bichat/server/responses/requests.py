"""What a request for a response asks for: every field of it is carried out, without effect here, or refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bichat.conversation.planner import Sampling, ToolSpec
from bichat.conversation.request import CODE_TOOL, CodeOptions, RunRequest, Said
from bichat.server import checks, naming
from bichat.server.problems import FieldError, MissingError
from bichat.server.responses.inputs import Reference, file_row, read_input
from bichat.server.responses.items import ENCRYPTED, LIVE_OUTPUT, OUTPUTS
from bichat.server.responses.response import ECHOED

Json = Mapping[str, Any]

#: Fields that are carried out.
SUPPORTED: Final = frozenset(
    {
        "background",
        "conversation",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "parallel_tool_calls",
        "previous_response_id",
        "reasoning",
        "store",
        "stream",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_p",
        "truncation",
    }
)
#: Fields that are taken and have no effect here; those that a response has are told in it as they were given.
IGNORED: Final = frozenset(
    {
        "access_programs",
        "background_options",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "stream_options",
        "top_logprobs",
        "user",
    }
)
#: Fields that are refused unless they are null, and why.
REFUSED: Final[Mapping[str, str]] = {
    "context_management": 'compaction is not served here; ask with truncation "auto" to have old items left out',
    "image": "settings of images are not served here",
    "moderation": "moderation is not served here",
    "prompt": "stored prompts are not served here; send instructions and input",
}
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
_MEMORY: Final = ("1g", "4g", "16g", "64g")
_MOST_TOOLS: Final = 128
#: Characters of JSON that tools have together, or a schema for the answer.
_MOST_SCHEMAS: Final = 1 << 20
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


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
    given = checks.mapping(body, "body")
    _known(given)
    fields = {name: value for name, value in given.items() if value is not None}
    if "model" not in fields:
        raise checks.missing("model")
    model = checks.text(fields["model"], "model", most=256)
    for name in ("tools", "tool_choice", "text"):
        checks.compact(fields.get(name), name, most=_MOST_SCHEMAS)
    inputs = read_input(fields["input"]) if "input" in fields else []
    code, functions = _tools(fields.get("tools", []))
    code, functions, choice = _choice(fields.get("tool_choice", "auto"), code, functions)
    is_background = checks.flag(fields.get("background", False), "background")
    is_stored = checks.flag(fields.get("store", True), "store")
    if is_background and not is_stored:
        raise FieldError("Background mode requires 'store' to be true.", param="store")
    conversation_id, previous = _before(fields)
    include = _include(fields.get("include", []))
    sampling, text_echo, reasoning_echo = _sampling(fields)
    metadata = checks.metadata(fields.get("metadata"))
    instructions = checks.text(fields.get("instructions", ""), "instructions", most=10_485_760)
    truncation = checks.one_of(fields.get("truncation", "disabled"), "truncation", ("auto", "disabled"))
    max_tool_calls = fields.get("max_tool_calls")
    if max_tool_calls is not None:
        checks.integer(max_tool_calls, "max_tool_calls", least=1, most=1_000_000)
    echo = {name: fields[name] for name in ECHOED if name in fields} | {"text": text_echo, "reasoning": reasoning_echo}
    if conversation_id is not None:
        echo["conversation"] = {"id": naming.on_wire(naming.CONVERSATION, conversation_id)}
    _echoes(fields)
    run = RunRequest(
        conversation_id=conversation_id,
        previous_run_id=previous,
        user=user,
        model=model,
        instructions=instructions,
        code=code,
        client_tools=functions,
        tool_choice=choice,
        sampling=sampling,
        max_tool_calls=max_tool_calls,
        truncates=truncation == "auto",
        is_kept=is_stored,
        metadata=metadata,
        view={"kind": "response", "echo": echo, "include": include},
    )
    streams = checks.flag(fields.get("stream", False), "stream")
    return Ask(run, inputs, streams, is_background)


def _known(given: Json) -> None:
    for name, value in given.items():
        if name in REFUSED and value is not None:
            raise FieldError(
                f"Unsupported parameter: '{name}': {REFUSED[name]}.", param=name, wire_code="unsupported_parameter"
            )
        if name not in SUPPORTED and name not in IGNORED and name not in REFUSED:
            raise FieldError(f"Unknown parameter: '{name[:100]}'.", param=name[:100], wire_code="unknown_parameter")


def _echoes(fields: Json) -> None:
    """What is only told again must still be what a response can hold."""
    for name in ("prompt_cache_key", "safety_identifier", "user"):
        if name in fields:
            checks.text(fields[name], name, most=512)
    if "service_tier" in fields:
        checks.one_of(fields["service_tier"], "service_tier", ("auto", "default", "flex", "scale", "priority", "fast"))
    if "top_logprobs" in fields:
        checks.integer(fields["top_logprobs"], "top_logprobs", least=0, most=20)


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
        if isinstance(value, Mapping):
            value = checks.mapping(value, "conversation").get("id")
        given = checks.text(value, "conversation")
        found = naming.row_id(given, naming.CONVERSATION)
        if not found:
            raise MissingError(f"Conversation with id '{given[:100]}' not found.", param="conversation")
        return found, None
    if "previous_response_id" in fields:
        given = checks.text(fields["previous_response_id"], "previous_response_id")
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


def read_include(value: Any) -> list[str]:
    """Values of `include`, from a body or from a query.

    Raises:
        FieldError: one is not known.
    """
    return _include(value)


def _include(value: Any) -> list[str]:
    known = (*INCLUDES, *_OTHER_INCLUDES)
    found = checks.array(value, "include", most=100)
    return [checks.one_of(each, f"include[{number}]", known) for number, each in enumerate(found)]


# --------------------------------------------------------------------------------------------------------------- tools


def _tools(value: Any) -> tuple[CodeOptions | None, tuple[ToolSpec, ...]]:
    code: CodeOptions | None = None
    functions: list[ToolSpec] = []
    for number, given in enumerate(checks.array(value, "tools", most=_MOST_TOOLS)):
        param = f"tools[{number}]"
        tool = checks.mapping(given, param)
        kind = tool.get("type")
        if kind is None:
            raise checks.missing(f"{param}.type")
        if kind == "code_interpreter":
            if code is not None:
                raise FieldError(f"Invalid '{param}': code_interpreter is given twice.", param=param)
            code = _code(tool, param)
        elif kind == "function":
            functions.append(function_spec(tool, param))
        else:
            checks.text(kind, f"{param}.type")
            raise FieldError(
                f"Invalid value at {param}: tools of the type {kind[:100]!r} are not served here. Served are "
                "code_interpreter and function.",
                param=f"{param}.type",
            )
    names = [spec.name for spec in functions] + ([CODE_TOOL] if code is not None else [])
    for name in names:
        if names.count(name) > 1:
            what = " (the code interpreter's own name)" if name == CODE_TOOL and code is not None else ""
            raise FieldError(f"Invalid 'tools': two tools have the name {name!r}{what}.", param="tools")
    return code, tuple(functions)


def function_spec(tool: Json, param: str) -> ToolSpec:
    """A function of the caller's.

    Raises:
        FieldError: it is not as it must be.
    """
    if "name" not in tool:
        raise checks.missing(f"{param}.name")
    name = checks.text(tool["name"], f"{param}.name")
    if not _NAME.fullmatch(name):
        raise FieldError(
            f"Invalid '{param}.name': letters, digits, _ and - are taken, 64 at most.", param=f"{param}.name"
        )
    strict = tool.get("strict")
    parameters = tool.get("parameters")
    return ToolSpec(
        name=name,
        description=checks.text(tool.get("description") or "", f"{param}.description", most=100_000),
        parameters={"type": "object", "properties": {}}
        if parameters is None
        else dict(checks.mapping(parameters, f"{param}.parameters")),
        is_strict=None if strict is None else checks.flag(strict, f"{param}.strict"),
    )


def _code(tool: Json, param: str) -> CodeOptions:
    container = tool.get("container")
    param = f"{param}.container"
    if container is None:
        raise checks.missing(param)
    if isinstance(container, str):
        found = naming.row_id(container, naming.CONTAINER)
        if not found:
            raise MissingError(f"Container with id '{container[:100]}' not found.", param=param)
        return CodeOptions(session_id=found)
    auto = checks.mapping(container, param)
    checks.one_of(auto.get("type"), f"{param}.type", ("auto",))
    memory = auto.get("memory_limit")
    if memory is not None:
        checks.one_of(memory, f"{param}.memory_limit", _MEMORY)
    policy = auto.get("network_policy")
    if policy is not None:
        kind = checks.one_of(
            checks.mapping(policy, f"{param}.network_policy").get("type"),
            f"{param}.network_policy.type",
            ("disabled", "allowlist"),
        )
        if kind == "allowlist":
            raise FieldError(
                "Containers have no network here: an allow-list cannot be carried out. Leave network_policy out, or say "
                "disabled.",
                param=f"{param}.network_policy",
            )
    if auto.get("skills"):
        raise FieldError("Skills are not served here.", param=f"{param}.skills")
    files = checks.array(auto.get("file_ids") or [], f"{param}.file_ids", most=50)
    rows = [file_row(each, f"{param}.file_ids[{number}]") for number, each in enumerate(files)]
    return CodeOptions(file_ids=tuple(dict.fromkeys(rows)), memory=memory)


def _choice(
    value: Any, code: CodeOptions | None, functions: tuple[ToolSpec, ...]
) -> tuple[CodeOptions | None, tuple[ToolSpec, ...], str]:
    """What the model must call, and what is left for it to choose from."""
    if isinstance(value, str):
        choice = checks.one_of(value, "tool_choice", ("none", "auto", "required"))
        if choice == "required" and code is None and not functions:
            raise FieldError("Tool choice 'required' must be specified with 'tools'.", param="tool_choice")
        return code, functions, choice
    given = checks.mapping(value, "tool_choice")
    if given.get("type") == "allowed_tools":
        mode = checks.one_of(given.get("mode"), "tool_choice.mode", ("auto", "required"))
        allowed = checks.array(given.get("tools"), "tool_choice.tools", most=_MOST_TOOLS)
        names = {_chosen(each, f"tool_choice.tools[{number}]", code, functions) for number, each in enumerate(allowed)}
        kept = tuple(spec for spec in functions if spec.name in names)
        return (code if CODE_TOOL in names else None), kept, mode
    return code, functions, _chosen(given, "tool_choice", code, functions)


def _chosen(value: Any, param: str, code: CodeOptions | None, functions: Sequence[ToolSpec]) -> str:
    given = checks.mapping(value, param)
    kind = checks.one_of(given.get("type"), f"{param}.type", ("code_interpreter", "function"))
    name = CODE_TOOL if kind == "code_interpreter" else checks.text(given.get("name"), f"{param}.name")
    is_there = code is not None if kind == "code_interpreter" else any(spec.name == name for spec in functions)
    if not is_there:
        raise FieldError(
            f"Tool choice {name[:100]!r} not found in 'tools' parameter.", param=param, wire_code="invalid_value"
        )
    return name


# ------------------------------------------------------------------------------------------------------------ sampling


def _sampling(fields: Json) -> tuple[Sampling, Json, Json]:
    text = checks.mapping(fields.get("text", {}), "text")
    text_format = read_format(text.get("format"), "text.format")
    verbosity = text.get("verbosity") or "medium"
    checks.one_of(verbosity, "text.verbosity", ("low", "medium", "high"))
    reasoning = checks.mapping(fields.get("reasoning", {}), "reasoning")
    effort = reasoning.get("effort")
    if effort is not None:
        checks.one_of(effort, "reasoning.effort", ("none", "minimal", "low", "medium", "high", "xhigh", "max"))
    summary = reasoning.get("summary")
    if summary is not None:
        checks.one_of(summary, "reasoning.summary", ("auto", "concise", "detailed"))
    most = fields.get("max_output_tokens")
    temperature, top_p = fields.get("temperature"), fields.get("top_p")
    parallel = fields.get("parallel_tool_calls")
    sampling = Sampling(
        max_output_tokens=None
        if most is None
        else checks.integer(most, "max_output_tokens", least=1, most=100_000_000),
        temperature=None if temperature is None else checks.number(temperature, "temperature", least=0, most=2),
        top_p=None if top_p is None else checks.number(top_p, "top_p", least=0, most=1),
        parallel_tool_calls=None if parallel is None else checks.flag(parallel, "parallel_tool_calls"),
        reasoning_effort=effort,
        text_format=text_format,
    )
    text_echo = {"format": text.get("format") or {"type": "text"}, "verbosity": verbosity}
    return sampling, text_echo, {"effort": effort, "summary": summary}


def read_format(value: Any, param: str) -> Json | None:
    """How an answer is to be built, as a planner is told; None for plain text.

    Raises:
        FieldError: it is not as it must be.
    """
    if value is None:
        return None
    given = checks.mapping(value, param)
    kind = checks.one_of(given.get("type"), f"{param}.type", ("text", "json_object", "json_schema"))
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": kind}
    name = checks.text(given.get("name"), f"{param}.name")
    if not _NAME.fullmatch(name):
        raise FieldError(
            f"Invalid '{param}.name': letters, digits, _ and - are taken, 64 at most.", param=f"{param}.name"
        )
    strict = given.get("strict")
    return {
        "type": kind,
        "name": name,
        "schema": dict(checks.mapping(given.get("schema"), f"{param}.schema")),
        "description": checks.text(given.get("description") or "", f"{param}.description"),
        "strict": None if strict is None else checks.flag(strict, f"{param}.strict"),
    }
