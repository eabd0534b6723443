"""The port to what a model may call, and that runs on our side."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from bichat.conversation.planner import ToolSpec

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a tool, and whose it is."""

    tenant: str
    user: str
    conversation_id: str
    run_id: str
    message_id: str
    """Of the item that the call is; its row is there."""
    call_id: str
    """The model's name for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Something that happened during a call: an event of its run."""

    kind: str
    payload: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The last piece of news of every call.  A call that failed for a reason that the model can mend has one too."""

    told: str
    """What the model is told, bounded; the same whoever listens."""
    content: Json = field(default_factory=dict[str, Any])
    """What its part holds beside what it had from the start."""
    shown: tuple[str, ...] = ()
    """Images as data URLs, for models that see."""
    is_ok: bool = True
    notes: Json = field(default_factory=dict[str, Any])
    """What goes into the run's metadata."""


class Tool(Protocol):
    """Made for one run."""

    @property
    def spec(self) -> ToolSpec:
        """As models are told of it."""
        ...

    @property
    def kind(self) -> Literal["code", "tool_call"]:
        """Kind of the part that a call of it is (`bichat.conversation.parts`); one tool at most is `code`."""
        ...

    async def instructions(self) -> str:
        """What models are told beside its description; may be empty."""
        ...

    async def begin(self, call: Call) -> Json:
        """A call has begun, its arguments are still being written: what its part holds from the start.

        Raises:
            BichatError: the run cannot go on.
        """
        ...

    async def interrupt(self) -> bool:
        """Have the call that is carried out end soon, with an `Outcome` of what had come of it; whether it will."""
        ...

    def call(self, call: Call, arguments: str) -> AsyncGenerator[Progress | Outcome]:
        """Carry it out; the last is an `Outcome`.  Closing it, or cancelling whoever waits, ends the work at once.

        Args:
            call: the one that was begun.
            arguments: as the model wrote them: JSON, or what it took for it.

        Raises:
            BichatError: the platform could not do its part, and the run cannot go on.
        """
        ...
