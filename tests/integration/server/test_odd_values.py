"""Whatever stands in the place of anything in a right request, it is taken or refused: never a 5xx, and nothing is spoilt."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Generator, Iterator
from copy import deepcopy
from typing import Any

import jsonschema_rs
import pytest

from bichat.server import chat
from bichat.server.app import create_app
from bichat.server.assistants import requests as assistants
from bichat.server.assistants import run_requests as runs
from bichat.server.assistants import vector_stores
from bichat.server.problems import FieldError
from bichat.server.responses import requests as responses
from bichat.server.responses import routes as conversations

from .made_up import World, made_up_world

pytestmark = [pytest.mark.sandbox]

ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        1.5,
        10**30,
        "",
        "x",
        "\0",
        "\ud800",
        "../..",
        "a" * 300,
        "01a2090f-1532-7d47-adc4-30998163a306",
    ),
    *([], [None], [[]], {}, {"type": None}, {"type": "x"}, {"id": 1}, {"": ""}, [{"type": "text"}]),
    *(f"{prefix}{digit * 32}" for prefix, digit in (("resp_", "f"), ("file-", "0"), ("cntr_", "g"))),
)
#: That are spread over the places of a body, in turns: each place has a few, each value comes to hundreds of places.
EACH = 2
JSON = {"content-type": "application/json"}
SHAPE = {"message", "type", "param", "code"}
PICTURE = "data:image/png;base64,aaaa"
#: What stands at the end of what would be answered: no code is run for it.
NO_CODE = {"role": "user", "content": "no_code here ok?"}


@pytest.fixture(scope="module")
def world(tmp_path_factory, bare_settings, needs_namespaces_here) -> Generator[World]:
    with made_up_world(bare_settings(), tmp_path_factory.mktemp("odd")) as made:
        yield made


def bodies(things: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
    """A right body for each of these paths, with all that may stand in it."""
    file, container, conversation = things["file"][0], things["cntr"][0], things["conv"][0]
    thread, assistant = things["thread"][0], things["asst"][0]
    schema = {"type": "json_schema", "name": "n", "schema": {}, "strict": True, "description": "d"}
    function = {"name": "f", "parameters": {"type": "object"}, "strict": True, "description": "d"}
    sampled = {"model": "local-python", "temperature": 1, "top_p": 1, "metadata": {"a": "b"}}
    citation = {"type": "container_file_citation", "container_id": container, "file_id": things["cfile"][0]}
    items = [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "1"},
                {"type": "input_image", "image_url": PICTURE, "detail": "auto"},
                {"type": "input_file", "file_id": file, "filename": "x"},
                {"type": "input_file", "file_data": "YQ==", "filename": "x/y"},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "q"}],
            "encrypted_content": "x",
        },
        {
            "type": "code_interpreter_call",
            "id": "ci_1",
            "code": "1",
            "container_id": container,
            "status": "completed",
            "outputs": [{"type": "logs", "logs": "x"}, {"type": "image", "url": "u"}],
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "x"}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [
                {
                    "type": "output_text",
                    "text": "abc",
                    "annotations": [
                        {**citation, "filename": "f", "start_index": 0, "end_index": 1},
                        {"type": "url_citation", "url": "x"},
                    ],
                },
                {"type": "refusal", "refusal": "no"},
            ],
        },
    ]
    auto = {"type": "auto", "file_ids": [file], "memory_limit": "1g", "network_policy": {"type": "disabled"}}
    resources = {"code_interpreter": {"file_ids": [file]}, "file_search": {"vector_store_ids": things["vs"][:1]}}
    tools = [{"type": "code_interpreter"}, {"type": "function", "function": function}]
    message = {
        "role": "user",
        "content": [
            {"type": "text", "text": "x"},
            {"type": "image_file", "image_file": {"file_id": file, "detail": "low"}},
            {"type": "image_url", "image_url": {"url": PICTURE}},
        ],
        "attachments": [{"file_id": file, "tools": [{"type": "code_interpreter"}]}],
        "metadata": {"a": "b"},
    }
    formed = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}
    asked = {
        **sampled,
        "assistant_id": assistant,
        "instructions": "i",
        "max_completion_tokens": 9,
        "max_prompt_tokens": 9,
        "parallel_tool_calls": True,
        "reasoning_effort": "low",
        "response_format": formed,
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "tools": tools,
        "truncation_strategy": {"type": "last_messages", "last_messages": 1},
    }
    return {
        "/responses": {
            **sampled,
            "input": [*items, NO_CODE],
            "tools": [{"type": "code_interpreter", "container": auto}, {"type": "function", **function}],
            "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "code_interpreter"}]},
            "include": ["code_interpreter_call.outputs"],
            "instructions": "i",
            "max_output_tokens": 5,
            "max_tool_calls": 1,
            "parallel_tool_calls": True,
            "reasoning": {"effort": "low", "summary": "auto"},
            "store": True,
            "background": False,
            "stream": False,
            "text": {"format": schema, "verbosity": "low"},
            "truncation": "auto",
            "user": "u",
            "service_tier": "auto",
            "top_logprobs": 1,
        },
        "/chat/completions": {
            **sampled,
            "messages": [
                {"role": "system", "content": "s"},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "x y"},
                        {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
                        {"type": "file", "file": {"file_id": file, "filename": "q"}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": "x",
                    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "ok"},
                NO_CODE,
            ],
            "tools": tools[1:],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": formed,
            "max_tokens": 4,
            "stream": False,
            "stream_options": {"include_usage": True},
            "reasoning_effort": "low",
            "n": 1,
            "stop": [],
        },
        "/conversations": {"items": items, "metadata": {"a": "b"}},
        f"/conversations/{conversation}/items": {"items": items},
        f"/conversations/{conversation}": {"metadata": {"a": "b"}},
        f"/containers/{container}/files": {"file_id": file},
        "/assistants": {
            **sampled,
            "name": "n",
            "description": "d",
            "instructions": "i",
            "tools": [*tools, {"type": "file_search", "file_search": {"max_num_results": 1}}],
            "tool_resources": resources,
            "response_format": formed,
            "reasoning_effort": "low",
        },
        "/threads": {"messages": [message], "metadata": {"a": "b"}, "tool_resources": resources},
        f"/threads/{thread}/messages": message,
        # Of a thread that is not there: each that is taken would be a run.
        "/threads/thread_" + "0" * 32 + "/runs": {**asked, "additional_messages": [message]},
        "/threads/runs": {**asked, "assistant_id": "asst_" + "0" * 32, "thread": {"messages": [message]}},
        "/vector_stores": {
            "name": "n",
            "file_ids": [file],
            "metadata": {"a": "b"},
            "expires_after": {"anchor": "last_active_at", "days": 1},
        },
    }


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of everything in it."""
    yield path
    for name in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[name], (*path, name))


