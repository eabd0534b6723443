"""Responses over HTTP, as the official client sees them in its strict mode."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from textwrap import dedent
from typing import Any
from uuid import UUID

import anyio
import openai
import pytest
from openai.types.responses import Response

from bichat.conversation.planner import PlannerError, ReasoningDelta, ReasoningEnded
from bichat.errors import NotFoundError
from bichat.server import naming
from bichat.testing.planner import calls, says

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

TOOL = {"type": "code_interpreter", "container": {"type": "auto"}}
OUTPUTS = ["code_interpreter_call.outputs"]


def python(code: str):
    return calls("python", json.dumps({"code": code}))


CSV = b"region,units\nnorth,3\nsouth,4\n"


def test_with_no_model_at_all_data_goes_in_code_runs_and_files_come_out(client):
    uploaded = client.files.create(file=("sales.csv", CSV), purpose="assistants")
    container = client.containers.create(name="analysis", file_ids=[uploaded.id])
    tool = {"type": "code_interpreter", "container": container.id}
    code = f"""
        Sum it up:
        ```python
        import csv
        rows = list(csv.DictReader(open("/mnt/data/{uploaded.id}-sales.csv")))
        total = sum(int(row["units"]) for row in rows)
        print(total)
        ```
        ```python
        open("total é.txt", "w").write(str(total))
        ```
    """
    first = client.responses.create(model="local-python", input=dedent(code), tools=[tool], include=OUTPUTS)
    printed, _, answer = first.output
    assert (first.status, printed.container_id, printed.outputs[0].logs) == ("completed", container.id, "7\n")
    (cited,) = answer.content[0].annotations
    text = answer.content[0].text
    assert text[cited.start_index : cited.end_index].startswith("sandbox:/mnt/data/total")
    content = client.containers.files.content.retrieve(cited.file_id, container_id=cited.container_id)
    assert content.read() == b"7"
    listed = client.containers.files.list(container.id)
    assert {(file.source, file.path.rpartition("-")[2]) for file in listed} == {
        ("user", "sales.csv"),
        ("assistant", "/mnt/data/total é.txt"),
    }

    again = {"type": "code_interpreter", "container": {"type": "auto"}}
    second = client.responses.create(
        model="local-python", input="print(total + 1)", tools=[again], previous_response_id=first.id, include=OUTPUTS
    )
    assert (second.output[0].container_id, second.output[0].outputs[0].logs) == (container.id, "8\n")
    with pytest.raises(openai.BadRequestError, match="no model"):
        client.responses.create(model="local-python", input="What is the total?", tools=[tool])
    client.containers.delete(container.id)
    client.files.delete(uploaded.id)
    client.responses.delete(first.id)


def ask(client, text: Any = "go", **others: Any):
    return client.responses.create(model="m", input=text, tools=[TOOL], **others)


def test_a_response_is_whole_and_its_code_has_run(served, client):
    served.plays(python("print(6 * 7)"), says("It is 42."))
    made = ask(client, include=OUTPUTS, metadata={"for": "test"}, instructions="Be brief.")

    code, message = made.output
    assert (code.type, code.status, code.code) == ("code_interpreter_call", "completed", "print(6 * 7)")
    assert [output.to_dict() for output in code.outputs] == [{"type": "logs", "logs": "42\n"}]
    assert code.container_id.startswith("cntr_")
    assert (message.role, message.status, made.output_text) == ("assistant", "completed", "It is 42.")
    assert (made.status, made.model, made.instructions, made.metadata) == (
        "completed", "m", "Be brief.", {"for": "test"},
    )  # fmt: skip
    assert made.tools[0].to_dict() == TOOL
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens, made.usage.total_tokens) == (20, 6, 26)
    again = client.responses.retrieve(made.id)
    assert again.output[0].outputs is None
    assert again.to_dict() | {"output": 0} == made.to_dict() | {"output": 0}
    assert client.responses.retrieve(made.id, include=OUTPUTS).to_dict() == made.to_dict()
    assert [item.content[0].text for item in client.responses.input_items.list(made.id)] == ["go"]
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError, match=f"Response with id '{made.id}' not found"):
        client.responses.retrieve(made.id)


def test_a_stream_has_the_recorded_events_in_their_order(served, client):
    served.plays(
        python("open('größe.csv', 'w').write('1')\nprint('hi')"), says("😀 see ", "sandbox:/mnt/data/größe.csv.")
    )
    with client.responses.stream(model="m", input="go", tools=[TOOL], include=OUTPUTS) as stream:
        events = list(stream)
        final = stream.get_final_response()

    deltas = ("response.code_interpreter_call_code.delta", "response.output_text.delta")
    seen = [event.type for event in events]
    assert [kind for number, kind in enumerate(seen) if kind not in deltas or seen[number - 1] != kind] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.code_interpreter_call.in_progress",
        "response.code_interpreter_call_code.delta",
        "response.code_interpreter_call_code.done",
        "response.code_interpreter_call.interpreting",
        "response.code_interpreter_call.completed",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.annotation.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    code, message = final.output
    assert code.outputs[0].logs == "hi\n"
    (cited,) = message.content[0].annotations
    text = message.content[0].text
    assert text[cited.start_index : cited.end_index] == "sandbox:/mnt/data/größe.csv"
    assert (cited.filename, cited.container_id) == ("größe.csv", code.container_id)
    assert cited.file_id.startswith("cfile_")
    assert client.responses.retrieve(final.id, include=OUTPUTS).to_dict() == _plain(final)


def _plain(final):
    """What the client's helper adds to a response is its own."""
    values = final.to_dict()
    for item in values["output"]:
        for part in item.get("content") or ():
            part.pop("parsed", None)
    return values


