"""The events of a run, by kind: what its streams are made of.

kind               payload
run.started        nothing
item.added         `item`: as `item_payload`; in progress, a text empty, a code call with its session and no code
text.delta         `item`: its id; `delta`: more of its text
reasoning.delta    the same
code.delta         the same: more of a code call's code
arguments.delta    the same: more of another call's arguments
code.running       `item`, `code`: all of it; it begins to run
code.output        `item`, `stream` (`stdout` or `stderr`), `text`: as it is printed
code.shown         `item`, `mime_types`: of what was displayed; `text`: what stands for it among the output
item.done          `item`: as `item_payload`, with its last status and all its parts
run.waiting        `calls`: list of `call_id`, `name`, `arguments`; until the caller gives what came of them
run.ended          `state`, `error`, `usage`; always the last one.  Made from the run's row when it is read, so that it
                   also comes where the process has died that should have written it

They are numbered from 1, and stand in the database before anybody sees them.
"""

from __future__ import annotations

from typing import Any, Final

from bichat.repository.records import Message, Part, Run, RunEvent

RUN_STARTED: Final = "run.started"
ITEM_ADDED: Final = "item.added"
TEXT_DELTA: Final = "text.delta"
REASONING_DELTA: Final = "reasoning.delta"
CODE_DELTA: Final = "code.delta"
ARGUMENTS_DELTA: Final = "arguments.delta"
CODE_RUNNING: Final = "code.running"
CODE_OUTPUT: Final = "code.output"
CODE_SHOWN: Final = "code.shown"
ITEM_DONE: Final = "item.done"
RUN_WAITING: Final = "run.waiting"
RUN_ENDED: Final = "run.ended"


def item_payload(message: Message) -> dict[str, Any]:
    """A message as an event has it."""
    return {
        "id": message.id,
        "role": message.role.value,
        "status": message.status,
        "kind": message.parts[0].kind if message.parts else "text",
        "parts": [{"kind": part.kind, "content": dict(part.content)} for part in message.parts],
        "metadata": dict(message.metadata),
        "created_at": message.created_at.isoformat(),
    }


def parts_of(payload: dict[str, Any]) -> tuple[Part, ...]:
    """The parts in what `item_payload` gave."""
    return tuple(Part(kind=part["kind"], content=part["content"]) for part in payload["parts"])


def ended(run: Run, sequence: int) -> RunEvent:
    """The last event of a run that is over."""
    payload = {"state": run.state.value, "error": run.error, "usage": dict(run.usage)}
    return RunEvent(sequence=sequence, kind=RUN_ENDED, payload=payload)