def put(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The body with another value in a place."""
    if not path:
        return value
    body = deepcopy(body)
    holder = body
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = value
    return body


def odd_requests(world: World) -> list[tuple[str, tuple[Any, ...], Any]]:
    """Path, place and body of each."""
    found: list[tuple[str, tuple[Any, ...], Any]] = []
    for path, body in bodies(world.things).items():
        for place in places(body):
            for _ in range(EACH):
                found.append((path, place, put(body, place, ODD[len(found) * 7 % len(ODD)])))
    return found


TABLES = {
    "/responses": responses.BODY,
    "/chat/completions": chat.BODY,
    "/conversations": conversations.CONVERSATION_BODY,
    "/assistants": assistants.ASSISTANT,
    "/threads": assistants.THREAD,
    "/threads/runs": runs.THREAD_RUN,
    "/vector_stores": vector_stores.BODY,
}


@pytest.mark.parametrize("path", TABLES)
def test_the_document_says_of_a_body_what_the_table_does_that_it_is_checked_against(path):
    document = create_app(lambda: pytest.fail("nothing is opened")).openapi()
    content = document["paths"][f"/v1{path}"]["post"]["requestBody"]["content"]["application/json"]
    validator = jsonschema_rs.Draft202012Validator({**content["schema"], "components": document["components"]})
    nobody = defaultdict(lambda: ["file-" + "0" * 32])
    body = bodies(nobody)[path]

    for place in places(body):
        for odd in ODD:
            tried = put(body, place, odd)
            try:
                TABLES[path].check(tried, "")
                is_taken = True
            except FieldError:
                is_taken = False
            try:
                is_right = validator.is_valid(tried)
            except ValueError:  # half a character, which the validator's own language has no text for
                continue
            # What ids look like the document says, and readers find out.
            assert is_taken == is_right or (is_taken and isinstance(odd, str)), (place, odd)


def test_an_odd_value_is_taken_or_refused_wherever_it_stands(world):
    requests = odd_requests(world)
    wrong: list[str] = []
    taken: set[str] = set()

    for path, place, body in requests:
        answer = world.http.post(f"/v1{path}", content=json.dumps(body).encode(), headers=JSON)
        if answer.status_code == 200:
            taken.add(path)
        elif answer.status_code not in (400, 404) or set(answer.json()["error"]) != SHAPE:
            wrong.append(f"{path} {place}: {answer.status_code} {answer.text[:200]} of {json.dumps(body)[:200]}")

    assert wrong == []
    assert len(requests) > 700
    assert {"/assistants", "/conversations", "/responses", "/threads", "/vector_stores"} <= taken
    for kind, of in (("conv", "conversations/{}/items"), ("thread", "threads/{}/messages")):
        world.ask("GET", f"/{of.format(world.things[kind][0])}?limit=100")  # what was put there can be read


QUERIES = ("limit", "order", "after", "before", "include", "include[]", "stream", "starting_after", "purpose", "name")
ODD_TEXTS = ("", "0", "-1", "1e3", "9" * 30, "x", "%00", "%ed%a0%80", "file-" + "0" * 32, "msg_" + "0" * 32, "²")


def test_an_odd_parameter_is_taken_or_refused_wherever_it_stands(world):
    one = {kind: there[0] for kind, there in world.things.items()}
    wrong: list[str] = []
    for path in (
        "/files",
        "/containers",
        f"/containers/{one['cntr']}/files",
        f"/responses/{one['resp']}",
        f"/responses/{one['resp']}/input_items",
        f"/conversations/{one['conv']}/items",
        "/assistants",
        f"/threads/{one['thread']}/messages",
        f"/threads/{one['thread']}/runs",
        f"/threads/{one['thread']}/runs/{one['run']}/steps",
        "/vector_stores",
    ):
        for name in QUERIES:
            for value in ODD_TEXTS[len(path + name) % 2 :: 2]:
                answer = world.http.get(f"/v1{path}?{name}={value}")
                if answer.status_code not in (200, 400, 404):
                    wrong.append(f"{path}?{name}={value}: {answer.status_code} {answer.text[:200]}")

    assert wrong == []