def test_a_lost_stream_goes_on_where_it_was(served, client):
    served.plays(python("print(1)"), says("one"))
    whole = list(ask(client, stream=True))
    run = whole[0].response.id
    rest = list(client.responses.retrieve(run, stream=True, starting_after=4))
    again = list(client.responses.retrieve(run, stream=True))

    assert [event.to_dict() for event in again] == [event.to_dict() for event in whole]
    assert [event.to_dict() for event in rest] == [event.to_dict() for event in whole[5:]]


def test_answers_that_go_on_from_the_same_one_at_the_same_time_all_do(client):
    def run(code: str, **more: Any) -> Any:
        tools: Any = [{"type": "code_interpreter", "container": {"type": "auto"}}]
        return client.responses.create(model="local-python", input=code, tools=tools, **more)

    first = run("x = 20")
    with ThreadPoolExecutor(8) as pool:
        others = list(pool.map(lambda n: run(f"print(x + {n})", previous_response_id=first.id), range(8)))
    later = [run("print(x)", previous_response_id=other.id) for other in others]

    assert [other.output_text for other in others] == [f"{20 + number}\n" for number in range(8)]
    assert [each.output_text for each in later] == ["20\n"] * 8
    assert len({each.output[0].container_id for each in (first, *others, *later)}) == 1


def test_code_that_a_model_fences_is_run_without_its_fence(served, client):
    served.plays(python("```python\nprint(6 * 7)\n```"), says("42"))
    call = ask(client, include=OUTPUTS).output[0]

    assert (call.status, call.outputs[0].logs) == ("completed", "42\n")


def test_calls_beyond_what_was_allowed_say_so_to_their_caller(served, client):
    served.plays(python("print(1)"), python("print(2)"), says("done"))
    first, second, _ = ask(client, include=OUTPUTS, max_tool_calls=1).output

    assert (first.outputs[0].logs, second.status) == ("1\n", "failed")
    assert "no more calls" in second.outputs[0].logs


def test_a_model_that_may_not_run_code_is_not_told_of_it(served, client):
    served.plays(says("No."))
    ask(client, tool_choice="none")

    assert "python" not in served.planner.asked[-1].instructions


