"""What was said before, as a planner is given it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import zip_longest
from typing import Any, Final, cast

from bichat.conversation import parts
from bichat.conversation.planner import PlannerError
from bichat.conversation.request import Bounds
from bichat.errors import NotFoundError, UserInputError
from bichat.repository.chat_repository import ChatRepository
from bichat.repository.records import Conversation, Message, Part, Role

#: In a conversation's metadata: where it was forked off, `conversation_id` and `run_id`.
PARENT: Final = "parent"
#: Forks of forks that are followed.
_MOST_FORKS: Final = 1000
_UNKNOWN: Final = "(What came of this is not known: the answer ended before it did.)"
_NO_RESULT: Final = "(No result was given.)"
_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A part of the way back: what was said in one conversation until a moment."""

    conversation: Conversation
    until: datetime | None


async def load(
    repository: ChatRepository,
    conversation: Conversation,
    *,
    inputs: Sequence[Message] = (),
    bounds: Bounds,
    truncates: bool,
) -> list[Message]:
    """All that was said in a conversation, and before it was forked off, oldest first; what is half said is left out.

    Args:
        repository: where it is recorded.
        conversation: one that is recorded, or a fork that is not yet.
        inputs: what is said now, and is not recorded yet.
        bounds: `history_items`, `history_chars`.
        truncates: whether the oldest are left out where there are more; a call is never kept without its result.

    Raises:
        PlannerError: `context_too_long`: there are more, and `truncates` is false.
        UserInputError: one of `inputs` is the result of a call that is not there.
    """
    found = list(reversed(inputs))
    chars = sum(map(_length, inputs))
    async for message in _backwards(repository, conversation):
        if message.status == "in_progress":
            continue
        chars += _length(message)
        if len(found) >= bounds.history_items or chars > bounds.history_chars:
            if truncates:
                break
            raise PlannerError(
                f"what was said so far is more than {bounds.history_items:,} items "
                f"or {bounds.history_chars:,} characters",
                reason="context_too_long",
                remedy='Begin a new conversation, or ask with truncation "auto".',
            )
        found.append(message)
    found.reverse()
    _check_calls(inputs, found)
    return list(_answered(found))


async def _backwards(repository: ChatRepository, conversation: Conversation) -> AsyncGenerator[Message]:
    """Messages, newest first, through forks."""
    tenant = conversation.tenant
    stretch: _Stretch | None = _Stretch(conversation, None)
    for _ in range(_MOST_FORKS):
        if stretch is None:
            return
        async for message in _said(repository, stretch.conversation):
            if stretch.until is None or message.created_at <= stretch.until:
                yield message
        stretch = await _parent(repository, tenant, stretch.conversation)


async def _said(repository: ChatRepository, conversation: Conversation) -> AsyncGenerator[Message]:
    """Of one conversation, newest first; nothing of one that is not recorded."""
    cursor = ""
    with suppress(NotFoundError):
        while True:
            page = await repository.messages.page(conversation.tenant, conversation.id, limit=_PAGE, cursor=cursor)
            for message in page.items:
                yield message
            cursor = page.next_cursor
            if not cursor:
                return


async def _parent(repository: ChatRepository, tenant: str, conversation: Conversation) -> _Stretch | None:
    parent = conversation.metadata.get(PARENT)
    if not parent:
        return None
    try:
        run = await repository.runs.get(tenant, parent["run_id"])
        return _Stretch(await repository.conversations.get(tenant, run.conversation_id), run.ended_at)
    except NotFoundError:
        return None  # it was deleted, and with it what was said


def _check_calls(inputs: Sequence[Message], messages: Iterable[Message]) -> None:
    called = {_call_id(message) for message in messages if _kind(message) == parts.TOOL_CALL}
    for message in inputs:
        if _kind(message) == parts.TOOL_RESULT and _call_id(message) not in called:
            raise UserInputError(f"there is no call with the call_id {_call_id(message)!r}", stage="input")


