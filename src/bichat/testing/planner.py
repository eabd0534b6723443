"""A planner that plays a script, for tests of what stands above planners."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence

from bichat.conversation.planner import (
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    Turn,
    TurnEnded,
    TurnEvent,
)

#: What a turn of a script is made of: what is said, an error that is raised, something that is waited for.
Step = TurnEvent | Exception | Callable[[], Awaitable[object]]


class ScriptedPlanner:
    """Plays one list of steps for each turn, in order, and keeps what it was asked.

    It is every model at once: `planner` gives itself.
    """

    name = "scripted"

    def __init__(self, turns: Iterable[Sequence[Step]], *, sees_images: bool = False) -> None:
        """One turn more than these is an `IndexError`."""
        self._turns = list(turns)
        self.sees_images = sees_images
        self.by_text: dict[str, Sequence[Step]] = {}
        """Turns for what was said last, whenever it is: these go before those in order."""
        self.asked: list[Turn] = []
        """All turns that were begun."""

    @property
    def names(self) -> tuple[str, ...]:
        """See `Planners.names`."""
        return (self.name,)

    def planner(self, model: str) -> ScriptedPlanner:  # noqa: ARG002  # it is all of them
        """See `Planners.planner`."""
        return self

    async def turn(self, turn: Turn) -> AsyncGenerator[TurnEvent]:
        """See `Planner.turn`."""
        self.asked.append(turn)
        for step in self._steps(turn):
            if isinstance(step, Exception):
                raise step
            if callable(step):
                await step()
            else:
                yield step

    def _steps(self, turn: Turn) -> Sequence[Step]:
        last = turn.history[-1].parts[0].content.get("text", "") if turn.history else ""
        return self.by_text[last] if last in self.by_text else self._turns[len(self.asked) - 1]


def says(*texts: str, output_tokens: int = 1) -> list[Step]:
    """A turn that ends with an answer."""
    return [*map(TextDelta, texts), TurnEnded("stop", input_tokens=10, output_tokens=output_tokens)]


def calls(name: str, *arguments: str, call_id: str = "call_1") -> list[Step]:
    """A turn that is one call of a tool."""
    deltas = [ToolCallDelta(call_id, text) for text in arguments]
    return [ToolCallBegun(call_id, name), *deltas, TurnEnded("tool_calls", input_tokens=10, output_tokens=5)]
