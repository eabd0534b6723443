"""The fold of a run's events into the stream of a response, against the client's own types."""

from __future__ import annotations

import json

import pytest
from openai import BaseModel, omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from bichat.conversation import run_events
from bichat.conversation.request import RunRequest
from bichat.repository.records import Run, RunEvent, RunState
from bichat.server.responses.events import ResponseStream, encode

SESSION = "0192f3a4-0000-7000-8000-0000000000aa"
OUTPUT = "0192f3a4-0000-7000-8000-0000000000bb"
IDS = [f"0192f3a4-0000-7000-8000-{number:012x}" for number in range(1, 9)]
TYPES: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


def a_run(*, include=(), background=False, state=RunState.COMPLETED, error=None, **others):
    echo = {"background": True} if background else {}
    request = RunRequest(model="m", view={"kind": "response", "include": list(include), "echo": echo})
    return Run(
        tenant="t", conversation_id=IDS[0], state=state, model="m", request=request.to_dict(), error=error, **others
    )


def item(number, kind, content, *, status="completed", **metadata):
    part = {"kind": kind, "content": content}
    return {
        "id": IDS[number],
        "role": "assistant",
        "status": status,
        "kind": kind,
        "parts": [part],
        "metadata": metadata,
    }


def begun(number, kind, content):
    return "item.added", {"item": item(number, kind, content, status="in_progress")}


def done(number, kind, content, status="completed"):
    return "item.done", {"item": item(number, kind, content, status=status)}


def delta(kind, number, text):
    return f"{kind}.delta", {"item": IDS[number], "delta": text}


CALL = {"call_id": "c", "code": "", "session_id": SESSION, "outputs": [], "files": []}
LOGS = [{"type": "logs", "logs": "1\n"}, {"type": "image", "output_id": OUTPUT, "name": "f", "mime_type": "image/png"}]
CITED = {
    "output_id": OUTPUT,
    "session_id": SESSION,
    "name": "d/f.png",
    "mime_type": "",
    "text": "",
    "start": 0,
    "end": 0,
}
WHOLE = [
    ("run.started", {}),
    begun(1, "reasoning", {"text": ""}),
    delta("reasoning", 1, "hm"),
    done(1, "reasoning", {"text": "hmm", "provider": {"s": 1}}),
    begun(2, "code", CALL),
    delta("code", 2, "pri"),
    ("code.running", {"item": IDS[2], "code": "print(1)"}),
    ("code.output", {"item": IDS[2], "stream": "stdout", "text": "1\n"}),
    ("code.shown", {"item": IDS[2], "mime_types": ["image/png"]}),
    done(2, "code", CALL | {"code": "print(1)", "outputs": LOGS}),
    begun(3, "text", {"text": ""}),
    delta("text", 3, "One \ud83d"),
    delta("text", 3, "\u2028."),
    done(3, "text", {"text": "One \ud83d\u2028.", "citations": [CITED]}),
    begun(4, "tool_call", {"call_id": "w", "name": "weather", "arguments": ""}),
    delta("arguments", 4, "{}"),
    done(4, "tool_call", {"call_id": "w", "name": "weather", "arguments": "{}"}),
    ("run.ended", {}),
]


def folded(run, happened, images=None):
    stream = ResponseStream(run)
    events = stream.begin()
    for number, (kind, payload) in enumerate(happened, start=1):
        events += stream.feed(RunEvent(sequence=number, kind=kind, payload=payload), images)
    return events


def checked(events):
    """The client's types take every event, field by field, and its own stream puts them together."""
    state = ResponseStreamState(input_tools=[], text_format=omit)
    for number, event in enumerate(events):
        assert event["sequence_number"] == number
        assert event.keys() <= _fields(event), event["type"]
        parsed = TYPES.validate_python(event)
        assert isinstance(parsed, BaseModel)
        state.handle_event(parsed)
    return events


def _fields(event):
    shape = type(TYPES.validate_python(event))
    return set(shape.model_fields)


def kinds(events):
    return [event["type"].removeprefix("response.") for event in events]


def test_everything_that_can_come_of_a_run_is_a_stream_as_the_client_knows_it():
    events = checked(
        folded(a_run(include=["code_interpreter_call.outputs"]), WHOLE, {OUTPUT: "data:image/png;base64,AA=="})
    )
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "code_interpreter_call.in_progress",
        "code_interpreter_call_code.delta",
        "code_interpreter_call_code.delta",
        "code_interpreter_call_code.done",
        "code_interpreter_call.interpreting",
        "code_interpreter_call.completed",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.annotation.added",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    final = events[-1]["response"]
    assert final["output"] == [event["item"] for event in events if event["type"] == "response.output_item.done"]
    reasoning, code, message, call = final["output"]
    assert (reasoning["summary"], reasoning["encrypted_content"]) == ([{"type": "summary_text", "text": "hmm"}], None)
    assert code["outputs"] == [{"type": "logs", "logs": "1\n"}, {"type": "image", "url": "data:image/png;base64,AA=="}]
    assert message["content"][0]["annotations"][0]["filename"] == "f.png"
    assert (call["call_id"], call["arguments"]) == ("w", "{}")


