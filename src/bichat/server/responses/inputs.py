"""What goes into a response: items of OpenAI's wire, read as what the conversation core takes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from bichat.conversation import parts
from bichat.conversation.request import Said
from bichat.repository.records import Part, Role
from bichat.server import checks, naming
from bichat.server.problems import FieldError
from bichat.server.responses.items import CONTAINER_NOTE, ROLE_NOTE, unsealed
from bichat.server.schemas import ANY_OBJECT, Array, Choice, Either, Id, Object, Refused, Text, Variants
from bichat.sizes import MIB

Json = Mapping[str, Any]

#: Items in one request.
MOST_ITEMS: Final = 10_000
_MOST_CHARS: Final = 10_485_760
#: Contents of all items together: each is a row.
_MOST_PARTS: Final = 20_000
_ROLES: Final = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM, "developer": Role.SYSTEM}
_STATUSES: Final = ("in_progress", "completed", "incomplete")
_STATUS: Final = Choice(_STATUSES)
_WORDS: Final = Text(most=_MOST_CHARS)
_SAYS: Final = Object(fields={"text": _WORDS}, required=("text",), is_open=True)
_BYTES: Final = Text(most=64 * MIB)

_URL: Final = Text(
    most=64 * MIB,
    pattern=r"(https://|data:image/)[\s\S]*",
    problem="a data URL of an image or an https URL is expected",
    wire_code="invalid_image_url",
)
_DETAIL: Final = Choice(("auto", "low", "high", "original"))
#: What may stand in a message; fields that are not named are taken and have no effect.
CONTENT: Final = Variants(
    what="content",
    name="InputContent",
    told_kinds=("input_text", "input_image", "input_file", "output_text", "refusal"),
    kinds={
        "input_text": _SAYS,
        "text": _SAYS,
        "output_text": Object(
            fields={"text": _WORDS, "annotations": Array(ANY_OBJECT, 2000)}, required=("text",), is_open=True
        ),
        "refusal": Object(fields={"refusal": _WORDS}, required=("refusal",), is_open=True),
        "input_image": Object(
            fields={
                "detail": _DETAIL,
                "file_id": Id((naming.FILE,)),
                "image_url": _URL,
            },
            one_of=("file_id", "image_url"),
            is_open=True,
        ),
        "input_file": Object(
            fields={
                "file_id": Id((naming.FILE,)),
                "file_data": _BYTES,
                "filename": Text(most=1000),
                "file_url": Refused(
                    "this server fetches nothing from addresses that it is given; upload the file and give its file_id"
                ),
            },
            one_of=("file_id", "file_data"),
            is_open=True,
        ),
    },
)
_PIECES: Final = Array(CONTENT, 1000)
_RESULTS: Final = Array(
    Variants(
        what="outputs of functions",
        kinds={
            **{name: CONTENT.kinds[name] for name in ("input_text", "text", "output_text")},
            "input_image": Object(
                fields={
                    "detail": _DETAIL,
                    "file_id": Refused("images in outputs of functions are given by image_url"),
                    "image_url": _URL,
                },
                required=("image_url",),
                is_open=True,
            ),
        },
    ),
    1000,
)
_THOUGHTS: Final = Array(Object(fields={"text": _WORDS}, required=("text",), is_open=True), 1000)
_OUTPUT: Final = Variants(
    what="outputs",
    kinds={"logs": Object(fields={"logs": Text()}, required=("logs",), is_open=True), "image": ANY_OBJECT},
)
#: What is said in a conversation.
ITEM: Final = Variants(
    what="items",
    name="InputItem",
    implied={"role": "message", "id": "item_reference"},
    kinds={
        "message": Object(
            fields={"role": Choice(tuple(_ROLES)), "content": Either((_WORDS, _PIECES)), "status": _STATUS},
            required=("role", "content"),
            is_open=True,
        ),
        "reasoning": Object(
            fields={"encrypted_content": Text(), "summary": _THOUGHTS, "content": _THOUGHTS, "status": _STATUS},
            is_open=True,
        ),
        "code_interpreter_call": Object(
            fields={
                "id": Text(most=200),
                "code": _WORDS,
                "container_id": Text(most=200),
                "outputs": Array(_OUTPUT, 1000),
                "status": Choice((*_STATUSES, "interpreting", "failed")),
            },
            is_open=True,
        ),
        "function_call": Object(
            fields={"call_id": Text(most=200), "name": Text(most=128), "arguments": _WORDS, "status": _STATUS},
            required=("call_id", "name", "arguments"),
            is_open=True,
        ),
        "function_call_output": Object(
            fields={"call_id": Text(most=200), "output": Either((_RESULTS, _WORDS)), "status": _STATUS},
            required=("call_id", "output"),
            is_open=True,
        ),
        "item_reference": Object(fields={"id": Text()}, required=("id",), is_open=True),
    },
)
#: Text, or items.
INPUT: Final = Either((_WORDS, Array(ITEM, MOST_ITEMS)))


@dataclass(frozen=True, slots=True)
class Reference:
    """An item that is on record already, by the id of its row."""

    row_id: str
    wire_id: str
    param: str
    replayed: Said | None = None
    """What is taken where there is no such row; None makes that an error."""


def read_input(value: Any, param: str = "input") -> list[Said | Reference]:
    """The items in `input`, which is as `INPUT` takes it.

    Raises:
        FieldError: something in it cannot be; names the place.
    """
    if isinstance(value, str):
        return [Said(role=Role.USER, parts=(_text(value),))]
    read = [_item(item, f"{param}[{number}]") for number, item in enumerate(value)]
    count = sum(len(each.parts) for each in read if isinstance(each, Said))
    if count > _MOST_PARTS:
        raise FieldError(
            f"Invalid '{param}': at most {_MOST_PARTS:,} parts are taken, these are {count:,}.", param=param
        )
    return read


def _item(item: Json, param: str) -> Said | Reference:
    match ITEM.kind_of(item):
        case "message":
            return _message(item, param)
        case "reasoning":
            return _reasoning(item)
        case "code_interpreter_call":
            return _code_call(item, param)
        case "function_call":
            return _function_call(item)
        case "function_call_output":
            return _function_output(item, param)
        case _:
            return Reference(naming.row_id(item["id"], *naming.ITEMS), item["id"], f"{param}.id")


def _status(item: Json) -> str:
    status = item.get("status") or "completed"
    # What is replayed does not go on: what was half done stays so.
    return "incomplete" if status in ("in_progress", "interpreting") else status


# ------------------------------------------------------------------------------------------------------------ messages


def _message(item: Json, param: str) -> Said:
    role, content = item["role"], item["content"]
    if isinstance(content, str):
        pieces = [_text(content)]
    else:
        pieces = [_content(piece, f"{param}.content[{number}]") for number, piece in enumerate(content)]
    if role == "assistant" and any(piece.kind in (parts.IMAGE, parts.FILE) for piece in pieces):
        raise FieldError(f"Invalid '{param}.content': an assistant says text only.", param=f"{param}.content")
    return Said(
        role=_ROLES[role],
        parts=tuple(pieces or [_text("")]),
        status=_status(item),
        metadata={ROLE_NOTE: role} if role == "developer" else {},
    )


def _text(text: str) -> Part:
    return Part(kind=parts.TEXT, content={"text": text})


def _content(piece: Json, param: str) -> Part:
    match piece["type"]:
        case "output_text":
            return _output_text(piece, param)
        case "refusal":
            return Part(kind=parts.REFUSAL, content={"text": piece["refusal"]})
        case "input_image":
            return _image(piece, param)
        case "input_file":
            return _file(piece, param)
        case _:
            return _text(piece["text"])


def _output_text(piece: Json, param: str) -> Part:
    text = piece["text"]
    citations: list[dict[str, Any]] = []
    others: list[Json] = []
    for number, note in enumerate(piece.get("annotations") or ()):
        place = f"{param}.annotations[{number}]"
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
    content: dict[str, Any] = {"detail": piece.get("detail") or "auto"}
    if piece.get("file_id") is not None:
        return Part(kind=parts.IMAGE, content=content | {"file_id": file_row(piece["file_id"], f"{param}.file_id")})
    url = piece["image_url"]
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
            content["name"] = piece["filename"]
        return Part(kind=parts.FILE, content=content)
    data = piece["file_data"]
    _, _, encoded = data.rpartition(",") if data.startswith("data:") else ("", "", data)
    _check_base64(encoded, f"{param}.file_data")
    return Part(kind=parts.FILE, content={"data": data, "name": piece.get("filename") or "file"})


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


def _reasoning(item: Json) -> Said:
    content: dict[str, Any] | None = unsealed(item.get("encrypted_content") or "")
    if content is None:
        texts = [piece["text"] for name in ("summary", "content") for piece in item.get(name) or ()]
        content = {"text": "\n\n".join(texts), "provider": {}}
    return Said(role=Role.ASSISTANT, parts=(Part(kind=parts.REASONING, content=content),), status=_status(item))


def _code_call(item: Json, param: str) -> Said | Reference:
    container = item.get("container_id") or ""
    session_id = naming.row_id(container, naming.CONTAINER)
    outputs = item.get("outputs") or ()
    content = {
        "call_id": f"call_{uuid4().hex}",
        "code": item.get("code") or "",
        "session_id": session_id,
        "execution_id": "",
        "outputs": [{"type": "logs", "logs": each["logs"]} for each in outputs if each["type"] == "logs"],
        "files": [],
        "error": None,
    }
    said = Said(
        role=Role.ASSISTANT,
        parts=(Part(kind=parts.CODE, content=content),),
        status=_status(item),
        metadata={CONTAINER_NOTE: container} if container and not session_id else {},
    )
    given = item.get("id") or ""
    row_id = naming.row_id(given, naming.CODE_CALL)
    return Reference(row_id, given, f"{param}.id", said) if row_id else said


def _function_call(item: Json) -> Said:
    content = {name: item[name] for name in ("call_id", "name", "arguments")}
    return Said(role=Role.ASSISTANT, parts=(Part(kind=parts.TOOL_CALL, content=content),), status=_status(item))


def _function_output(item: Json, param: str) -> Said:
    result: Any = item["output"]
    if not isinstance(result, str):
        pieces = [_content(piece, f"{param}.output[{number}]") for number, piece in enumerate(item["output"])]
        result = [dict(piece.content) for piece in pieces]
    content: Json = {"call_id": item["call_id"], "output": result}
    return Said(role=Role.USER, parts=(Part(kind=parts.TOOL_RESULT, content=content),), status=_status(item))
