"""The fold of a run's events into a stream of the Assistants API, against the client's own types and its own merging."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.lib.streaming._assistants import accumulate_event, accumulate_run_step
from openai.types.beta import AssistantStreamEvent
from pydantic import TypeAdapter

from bichat.agent.code_interpreter import LOGGED_CHARS
from bichat.conversation.request import RunRequest
from bichat.repository.records import Run, RunEvent, RunState
from bichat.server.assistants.events import RunStream

IDS = [f"0192f3a4-0000-7000-8000-{number:012x}" for number in range(1, 9)]
TYPES: TypeAdapter[AssistantStreamEvent] = TypeAdapter(AssistantStreamEvent)
MOMENT = "2026-01-01T00:00:00+00:00"


def a_run(state=RunState.COMPLETED, error=None):
    request = RunRequest(model="m", view={"kind": "run", "assistant_id": "asst_1", "echo": {}})
    return Run(tenant="t", conversation_id=IDS[0], state=state, model="m", request=request.to_dict(), error=error)


def item(number, kind, content, status="completed", **metadata):
    return {
        "id": IDS[number],
        "role": "assistant",
        "status": status,
        "kind": kind,
        "parts": [{"kind": kind, "content": content}],
        "metadata": metadata,
        "created_at": MOMENT,
    }


def begun(number, kind, content, **metadata):
    return "item.added", {"item": item(number, kind, content, "in_progress", **metadata)}


def done(number, kind, content, status="completed", **metadata):
    return "item.done", {"item": item(number, kind, content, status, **metadata)}


def delta(kind, number, text):
    return f"{kind}.delta", {"item": IDS[number], "delta": text}


def printed(number, text):
    return "code.output", {"item": IDS[number], "stream": "stdout", "text": text}


CODE = {"call_id": "c", "code": "", "outputs": []}


def logs(text):
    return CODE | {"code": "x", "outputs": [{"type": "logs", "logs": text}]}


def told(happened, run=None, awaited=()):
    """What a client of `happened` is told, each event in the client's own type, and what it makes of all of them."""
    fold = RunStream(run or a_run())
    fold.awaited = awaited
    pieces = fold.begin()
    for number, (kind, payload) in enumerate(happened, start=1):
        pieces += fold.feed(RunEvent(sequence=number, kind=kind, payload=payload))
    events: list[Any] = []
    steps: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    message: Any = None
    for piece in pieces:
        name, data = (line.partition(": ")[2] for line in piece.decode().strip().split("\n"))
        event = TYPES.validate_python({"event": name, "data": json.loads(data)})
        events.append(event)
        accumulate_run_step(event=event, run_step_snapshots=steps)
        message, _ = accumulate_event(event=event, current_message_snapshot=message)
        if message is not None:
            messages[message.id] = message
    return events, list(steps.values()), list(messages.values())


ENDED = ("run.ended", {})


@pytest.mark.parametrize(
    "pieces, whole",
    [
        (["a\n", "b\n"], "a\nb\n"),
        (["a\n"], "a\nTraceback: b"),
        (["x" * (LOGGED_CHARS - 1)], "x" * LOGGED_CHARS),
        (["a" * LOGGED_CHARS, "b" * LOGGED_CHARS], "a" * (LOGGED_CHARS // 2) + "... cut ..." + "b" * 9),
        ([], "all at once"),
    ],
)
def test_what_is_printed_comes_as_it_is_printed_and_is_the_whole_in_the_end(pieces, whole):
    happened = [begun(1, "code", CODE), *(printed(1, piece) for piece in pieces), done(1, "code", logs(whole)), ENDED]
    events, (step,), _ = told(happened)

    (call,) = step.step_details.tool_calls
    (output,) = call.code_interpreter.outputs
    assert (call.code_interpreter.input, output.logs == whole) == ("x", True)
    ended = next(event.data for event in events if event.event == "thread.run.step.completed")
    assert ended.step_details.tool_calls[0].code_interpreter.outputs[0].logs == whole


def test_functions_beside_code_are_steps_of_their_own_and_wait_together():
    calls = [{"call_id": name, "name": "f", "arguments": "{}"} for name in "ab"]
    happened = [
        begun(1, "tool_call", calls[0] | {"arguments": ""}),
        begun(2, "tool_call", calls[1] | {"arguments": ""}),
        delta("arguments", 2, "{"),
        delta("arguments", 1, "{}"),
        delta("arguments", 2, "}"),
        begun(3, "code", CODE),
        done(1, "tool_call", calls[0]),
        done(2, "tool_call", calls[1]),
        done(3, "code", logs("1")),
        ("run.waiting", {}),
    ]
    events, (functions, code), _ = told(happened, a_run(RunState.WAITING), calls)

    assert [(each.id, each.function.arguments) for each in functions.step_details.tool_calls] == [
        ("a", "{}"), ("b", "{}"),
    ]  # fmt: skip
    assert code.step_details.tool_calls[0].type == "code_interpreter"
    assert events[-1].event == "thread.run.requires_action"
    assert [call.id for call in events[-1].data.required_action.submit_tool_outputs.tool_calls] == ["a", "b"]
    over, _, _ = told([*happened[:-1], ENDED], a_run(RunState.CANCELLED))
    assert [event.event for event in over[-3:]] == [
        "thread.run.cancelling", "thread.run.step.cancelled", "thread.run.cancelled",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "state, message_reason, step",
    [
        (RunState.FAILED, "run_failed", "failed"),
        (RunState.CANCELLED, "run_cancelled", "cancelled"),
        (RunState.EXPIRED, "run_expired", "expired"),
    ],
)
def test_what_was_half_done_when_its_process_died_is_ended_with_all_that_there_is(state, message_reason, step):
    error = {"code": "owner_lost", "message": "the process is gone", "remedy": "Ask again."}
    happened = [
        ("run.started", {}),
        begun(1, "text", {"text": ""}),
        delta("text", 1, "so "),
        delta("text", 1, "far"),
        ENDED,
    ]
    events, _, (message,) = told(happened, a_run(state, error if state is RunState.FAILED else None))

    assert (message.status, message.content[0].text.value) == ("incomplete", "so far")
    assert message.incomplete_details.reason == message_reason
    names = [event.event for event in events]
    assert names[-1] == f"thread.run.{state.value}"
    assert f"thread.run.step.{step}" in names
    if state is RunState.FAILED:
        assert (events[-2].event, events[-2].data.message) == ("error", "the process is gone. Ask again.")


def test_what_only_the_model_sees_is_in_no_stream():
    happened = [
        begun(1, "reasoning", {"text": ""}),
        delta("reasoning", 1, "hm"),
        done(1, "reasoning", {"text": "hm"}),
        begun(2, "tool_call", {"call_id": "c", "name": "sql", "arguments": ""}, internal=True),
        done(2, "tool_call", {"call_id": "c", "name": "sql", "arguments": "{}"}, internal=True),
        begun(3, "tool_result", {"call_id": "c", "output": "1"}, internal=True),
        done(3, "tool_result", {"call_id": "c", "output": "1"}, internal=True),
        ENDED,
    ]
    events, steps, messages = told(happened)

    assert [event.event for event in events] == ["thread.run.created", "thread.run.queued", "thread.run.completed"]
    assert (steps, messages) == ([], [])