def test_variables_live_on_by_previous_response_and_by_conversation(served, client):
    served.plays(python("x = 20"), says("kept"), python("print(x + 1)"), says("21"), python("print(x + 2)"), says("22"))
    first = ask(client)
    second = ask(client, previous_response_id=first.id, include=OUTPUTS)
    fork = ask(client, previous_response_id=first.id, include=OUTPUTS)
    assert (second.output[0].outputs[0].logs, fork.output[0].outputs[0].logs) == ("21\n", "22\n")
    assert second.previous_response_id == first.id

    served.plays(python("y = 1"), says("kept"), python("print(y + 1)"), says("2"))
    talk = client.conversations.create(metadata={"a": "b"}, items=[{"role": "user", "content": "before"}])
    ask(client, conversation=talk.id)
    last = ask(client, conversation={"id": talk.id}, include=OUTPUTS)
    assert last.output[0].outputs[0].logs == "2\n"
    assert last.conversation.id == talk.id
    items = list(client.conversations.items.list(talk.id, order="asc", limit=2))
    assert [item.type for item in items] == ["message", *["message", "code_interpreter_call", "message"] * 2]
    assert items[0].content[0].text == "before"
    assert [item.id for item in client.conversations.items.list(talk.id, limit=2)] == [i.id for i in reversed(items)]
    newest = client.conversations.items.list(talk.id, limit=3)
    assert [item.id for item in newest.data] == [item.id for item in reversed(items[-3:])]
    assert newest.has_more


def test_our_own_output_is_taken_back_as_input(served, client):
    served.plays(
        [ReasoningDelta("hmm"), ReasoningEnded({"signature": "s"}), *python("open('a.csv', 'w').write('1')\nz = 3")],
        says("sandbox:/mnt/data/a.csv"),
        python("print(z)"),
        says("3 of sandbox:/mnt/data/a.csv"),
    )
    first = ask(client, include=["reasoning.encrypted_content"])
    assert first.output[0].summary[0].text == "hmm"
    history = [
        {"role": "user", "content": "go"},
        *[item.to_dict() for item in first.output],
        {"role": "user", "content": "on"},
    ]
    second = ask(client, history, include=OUTPUTS)
    told = served.planner.asked[-1].history

    assert second.output[0].outputs[0].logs == "3\n"
    assert second.output[0].container_id == first.output[1].container_id
    assert told[1].parts[0].content["provider"] == {"signature": "s"}
    assert [a.filename for a in second.output[1].content[0].annotations] == ["a.csv"]
    listed = client.responses.input_items.list(second.id, order="asc")
    assert [item.type for item in listed.data] == [
        "message",
        "reasoning",
        "code_interpreter_call",
        "message",
        "message",
    ]
    # Without their ids, as from another server, the items are as good.
    served.plays(python("print(z)"), says("3"))
    bare = [{k: v for k, v in item.items() if k != "id" or item["type"] == "reasoning"} for item in history]
    assert ask(client, bare, include=OUTPUTS).output[0].outputs[0].logs == "3\n"


def test_a_function_of_the_callers_ends_the_response_and_its_output_goes_on_with_it(served, client):
    function = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
    served.plays(calls("weather", '{"city":', ' "Oslo"}', call_id="call_7"), says("Cold."))
    first = client.responses.create(model="m", input="go", tools=[TOOL, function])
    (call,) = first.output
    assert (call.type, call.name, call.arguments, call.call_id) == (
        "function_call",
        "weather",
        '{"city": "Oslo"}',
        "call_7",
    )
    output = {"type": "function_call_output", "call_id": "call_7", "output": "-3"}
    second = client.responses.create(model="m", input=[output], tools=[TOOL, function], previous_response_id=first.id)
    assert second.output_text == "Cold."
    with pytest.raises(openai.BadRequestError, match="call_8"):
        client.responses.create(model="m", input=[output | {"call_id": "call_8"}])


