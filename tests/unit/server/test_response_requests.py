"""Requests for responses: what is carried out, what is refused, and in which words."""

from __future__ import annotations

import pytest
from openai.types.responses import response_create_params

from bichat.conversation.request import CodeOptions
from bichat.errors import BichatError
from bichat.server import naming
from bichat.server.problems import FieldError, error_body, status_of
from bichat.server.responses.requests import IGNORED, REFUSED, SUPPORTED, read_ask

ROW = "0192f3a4-0000-7000-8000-00000000000a"
CONTAINER = naming.on_wire(naming.CONTAINER, ROW)
FILE = naming.on_wire(naming.FILE, ROW)
CODE = {"type": "code_interpreter", "container": {"type": "auto"}}
FUNCTION = {"type": "function", "name": "f"}


def body(**fields):
    return {"model": "m", "input": "x"} | fields


def code(**container):
    return [{"type": "code_interpreter", "container": {"type": "auto", **container}}]


def said(*items):
    return body(input=list(items))


def test_every_field_that_the_client_can_send_is_carried_out_without_effect_or_refused():
    known = {
        name
        for shape in vars(response_create_params).values()
        if getattr(shape, "__name__", "").startswith("ResponseCreateParams") and hasattr(shape, "__annotations__")
        for name in shape.__annotations__
    }
    assert known == SUPPORTED | IGNORED | set(REFUSED)
    assert not SUPPORTED & IGNORED | SUPPORTED & set(REFUSED) | IGNORED & set(REFUSED)


