"""Items of OpenAI's wire, as they are made of our messages."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final, cast

from bichat.conversation import parts
from bichat.conversation.run_events import item_payload
from bichat.repository.records import Message
from bichat.server import naming

Json = Mapping[str, Any]

#: Values of `include` that change what is shown.
OUTPUTS: Final = "code_interpreter_call.outputs"
ENCRYPTED: Final = "reasoning.encrypted_content"
#: Ours: events of live output.
LIVE_OUTPUT: Final = "bichat.live_output"

#: Keys of a message's metadata: what its caller called its role, and the container of a replayed call that is not ours.
ROLE_NOTE: Final = "role"
CONTAINER_NOTE: Final = "container_id"
_STATUSES: Final[Mapping[str, str]] = {"interpreting": "in_progress", "failed": "incomplete"}
_SEALED: Final = "bichat1."
_PREFIXES: Final = {
    parts.CODE: naming.CODE_CALL,
    parts.REASONING: naming.REASONING,
    parts.TOOL_CALL: naming.FUNCTION_CALL,
    parts.TOOL_RESULT: naming.FUNCTION_OUTPUT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """What of an item is shown."""

    include: frozenset[str] = frozenset()
    images: Mapping[str, str] = field(default_factory=dict[str, str])
    """Data URLs of displayed images, by the id of their output; one that is not there is left out."""

    @property
    def has_outputs(self) -> bool:
        """Whether what calls of the code interpreter printed and displayed is shown."""
        return OUTPUTS in self.include


def item_of(message: Message, rendering: Rendering) -> dict[str, Any] | None:
    """The item that a message is; None for what only the model sees."""
    return render(item_payload(message), rendering)


def is_hidden(payload: Json) -> bool:
    """Whether only the model sees it: calls of tools on our side that are not the code interpreter, and their results."""
    return bool(payload.get("metadata", {}).get("internal"))


def wire_id(payload: Json) -> str:
    """The item's id on the wire."""
    return naming.on_wire(_PREFIXES.get(payload["kind"], naming.MESSAGE), payload["id"])


def images_of(payload: Json) -> list[str]:
    """Ids of the outputs that `outputs` of a code call shows as images."""
    if payload["kind"] != parts.CODE:
        return []
    outputs: Sequence[Json] = payload["parts"][0]["content"].get("outputs") or ()
    return [output["output_id"] for output in outputs if _is_image(output)]


def render(payload: Json, rendering: Rendering) -> dict[str, Any] | None:
    """The item in what `bichat.conversation.run_events.item_payload` gives of a message; None as `item_of`."""
    if is_hidden(payload):
        return None
    content: Json = payload["parts"][0]["content"] if payload["parts"] else {}
    match payload["kind"]:
        case parts.CODE:
            return _code_call(payload, content, rendering)
        case parts.REASONING:
            return _reasoning(payload, content, rendering)
        case parts.TOOL_CALL:
            return {
                "id": wire_id(payload),
                "type": "function_call",
                "status": status_of(payload),
                "arguments": content["arguments"],
                "call_id": content["call_id"],
                "name": content["name"],
            }
        case parts.TOOL_RESULT:
            return {
                "id": wire_id(payload),
                "type": "function_call_output",
                "status": status_of(payload),
                "call_id": content["call_id"],
                "output": _result(content["output"]),
            }
        case _:
            return _message(payload)


def status_of(payload: Json) -> str:
    """`in_progress`, `completed` or `incomplete`."""
    status: str = payload["status"]
    return _STATUSES.get(status, status)


def _message(payload: Json) -> dict[str, Any]:
    is_answer = payload["role"] == "assistant"
    # An answer that has only begun has no content yet: its part is added by an event of its own.
    pieces: Sequence[Json] = [] if is_answer and payload["status"] == "in_progress" else payload["parts"]
    role = payload.get("metadata", {}).get(ROLE_NOTE) or payload["role"]
    return {
        "id": wire_id(payload),
        "type": "message",
        "status": status_of(payload),
        "content": [content_part(part, is_answer=is_answer) for part in pieces],
        "role": role,
    }


