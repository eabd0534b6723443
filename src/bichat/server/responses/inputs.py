"""What goes into a response: items of OpenAI's wire, read as what the conversation core takes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from bichat.conversation import parts
from bichat.conversation.request import Said
from bichat.repository.records import Part, Role
from bichat.server import checks, naming
from bichat.server.problems import FieldError
from bichat.server.responses.items import CONTAINER_NOTE, ROLE_NOTE, unsealed

Json = Mapping[str, Any]

#: Items in one request.
MOST_ITEMS: Final = 10_000
_MOST_CHARS: Final = 10_485_760
#: Contents of all items together: each is a row.
_MOST_PARTS: Final = 20_000
_ROLES: Final = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM, "developer": Role.SYSTEM}
_STATUSES: Final = ("in_progress", "completed", "incomplete")


@dataclass(frozen=True, slots=True)
class Reference:
    """An item that is on record already, by the id of its row."""

    row_id: str
    wire_id: str
    param: str
    replayed: Said | None = None
    """What is taken where there is no such row; None makes that an error."""


def read_input(value: Any, param: str = "input") -> list[Said | Reference]:
    """The items in `input`: text, or a list of items.

    Raises:
        FieldError: something is not as it must be, or of a kind that is not served; names the place.
    """
    if isinstance(value, str):
        checks.text(value, param, most=_MOST_CHARS)
        return [Said(role=Role.USER, parts=(_text(value),))]
    items = checks.array(value, param, most=MOST_ITEMS)
    read = [_item(item, f"{param}[{number}]") for number, item in enumerate(items)]
    count = sum(len(each.parts) for each in read if isinstance(each, Said))
    if count > _MOST_PARTS:
        raise FieldError(
            f"Invalid '{param}': at most {_MOST_PARTS:,} parts are taken, these are {count:,}.", param=param
        )
    return read


def _item(value: Any, param: str) -> Said | Reference:
    item = checks.mapping(value, param)
    kind = item.get("type")
    if kind is None:
        if "role" in item:
            kind = "message"
        elif isinstance(item.get("id"), str):
            kind = "item_reference"
        else:
            raise checks.missing(f"{param}.type")
    checks.text(kind, f"{param}.type")
    match kind:
        case "message":
            return _message(item, param)
        case "reasoning":
            return _reasoning(item, param)
        case "code_interpreter_call":
            return _code_call(item, param)
        case "function_call":
            return _function_call(item, param)
        case "function_call_output":
            return _function_output(item, param)
        case "item_reference":
            return _reference(item, param)
        case _:
            raise FieldError(
                f"Invalid value at {param}: items of the type {kind[:100]!r} are not served here. Served are message, "
                "reasoning, code_interpreter_call, function_call, function_call_output and item_reference.",
                param=f"{param}.type",
            )


def _reference(item: Json, param: str) -> Reference:
    given = checks.text(item.get("id"), f"{param}.id")
    return Reference(naming.row_id(given, *naming.ITEMS), given, f"{param}.id")


def _status(item: Json, param: str, allowed: Sequence[str] = _STATUSES) -> str:
    status = item.get("status")
    if status is None:
        return "completed"
    checks.one_of(status, f"{param}.status", allowed)
    # What is replayed does not go on: what was half done stays so.
    return "incomplete" if status in ("in_progress", "interpreting") else status


# ------------------------------------------------------------------------------------------------------------ messages


def _message(item: Json, param: str) -> Said:
    if "role" not in item:
        raise checks.missing(f"{param}.role")
    role = checks.one_of(item["role"], f"{param}.role", tuple(_ROLES))
    if "content" not in item:
        raise checks.missing(f"{param}.content")
    content = item["content"]
    if isinstance(content, str):
        pieces = [_text(content)]
    else:
        found = checks.array(content, f"{param}.content", most=1000)
        pieces = [_content(piece, f"{param}.content[{number}]") for number, piece in enumerate(found)]
    if role == "assistant" and any(piece.kind in (parts.IMAGE, parts.FILE) for piece in pieces):
        raise FieldError(f"Invalid '{param}.content': an assistant says text only.", param=f"{param}.content")
    return Said(
        role=_ROLES[role],
        parts=tuple(pieces or [_text("")]),
        status=_status(item, param),
        metadata={ROLE_NOTE: role} if role == "developer" else {},
    )


def _text(text: str) -> Part:
    return Part(kind=parts.TEXT, content={"text": text})


def _content(value: Any, param: str) -> Part:
    piece = checks.mapping(value, param)
    match piece.get("type"):
        case "input_text" | "text":
            return _text(checks.text(piece.get("text"), f"{param}.text", most=_MOST_CHARS))
        case "output_text":
            return _output_text(piece, param)
        case "refusal":
            return Part(kind=parts.REFUSAL, content={"text": checks.text(piece.get("refusal"), f"{param}.refusal")})
        case "input_image":
            return _image(piece, param)
        case "input_file":
            return _file(piece, param)
        case None:
            raise checks.missing(f"{param}.type")
        case kind:
            checks.text(kind, f"{param}.type")
            raise FieldError(
                f"Invalid value at {param}: content of the type {kind[:100]!r} is not served here. Served are "
                "input_text, input_image, input_file, output_text and refusal.",
                param=f"{param}.type",
            )


def _output_text(piece: Json, param: str) -> Part:
    text = checks.text(piece.get("text"), f"{param}.text", most=_MOST_CHARS)
    citations: list[dict[str, Any]] = []
    others: list[Json] = []
    for number, given in enumerate(checks.array(piece.get("annotations") or [], f"{param}.annotations", most=2000)):
        place = f"{param}.annotations[{number}]"
        note = checks.mapping(given, place)
        citation = _citation(note, text, place) if note.get("type") == "container_file_citation" else None
        if citation is not None:
            citations.append(citation)
        else:
            others.append(note)
    content: dict[str, Any] = {"text": text, "citations": citations}
    return Part(kind=parts.TEXT, content=content | ({"annotations": others} if others else {}))


def _citation(note: Json, text: str, param: str) -> dict[str, Any] | None:
    """A file of ours; None for one of somebody else's."""
    output_id = naming.row_id(str(note.get("file_id")), naming.CONTAINER_FILE)
    session_id = naming.row_id(str(note.get("container_id")), naming.CONTAINER)
    if not output_id or not session_id:
        return None
    start = checks.integer(note.get("start_index", 0), f"{param}.start_index", least=0, most=len(text))
    end = checks.integer(note.get("end_index", 0), f"{param}.end_index", least=0, most=len(text))
    cited = parts.Citation(
        output_id=output_id,
        session_id=session_id,
        name=checks.text(note.get("filename"), f"{param}.filename", most=4096),
        mime_type="",
        text=text[start:end],
        start=start,
        end=end,
    )
    return cited.to_dict()


