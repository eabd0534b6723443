"""The port to what decides the next step: given what was said, more text, reasoning, and calls of tools.

A planner runs nothing and stores nothing.  One call of `turn` is one request to a model; the loop carries out the calls
that come out of it, and asks again with their results.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from bichat.errors import BichatError
from bichat.repository.records import Message

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool as a model is told of it."""

    name: str
    """Letters, digits, `_` and `-`, 64 at most."""
    description: str = ""
    parameters: Json = field(default_factory=lambda: {"type": "object", "properties": {}})
    """JSON Schema of an object."""
    is_strict: bool | None = None
    """Whether arguments must match the schema exactly; None leaves it to the provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a model is to answer; None leaves it to the provider."""

    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    """`none`, `minimal`, `low`, `medium`, `high`, or what else the provider knows."""
    text_format: Json | None = None
    """OpenAI's `text.format` of the Responses API: `{"type": "json_schema", "name", "schema", "strict"}`, `{"type": "json_object"}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a planner is asked."""

    model: str
    """The name that the caller asked for."""
    instructions: str = ""
    """System text, ours and the caller's."""
    history: Sequence[Message] = ()
    """What was said, oldest first: see `bichat.conversation.parts`."""
    tools: Sequence[ToolSpec] = ()
    tool_choice: str = "auto"
    """`auto`, `none`, `required`, or the name of the one tool that must be called."""
    sampling: Sampling = Sampling()
    is_first: bool = True
    """Whether nothing has been planned in this run yet."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of what the model says of its thinking."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningEnded:
    """A piece of reasoning is whole; what the provider wants back with the history, opaque to us."""

    provider: Json = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class ToolCallBegun:
    """A call of a tool begins; its arguments follow."""

    call_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of a call's arguments: pieces of JSON text, or of whatever the model writes in its place."""

    call_id: str
    text: str


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The last event of every turn."""

    finish: Literal["stop", "tool_calls", "length", "content_filter"]
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    model: str = ""
    """What answered, as the provider calls it."""


TurnEvent = TextDelta | ReasoningDelta | ReasoningEnded | ToolCallBegun | ToolCallDelta | TurnEnded


class PlannerError(BichatError):
    """The model did not do its part.  No code has run for this turn.

    `reason` is stable: `not_configured` (no provider), `no_code` (`local-python` was given prose), `unauthorized`,
    `rate_limited`, `quota_exceeded`, `unavailable`, `timeout`, `refused` (the provider takes the request for a bad one),
    `context_too_long`, `cut_off` (the stream broke off), `malformed` (what came is no answer).
    """

    code = "model_failed"

    def __init__(
        self, message: str, *, reason: str, retry_after_s: float | None = None, remedy: str = "", stage: str = "model"
    ) -> None:
        super().__init__(message, stage=stage, remedy=remedy)
        self.reason = reason
        self.retry_after_s = retry_after_s

    def to_dict(self) -> dict[str, Any]:
        """As of every error, `reason`, and `retry_after_s` where that is known."""
        wait = {} if self.retry_after_s is None else {"retry_after_s": self.retry_after_s}
        return {**super().to_dict(), "reason": self.reason, **wait}


class Planner(Protocol):
    """Safe for any number of turns at a time."""

    @property
    def name(self) -> str:
        """What it is: `local-python`, or the provider's model as configured (`openai:gpt-4o`)."""
        ...

    @property
    def sees_images(self) -> bool:
        """Whether images in the history reach the model."""
        ...

    def turn(self, turn: Turn) -> AsyncGenerator[TurnEvent]:
        """One turn as it is made; the last event is `TurnEnded`.  Closing it ends the request.

        Deltas of text and of reasoning come one after the other, never mixed: text, reasoning and calls each are ended by
        the next thing that begins.  Deltas of several calls may be mixed.

        Raises:
            PlannerError: it could not be made, or broke off.
        """
        ...


class Planners(Protocol):
    """Which planner answers to a model's name."""

    def planner(self, model: str) -> Planner:
        """The one for this name.

        Raises:
            PlannerError: `not_configured`: the name is not `local-python`, and there is no provider.
        """
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """What `GET /v1/models` lists: `local-python`, and the configured model's name."""
        ...
