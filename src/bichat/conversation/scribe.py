"""The items that come out of a run: each a message from its first word on, and events as it grows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from bichat.conversation import parts, run_events
from bichat.conversation.journal import Journal
from bichat.repository.moments import utc_now
from bichat.repository.records import Message, Part, Role, Run

Json = Mapping[str, Any]

#: In the metadata of what a run made: when it was done, in ISO 8601; beside it may stand `usage`, what its turn took.
ENDED_AT: Final = "ended_at"

_DELTAS: Final = {
    parts.TEXT: run_events.TEXT_DELTA,
    parts.REASONING: run_events.REASONING_DELTA,
    parts.CODE: run_events.CODE_DELTA,
    parts.TOOL_CALL: run_events.ARGUMENTS_DELTA,
}
#: The member of each kind's content that grows.
_GROWING: Final = {parts.TEXT: "text", parts.REASONING: "text", parts.CODE: "code", parts.TOOL_CALL: "arguments"}


@dataclass(slots=True)
class OpenItem:
    """An item that is being made."""

    message: Message
    kind: str
    content: dict[str, Any]
    pieces: list[str] = field(default_factory=list[str])
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    """What its message's metadata has when it is done, beside what that had from the start."""

    @property
    def id(self) -> str:
        """Of its message."""
        return self.message.id

    @property
    def grown(self) -> str:
        """What has been added to it so far."""
        return "".join(self.pieces)


class Scribe:
    """Of one run."""

    def __init__(self, journal: Journal, run: Run) -> None:
        self._journal = journal
        self._run = run
        self._open: dict[str, OpenItem] = {}
        self.made: list[Message] = []
        """Items that are done, in the order in which they were."""

    async def begin(
        self, kind: str, content: Json, *, role: Role = Role.ASSISTANT, metadata: Json | None = None
    ) -> OpenItem:
        """An item that grows from now on."""
        message = Message(
            tenant=self._run.tenant,
            conversation_id=self._run.conversation_id,
            role=role,
            author=self._run.model if role is Role.ASSISTANT else "",
            parts=(Part(kind=kind, content=content),),
            run_id=self._run.id,
            status="in_progress",
            metadata=metadata or {},
        )
        item = OpenItem(message, kind, dict(content))
        self._open[item.id] = item
        await self._journal.note(run_events.ITEM_ADDED, {"item": run_events.item_payload(message)}, message)
        return item

    async def grow(self, item: OpenItem, delta: str) -> None:
        """More of it."""
        if delta:
            item.pieces.append(delta)
            await self._journal.note(_DELTAS[item.kind], {"item": item.id, "delta": delta})

    async def done(self, item: OpenItem, content: Json | None = None, *, status: str = "completed") -> Message:
        """It is whole: with what grew of it, unless `content` says otherwise, and with the rest of `content`."""
        whole = {**item.content, _GROWING.get(item.kind, ""): item.grown, **(content or {})}
        whole.pop("", None)
        metadata = {**item.message.metadata, **item.metadata, ENDED_AT: utc_now().isoformat()}
        part = Part(kind=item.kind, content=whole)
        message = replace(item.message, parts=(part,), status=status, metadata=metadata)
        self._open.pop(item.id, None)
        self.made.append(message)
        await self._journal.note(run_events.ITEM_DONE, {"item": run_events.item_payload(message)}, message)
        return message

    async def add(
        self, kind: str, content: Json, *, role: Role = Role.ASSISTANT, metadata: Json | None = None
    ) -> Message:
        """An item that is whole from the start."""
        return await self.done(await self.begin(kind, content, role=role, metadata=metadata), content)

    async def leave(self) -> None:
        """What is half done stays so, with all that there is of it: `incomplete`."""
        for item in tuple(self._open.values()):
            await self.done(item, status="incomplete")