async def test_a_response_in_the_background_is_followed_and_cancelled(served):
    served.plays(python("print('begun', flush=True)\nwhile True: pass"))
    async with served.async_client() as client:
        with anyio.fail_after(30):
            made = await client.responses.create(model="m", input="go", tools=[TOOL], background=True)
            assert made.status in ("queued", "in_progress")
            async with await client.responses.retrieve(made.id, stream=True) as stream:
                kinds = []
                async for event in stream:
                    kinds.append(event.type)
                    if event.type == "response.code_interpreter_call.interpreting":
                        await client.responses.cancel(made.id)
            ended = await client.responses.cancel(made.id)
    assert kinds[:3] == ["response.created", "response.queued", "response.in_progress"]
    assert kinds[-1] == "response.incomplete"
    assert (ended.status, ended.output[0].status) == ("cancelled", "incomplete")
    served.plays(says("after"))
    assert ask(served.client(), previous_response_id=made.id).output_text == "after"


def test_what_is_not_stored_leaves_nothing_but_its_files(served, client):
    served.plays(python("open('a.txt', 'w').write('a')"), says("gone"), says("gone"))
    whole = ask(client, store=False)
    *_, last = ask(client, store=False, stream=True)
    for made in (whole, last.response):
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(made.id)
        with pytest.raises(openai.BadRequestError, match="Previous response"):
            ask(client, previous_response_id=made.id)
    (cited,) = whole.output[-1].content[0].annotations
    assert client.containers.files.content.retrieve(cited.file_id, container_id=cited.container_id).read() == b"a"
    row_id = naming.row_id(whole.output[-1].id, naming.MESSAGE)
    with pytest.raises(NotFoundError):
        served.call(served.services.repository.messages.get, "acme", row_id)


def test_a_model_that_fails_before_code_ran_is_an_error_and_after_it_a_failed_response(served, client):
    served.plays([PlannerError("busy", reason="rate_limited", retry_after_s=7)])
    with pytest.raises(openai.RateLimitError) as limited:
        ask(client)
    assert limited.value.response.headers["retry-after"] == "7"
    served.plays([PlannerError("prose", reason="no_code")])
    with pytest.raises(openai.BadRequestError, match="prose"):
        ask(client)
    served.plays(python("1"), [PlannerError("down", reason="unavailable")])
    failed = ask(client)
    assert (failed.status, failed.error.code, failed.error.message) == ("failed", "server_error", "down")
    served.plays([PlannerError("prose", reason="no_code")])
    *_, last = ask(client, stream=True)
    assert (last.type, last.response.error.code) == ("response.failed", "invalid_prompt")


def test_a_stream_that_is_looked_at_later_has_the_outputs_that_are_asked_for_then(served, client):
    served.plays(python("print('now')"), says("x"))
    made = ask(client)
    events = list(client.responses.retrieve(made.id, stream=True, include=OUTPUTS))
    (done,) = [event.item for event in events if event.type == "response.output_item.done" and event.output_index == 0]
    assert done.outputs[0].logs == "now\n"
    assert events[-1].response.output[0].outputs == done.outputs
    plain = list(client.responses.retrieve(made.id, stream=True))
    assert plain[-1].response.output[0].outputs is None
    assert [event.sequence_number for event in plain] == [event.sequence_number for event in events]


def test_live_output_is_streamed_to_who_asks_for_it(served):
    served.plays(python("print('now')"), says("x"))
    client = served.client(is_strict=False)
    events = list(ask(client, stream=True, include=["bichat.live_output"]))
    (live,) = [event for event in events if event.type == "bichat.code_interpreter_call.output"]
    assert (live.stream, live.text) == ("stdout", "now\n")


def test_nobody_elses_responses_and_conversations_are_there(served, client):
    served.plays(says("mine"))
    made, talk = ask(client), client.conversations.create()
    other = served.client("other")
    for attempt in (
        lambda: other.responses.retrieve(made.id),
        lambda: other.responses.cancel(made.id),
        lambda: other.responses.delete(made.id),
        lambda: other.responses.input_items.list(made.id),
        lambda: other.conversations.retrieve(talk.id),
        lambda: other.conversations.delete(talk.id),
        lambda: other.conversations.items.list(talk.id),
        lambda: ask(other, conversation=talk.id),
    ):
        with pytest.raises(openai.NotFoundError):
            attempt()
    with pytest.raises(openai.BadRequestError, match="Previous response"):
        ask(other, previous_response_id=made.id)