def _image(piece: Json, param: str) -> Part:
    detail = piece.get("detail")
    if detail is not None:
        checks.one_of(detail, f"{param}.detail", ("auto", "low", "high", "original"))
    content: dict[str, Any] = {"detail": detail or "auto"}
    if piece.get("file_id") is not None:
        return Part(kind=parts.IMAGE, content=content | {"file_id": file_row(piece["file_id"], f"{param}.file_id")})
    url = checks.text(piece.get("image_url"), f"{param}.image_url", most=64 * 1024 * 1024)
    if not url.startswith(("data:image/", "https://")):
        raise FieldError(
            f"Invalid '{param}.image_url': a data URL of an image or an https URL is expected.",
            param=f"{param}.image_url",
            wire_code="invalid_image_url",
        )
    if url.startswith("data:"):
        head, _, data = url.partition(",")
        if not head.endswith(";base64"):
            raise FieldError(f"Invalid '{param}.image_url': the data is not base64.", param=f"{param}.image_url")
        _check_base64(data, f"{param}.image_url")
    return Part(kind=parts.IMAGE, content=content | {"url": url})


def _file(piece: Json, param: str) -> Part:
    if piece.get("file_id") is not None:
        content = {"file_id": file_row(piece["file_id"], f"{param}.file_id")}
        if piece.get("filename") is not None:
            content["name"] = checks.text(piece["filename"], f"{param}.filename", most=1000)
        return Part(kind=parts.FILE, content=content)
    if piece.get("file_url") is not None:
        raise FieldError(
            f"Invalid '{param}.file_url': this server fetches nothing from addresses that it is given. Upload the file "
            "and give its file_id.",
            param=f"{param}.file_url",
        )
    data = checks.text(piece.get("file_data"), f"{param}.file_data", most=64 * 1024 * 1024)
    name = checks.text(piece.get("filename") or "file", f"{param}.filename", most=1000)
    _, _, encoded = data.rpartition(",") if data.startswith("data:") else ("", "", data)
    _check_base64(encoded, f"{param}.file_data")
    return Part(kind=parts.FILE, content={"data": data, "name": name})