def test_objects_have_the_keys_that_were_recorded_null_ones_too():
    events = folded(a_run(), WHOLE)
    by_kind = {event["type"]: event for event in events}
    added = by_kind["response.output_item.added"]
    assert set(added) == {"type", "sequence_number", "output_index", "item"}
    code = next(e["item"] for e in events if e.get("item", {}).get("type") == "code_interpreter_call")
    assert set(code) == {"id", "type", "status", "code", "container_id", "outputs"}
    assert (code["status"], code["code"], code["outputs"]) == ("in_progress", "", None)
    text = by_kind["response.output_text.delta"]
    assert set(text) == {"type", "sequence_number", "item_id", "output_index", "content_index", "delta", "logprobs"}
    part = by_kind["response.content_part.done"]["part"]
    assert set(part) == {"type", "annotations", "logprobs", "text"}
    assert set(part["annotations"][0]) == {
        "type",
        "container_id",
        "end_index",
        "file_id",
        "filename",
        "start_index",
    }
    response = by_kind["response.completed"]["response"]
    assert set(response) >= {
        *("id", "object", "created_at", "status", "background", "error", "incomplete_details", "instructions"),
        *("max_output_tokens", "max_tool_calls", "model", "output", "parallel_tool_calls", "previous_response_id"),
        *("prompt_cache_key", "reasoning", "safety_identifier", "service_tier", "store", "temperature", "text"),
        *("tool_choice", "tools", "top_logprobs", "top_p", "truncation", "usage", "user", "metadata"),
    }
    assert set(response["usage"]) == {
        *("input_tokens", "input_tokens_details", "output_tokens", "output_tokens_details", "total_tokens"),
    }


def test_who_asks_a_second_time_is_given_the_same_although_the_run_is_over_by_then():
    going = a_run(state=RunState.RUNNING)
    over = a_run(id=going.id, created_at=going.created_at, metadata={"bichat.container": "new"})
    live = ResponseStream(going)
    events = live.begin()
    for number, (kind, payload) in enumerate(WHOLE, start=1):
        live.run = over if kind == run_events.RUN_ENDED else live.run
        events += live.feed(RunEvent(sequence=number, kind=kind, payload=payload))
    assert events == folded(over, WHOLE)
    assert events[-1]["response"]["metadata"] == {"bichat.container": "new"}


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_a_run_that_is_lost_anywhere_ends_as_a_failed_response_with_what_there_was(length):
    error = {"code": "owner_lost", "message": "the server's process ended", "code_ran": True}
    events = checked(folded(a_run(state=RunState.FAILED, error=error), [*WHOLE[:length], ("run.ended", {})]))
    last = events[-1]
    assert last["type"] == "response.failed"
    assert (last["response"]["error"]["code"], last["response"]["error"]["type"]) == ("server_error", "owner_lost")
    assert len(last["response"]["output"]) == kinds(events).count("output_item.added")
    assert {each["status"] for each in last["response"]["output"]} <= {"completed", "incomplete"}


@pytest.mark.parametrize(
    "state, error, ending, status, reason",
    [
        (RunState.INCOMPLETE, {"code": "incomplete", "reason": "max_output_tokens"}, "incomplete", "incomplete", "max_output_tokens"),
        (RunState.INCOMPLETE, {"code": "incomplete", "reason": "max_turns"}, "incomplete", "incomplete", "max_messages"),
        (RunState.CANCELLED, None, "incomplete", "cancelled", None),
        (RunState.EXPIRED, None, "failed", "failed", None),
    ],
)  # fmt: skip
def test_other_ends_are_told_by_the_status_of_the_response(state, error, ending, status, reason):
    events = checked(folded(a_run(state=state, error=error, background=True), [*WHOLE[:1], ("run.ended", {})]))
    last = events[-1]
    assert kinds(events) == ["created", "queued", "in_progress", ending]
    assert [event["response"]["status"] for event in events] == ["queued", "queued", "in_progress", status]
    assert (last["response"]["incomplete_details"] or {}).get("reason") == reason


def test_code_that_was_never_run_is_told_whole_and_what_only_the_model_sees_is_not():
    hidden = item(5, "tool_call", {"call_id": "x", "name": "nobodys", "arguments": "{}"}, internal=True)
    result = item(6, "tool_result", {"call_id": "x", "output": "there is none"}, internal=True)
    events = checked(
        folded(
            a_run(),
            [
                ("run.started", {}),
                *((kind, {"item": each}) for each in (hidden, result) for kind in ("item.added", "item.done")),
                begun(2, "code", CALL),
                done(2, "code", CALL | {"code": "x = (", "told": "bad"}, status="failed"),
                ("run.ended", {}),
            ],
        )
    )
    assert kinds(events)[2:-1] == [
        "output_item.added",
        "code_interpreter_call.in_progress",
        "code_interpreter_call_code.delta",
        "code_interpreter_call_code.done",
        "code_interpreter_call.completed",
        "output_item.done",
    ]
    assert events[-1]["response"]["output"][0]["status"] == "failed"


def test_live_output_comes_to_who_asked_for_it_and_reasoning_is_sealed():
    run = a_run(include=["bichat.live_output", "reasoning.encrypted_content"])
    events = folded(run, WHOLE)
    (live,) = [event for event in events if event["type"] == "bichat.code_interpreter_call.output"]
    assert (live["stream"], live["text"], live["output_index"]) == ("stdout", "1\n", 1)
    assert events[-1]["response"]["output"][0]["encrypted_content"].startswith("bichat1.")


def test_an_event_is_one_line_of_ascii_whatever_code_prints():
    (event,) = [e for e in folded(a_run(), WHOLE) if e["type"] == "response.output_text.done"]
    raw = encode(event)
    name, data, *rest = raw.decode("ascii").split("\n")
    assert (name, rest) == ("event: response.output_text.done", ["", ""])
    assert json.loads(data.removeprefix("data: ")) == event
