"""Steps of a run, as they are made of its items: one for each message, each execution of code, each round of functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from bichat.conversation import parts
from bichat.conversation.scribe import ENDED_AT
from bichat.repository.records import Run, RunState
from bichat.server import naming
from bichat.server.assistants.objects import is_message, last_error, seconds, usage
from bichat.server.assistants.run_requests import LIVES_S

Json = Mapping[str, Any]

#: What becomes of a step that is not done when its run ends.
_LEFT: Final = {RunState.CANCELLED: "cancelled", RunState.EXPIRED: "expired", RunState.FAILED: "failed"}
_INTERRUPTED: Final = "the code was ended before it was done"


@dataclass(slots=True)
class Step:
    """Of the items that it is made of, each as `run_events.item_payload` gives it."""

    items: list[Json]
    results: dict[str, Json] = field(default_factory=dict[str, Json])
    """What came of functions, by the id of the call's item: the item of the result."""

    @property
    def id(self) -> str:
        """On the wire."""
        return naming.on_wire(naming.STEP, self.items[0]["id"])

    @property
    def row_id(self) -> str:
        """Of its first item."""
        return self.items[0]["id"]

    @property
    def created_at(self) -> datetime:
        """Likewise."""
        return datetime.fromisoformat(self.items[0]["created_at"])

    @property
    def kind(self) -> str:
        """Of its first item."""
        return self.items[0]["kind"]

    @property
    def is_functions(self) -> bool:
        """Whether it is what its caller carries out."""
        return self.kind == parts.TOOL_CALL

    @property
    def is_message(self) -> bool:
        """Whether it is the making of a message."""
        return is_message(self.items[0])


def steps_of(items: Sequence[Json]) -> list[Step]:
    """The steps in a run's items, oldest first."""
    steps: list[Step] = []
    joins = False
    for item in items:
        kind = item["kind"]
        if item["metadata"].get("internal") or kind == parts.REASONING:
            continue
        if kind == parts.TOOL_RESULT:
            _answer(steps, item)
            joins = False
        elif kind == parts.TOOL_CALL and joins:
            steps[-1].items.append(item)
        else:
            steps.append(Step([item]))
            joins = kind == parts.TOOL_CALL
    return steps


def _answer(steps: Sequence[Step], result: Json) -> None:
    call_id = result["parts"][0]["content"]["call_id"]
    for step in reversed(steps):
        for call in step.items if step.is_functions else ():
            if call["parts"][0]["content"]["call_id"] == call_id and call["id"] not in step.results:
                step.results[call["id"]] = result
                return


def step_object(step: Step, run: Run, *, is_new: bool = False) -> dict[str, Any]:
    """A step; `is_new`: as it is when it has only begun."""
    status = "in_progress" if is_new else _status(step, run)
    ended = seconds(_ended_at(step))
    run_ended = seconds(run.ended_at) or ended
    is_going_on = status == "in_progress"
    return {
        "id": step.id,
        "object": "thread.run.step",
        "created_at": seconds(datetime.fromisoformat(step.items[0]["created_at"])),
        "run_id": naming.on_wire(naming.RUN, run.id),
        "assistant_id": run.request.get("view", {}).get("assistant_id", ""),
        "thread_id": naming.on_wire(naming.THREAD, run.conversation_id),
        "type": "message_creation" if step.is_message else "tool_calls",
        "status": status,
        "cancelled_at": run_ended if status == "cancelled" else None,
        "completed_at": ended if status == "completed" else None,
        "expired_at": run_ended if status == "expired" else None,
        "expires_at": seconds(run.created_at + timedelta(seconds=LIVES_S)) if is_going_on else None,
        "failed_at": ended if status == "failed" else None,
        "last_error": _error(step, run) if status == "failed" else None,
        "step_details": _details(step, is_new=is_new),
        "usage": None if is_going_on else _usage(step),
        "metadata": {},
    }


def _status(step: Step, run: Run) -> str:
    if step.is_functions:
        if all(item["id"] in step.results for item in step.items):
            return "completed"
    else:
        status = step.items[0]["status"]
        if status in ("completed", "failed"):
            return status
    if not run.state.is_final:
        return "in_progress"
    # The wire has no word for a step that came to a limit.
    return _LEFT.get(run.state, "completed" if step.is_message else "failed")


def _ended_at(step: Step) -> datetime:
    ends = [item["metadata"].get(ENDED_AT) or item["created_at"] for item in (*step.items, *step.results.values())]
    return max(map(datetime.fromisoformat, ends))


def _error(step: Step, run: Run) -> dict[str, Any]:
    if run.state is RunState.FAILED and step.items[0]["status"] != "failed":
        return last_error(run)
    told = step.items[0]["parts"][0]["content"].get("told") or _INTERRUPTED
    return {"code": "server_error", "message": told[-500:]}


def _usage(step: Step) -> dict[str, Any]:
    counted: dict[str, int] = {}
    for item in step.items:
        taken: dict[str, int] = item["metadata"].get("usage") or {}
        for name, count in taken.items():
            counted[name] = counted.get(name, 0) + count
    return usage(counted)


def _details(step: Step, *, is_new: bool) -> dict[str, Any]:
    if step.is_message:
        message_id = naming.on_wire(naming.MESSAGE, step.items[0]["id"])
        return {"type": "message_creation", "message_creation": {"message_id": message_id}}
    calls = [] if is_new else [call_object(item, step.results.get(item["id"])) for item in step.items]
    return {"type": "tool_calls", "tool_calls": calls}


def call_object(item: Json, result: Json | None = None) -> dict[str, Any]:
    """A call of the code interpreter, or of a function with what came of it."""
    content: Json = item["parts"][0]["content"]
    if item["kind"] == parts.CODE:
        return {
            "id": call_id(item),
            "type": "code_interpreter",
            "code_interpreter": {"input": content.get("code", ""), "outputs": outputs(content)},
        }
    output = None if result is None else result["parts"][0]["content"]["output"]
    return {
        "id": call_id(item),
        "type": "function",
        "function": {"name": content["name"], "arguments": content["arguments"], "output": output},
    }


def call_id(item: Json) -> str:
    """The model's own name for a function's call; of the code interpreter's one that no other has."""
    content: Json = item["parts"][0]["content"]
    return naming.on_wire(naming.CALL, item["id"]) if item["kind"] == parts.CODE else content["call_id"]


def outputs(content: Json) -> list[dict[str, Any]]:
    """What a call of the code interpreter printed and displayed."""
    found: list[dict[str, Any]] = []
    for output in content.get("outputs") or ():
        if output["type"] == "logs":
            found.append({"type": "logs", "logs": output["logs"]})
        elif output.get("output_id") and str(output.get("mime_type")).startswith("image/"):
            image = {"file_id": naming.on_wire(naming.FILE, output["output_id"])}
            found.append({"type": "image", "image": image})
    return found