def _check_base64(data: str, param: str) -> None:
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FieldError(f"Invalid '{param}': the data is not base64.", param=param) from error


def file_row(value: Any, param: str) -> str:
    """The row's id of an uploaded file; whether there is such a row is found out later."""
    given = checks.text(value, param)
    found = naming.row_id(given, naming.FILE)
    if not found:
        raise FieldError(f"No such File object: {given[:100]}", param=param, wire_code=None)
    return found


# --------------------------------------------------------------------------------------------------------- other items


def _reasoning(item: Json, param: str) -> Said:
    content: dict[str, Any] | None = None
    if item.get("encrypted_content") is not None:
        content = unsealed(checks.text(item["encrypted_content"], f"{param}.encrypted_content"))
    if content is None:
        texts = [
            checks.text(
                checks.mapping(piece, f"{param}.{name}[{number}]").get("text"), f"{param}.{name}[{number}].text"
            )
            for name in ("summary", "content")
            for number, piece in enumerate(checks.array(item.get(name) or [], f"{param}.{name}", most=1000))
        ]
        content = {"text": "\n\n".join(texts), "provider": {}}
    return Said(role=Role.ASSISTANT, parts=(Part(kind=parts.REASONING, content=content),), status=_status(item, param))


def _code_call(item: Json, param: str) -> Said | Reference:
    container = checks.text(item.get("container_id") or "", f"{param}.container_id", most=200)
    session_id = naming.row_id(container, naming.CONTAINER)
    logs: list[dict[str, Any]] = []
    for number, given in enumerate(checks.array(item.get("outputs") or [], f"{param}.outputs", most=1000)):
        output = checks.mapping(given, f"{param}.outputs[{number}]")
        kind = checks.one_of(output.get("type"), f"{param}.outputs[{number}].type", ("logs", "image"))
        if kind == "logs":
            logs.append({"type": "logs", "logs": checks.text(output.get("logs"), f"{param}.outputs[{number}].logs")})
    given = checks.text(item.get("id") or "", f"{param}.id", most=200)
    content = {
        "call_id": f"call_{uuid4().hex}",
        "code": checks.text(item.get("code") or "", f"{param}.code", most=_MOST_CHARS),
        "session_id": session_id,
        "execution_id": "",
        "outputs": logs,
        "files": [],
        "error": None,
    }
    said = Said(
        role=Role.ASSISTANT,
        parts=(Part(kind=parts.CODE, content=content),),
        status=_status(item, param, (*_STATUSES, "interpreting", "failed")),
        metadata={CONTAINER_NOTE: container} if container and not session_id else {},
    )
    row_id = naming.row_id(given, naming.CODE_CALL)
    return Reference(row_id, given, f"{param}.id", said) if row_id else said


def _function_call(item: Json, param: str) -> Said:
    content = {
        "call_id": checks.text(item.get("call_id"), f"{param}.call_id", most=200),
        "name": checks.text(item.get("name"), f"{param}.name", most=128),
        "arguments": checks.text(item.get("arguments"), f"{param}.arguments", most=_MOST_CHARS),
    }
    return Said(role=Role.ASSISTANT, parts=(Part(kind=parts.TOOL_CALL, content=content),), status=_status(item, param))


def _function_output(item: Json, param: str) -> Said:
    output = item.get("output")
    if isinstance(output, list):
        found = checks.array(output, f"{param}.output", most=1000)
        result: Any = [_result(piece, f"{param}.output[{number}]") for number, piece in enumerate(found)]
    else:
        result = checks.text(output, f"{param}.output", most=_MOST_CHARS)
    content = {"call_id": checks.text(item.get("call_id"), f"{param}.call_id", most=200), "output": result}
    return Said(role=Role.USER, parts=(Part(kind=parts.TOOL_RESULT, content=content),), status=_status(item, param))


def _result(value: Any, param: str) -> Json:
    """A piece of what came of a function: text, or an image by its URL."""
    piece = _content(value, param)
    if piece.kind != parts.TEXT and not piece.content.get("url"):
        raise FieldError(
            f"Invalid value at {param}: outputs of functions are text and images by image_url.", param=f"{param}.type"
        )
    return dict(piece.content)