def _answered(messages: Sequence[Message]) -> Iterable[Message]:
    """With their results right behind the calls of a turn, and no results of calls that were left out: providers refuse
    others.
    """
    results = _results(messages)
    due: list[Message] = []
    for message, following in zip_longest(messages, messages[1:]):
        match _kind(message):
            case parts.TOOL_RESULT:
                continue
            case parts.CODE:
                yield _told(message)
            case parts.TOOL_CALL:
                yield message
                due.append(results.get(message.id) or _without_result(message))
            case _:
                yield message
        if not made_at_once(message, following):
            yield from due
            due.clear()


def made_at_once(call: Message, following: Message | None) -> bool:
    """Whether both are calls of one turn: what a turn took (`usage`) stands in its last item.

    Of those that a caller sends as input, code calls have their results in them, and are turns of their own.
    """
    if following is None or call.run_id != following.run_id or call.is_input != following.is_input:
        return False
    kinds = {_kind(call), _kind(following)}
    return (
        kinds <= ({parts.TOOL_CALL} if call.is_input else {parts.TOOL_CALL, parts.CODE})
        and "usage" not in call.metadata
    )


def _results(messages: Sequence[Message]) -> dict[str, Message]:
    """The result of each call, by the id of the call's message: models use the names that they give calls again."""
    found: dict[str, Message] = {}
    behind: dict[str, Message] = {}
    for message in reversed(messages):
        if _kind(message) == parts.TOOL_RESULT:
            behind[_call_id(message)] = message
        elif _kind(message) == parts.TOOL_CALL and (result := behind.pop(_call_id(message), None)) is not None:
            found[message.id] = result
    return found


def unanswered(messages: Sequence[Message]) -> list[Message]:
    """Calls of tools, oldest first, that have no result behind them."""
    answered = _results(messages)
    return [message for message in messages if _kind(message) == parts.TOOL_CALL and message.id not in answered]


def latest(history: Sequence[Message], count: int | None, *, run_id: str) -> list[Message]:
    """What was said from the last `count` messages on, with what was done between them; and all of the run's own."""
    if count is None:
        return list(history)
    said = [
        place
        for place, message in enumerate(history)
        if _kind(message) in (parts.TEXT, parts.REFUSAL, parts.IMAGE, parts.FILE)
        and (message.is_input or message.run_id != run_id)
    ]
    start = said[-count] if len(said) >= count else 0
    return [message for place, message in enumerate(history) if place >= start or message.run_id == run_id]


def _told(message: Message) -> Message:
    content = message.parts[0].content
    if content.get("told"):
        return message
    return replace(message, parts=(Part(kind=parts.CODE, content={**content, "told": told_of(content)}),))


def told_of(content: Mapping[str, Any]) -> str:
    """What a model is told of a code call that is replayed by a caller, or that nobody saw the end of."""
    logs = [output["logs"] for output in content.get("outputs") or () if output.get("type") == "logs"]
    return "\n".join(logs) or _UNKNOWN


def _without_result(call: Message) -> Message:
    content = {"call_id": _call_id(call), "output": _NO_RESULT}
    return replace(call, role=Role.USER, parts=(Part(kind=parts.TOOL_RESULT, content=content),))


def _kind(message: Message) -> str:
    return message.parts[0].kind if message.parts else parts.TEXT


def _call_id(message: Message) -> str:
    return str(message.parts[0].content.get("call_id", ""))


def _length(message: Message) -> int:
    return sum(_chars(part.content) for part in message.parts)


def _chars(value: Any) -> int:
    if isinstance(value, str):
        return 0 if value.startswith("data:") else len(value)  # a file's bytes are no text
    if isinstance(value, Mapping):
        return sum(map(_chars, cast("Mapping[str, Any]", value).values()))
    if isinstance(value, Sequence):
        return sum(map(_chars, cast("Sequence[Any]", value)))
    return 0