def test_conversations_are_made_changed_and_deleted_with_their_items(client):
    talk = client.conversations.create(metadata={"a": "b"})
    assert (talk.object, talk.metadata) == ("conversation", {"a": "b"})
    assert client.conversations.update(talk.id, metadata={"c": "d"}).metadata == {"c": "d"}
    added = client.conversations.items.create(
        talk.id,
        items=[
            {"role": "developer", "content": "rules"},
            {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"role": "assistant", "content": "ho"},
        ],
    )
    assert [(item.role, item.content[0].text) for item in added.data] == [
        ("developer", "rules"),
        ("user", "hi"),
        ("assistant", "ho"),
    ]
    first = client.conversations.items.retrieve(added.data[0].id, conversation_id=talk.id)
    assert first.to_dict() == added.data[0].to_dict()
    assert client.conversations.items.delete(first.id, conversation_id=talk.id).id == talk.id
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.retrieve(first.id, conversation_id=talk.id)
    assert client.conversations.delete(talk.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(talk.id)


#: The bare environment has nothing that draws: it says to the sandbox what a library would.
SHOW = """
import base64, json, os, socket, stat, struct
for number in range(3, 64):
    if os.path.exists(f"/proc/self/fd/{number}") and stat.S_ISSOCK(os.fstat(number).st_mode):
        break
shown = json.dumps({"display": {"data": {"image/png": base64.b64encode(b"\\x89PNG\\r\\n\\x1a\\n" + bytes(9)).decode()}}}).encode()
socket.socket(fileno=os.dup(number)).sendall(struct.pack(">I", len(shown)) + shown)
"""


def test_a_displayed_image_comes_as_data_and_belongs_to_the_answer(served, client):
    served.plays(python(SHOW), says("Look."))
    with client.responses.stream(model="m", input="go", tools=[TOOL], include=OUTPUTS) as stream:
        made = stream.get_final_response()
    (image,) = made.output[0].outputs
    (belongs,) = made.output[1].content[0].annotations
    data = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(9)).decode()
    assert (image.type, image.url) == ("image", f"data:image/png;base64,{data}")
    assert (belongs.start_index, belongs.end_index, belongs.container_id) == (0, 0, made.output[0].container_id)
    assert client.responses.retrieve(made.id, include=OUTPUTS).output[0].to_dict() == made.output[0].to_dict()


def test_a_container_by_its_id_is_used_and_one_that_has_ended_is_refused_or_replaced(served, client):
    async def opened():
        return (await served.services.sessions.open("acme")).id

    async def close(session_id):
        async with served.services.sessions.held("acme", session_id) as session:
            await session.close()

    session_id = served.call(opened)
    named = {"type": "code_interpreter", "container": f"cntr_{session_id.replace('-', '')}"}
    served.plays(python("open('kept.txt', 'w').write('kept')"), says("done"))
    first = client.responses.create(model="m", input="go", tools=[named])
    assert first.output[0].container_id == named["container"]
    served.call(close, session_id)
    with pytest.raises(openai.BadRequestError, match="has expired"):
        client.responses.create(model="m", input="go", tools=[named])
    with pytest.raises(openai.NotFoundError, match="Container with id"):
        client.responses.create(model="m", input="go", tools=[named | {"container": "cntr_" + "0" * 32}])
    served.plays(python("print(open('kept.txt').read())"), says("on"))
    second = ask(client, previous_response_id=first.id, include=OUTPUTS)
    assert second.output[0].outputs[0].logs == "kept\n"
    assert second.output[0].container_id != named["container"]
    assert "expired" in second.metadata["bichat.container"]


def test_metadata_of_an_answer_can_be_sent_back(served, client):
    async def close(container):
        async with served.services.sessions.held("acme", naming.row_id(container, naming.CONTAINER)) as session:
            await session.close()

    served.plays(python("1"), says("a"), python("2"), says("b"), python("3"), says("c"))
    own = {f"k{number}": "v" for number in range(16)}
    first = ask(client, metadata=own)
    served.call(close, first.output[0].container_id)
    second = ask(client, metadata=first.metadata, previous_response_id=first.id)
    assert second.metadata == own
    served.call(close, second.output[0].container_id)
    third = ask(client, previous_response_id=second.id, metadata={"a": "b"})
    assert set(third.metadata) == {"a", "bichat.container"}
    served.plays(python("4"), says("d"))
    assert ask(client, previous_response_id=third.id, metadata=third.metadata).metadata == {"a": "b"}


