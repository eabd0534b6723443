"""Requests of the Assistants API: what is carried out, what is refused, and in which words."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from openai.types.beta import (
    assistant_create_params,
    assistant_update_params,
    thread_create_and_run_params,
    thread_create_params,
)
from openai.types.beta.threads import message_create_params, run_create_params

from bichat.server.assistants import requests, run_requests
from bichat.server.assistants.requests import read_assistant, read_message, read_thread
from bichat.server.assistants.run_requests import read_outputs, read_run, run_request
from bichat.server.problems import FieldError

FILE = "file-" + "0" * 31 + "1"
CODE = {"type": "code_interpreter"}


def fields(shapes: Any, *names: str) -> set[str]:
    """Of the client's own declaration of a request."""
    return {field for name in names for field in getattr(shapes, name).__annotations__}


def test_every_field_that_the_client_can_send_is_carried_out_or_without_effect():
    sent = fields(assistant_create_params, "AssistantCreateParams")
    sent |= fields(assistant_update_params, "AssistantUpdateParams")
    assert sent | {"file_ids"} == requests.ASSISTANT_FIELDS
    assert fields(thread_create_params, "ThreadCreateParams") == requests.THREAD_FIELDS
    assert fields(message_create_params, "MessageCreateParams") | {"file_ids"} == requests.MESSAGE_FIELDS
    run = fields(run_create_params, "RunCreateParamsBase", "RunCreateParamsStreaming")
    assert run == run_requests.RUN_FIELDS | requests.IGNORED
    both = fields(thread_create_and_run_params, "ThreadCreateAndRunParamsBase", "ThreadCreateAndRunParamsStreaming")
    assert both | {"reasoning_effort"} == run_requests.THREAD_RUN_FIELDS


def a_run(assistant: dict[str, Any], **given: Any):
    ask = read_run({"assistant_id": "asst_1", **given})
    return run_request(ask, {"model": "m", **assistant}, user="ann", conversation_id="c")


def test_a_run_has_what_was_asked_for_and_the_rest_from_its_assistant():
    made = {
        "tools": [CODE],
        "instructions": "a",
        "temperature": 0.5,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    }
    run = a_run(made, top_p=0.1, additional_instructions="b", max_prompt_tokens=7, tool_choice=CODE)

    assert (run.model, run.instructions, run.user, run.conversation_id) == ("m", "a\n\nb", "ann", "c")
    assert (run.sampling.temperature, run.sampling.top_p, run.max_input_tokens) == (0.5, 0.1, 7)
    assert run.tool_choice == "python"
    assert run.sampling.text_format is not None
    assert (run.sampling.text_format["name"], run.sampling.text_format["schema"]) == ("n", {"type": "object"})
    assert run.code is not None
    other = a_run(made, tools=[], instructions="c", temperature=1)
    assert (other.code, other.instructions, other.sampling.temperature) == (None, "c", 1)


def test_what_is_null_is_left_to_the_server_or_taken_back():
    assert read_assistant({"model": "m", "tools": None, "tool_resources": None}, is_new=True).fields == {
        "model": "m",
        "tools": [],
    }
    assert read_assistant({"name": None, "model": None}, is_new=False).fields == {"name": None}
    names = (run_requests.RUN_FIELDS | requests.IGNORED) - {"assistant_id"}
    assert a_run({}, **dict.fromkeys(names)).truncates


def test_a_tool_that_is_not_served_is_not_forced_upon_anybody():
    search = {"type": "file_search"}
    for choice in ("required", search, {"type": "retrieval"}):
        run = a_run({"tools": [search]}, tool_choice=choice)
        assert (run.tool_choice, list(run.metadata)) == ("auto", [run_requests.SEARCH_NOTE])


def test_a_message_is_its_content_and_its_files_each_once():
    said = read_message(
        {
            "role": "user",
            "content": [{"type": "text", "text": {"value": "as it is told", "annotations": []}}],
            "attachments": [{"file_id": FILE, "tools": [{"type": "file_search"}]}],
            "file_ids": [FILE],
        }
    )

    assert [(part.kind, part.content.get("text"), part.content.get("tools")) for part in said.parts] == [
        ("text", "as it is told", None),
        ("file", None, ["file_search"]),
    ]


@pytest.mark.parametrize(
    "outputs, words",
    [
        (5, "expected an array"),
        ([5], "expected an object"),
        ([{"output": "x"}], "Missing required parameter: 'tool_outputs"),
        ([{"tool_call_id": "a", "output": 5}], "expected a string"),
        ([{"tool_call_id": "a", "output": "x"}] * 2, "Duplicate tool output for call_id 'a'"),
        ([{"tool_call_id": "a", "result": "x"}], "Unknown parameter"),
    ],
)
def test_outputs_that_are_none_are_refused(outputs, words):
    with pytest.raises(FieldError, match=words):
        read_outputs({"tool_outputs": outputs})


ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**30, 1.5, "", "x", "\ud800\0", "auto", [], [None], ["x"], [[]], [{}], {}, {"type": None}),
    *(
        {"type": "json_schema"},
        {"type": "last_messages"},
        {"type": "function"},
        {"x": {"y": []}},
        [{"type": "function"}],
    ),
    *({"code_interpreter": 1}, {"code_interpreter": {"file_ids": 1}}, {"file_search": {"vector_stores": [1]}}),
    *([{"role": "user", "content": [{}]}], [{"tool_call_id": {}}], {"messages": [{"role": "user", "content": {}}]}),
    *([{"file_id": "file-x"}], [{"type": "text", "text": {}}], [{"type": "image_url", "image_url": {"url": 1}}]),
)
ASSISTANT: dict[str, Any] = {"model": "m", "tools": [CODE]}
READ: list[tuple[Any, dict[str, Any], Any]] = [
    (lambda body: read_assistant(body, is_new=True), {"model": "m"}, requests.ASSISTANT_FIELDS),
    (lambda body: read_assistant(body, is_new=False), {}, requests.ASSISTANT_FIELDS),
    (read_thread, {}, requests.THREAD_FIELDS),
    (read_message, {"role": "user", "content": "x"}, requests.MESSAGE_FIELDS),
    (lambda body: read_run(body, makes_thread=True), {"assistant_id": "a"}, run_requests.THREAD_RUN_FIELDS),
    (
        lambda body: run_request(read_run(body), ASSISTANT, user="", conversation_id="c").to_dict(),
        {"assistant_id": "a"},
        run_requests.RUN_FIELDS,
    ),
    (read_outputs, {}, frozenset({"tool_outputs", "stream"})),
]


@pytest.mark.parametrize("read, body, fields", READ)
def test_whatever_stands_in_a_field_it_is_taken_or_refused(read, body, fields):
    for field in fields:
        for odd in (*ODD, "x" * 300_000, [{}] * 200):
            with suppress(FieldError):  # any other error is the test's
                read(body | {field: odd})
