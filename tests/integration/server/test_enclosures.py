"""Files and images that come within a request, as data: where they lie, whose they are, and when they go."""

from __future__ import annotations

import base64
import json
from typing import Any

import openai
import pytest

from bichat.conversation.planner import PlannerError
from bichat.errors import NotFoundError
from bichat.repository.records import Policy
from bichat.server import naming
from bichat.testing.planner import calls, says

pytestmark = [pytest.mark.sandbox]

AUTO: Any = [{"type": "code_interpreter", "container": {"type": "auto"}}]
OUTPUTS: Any = ["code_interpreter_call.outputs"]
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
IMAGE: Any = {"type": "input_image", "image_url": "data:image/png;base64," + base64.b64encode(PNG).decode()}
NOWHERE = "0" * 32


def _file(text: str, name: str = "sales.csv") -> dict[str, Any]:
    return {"type": "input_file", "filename": name, "file_data": base64.b64encode(text.encode()).decode()}


def _asked(*content: Any, text: str = "Look.") -> Any:
    return [{"role": "user", "content": [{"type": "input_text", "text": text}, *content]}]


def _python(code: str):
    return calls("python", json.dumps({"code": code}))


def _files(client) -> set[str]:
    return {file.id for file in client.files.list()}


def _own(client, response) -> str:
    """The id of the file in what went into a response."""
    (item,) = client.responses.input_items.list(response.id)
    return next(piece.file_id for piece in item.content if getattr(piece, "file_id", None))


def test_a_file_goes_with_the_response_that_it_came_with(client):
    before = _files(client)
    made = client.responses.create(model="local-python", tools=AUTO, input=_asked(_file("a,b\n1,2\n"), text="print(1)"))
    kept = _own(client, made)

    assert client.files.content(kept).read() == b"a,b\n1,2\n"
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(kept)
    assert _files(client) == before


@pytest.mark.parametrize("fields", [{"store": False}, {"store": False, "stream": True}])
def test_of_a_response_that_is_not_stored_no_file_stays(client, fields):
    before = _files(client)
    made = client.responses.create(
        model="local-python",
        tools=AUTO,
        input=_asked(_file("1"), text="print(open(__import__('glob').glob('*-sales.csv')[0]).read())"),
        **fields,
    )
    shown = list(made)[-1].response if fields.get("stream") else made

    assert shown.output_text == "1\n"
    assert _files(client) == before


def test_chat_completions_leave_no_file_however_often_their_history_is_sent(client):
    before = _files(client)
    piece: Any = {"type": "file", "file": {"filename": "x.txt", "file_data": base64.b64encode(b"x").decode()}}
    message: Any = {"role": "user", "content": [{"type": "text", "text": "print(1)"}, piece]}
    for _ in range(2):
        made = client.chat.completions.create(model="local-python", messages=[message])
        assert made.choices[0].message.content == "1\n"

    assert _files(client) == before


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"previous_response_id": f"resp_{NOWHERE}"}, "previous_response_id"),
        ({"conversation": f"conv_{NOWHERE}"}, "conversation"),
        ({"tools": [{"type": "code_interpreter", "container": f"cntr_{NOWHERE}"}]}, "tools[0].container"),
        (
            {
                "tools": [
                    {"type": "function", "name": "f", "parameters": {}, "strict": False},
                    {"type": "code_interpreter", "container": {"type": "auto", "file_ids": [f"file-{NOWHERE}"]}},
                ]
            },
            "tools[1].container.file_ids[0]",
        ),
        (
            {"input": _asked(_file("1"), {"type": "input_file", "file_id": f"file-{NOWHERE}"})},
            "input[0].content[2].file_id",
        ),
        (
            {"input": [*_asked(_file("1")), {"type": "function_call_output", "call_id": "zzz", "output": "1"}]},
            "input[1].call_id",
        ),
        ({"input": _asked(*[_file("1")] * 51)}, "input[0].content[51]"),
        (
            {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "64g"}}]},
            "tools[0].container.memory_limit",
        ),
    ],
)
def test_a_request_that_is_refused_names_its_field_and_leaves_no_file(client, fields, param):
    before = _files(client)
    asked = {"model": "m", "tools": AUTO, "input": _asked(_file("1"))} | fields
    with pytest.raises(openai.APIStatusError) as refused:
        client.responses.create(**asked)

    assert (refused.value.status_code in (400, 404), refused.value.param) == (True, param)
    assert _files(client) == before