def test_a_container_that_has_ended_is_told_in_the_words_of_the_wire(served, client):
    container = client.containers.create(name="short")

    async def close():
        async with served.services.sessions.held("acme", naming.row_id(container.id, naming.CONTAINER)) as session:
            await session.close()

    served.call(close)
    named: Any = [{"type": "code_interpreter", "container": container.id}]
    asks = [
        lambda: client.responses.create(model="m", input="go", tools=named),
        lambda: client.responses.create(model="m", input="go", tools=named, stream=True),
        lambda: client.containers.files.create(container.id, file=("a.txt", b"a")),
    ]
    for asked, param in zip(asks, ("tools[0].container", "tools[0].container", "container_id"), strict=True):
        with pytest.raises(openai.BadRequestError) as refused:
            asked()
        assert (refused.value.code, refused.value.param) == ("container_expired", param)
        assert container.id in refused.value.message
        assert "POST /containers" in refused.value.message


def test_functions_are_told_as_typed_clients_want_them(served, client):
    served.plays(says("no"))
    tools: Any = [{"type": "function", "name": "f", "strict": None}]
    made = client.responses.create(model="m", input="go", tools=tools)
    (told,) = made.tools
    assert (told.name, told.strict, told.parameters, told.description) == ("f", False, None, None)


def test_what_a_provider_refuses_for_good_is_not_asked_again(served, client):
    for reason in ("unauthorized", "quota_exceeded"):
        served.plays([PlannerError("no", reason=reason)])
        with pytest.raises(openai.APIStatusError) as refused:
            ask(client.with_options(max_retries=2))
        assert refused.value.response.headers["x-should-retry"] == "false"


def test_half_an_emoji_is_one_unreadable_character(served, client):
    served.plays(says("Hm."))
    half = json.dumps({"model": "m", "input": "cut \ud83d", "instructions": "\ude00"}).encode("ascii")

    client.post("/responses", content=half, cast_to=object, options={"headers": {"content-type": "application/json"}})

    asked = served.planner.asked[-1]
    assert asked.history[-1].parts[0].content["text"] == "cut \ufffd"
    assert asked.instructions.endswith("\ufffd")


def test_ten_thousand_items_go_in_and_come_back_in_pages(served, client):
    served.plays(says("Much."))
    items = [{"role": "user", "content": str(number)} for number in range(10_000)]
    made = client.responses.create(model="m", input=items)
    newest = client.responses.input_items.list(made.id, limit=100)
    oldest = client.responses.input_items.list(made.id, limit=100, order="asc")
    assert [item.content[0].text for item in newest.data] == [str(number) for number in range(9_999, 9_899, -1)]
    assert [item.content[0].text for item in oldest.data] == [str(number) for number in range(100)]
    assert len(served.planner.asked[-1].history) == 10_000
    last = oldest.data[-1].id
    assert [
        item.id
        for item in client.responses.input_items.list(made.id, order="asc", limit=3, extra_query={"before": last})
    ] == [item.id for item in oldest.data[-4:-1]]
    with pytest.raises(openai.BadRequestError, match="nothing with the id"):
        client.responses.input_items.list(made.id, after="file-" + "0" * 32)


def test_a_body_that_is_no_json_is_refused(client):
    deep = b"[" * 100_000
    for body in (b"{", deep, b"\xff", b'{"metadata": NaN}', b'{"input": 1e999}', b"[]", b'"x"', b"null", b""):
        with pytest.raises(openai.BadRequestError, match="JSON object"):
            raw(client, body)