def content_part(part: Json, *, is_answer: bool = True) -> dict[str, Any]:
    """A piece of a message."""
    content: Json = part["content"]
    match part["kind"]:
        case parts.REFUSAL:
            return {"type": "refusal", "refusal": content["text"]}
        case parts.IMAGE:
            return {
                "type": "input_image",
                "detail": content.get("detail") or "auto",
                "file_id": naming.on_wire(naming.FILE, content.get("file_id") or "") or None,
                "image_url": content.get("url"),
            }
        case parts.FILE:
            return {
                "type": "input_file",
                "file_id": naming.on_wire(naming.FILE, content.get("file_id") or "") or None,
                "filename": content.get("name"),
                "file_data": content.get("data"),
            }
        case _ if is_answer:
            return {
                "type": "output_text",
                "annotations": [*map(annotation, content.get("citations") or ()), *(content.get("annotations") or ())],
                "logprobs": [],
                "text": content["text"],
            }
        case _:
            return {"type": "input_text", "text": content["text"]}


def annotation(citation: Json) -> dict[str, Any]:
    """A file that an answer names, or that belongs to it: `bichat.conversation.parts.Citation` as JSON."""
    file_id = naming.on_wire(naming.CONTAINER_FILE, citation["output_id"])
    return {
        "type": "container_file_citation",
        "container_id": naming.on_wire(naming.CONTAINER, citation["session_id"]),
        "end_index": citation["end"],
        "file_id": file_id,
        "filename": _file_name(citation, file_id),
        "start_index": citation["start"],
    }


def _file_name(citation: Json, file_id: str) -> str:
    """What was only displayed has no name that code could find it under, and is called after its id."""
    name = PurePosixPath(citation["name"])
    return f"{file_id}{name.suffix}" if citation.get("is_shown") else name.name or file_id


def _code_call(payload: Json, content: Json, rendering: Rendering) -> dict[str, Any]:
    # What a caller said of a call of his own is told as it was said; it names nothing here.
    given = payload.get("metadata", {}).get(CONTAINER_NOTE)
    container = given or naming.on_wire(naming.CONTAINER, content.get("session_id") or "")
    return {
        "id": wire_id(payload),
        "type": "code_interpreter_call",
        "status": payload["status"],
        "code": content.get("code", ""),
        "container_id": container,
        "outputs": _outputs(content, rendering) if rendering.has_outputs else None,
    }


def _outputs(content: Json, rendering: Rendering) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for output in content.get("outputs") or ():
        if output["type"] == "logs":
            found.append({"type": "logs", "logs": output["logs"]})
        elif _is_image(output) and output["output_id"] in rendering.images:
            found.append({"type": "image", "url": rendering.images[output["output_id"]]})
    return found


def _is_image(output: Json) -> bool:
    return (
        output["type"] == "image"
        and bool(output.get("output_id"))
        and str(output.get("mime_type")).startswith("image/")
    )


def _result(output: str | Sequence[Json]) -> str | list[dict[str, Any]]:
    if isinstance(output, str):
        return output
    kinds = [parts.IMAGE if piece.get("url") else parts.TEXT for piece in output]
    return [
        content_part({"kind": kind, "content": piece}, is_answer=False)
        for kind, piece in zip(kinds, output, strict=True)
    ]


def _reasoning(payload: Json, content: Json, rendering: Rendering) -> dict[str, Any]:
    text = content.get("text") or ""
    is_done = payload["status"] != "in_progress"
    return {
        "id": wire_id(payload),
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": text}] if text and is_done else [],
        "content": None,
        "encrypted_content": sealed(content) if is_done and ENCRYPTED in rendering.include else None,
        "status": status_of(payload),
    }


def sealed(content: Json) -> str:
    """A piece of reasoning, with what the provider wants back, as text that a caller returns unread."""
    raw = json.dumps({"text": content.get("text") or "", "provider": content.get("provider") or {}})
    return _SEALED + base64.urlsafe_b64encode(raw.encode()).decode("ascii")


def unsealed(sealed_text: str) -> dict[str, Any] | None:
    """What `sealed` was given; None where the text is not from there."""
    if not sealed_text.startswith(_SEALED):
        return None
    try:
        found: Any = json.loads(base64.b64decode(sealed_text[len(_SEALED) :], altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    values = cast("dict[str, Any]", found)
    text, provider = values.get("text"), values.get("provider")
    return {"text": text, "provider": provider} if isinstance(text, str) and isinstance(provider, dict) else None


__all__: Sequence[str] = [
    "ENCRYPTED",
    "LIVE_OUTPUT",
    "OUTPUTS",
    "Rendering",
    "annotation",
    "content_part",
    "images_of",
    "is_hidden",
    "item_of",
    "render",
    "sealed",
    "status_of",
    "unsealed",
    "wire_id",
]
