"""What requests of the Assistants API ask for: every field is carried out, without effect here, or refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bichat.agent.toolbox import TOOLS
from bichat.conversation import parts
from bichat.conversation.request import Said
from bichat.repository.records import Part, Role
from bichat.server import checks, naming
from bichat.server.assistants.tools import (
    MOST_FILES,
    Resources,
    file_id,
    read_file_ids,
    read_resources,
    read_response_format,
    read_tools,
)
from bichat.server.problems import FieldError

Json = Mapping[str, Any]

#: Fields that are carried out, and those that are taken and have no effect; there are no others.
ASSISTANT_FIELDS: Final = frozenset(
    {
        "description",
        "file_ids",
        "instructions",
        "metadata",
        "model",
        "name",
        "reasoning_effort",
        "response_format",
        "temperature",
        "tool_resources",
        "tools",
        "top_p",
    }
)
THREAD_FIELDS: Final = frozenset({"messages", "metadata", "tool_resources"})
MESSAGE_FIELDS: Final = frozenset({"attachments", "content", "file_ids", "metadata", "role"})
IGNORED: Final = frozenset({"include"})

#: In a message's metadata: the caller's own.
METADATA: Final = "metadata"
#: Characters of instructions, and of a message; messages of one request.
MOST_INSTRUCTIONS: Final = 256_000
MOST_CHARS: Final = 10_485_760
MOST_MESSAGES: Final = 1000
_EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_DETAILS: Final = ("auto", "low", "high")


def known(body: Any, fields: Collection[str], param: str = "") -> Json:
    """`body` itself, when it is an object with no other fields than these.

    Raises:
        FieldError: it is not.
    """
    given = checks.mapping(body, param or "body")
    for name in given:
        if name not in fields and name not in IGNORED:
            place = f"{param}.{name[:100]}" if param else name[:100]
            raise FieldError(f"Unknown parameter: '{place}'.", param=place, wire_code="unknown_parameter")
    return given


# ---------------------------------------------------------------------------------------------------------- assistants


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantAsk:
    """What an assistant is to be."""

    fields: Json
    """By the names of the wire, with what was given alone."""
    resources: Resources | None
    """None: nothing was said of them."""


def read_assistant(body: Any, *, is_new: bool) -> AssistantAsk:
    """A request to make an assistant, or to change one.

    Raises:
        FieldError: a field is not as it must be.
    """
    given = known(body, ASSISTANT_FIELDS)
    if is_new and given.get("model") is None:
        raise checks.missing("model")
    fields: dict[str, Any] = {}
    if given.get("model") is not None:
        fields["model"] = checks.text(given["model"], "model", most=256)
    for name, most in (("name", 256), ("description", 512), ("instructions", MOST_INSTRUCTIONS)):
        if name in given:
            fields[name] = None if given[name] is None else checks.text(given[name], name, most=most)
    if "tools" in given:
        fields["tools"] = list(read_tools(given["tools"] or []).echo)
    if "metadata" in given:
        fields["metadata"] = checks.metadata(given["metadata"])
    fields |= read_sampled(given)
    resources = None
    if given.get("tool_resources") is not None or given.get("file_ids") is not None:
        resources = read_resources(given.get("tool_resources"), file_ids=given.get("file_ids"))
    return AssistantAsk(fields=fields, resources=resources)


def read_sampled(given: Json) -> dict[str, Any]:
    """Fields that say how a model is to answer, checked, as they are told again; null where null was given."""
    found: dict[str, Any] = {}
    for name, most in (("temperature", 2), ("top_p", 1)):
        if name in given:
            found[name] = None if given[name] is None else checks.number(given[name], name, least=0, most=most)
    if "reasoning_effort" in given:
        effort = given["reasoning_effort"]
        found["reasoning_effort"] = None if effort is None else checks.one_of(effort, "reasoning_effort", _EFFORTS)
    if "response_format" in given:
        read_response_format(given["response_format"])
        found["response_format"] = given["response_format"]
    return found


# ------------------------------------------------------------------------------------------------- threads, messages


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadAsk:
    """What a thread is to be."""

    messages: Sequence[Said] = ()
    metadata: Json | None = None
    resources: Resources | None = None


def read_thread(body: Any, param: str = "", *, is_new: bool = True) -> ThreadAsk:
    """A request to make a thread, or to change one.

    Raises:
        FieldError: a field is not as it must be.
    """
    given = known(body, THREAD_FIELDS if is_new else THREAD_FIELDS - {"messages"}, param)
    before = f"{param}." if param else ""
    resources = None
    if given.get("tool_resources") is not None:
        resources = read_resources(given["tool_resources"], f"{before}tool_resources")
    return ThreadAsk(
        messages=read_messages(given.get("messages"), f"{before}messages"),
        metadata=checks.metadata(given["metadata"], f"{before}metadata") if "metadata" in given else None,
        resources=resources,
    )


def read_messages(value: Any, param: str) -> list[Said]:
    """Messages of a thread, oldest first; null is none.

    Raises:
        FieldError: one is not as it must be.
    """
    found = checks.array(value or [], param, most=MOST_MESSAGES)
    return [read_message(each, f"{param}[{number}]") for number, each in enumerate(found)]


def read_message(body: Any, param: str = "") -> Said:
    """A message of a thread: its content, then a file for each attachment.

    Raises:
        FieldError: it is not as it must be.
    """
    given = known(body, MESSAGE_FIELDS, param)
    before = f"{param}." if param else ""
    for name in ("role", "content"):
        if given.get(name) is None:
            raise checks.missing(f"{before}{name}")
    role = checks.one_of(given["role"], f"{before}role", ("user", "assistant"))
    content = given["content"]
    if isinstance(content, str):
        pieces = [_text(checks.text(content, f"{before}content", most=MOST_CHARS))]
    else:
        found = checks.array(content, f"{before}content", most=MOST_MESSAGES)
        pieces = [_content(each, f"{before}content[{number}]") for number, each in enumerate(found)]
    if not any(piece.kind != parts.TEXT or piece.content["text"] for piece in pieces):
        raise FieldError("Message content must be non-empty.", param=f"{before}content")
    if role == "assistant" and any(piece.kind != parts.TEXT for piece in pieces):
        raise FieldError("An assistant says text only.", param=f"{before}content")
    files = _attachments(given.get("attachments"), f"{before}attachments")
    for each in read_file_ids(given.get("file_ids") or [], f"{before}file_ids"):
        files.setdefault(each, ["code_interpreter"])
    pieces += [
        Part(kind=parts.FILE, content={"file_id": naming.row_id(each, naming.FILE), TOOLS: tools})
        for each, tools in files.items()
    ]
    metadata = checks.metadata(given.get("metadata"), f"{before}metadata")
    return Said(role=Role(role), parts=tuple(pieces), metadata={METADATA: metadata} if metadata else {})


def _attachments(value: Any, param: str) -> dict[str, list[str]]:
    """Files by their ids, and the tools that each is for."""
    found: dict[str, list[str]] = {}
    for number, each in enumerate(checks.array(value or [], param, most=MOST_FILES)):
        place = f"{param}[{number}]"
        given = known(each, ("file_id", "tools"), place)
        if given.get("file_id") is None:
            raise checks.missing(f"{place}.file_id")
        tools = [
            checks.one_of(
                checks.mapping(tool, f"{place}.tools").get("type"),
                f"{place}.tools.type",
                ("code_interpreter", "file_search"),
            )
            for tool in checks.array(given.get("tools") or [], f"{place}.tools", most=2)
        ]
        found.setdefault(file_id(given["file_id"], f"{place}.file_id"), tools)
    return found


def _text(text: str) -> Part:
    return Part(kind=parts.TEXT, content={"text": text})


def _content(value: Any, param: str) -> Part:
    piece = checks.mapping(value, param)
    if piece.get("type") is None:
        raise checks.missing(f"{param}.type")
    kind = checks.one_of(piece["type"], f"{param}.type", ("text", "image_file", "image_url"))
    if kind == "text":
        text = piece.get("text")
        if isinstance(text, Mapping):  # as it is told again
            text = checks.mapping(text, f"{param}.text").get("value")
        return _text(checks.text(text, f"{param}.text", most=MOST_CHARS))
    if piece.get(kind) is None:
        raise checks.missing(f"{param}.{kind}")
    image = checks.mapping(piece[kind], f"{param}.{kind}")
    detail = checks.one_of(image.get("detail") or "auto", f"{param}.{kind}.detail", _DETAILS)
    if kind == "image_file":
        row_id = naming.row_id(file_id(image.get("file_id"), f"{param}.image_file.file_id"), naming.FILE)
        return Part(kind=parts.IMAGE, content={"file_id": row_id, "detail": detail})
    url = checks.text(image.get("url"), f"{param}.image_url.url", most=MOST_CHARS)
    if not url.startswith(("https://", "data:image/")):
        raise FieldError(
            f"Invalid '{param}.image_url.url': an https URL or a data URL of an image is expected.",
            param=f"{param}.image_url.url",
            wire_code="invalid_image_url",
        )
    return Part(kind=parts.IMAGE, content={"url": url, "detail": detail})