def test_a_second_response_in_a_conversation_waits_for_none_and_is_refused_for_good(served, client):
    talk = client.conversations.create()
    served.plays(python("while True: pass"))
    running = ask(client, conversation=talk.id, background=True)
    with pytest.raises(openai.BadRequestError, match="not over"):
        ask(client, conversation=talk.id)
    with pytest.raises(openai.BadRequestError, match="not over"):
        client.conversations.items.create(talk.id, items=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.BadRequestError, match="is not over"):
        ask(client, previous_response_id=running.id)
    client.conversations.delete(talk.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(running.id)


def test_text_that_no_encoding_has_goes_out_and_comes_in_as_unreadable(served, client):
    served.plays(says("\ud83d"))
    odd = {"model": "m", "input": "\udc80", "metadata": {"odd": "\udfff"}}
    made = raw(client, odd, cast_to=Response)
    assert (made.output_text, made.metadata) == ("\ud83d", {"odd": "\ufffd"})
    assert client.responses.input_items.list(made.id).data[0].content[0].text == "\ufffd"
    with pytest.raises(openai.NotFoundError):
        raw(client, odd | {"conversation": "conv_\ud800"})


@pytest.mark.parametrize("container", ["x", "../..", "01a2090f-1532", "cntr_1"])
def test_a_call_that_names_a_container_of_elsewhere_is_told_as_it_was_said(client, container):
    call = {"type": "code_interpreter_call", "id": "ci_1", "code": "1", "container_id": container}
    conversation = client.conversations.create()

    client.conversations.items.create(conversation.id, items=[{**call, "status": "completed", "outputs": None}])

    (kept,) = client.conversations.items.list(conversation.id)
    assert (kept.code, kept.container_id) == ("1", container)


def raw(client, body, cast_to=object):
    """A body that the client would not send."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    return client.post("/responses", cast_to=cast_to, content=content, options={"headers": headers})


def test_a_file_that_comes_with_the_question_lies_where_code_finds_it(served, client):
    data = "data:text/csv;base64," + base64.b64encode(CSV).decode()
    served.plays(python("import glob; print(open(*glob.glob('*-sales.csv')).read())"), says("Read."))
    question = {"type": "input_file", "filename": "../sales.csv", "file_data": data}
    made = ask(client, [{"role": "user", "content": [question]}], include=OUTPUTS)
    assert made.output[0].outputs[0].logs == CSV.decode() + "\n"
    (kept,) = client.responses.input_items.list(made.id).data[0].content
    assert client.files.retrieve(kept.file_id).filename == "sales.csv"


def test_a_stream_that_its_reader_leaves_goes_on_without_him(served, client):
    served.plays(python("print('on')"), says("and on"))
    with ask(client, stream=True) as stream:
        made = next(iter(stream)).response
    *_, last = client.responses.retrieve(made.id, stream=True)
    assert (last.type, last.response.output_text) == ("response.completed", "and on")


def test_a_chat_completion_that_its_reader_leaves_is_ended(served, client):
    served.plays([*says("begun")[:1], *python("while True: pass")])
    with client.chat.completions.create(model="m", messages=[{"role": "user", "content": "go"}], stream=True) as stream:
        made = next(iter(stream))
    run_id = str(UUID(made.id.removeprefix("chatcmpl-")))

    async def gone() -> None:
        with anyio.fail_after(20), suppress(NotFoundError):
            while True:
                await served.services.core.wait("acme", run_id)

    served.call(gone)


async def test_a_hundred_streams_at_a_time_lose_mix_and_double_nothing(served):
    pieces = {f"many {number}": [f"{number}.{piece} " for piece in range(20)] for number in range(100)}
    served.planner.by_text.update({text: says(*said) for text, said in pieces.items()})
    heard: dict[str, list[dict[str, Any]]] = {}

    async def listen(client, text):
        async with await client.responses.create(model="m", input=text, stream=True) as stream:
            heard[text] = [event.to_dict() async for event in stream]

    with anyio.fail_after(120):
        async with served.async_client() as client, anyio.create_task_group() as tasks:
            for text in pieces:
                tasks.start_soon(listen, client, text)
    served.planner.by_text.clear()
    served.planner.asked.clear()

    for text, events in heard.items():
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        said = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
        assert said == "".join(pieces[text])
        assert events[-1]["type"] == "response.completed"
