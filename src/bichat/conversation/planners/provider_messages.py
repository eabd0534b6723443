"""What was said before, as `pydantic-ai` wants it: calls that a model made at once stand in one message, as they did."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final, cast
from urllib.parse import unquote_to_bytes

from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)

from bichat.conversation import parts
from bichat.conversation.history import made_at_once
from bichat.conversation.planner import PlannerError
from bichat.conversation.request import CODE_TOOL
from bichat.repository.records import Message, Part, Role

Json = Mapping[str, Any]

_UNSEEN: Final = "(An image, which this model cannot see.)"
_SHOWN: Final = "(What the code above displayed:)"
_IMAGE_TYPES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


@dataclass(frozen=True, slots=True)
class Sight:
    """Which images reach the model."""

    sees_images: bool
    takes_urls: bool
    """Whether `https:` addresses are passed on, for the provider to fetch.  Nothing is ever fetched on our side."""


def model_messages(history: Sequence[Message], sight: Sight) -> list[ModelMessage]:
    """All of a history, in its order.

    Raises:
        PlannerError: `refused`: an image has an address that is not passed on, or is none.
    """
    said: list[ModelMessage] = []
    names: dict[str, str] = {}
    due: list[ModelRequestPart | ModelResponsePart] = []
    for message, following in zip_longest(history, history[1:]):
        for part in _pieces(message, sight, names):
            # What came of a call stands behind all calls that were made at once with it.
            if _is_code(message) and not isinstance(part, ToolCallPart):
                due.append(part)
            else:
                _append(said, part)
        if not made_at_once(message, following):
            for part in due:
                _append(said, part)
            due.clear()
    return said


def _is_code(message: Message) -> bool:
    return bool(message.parts) and message.parts[0].kind == parts.CODE


def _append(said: list[ModelMessage], part: ModelRequestPart | ModelResponsePart) -> None:
    """To the last message where it is of the same side."""
    last = said[-1] if said else None
    if isinstance(part, (TextPart, ThinkingPart, ToolCallPart)):
        if isinstance(last, ModelResponse) and not _follows_call(last, part):
            last.parts = [*last.parts, part]
        else:
            said.append(ModelResponse(parts=[part]))
    elif isinstance(last, ModelRequest):
        last.parts = [*last.parts, cast("ModelRequestPart", part)]
    else:
        said.append(ModelRequest(parts=[cast("ModelRequestPart", part)]))


def _follows_call(last: ModelResponse, part: ModelResponsePart) -> bool:
    return bool(last.parts) and isinstance(last.parts[-1], ToolCallPart) and not isinstance(part, ToolCallPart)


def _pieces(message: Message, sight: Sight, names: dict[str, str]) -> Iterable[ModelRequestPart | ModelResponsePart]:
    """`names`: of the tools that were called so far, by the call's id."""
    first = message.parts[0] if message.parts else Part(kind="", content={})
    content = first.content
    match first.kind:
        case parts.CODE:
            yield from _code(str(content.get("call_id") or message.id), content, sight)
        case parts.TOOL_CALL:
            names[content["call_id"]] = content["name"]
            yield ToolCallPart(content["name"], content.get("arguments") or "{}", content["call_id"])
        case parts.TOOL_RESULT:
            text, images = _result(content.get("output", ""), sight)
            yield ToolReturnPart(names.get(content["call_id"], "tool"), text, content["call_id"])
            if images:
                yield UserPromptPart(images)
        case parts.REASONING:
            if content.get("text") or content.get("provider"):
                yield ThinkingPart(content.get("text", ""), **_provider_data(content.get("provider") or {}))
        case _:
            yield from _said(message, sight)


def _code(call_id: str, content: Json, sight: Sight) -> Iterable[ModelRequestPart | ModelResponsePart]:
    yield ToolCallPart(CODE_TOOL, json.dumps({"code": content.get("code", "")}, ensure_ascii=False), call_id)
    yield ToolReturnPart(CODE_TOOL, str(content.get("told", "")), call_id)
    if sight.sees_images and (shown := [_image(url, "", sight) for url in content.get("shown", ())]):
        yield UserPromptPart([_SHOWN, *shown])


def _said(message: Message, sight: Sight) -> Iterable[ModelRequestPart | ModelResponsePart]:
    """Empty texts are left out: some providers refuse them."""
    texts = [text for part in message.parts if (text := part.content.get("text"))]
    if message.role == Role.USER:
        said = [piece for part in message.parts if (piece := _user_piece(part, sight))]
        if said:
            yield UserPromptPart(said[0] if len(said) == 1 and isinstance(said[0], str) else said)
    elif texts:
        yield TextPart("".join(texts)) if message.role == Role.ASSISTANT else SystemPromptPart("\n".join(texts))


def _provider_data(provider: Json) -> dict[str, Any]:
    return {
        name: provider[name] for name in ("id", "signature", "provider_name", "provider_details") if name in provider
    }


def _user_piece(part: Part, sight: Sight) -> UserContent:
    match part.kind:
        case parts.IMAGE:
            return _image(str(part.content.get("url", "")), str(part.content.get("detail") or ""), sight)
        case parts.FILE:
            return f"(A file: {part.content.get('name') or 'without a name'}.)"
        case _:
            return str(part.content.get("text", ""))


def _result(output: object, sight: Sight) -> tuple[str, list[UserContent]]:
    """Text of a tool's result, and its images: most providers take nothing but text there."""
    if isinstance(output, str):
        return output, []
    texts: list[str] = []
    images: list[UserContent] = []
    for each in cast("Sequence[Json]", output):
        url = each.get("url") or each.get("image_url")
        if url:
            images.append(_image(str(url), str(each.get("detail") or ""), sight))
        else:
            texts.append(str(each.get("text", "")))
    return "\n".join(texts), images


def _image(url: str, detail: str, sight: Sight) -> UserContent:
    if not sight.sees_images or not url:
        return _UNSEEN
    metadata = {"detail": detail} if detail else None
    if url.startswith("data:"):
        kind, data = _data(url)
        return BinaryContent(data, media_type=kind, vendor_metadata=metadata)
    if url.startswith("https://") and sight.takes_urls:
        return ImageUrl(url, force_download=False, vendor_metadata=metadata)
    raise PlannerError(
        "an image's address is not passed on to this provider",
        reason="refused",
        remedy="Upload the image, or send it as a data: URL.",
    )


def _data(url: str) -> tuple[str, bytes]:
    head, _, body = url.removeprefix("data:").partition(",")
    kind, _, coding = head.lower().partition(";")
    try:
        data = base64.b64decode(unquote_to_bytes(body), validate=True)
    except binascii.Error:
        data = b""
    if not data or kind not in _IMAGE_TYPES or not coding.endswith("base64"):
        raise PlannerError(
            "an image is not base64 of PNG, JPEG, GIF or WebP", reason="refused", remedy="Send it as one of those."
        )
    return kind, data