def test_what_a_provider_refuses_before_code_ran_leaves_no_file(served, client):
    before = _files(client)
    served.plays([PlannerError("busy", reason="rate_limited")])
    with pytest.raises(openai.RateLimitError):
        client.responses.create(model="m", tools=AUTO, input=_asked(_file("1")))

    assert _files(client) == before


def test_an_image_as_data_is_seen_by_code_too_and_the_model_knows_its_name(served, client):
    code = "import glob; (name,) = glob.glob('*image.png'); print(len(open(name, 'rb').read()))"
    served.plays(_python(code), says("Seen."))
    made = client.responses.create(model="m", tools=AUTO, input=_asked(IMAGE, IMAGE), include=OUTPUTS)

    assert made.output[0].outputs[0].logs == f"{len(PNG)}\n"
    kept = _own(client, made)
    assert client.files.content(kept).read() == PNG
    assert f"/mnt/data/{kept}-image.png" in served.planner.asked[-1].instructions
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(kept)


def test_a_file_that_is_referred_to_stays_its_first_response_s(served, client):
    served.plays(says("1"), says("2"))
    first = client.responses.create(model="m", tools=AUTO, input=_asked(_file("1")))
    (item,) = client.responses.input_items.list(first.id)
    second = client.responses.create(model="m", tools=AUTO, input=[{"type": "item_reference", "id": item.id}])

    kept = _own(client, second)
    client.responses.delete(second.id)
    assert client.files.retrieve(kept).filename == "sales.csv"


def test_files_of_items_go_with_their_item_and_their_conversation(served, client):
    conversation = client.conversations.create(items=_asked(_file("1")))
    more = client.conversations.items.create(conversation.id, items=_asked(_file("2")))
    ids = [item.content[1].file_id for item in client.conversations.items.list(conversation.id)]

    assert len(set(ids)) == 2
    client.conversations.items.delete(more.data[0].id, conversation_id=conversation.id)
    client.conversations.delete(conversation.id)
    for each in ids:
        with pytest.raises(NotFoundError):
            served.call(served.services.repository.files.get, "acme", naming.row_id(each, naming.FILE))


def test_items_that_are_refused_leave_no_conversation_and_no_file(served, client):
    before = _files(client)
    pages = served.services.repository.conversations.page
    there = len(served.call(pages, "acme", limit=100).items)
    with pytest.raises(openai.NotFoundError):
        client.conversations.create(items=_asked(_file("1"), {"type": "input_file", "file_id": f"file-{NOWHERE}"}))

    assert _files(client) == before
    assert len(served.call(pages, "acme", limit=100).items) == there


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_tenant_that_has_used_up_its_quota_with_words_alone_is_refused_until_it_deletes_some(served):
    client = served.client("talker")
    conversation = client.conversations.create(items=_asked(text="x" * 20_000))
    served.call(served.services.repository.tenants.set_policy, "talker", Policy(quota_bytes=30_000))
    served.plays(says("Hello."))
    refused: list[Any] = [
        lambda: client.responses.create(model="m", input="y" * 20_000),
        lambda: client.responses.create(model="m", input=_asked(_file("1"), text="y" * 20_000)),
        lambda: client.conversations.create(items=_asked(text="y" * 20_000)),
        lambda: client.conversations.items.create(conversation.id, items=_asked(text="y" * 20_000)),
        lambda: client.beta.assistants.create(model="m", instructions="y" * 20_000),
        lambda: client.beta.threads.create(messages=[{"role": "user", "content": "y" * 20_000}]),
    ]
    for request in refused:
        with pytest.raises(openai.BadRequestError, match="quota is used up"):
            request()

    assert _files(client) == set()
    left = served.call(served.services.repository.conversations.page, "talker", limit=100)
    assert [naming.on_wire(naming.CONVERSATION, each.id) for each in left.items] == [conversation.id]
    client.conversations.delete(conversation.id)
    assert client.responses.create(model="m", input="y" * 20_000).output_text == "Hello."
