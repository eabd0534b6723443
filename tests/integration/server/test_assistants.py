"""Assistants, threads and runs over HTTP, as the official client sees them in its strict mode."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types.beta.threads import Run

from bichat.testing.planner import calls, says

from .test_responses import SHOW

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

CODE: Any = [{"type": "code_interpreter"}]
CSV = b"region,units\nnorth,3\nsouth,4\n"


def python(code: str, call_id: str = "call_1"):
    return calls("python", json.dumps({"code": code}), call_id=call_id)


@pytest.fixture
def assistant(client):
    """One whose model plays the script."""
    return client.beta.assistants.create(model="m", tools=CODE, instructions="Be brief.")


def ask(client, assistant, text="go", **others: Any):
    """A thread with a message, and its run at its end."""
    thread = client.beta.threads.create(messages=[{"role": "user", "content": text}])
    run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id, **others)
    return thread, run


def test_with_no_model_at_all_a_csv_goes_in_code_runs_and_files_and_images_come_out(client):
    uploaded = client.files.create(file=("sales.csv", CSV), purpose="assistants")
    assistant = client.beta.assistants.create(model="local-python", tools=CODE)
    thread = client.beta.threads.create()
    code = f"""
import csv
rows = list(csv.DictReader(open("/mnt/data/{uploaded.id}")))
assert open("/mnt/data/sales.csv").read() == open("/mnt/data/{uploaded.id}").read()
total = sum(int(row["units"]) for row in rows)
print("total", total)
open("/mnt/data/total é.csv", "w").write(str(total))
"""
    client.beta.threads.messages.create(
        thread_id=thread.id,
        role="user",
        content=f"Sum it up, please:\n```python{code}{SHOW}```",
        attachments=[{"file_id": uploaded.id, "tools": CODE}],
    )
    run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)

    assert (run.status, run.last_error) == ("completed", None)
    answer, question = client.beta.threads.messages.list(thread_id=thread.id).data
    image, text = answer.content
    (link,) = text.text.annotations
    shown = client.files.content(image.image_file.file_id).read()
    made = client.files.retrieve(link.file_path.file_id)
    assert (answer.role, answer.run_id, answer.assistant_id) == ("assistant", run.id, assistant.id)
    assert question.attachments[0].to_dict() == {"file_id": uploaded.id, "tools": CODE}
    assert shown.startswith(b"\x89PNG")
    assert text.text.value[link.start_index : link.end_index] == link.text
    assert link.text.startswith("sandbox:/mnt/data/total")
    assert (made.filename, made.purpose, made.bytes) == ("total é.csv", "assistants_output", 1)
    assert client.files.content(made.id).read() == b"7"
    last, first = client.beta.threads.runs.steps.list(run_id=run.id, thread_id=thread.id).data
    (call,) = first.step_details.tool_calls
    assert last.step_details.message_creation.message_id == answer.id
    assert "total = sum(" in call.code_interpreter.input
    assert [output.to_dict() for output in call.code_interpreter.outputs] == [
        {"type": "logs", "logs": "total 7\n"},
        {"type": "image", "image": {"file_id": image.image_file.file_id}},
    ]

    # The session of the thread lives on between its runs.
    client.beta.threads.messages.create(thread_id=thread.id, role="user", content="print(total + 1)")
    again = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
    newest = client.beta.threads.messages.list(thread_id=thread.id, limit=1).data[0]
    assert (again.status, newest.content[0].text.value) == ("completed", "8\n")
    assert client.beta.threads.delete(thread.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(made.id)


def test_an_assistant_is_made_changed_listed_and_deleted(client):
    function = {
        "name": "f",
        "description": "does",
        "parameters": {"type": "object", "properties": {}},
        "strict": False,
    }
    file = client.files.create(file=("a.csv", b"1"), purpose="assistants")
    plain = client.beta.assistants.create(model="gpt-4o")
    full = client.beta.assistants.create(
        model="gpt-4-1106-preview",
        name="n",
        description="d",
        instructions="i",
        metadata={"k": "v"},
        temperature=0.5,
        top_p=0.9,
        reasoning_effort="low",
        response_format={"type": "json_object"},
        tools=[*CODE, {"type": "file_search"}, {"type": "function", "function": function}],
        tool_resources={"code_interpreter": {"file_ids": [file.id]}},
    )

    assert plain.to_dict() == {
        "id": plain.id,
        "object": "assistant",
        "created_at": plain.created_at,
        "name": None,
        "description": None,
        "model": "gpt-4o",
        "instructions": None,
        "tools": [],
        "top_p": 1.0,
        "temperature": 1.0,
        "reasoning_effort": None,
        "tool_resources": {},
        "metadata": {},
        "response_format": "auto",
    }
    assert full.to_dict() == {
        "id": full.id,
        "object": "assistant",
        "created_at": full.created_at,
        "name": "n",
        "description": "d",
        "model": "gpt-4-1106-preview",
        "instructions": "i",
        "tools": [*CODE, {"type": "file_search"}, {"type": "function", "function": function}],
        "top_p": 0.9,
        "temperature": 0.5,
        "reasoning_effort": "low",
        "tool_resources": {"code_interpreter": {"file_ids": [file.id]}},
        "metadata": {"k": "v"},
        "response_format": {"type": "json_object"},
    }
    changed = client.beta.assistants.update(full.id, name="other", description=None, tools=CODE)
    assert changed.to_dict() == full.to_dict() | {"name": "other", "description": None, "tools": CODE}
    assert client.beta.assistants.retrieve(full.id) == changed
    assert client.beta.assistants.create(model="m", tools=CODE).tool_resources.to_dict() == {
        "code_interpreter": {"file_ids": []}
    }
    newest = client.beta.assistants.list(limit=3).data
    assert [each.id for each in newest[1:]] == [full.id, plain.id]
    after = client.beta.assistants.list(after=newest[0].id, limit=1)
    assert [each.id for each in after.data] == [full.id]
    assert after.has_more
    before = client.beta.assistants.list(before=plain.id, limit=2).data
    assert [each.id for each in before] == [newest[0].id, full.id]
    assert client.beta.assistants.list(order="asc", after=plain.id).data == newest[1::-1]
    assert client.beta.assistants.delete(full.id).to_dict() == {
        "id": full.id,
        "object": "assistant.deleted",
        "deleted": True,
    }
    for use in (client.beta.assistants.retrieve, client.beta.assistants.delete):
        with pytest.raises(openai.NotFoundError, match=f"No assistant found with id '{full.id}'"):
            use(full.id)


def test_threads_and_messages_are_made_changed_listed_and_deleted(client):
    threads = client.beta.threads
    image = client.files.create(file=("a.png", b"png"), purpose="vision")
    file = client.files.create(file=("a.csv", b"1"), purpose="assistants")
    thread = threads.create(
        messages=[
            {"role": "user", "content": "one", "metadata": {"k": "v"}},
            {"role": "assistant", "content": "two"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "three"},
                    {"type": "image_file", "image_file": {"file_id": image.id, "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                ],
                "attachments": [{"file_id": file.id, "tools": CODE}],
            },
        ],
        metadata={"a": "b"},
    )

    assert thread.to_dict() == {
        "id": thread.id,
        "object": "thread",
        "created_at": thread.created_at,
        "metadata": {"a": "b"},
        "tool_resources": {"code_interpreter": {"file_ids": [file.id]}},
    }
    three, two, one = threads.messages.list(thread.id).data
    assert one.to_dict() == {
        "id": one.id,
        "object": "thread.message",
        "created_at": one.created_at,
        "assistant_id": None,
        "thread_id": thread.id,
        "run_id": None,
        "status": "completed",
        "incomplete_details": None,
        "incomplete_at": None,
        "completed_at": one.created_at,
        "role": "user",
        "content": [{"type": "text", "text": {"value": "one", "annotations": []}}],
        "attachments": [],
        "metadata": {"k": "v"},
    }
    assert (two.role, two.content[0].text.value) == ("assistant", "two")
    assert three.to_dict()["content"] == [
        {"type": "text", "text": {"value": "three", "annotations": []}},
        {"type": "image_file", "image_file": {"file_id": image.id, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "auto"}},
    ]
    assert three.attachments[0].to_dict() == {"file_id": file.id, "tools": CODE}
    assert [each.id for each in threads.messages.list(thread.id, order="asc", limit=1)] == [one.id, two.id, three.id]
    assert [each.id for each in threads.messages.list(thread.id, limit=1)] == [three.id, two.id, one.id]
    assert [each.id for each in threads.messages.list(thread.id, before=one.id, limit=1).data] == [two.id]
    assert threads.messages.retrieve(one.id, thread_id=thread.id) == one
    changed = threads.messages.update(one.id, thread_id=thread.id, metadata={"x": "y"})
    assert changed.to_dict() == one.to_dict() | {"metadata": {"x": "y"}}
    later = threads.update(thread.id, metadata={"c": "d"}, tool_resources={"code_interpreter": {"file_ids": []}})
    assert later == threads.retrieve(thread.id)
    assert (later.metadata, later.tool_resources.code_interpreter.file_ids) == ({"c": "d"}, [])
    assert threads.messages.delete(two.id, thread_id=thread.id).object == "thread.message.deleted"
    assert [each.id for each in threads.messages.list(thread.id)] == [three.id, one.id]
    other = threads.create()
    assert other.to_dict()["tool_resources"] == {}
    with pytest.raises(openai.NotFoundError, match="No message found with id"):
        threads.messages.retrieve(one.id, thread_id=other.id)
    assert threads.delete(thread.id).object == "thread.deleted"
    with pytest.raises(openai.NotFoundError, match=f"No thread found with id '{thread.id}'"):
        threads.messages.list(thread.id)


def test_a_run_is_whole_from_its_making_to_its_end(served, client, assistant):
    served.plays(python("print(6 * 7)"), says("It is 42."))
    threads = client.beta.threads
    thread = threads.create()
    made = threads.runs.create(
        thread_id=thread.id,
        assistant_id=assistant.id,
        additional_messages=[{"role": "user", "content": "6 times 7?"}],
        additional_instructions="In English.",
        metadata={"for": "test"},
        max_completion_tokens=1000,
        truncation_strategy={"type": "last_messages", "last_messages": 3},
    )
    over = threads.runs.poll(made.id, thread_id=thread.id)

    assert made.to_dict() == {
        "id": made.id,
        "object": "thread.run",
        "created_at": made.created_at,
        "assistant_id": assistant.id,
        "thread_id": thread.id,
        "status": "queued",
        "started_at": None,
        "expires_at": made.created_at + 600,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "required_action": None,
        "last_error": None,
        "model": "m",
        "instructions": "Be brief.\n\nIn English.",
        "tools": CODE,
        "tool_resources": {},
        "metadata": {"for": "test"},
        "temperature": 1.0,
        "top_p": 1.0,
        "reasoning_effort": None,
        "max_completion_tokens": 1000,
        "max_prompt_tokens": None,
        "truncation_strategy": {"type": "last_messages", "last_messages": 3},
        "incomplete_details": None,
        "usage": None,
        "response_format": "auto",
        "tool_choice": "auto",
        "parallel_tool_calls": True,
    }
    assert over.to_dict() == made.to_dict() | {
        "status": "completed",
        "started_at": over.started_at,
        "expires_at": None,
        "completed_at": over.completed_at,
        "usage": usage(20, 6),
    }
    assert (over.started_at, over.completed_at) >= (made.created_at, made.created_at)
    assert served.planner.asked[-1].instructions.endswith("Be brief.\n\nIn English.")
    raw = threads.runs.with_raw_response.retrieve(made.id, thread_id=thread.id)
    assert raw.headers["openai-poll-after-ms"] == "100"
    answer, question = threads.messages.list(thread.id).data
    assert (question.content[0].text.value, question.run_id) == ("6 times 7?", None)
    assert [each.id for each in threads.messages.list(thread.id, run_id=made.id)] == [answer.id]
    said, ran = threads.runs.steps.list(run_id=made.id, thread_id=thread.id).data
    common = {
        "object": "thread.run.step",
        "run_id": made.id,
        "assistant_id": assistant.id,
        "thread_id": thread.id,
        "status": "completed",
        "cancelled_at": None,
        "expired_at": None,
        "expires_at": None,
        "failed_at": None,
        "last_error": None,
        "metadata": {},
    }
    assert said.to_dict() == common | {
        "id": said.id,
        "created_at": said.created_at,
        "type": "message_creation",
        "completed_at": said.completed_at,
        "step_details": {"type": "message_creation", "message_creation": {"message_id": answer.id}},
        "usage": usage(10, 1),
    }
    call = {"input": "print(6 * 7)", "outputs": [{"type": "logs", "logs": "42\n"}]}
    (made_call,) = ran.step_details.tool_calls
    assert ran.to_dict() == common | {
        "id": ran.id,
        "created_at": ran.created_at,
        "type": "tool_calls",
        "completed_at": ran.completed_at,
        "step_details": {
            "type": "tool_calls",
            "tool_calls": [{"id": made_call.id, "type": "code_interpreter", "code_interpreter": call}],
        },
        "usage": usage(10, 5),
    }
    assert threads.runs.steps.retrieve(ran.id, thread_id=thread.id, run_id=made.id) == ran
    assert [each.id for each in threads.runs.steps.list(run_id=made.id, thread_id=thread.id, limit=1)] == [
        said.id,
        ran.id,
    ]
    named = threads.runs.update(made.id, thread_id=thread.id, metadata={"a": "b"})
    assert named.to_dict() == over.to_dict() | {"metadata": {"a": "b"}}
    assert [each.id for each in threads.runs.list(thread.id)] == [made.id]


def usage(prompt: int, completion: int):
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_token_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def test_text_that_no_encoding_has_goes_in_and_out_with_halves_of_characters_replaced(served, client):
    kept = "half \ufffd \0 \u2028 😀"
    odd = "half \ud800 \0 \u2028 😀"

    def post(path: str, cast_to: Any = object, **body: Any) -> Any:
        """A body that the client would not send."""
        options: Any = {"headers": {"content-type": "application/json"}}
        return client.post(path, cast_to=cast_to, content=json.dumps(body).encode(), options=options)

    store = post("/vector_stores", name=odd, metadata={odd: odd})
    made = post("/assistants", model="m", name=odd, instructions=odd, metadata={odd: odd}, tools=CODE)
    thread = post("/threads", metadata={odd: odd})
    ours = f"/threads/{thread['id']}"
    message = post(f"{ours}/messages", role="user", content=odd, metadata={odd: odd})
    served.plays(python("print(chr(0xd800))"), says(odd))
    run = post(f"{ours}/runs", Run, assistant_id=made["id"], metadata={odd: odd})
    over = client.beta.threads.runs.poll(run.id, thread_id=thread["id"])
    steps = client.beta.threads.runs.steps.list(run.id, thread_id=thread["id"]).data

    named = (store["name"], store["metadata"], made["name"], thread["metadata"])
    assert named == (kept, {kept: kept}, kept, {kept: kept})
    assert message["content"][0]["text"]["value"] == kept
    assert (over.status, over.instructions, over.metadata) == ("completed", kept, {kept: kept})
    assert "?" not in steps[1].step_details.tool_calls[0].code_interpreter.outputs[0].logs
    assert client.beta.threads.messages.list(thread["id"]).data[0].content[0].text.value == odd


def test_what_code_made_is_a_file_like_others_and_its_tenants_alone(served, client, assistant):
    served.plays(python("open('a.txt', 'w').write('a'); open('b.txt', 'w').write('bb')"), says("both"))
    thread, _ = ask(client, assistant)
    answer = client.beta.threads.messages.list(thread.id).data[0]
    ids = [each.file_id for each in answer.attachments]
    listed = client.files.list(purpose="assistants_output")
    page = client.files.list(purpose="assistants_output", limit=1)

    # Neither is named in the text; both belong to the answer all the same.
    assert sorted(client.files.content(each).read() for each in ids) == [b"a", b"bb"]
    assert [each.id for each in listed][:2] == ids[::-1]
    assert [each.id for each in page][:2] == ids[::-1]
    for use in (served.client("other").files.retrieve, served.client("other").files.content):
        with pytest.raises(openai.NotFoundError):
            use(ids[0])
    assert client.files.delete(ids[0]).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(ids[0])
    assert client.files.retrieve(ids[1]).purpose == "assistants_output"
