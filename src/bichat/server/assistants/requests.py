"""What requests of the Assistants API ask for: every field is carried out, without effect here, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bichat.agent.toolbox import TOOLS as TOOLS_OF_FILE
from bichat.conversation import parts
from bichat.conversation.request import Said
from bichat.repository.records import Part, Role
from bichat.server import naming
from bichat.server.assistants.tools import (
    FILE,
    FILES,
    MOST_FILES,
    RESOURCES,
    RESPONSE_FORMAT,
    TOOLS,
    Resources,
    file_id,
    read_file_ids,
    read_resources,
    read_tools,
)
from bichat.server.problems import FieldError
from bichat.server.responses.requests import EFFORT, MODEL, TEMPERATURE, TOP_P
from bichat.server.schemas import Array, Choice, Either, Ignored, Metadata, Object, Schema, Text, Variants

Json = Mapping[str, Any]

#: In a message's metadata: the caller's own.
METADATA: Final = "metadata"
#: Characters of instructions, and of a message; messages of one request.
MOST_INSTRUCTIONS: Final = 256_000
MOST_CHARS: Final = 10_485_760
MOST_MESSAGES: Final = 1000
WORDS: Final = Text(most=MOST_CHARS)
INSTRUCTIONS: Final = Text(most=MOST_INSTRUCTIONS)
_DETAIL: Final = Choice(("auto", "low", "high"))
_CONTENT: Final = Variants(
    what="content",
    name="MessageContent",
    kinds={
        "text": Object(
            # Or as it is told again.
            fields={"text": Either((Object(fields={"value": WORDS}, required=("value",), is_open=True), WORDS))},
            required=("text",),
            is_open=True,
        ),
        "image_file": Object(
            fields={
                "image_file": Object(fields={"file_id": FILE, "detail": _DETAIL}, required=("file_id",), is_open=True)
            },
            required=("image_file",),
            is_open=True,
        ),
        "image_url": Object(
            fields={
                "image_url": Object(
                    fields={
                        "url": Text(
                            most=MOST_CHARS,
                            pattern=r"(https://|data:image/)[\s\S]*",
                            problem="an https URL or a data URL of an image is expected",
                            wire_code="invalid_image_url",
                        ),
                        "detail": _DETAIL,
                    },
                    required=("url",),
                    is_open=True,
                )
            },
            required=("image_url",),
            is_open=True,
        ),
    },
)
_ATTACHED: Final = Object(
    fields={
        "file_id": FILE,
        "tools": Array(
            Object(
                fields={"type": Choice(("code_interpreter", "file_search"))},
                required=("type",),
                is_open=True,
            ),
            2,
        ),
    },
    required=("file_id",),
)
#: Fields that are taken and have no effect, of every request.
_TAKEN: Final[Mapping[str, Schema]] = {"include": Ignored()}
IGNORED: Final = frozenset(_TAKEN)
#: What may be said in the place of an assistant, too.
SAMPLED: Final[Mapping[str, Schema]] = {
    "reasoning_effort": EFFORT,
    "response_format": RESPONSE_FORMAT,
    "temperature": TEMPERATURE,
    "top_p": TOP_P,
}
ASSISTANT_CHANGE: Final = Object(
    name="AssistantChange",
    fields={
        "description": Text(most=512),
        "file_ids": FILES,
        "instructions": INSTRUCTIONS,
        "metadata": Metadata(),
        "model": MODEL,
        "name": Text(most=256),
        "tool_resources": RESOURCES,
        "tools": TOOLS,
        **SAMPLED,
        **_TAKEN,
    },
)
ASSISTANT: Final = Object(name="AssistantRequest", fields=ASSISTANT_CHANGE.fields, required=("model",))
MESSAGE: Final = Object(
    name="MessageRequest",
    fields={
        "attachments": Array(_ATTACHED, MOST_FILES),
        "content": Either((WORDS, Array(_CONTENT, MOST_MESSAGES))),
        "file_ids": FILES,
        "metadata": Metadata(),
        "role": Choice(("user", "assistant")),
        **_TAKEN,
    },
    required=("role", "content"),
)
MESSAGES: Final = Array(MESSAGE, MOST_MESSAGES)
THREAD_CHANGE: Final = Object(
    name="ThreadChange", fields={"metadata": Metadata(), "tool_resources": RESOURCES, **_TAKEN}
)
THREAD: Final = Object(name="ThreadRequest", fields={**THREAD_CHANGE.fields, "messages": MESSAGES})
#: Fields that are carried out; there are no others.
ASSISTANT_FIELDS: Final = ASSISTANT.fields.keys() - IGNORED
THREAD_FIELDS: Final = THREAD.fields.keys() - IGNORED
MESSAGE_FIELDS: Final = MESSAGE.fields.keys() - IGNORED
#: For messages and runs.
METADATA_CHANGE: Final = Object(fields={"metadata": Metadata(), **_TAKEN}, name="MetadataChange")


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
    given = checked(body, ASSISTANT if is_new else ASSISTANT_CHANGE)
    fields: dict[str, Any] = {name: given[name] for name in ("name", "description", "instructions") if name in given}
    if given.get("model") is not None:
        fields["model"] = given["model"]
    if "tools" in given:
        fields["tools"] = list(read_tools(given["tools"] or ()).echo)
    if "metadata" in given:
        fields["metadata"] = given["metadata"] or {}
    fields |= read_sampled(given)
    resources = None
    if given.get("tool_resources") is not None or given.get("file_ids"):
        resources = read_resources(given.get("tool_resources") or {}, file_ids=given.get("file_ids") or ())
    return AssistantAsk(fields=fields, resources=resources)


def checked(body: Any, schema: Object, param: str = "") -> Json:
    """The body itself.

    Raises:
        FieldError: it is not as the schema has it.
    """
    schema.check(body, param)
    return body


def read_sampled(given: Json) -> dict[str, Any]:
    """Fields that say how a model is to answer, as they are told again; null where null was given."""
    return {name: given[name] for name in SAMPLED if name in given}


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
    given = checked(body, THREAD if is_new else THREAD_CHANGE, param)
    before = f"{param}." if param else ""
    resources = None
    if given.get("tool_resources") is not None:
        resources = read_resources(given["tool_resources"], f"{before}tool_resources")
    return ThreadAsk(
        messages=read_messages(given.get("messages"), f"{before}messages"),
        metadata=given["metadata"] or {} if "metadata" in given else None,
        resources=resources,
    )


def read_messages(given: Sequence[Json] | None, param: str) -> list[Said]:
    """Messages of a thread, oldest first, which are as `MESSAGES` takes them; null is none.

    Raises:
        FieldError: one cannot be.
    """
    return [_said(each, f"{param}[{number}]") for number, each in enumerate(given or ())]


def read_message(body: Any) -> Said:
    """A message of a thread: its content, then a file for each attachment.

    Raises:
        FieldError: it is not as it must be.
    """
    return _said(checked(body, MESSAGE), "")


def _said(given: Json, param: str) -> Said:
    before = f"{param}." if param else ""
    role, content = given["role"], given["content"]
    if isinstance(content, str):
        pieces = [_text(content)]
    else:
        pieces = [_content(each, f"{before}content[{number}]") for number, each in enumerate(content)]
    if not any(piece.kind != parts.TEXT or piece.content["text"] for piece in pieces):
        raise FieldError("Message content must be non-empty.", param=f"{before}content")
    if role == "assistant" and any(piece.kind != parts.TEXT for piece in pieces):
        raise FieldError("An assistant says text only.", param=f"{before}content")
    files = _attachments(given.get("attachments") or (), f"{before}attachments")
    for each in read_file_ids(given.get("file_ids") or (), f"{before}file_ids"):
        files.setdefault(each, ["code_interpreter"])
    pieces += [
        Part(kind=parts.FILE, content={"file_id": naming.row_id(each, naming.FILE), TOOLS_OF_FILE: tools})
        for each, tools in files.items()
    ]
    metadata = given.get("metadata")
    return Said(role=Role(role), parts=tuple(pieces), metadata={METADATA: metadata} if metadata else {})


def _attachments(given: Sequence[Json], param: str) -> dict[str, list[str]]:
    """Files by their ids, and the tools that each is for."""
    found: dict[str, list[str]] = {}
    for number, each in enumerate(given):
        tools = [tool["type"] for tool in each.get("tools") or ()]
        found.setdefault(file_id(each["file_id"], f"{param}[{number}].file_id"), tools)
    return found


def _text(text: str) -> Part:
    return Part(kind=parts.TEXT, content={"text": text})


def _content(piece: Json, param: str) -> Part:
    kind = piece["type"]
    if kind == "text":
        text = piece["text"]
        return _text(text if isinstance(text, str) else text["value"])
    image: Json = piece[kind]
    detail = image.get("detail") or "auto"
    if kind == "image_file":
        row_id = naming.row_id(file_id(image["file_id"], f"{param}.image_file.file_id"), naming.FILE)
        return Part(kind=parts.IMAGE, content={"file_id": row_id, "detail": detail})
    return Part(kind=parts.IMAGE, content={"url": image["url"], "detail": detail})