@pytest.mark.parametrize(
    "given, param, words",
    [
        ([], None, "expected an object"),
        ({}, "model", "Missing required parameter: 'model'"),
        (body(model=5), "model", "expected a string, but got an integer"),
        (body(input=5), "input", "expected an array"),
        (body(input=[5]), "input[0]", "expected an object"),
        (body(nonsense=1), "nonsense", "Unknown parameter"),
        (body(prompt={"id": "p"}), "prompt", "stored prompts are not served"),
        (body(context_management=[]), "context_management", "truncation"),
        (body(temperature="hot"), "temperature", "expected a number"),
        (body(temperature=3), "temperature", "not between"),
        (body(temperature=float("nan")), "temperature", "not between"),
        (body(max_output_tokens=0), "max_output_tokens", "not between"),
        (body(max_output_tokens=True), "max_output_tokens", "but got a boolean"),
        (body(max_tool_calls=0), "max_tool_calls", "not between"),
        (body(stream="yes"), "stream", "expected a boolean"),
        (body(background=True, store=False), "store", "Background mode"),
        (body(include=["all"]), "include[0]", "Supported values"),
        (body(metadata={str(n): "" for n in range(17)}), "metadata", "At most 16"),
        (body(metadata={"k" * 65: ""}), "metadata key", "At most 64"),
        (body(metadata={"k": "v" * 513}), "metadata.k", "At most 512"),
        (body(metadata={"k": 1}), "metadata.k", "expected a string"),
        (body(previous_response_id="resp_x"), "previous_response_id", "not found"),
        (body(previous_response_id="resp_x", conversation="conv_x"), "conversation", "Mutually exclusive"),
        (body(conversation=5), "conversation", "expected a string"),
        (body(tools={}), "tools", "expected an array"),
        (body(tools=[{}]), "tools[0].type", "Missing"),
        (body(tools=[{"type": "web_search"}]), "tools[0].type", "'web_search' are not served"),
        (body(tools=[{"type": ["x"]}]), "tools[0].type", "expected a string"),
        (body(tools=[FUNCTION] * 129), "tools", "array too long"),
        (body(tools=[CODE, CODE]), "tools[1]", "twice"),
        (body(tools=[FUNCTION, FUNCTION]), "tools", "two tools have the name 'f'"),
        (body(tools=[CODE, FUNCTION | {"name": "python"}]), "tools", "the code interpreter's own name"),
        (body(tools=[FUNCTION | {"name": "a b"}]), "tools[0].name", "letters, digits"),
        (body(tools=[FUNCTION | {"parameters": []}]), "tools[0].parameters", "expected an object"),
        (body(tools=[{"type": "code_interpreter"}]), "tools[0].container", "Missing"),
        (body(tools=code(memory_limit="2g")), "tools[0].container.memory_limit", "'1g', '4g'"),
        (
            body(tools=code(network_policy={"type": "allowlist", "allowed_domains": ["a.example"]})),
            "tools[0].container.network_policy",
            "no network here",
        ),
        (body(tools=code(file_ids=["../x"])), "tools[0].container.file_ids[0]", "No such File object"),
        (body(tools=code(file_ids=[FILE] * 51)), "tools[0].container.file_ids", "At most 50"),
        (body(tool_choice="must"), "tool_choice", "Supported values"),
        (body(tool_choice="required"), "tool_choice", "must be specified with 'tools'"),
        (body(tool_choice={"type": "code_interpreter"}), "tool_choice", "not found in 'tools'"),
        (body(tool_choice={"type": "function", "name": "g"}, tools=[FUNCTION]), "tool_choice", "not found"),
        (body(tool_choice={"type": "mcp"}), "tool_choice.type", "'mcp' are not served"),
        (body(text={"format": {"type": "json_schema"}}), "text.format.name", "Missing"),
        (body(text={"format": {"type": "xml"}}), "text.format.type", "'xml' are not served"),
        (body(truncation="some"), "truncation", "Supported values"),
        (said({}), "input[0].type", "Missing"),
        (said({"role": "user"}), "input[0].content", "Missing"),
        (said({"role": "robot", "content": "x"}), "input[0].role", "Supported values"),
        (said({"role": "user", "content": [{"type": "input_audio"}]}), "input[0].content[0].type", "'input_audio'"),
        (said({"type": "mcp_call", "id": "x"}), "input[0].type", "'mcp_call' are not served"),
        (said({"role": "user", "content": "x"}, {"type": "computer_call"}), "input[1].type", "input[1]"),
        (said({"type": "function_call_output", "call_id": "c"}), "input[0].output", "Missing"),
        (
            said({"role": "user", "content": [{"type": "input_file", "file_url": "http://10.0.0.1/"}]}),
            "input[0].content[0].file_url",
            "fetches nothing",
        ),
        (
            said({"role": "user", "content": [{"type": "input_image", "image_url": "file:///etc/passwd"}]}),
            "input[0].content[0].image_url",
            "https URL",
        ),
        (
            said({"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,%"}]}),
            "input[0].content[0].image_url",
            "not base64",
        ),
        (body(input=[{"role": "user", "content": "x"}] * 10_001), "input", "At most 10000"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence_and_the_place(given, param, words):
    with pytest.raises(BichatError) as refused:
        read_ask(given)
    error = error_body(refused.value)["error"]
    assert status_of(refused.value) == 400
    assert error["type"] == "invalid_request_error"
    assert words in error["message"]
    if param is not None:
        assert error["param"] == param


@pytest.mark.parametrize(
    "given, words",
    [
        (body(conversation="conv_x"), "Conversation with id 'conv_x' not found."),
        (
            body(tools=[{"type": "code_interpreter", "container": "cntr_x"}]),
            "Container with id 'cntr_x' not found.",
        ),
    ],
)
def test_ids_that_can_be_nobodys_are_not_found(given, words):
    with pytest.raises(BichatError) as refused:
        read_ask(given)
    assert (status_of(refused.value), error_body(refused.value)["error"]["message"]) == (404, words)


def test_null_is_as_good_as_nothing():
    plain = read_ask(body())
    nulls = read_ask(body(**dict.fromkeys((SUPPORTED | IGNORED | set(REFUSED)) - {"model", "input"})))
    assert nulls == plain


def test_tools_and_the_choice_among_them_are_told_to_the_core():
    asked = read_ask(
        body(
            tools=[*code(file_ids=[FILE, FILE], memory_limit="4g", network_policy={"type": "disabled"}), FUNCTION],
            tool_choice={"type": "code_interpreter"},
            max_tool_calls=3,
        )
    ).run
    assert asked.code == CodeOptions(file_ids=(ROW,), memory="4g")
    assert ([spec.name for spec in asked.client_tools], asked.tool_choice, asked.max_tool_calls) == (["f"], "python", 3)
    named = read_ask(body(tools=[{"type": "code_interpreter", "container": CONTAINER}])).run
    assert named.code == CodeOptions(session_id=ROW)
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}
    narrowed = read_ask(body(tools=[CODE, FUNCTION], tool_choice=allowed)).run
    assert (narrowed.code, narrowed.tool_choice) == (None, "required")


@pytest.mark.parametrize(
    "text", ["resp_", "resp", "", "resp_" + "0" * 31, "resp_" + "G" * 32, "resp-" + "0" * 32, "resp_{0}" + "0" * 29]
)
def test_ids_that_are_not_ours_are_no_rows(text):
    assert naming.row_id(text, naming.RESPONSE) == ""


def test_ids_go_both_ways():
    for prefix in (naming.RESPONSE, naming.FILE, naming.CONTAINER_FILE):
        assert naming.row_id(naming.on_wire(prefix, ROW), prefix) == ROW


def test_tools_that_are_long_together_are_refused():
    long = {**FUNCTION, "parameters": {"type": "object", "description": "d" * (1 << 20)}}

    with pytest.raises(FieldError, match="too long"):
        read_ask(body(tools=[long]))
