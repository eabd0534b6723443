"""Streams of runs, functions of the caller's, and what is refused, as the official client's helpers see them."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import anyio
import openai
import pytest
from openai import AssistantEventHandler, AsyncAssistantEventHandler, AzureOpenAI

from bichat.conversation.planner import PlannerError, TextDelta, TurnEnded
from bichat.server.assistants import run_requests
from bichat.testing.planner import calls, says

from .test_assistants import CODE, ask, assistant, python, usage
from .test_responses import SHOW

__all__ = ["assistant"]
pytestmark = [pytest.mark.anyio, pytest.mark.sandbox, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

WEATHER: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


class Handler(AssistantEventHandler):
    """Writes down what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: list[str] = []
        self.told: list[Any] = []
        self.events: list[Any] = []

    def on_event(self, event: Any) -> None:
        if event.event != (self.kinds[-1] if self.kinds else "") or "delta" not in event.event:
            self.kinds.append(event.event)
        self.events.append(event)

    def on_tool_call_created(self, tool_call: Any) -> None:
        self.told.append(("call", tool_call.type))

    def on_tool_call_done(self, tool_call: Any) -> None:
        self.told.append(("call done", tool_call.id))

    def on_text_done(self, text: Any) -> None:
        self.told.append(("text done", text.value))

    def on_image_file_done(self, image_file: Any) -> None:
        self.told.append(("image", image_file.file_id))

    def on_message_done(self, message: Any) -> None:
        self.told.append(("message done", message.id))


def a_thread(client, text: str = "go"):
    return client.beta.threads.create(messages=[{"role": "user", "content": text}])


BEGUN = ["thread.run.created", "thread.run.queued", "thread.run.in_progress"]
STEP = ["thread.run.step.created", "thread.run.step.in_progress"]
CALL = [*STEP, "thread.run.step.delta", "thread.run.step.completed"]
SAID = [
    *STEP,
    "thread.message.created",
    "thread.message.in_progress",
    "thread.message.delta",
    "thread.message.completed",
    "thread.run.step.completed",
]


def test_a_stream_has_the_recorded_events_in_their_order_and_its_deltas_make_the_whole(served, client, assistant):
    code = f"{SHOW}\nopen('größe.csv', 'w').write('1')\nprint('hi')"
    served.plays(python(code), says("😀 see ", "sandbox:/mnt/data/größe.csv."))
    threads, handler = client.beta.threads, Handler()
    thread = a_thread(client)
    with threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id, event_handler=handler) as stream:
        stream.until_done()

    run = stream.get_final_run()
    assert handler.kinds == [*BEGUN, *CALL, *SAID, "thread.run.completed"]
    assert run == threads.runs.retrieve(run.id, thread_id=thread.id)
    ran, _ = stream.get_final_run_steps()
    (message,) = stream.get_final_messages()
    assert message == threads.messages.retrieve(message.id, thread_id=thread.id)
    image, text = message.content
    (link,) = text.text.annotations
    assert text.text.value[link.start_index : link.end_index] == link.text == "sandbox:/mnt/data/größe.csv"
    (call,) = threads.runs.steps.retrieve(ran.id, thread_id=thread.id, run_id=run.id).step_details.tool_calls
    (streamed,) = ran.step_details.tool_calls
    assert streamed.to_dict() == {"index": 0, **_numbered(call.to_dict())}
    assert call.code_interpreter.input == code
    assert [output.type for output in call.code_interpreter.outputs] == ["logs", "image"]
    assert list(dict.fromkeys(handler.told)) == [
        ("call", "code_interpreter"),
        ("call done", call.id),
        ("image", image.image_file.file_id),
        ("text done", text.text.value),
        ("message done", message.id),
    ]
    deltas = [event.data.delta.content[0] for event in handler.events if event.event == "thread.message.delta"]
    assert deltas[0].to_dict() == {"index": 0, **image.to_dict()}
    assert "".join((delta.text.value or "") for delta in deltas[1:]) == text.text.value


def _numbered(call: dict[str, Any]) -> dict[str, Any]:
    """What the client's helper keeps of deltas has their numbers."""
    outputs = [{"index": number, **output} for number, output in enumerate(call["code_interpreter"]["outputs"])]
    return call | {"code_interpreter": call["code_interpreter"] | {"outputs": outputs}}


async def test_several_steps_are_streamed_to_an_async_client_and_what_is_printed_comes_as_it_is_printed(served):
    code = "print('a')\nprint('b')\nprint(2)"
    served.plays([TextDelta("Let me see."), *python("1 / 0")], python(code, "call_2"), says("Two."))
    async with served.async_client() as client:
        made = await client.beta.assistants.create(model="m", tools=CODE)
        handler = AsyncAssistantEventHandler()
        async with client.beta.threads.create_and_run_stream(
            assistant_id=made.id, thread={"messages": [{"role": "user", "content": "go"}]}, event_handler=handler
        ) as stream:
            kinds = [event.event async for event in stream]
            run = await stream.get_final_run()
            steps = await stream.get_final_run_steps()
            messages = await stream.get_final_messages()
        listed = [step async for step in client.beta.threads.runs.steps.list(run_id=run.id, thread_id=run.thread_id)]

    assert kinds[:4] == ["thread.created", *BEGUN]
    assert [step.type for step in steps] == ["message_creation", "tool_calls", "tool_calls", "message_creation"]
    assert [step.id for step in steps] == [step.id for step in reversed(listed)]
    assert [message.content[0].text.value for message in messages] == ["Let me see.", "Two."]
    logs = [step.step_details.tool_calls[0].code_interpreter.outputs[0].logs for step in steps[1:3]]
    assert "ZeroDivisionError" in logs[0]
    assert logs[1] == "a\nb\n2\n"
    assert {step.status for step in listed} == {"completed"}
    assert run.usage.to_dict() == usage(30, 11)
    assert [step.usage.prompt_tokens for step in reversed(listed)] == [0, 10, 10, 10]


def outputs(*ids: str) -> Any:
    return [{"tool_call_id": each, "output": f"{each} says 25 °C"} for each in ids]


def test_a_function_of_the_callers_waits_for_him_and_goes_on_with_what_came_of_it(served, client):
    threads = client.beta.threads
    assistant = client.beta.assistants.create(model="m", tools=[*CODE, *WEATHER])
    two = [*calls("weather", '{"city": ', '"Rome"}', call_id="call_a")[:-1], *calls("weather", "{}", call_id="call_b")]
    served.plays(two, says("Warm."))
    thread, run = ask(client, assistant)

    assert run.status == "requires_action"
    assert run.required_action.to_dict() == {
        "type": "submit_tool_outputs",
        "submit_tool_outputs": {
            "tool_calls": [
                {
                    "id": "call_a",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
                },
                {"id": "call_b", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
            ]
        },
    }
    (waits,) = threads.runs.steps.list(run_id=run.id, thread_id=thread.id).data
    assert (waits.status, [call.function.output for call in waits.step_details.tool_calls]) == (
        "in_progress", [None, None],
    )  # fmt: skip
    submit = threads.runs.submit_tool_outputs
    for wrong in (outputs("call_a"), outputs("call_a", "call_b", "call_c"), outputs("x", "y"), [], outputs("a") * 2):
        with pytest.raises(openai.BadRequestError, match="call_id"):
            submit(run.id, thread_id=thread.id, tool_outputs=wrong)
    over = threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id, thread_id=thread.id, tool_outputs=outputs("call_b", "call_a")
    )
    assert (over.status, over.required_action) == ("completed", None)
    said, called = threads.runs.steps.list(run_id=run.id, thread_id=thread.id).data
    assert [call.function.output for call in called.step_details.tool_calls] == [
        "call_a says 25 °C", "call_b says 25 °C",
    ]  # fmt: skip
    assert (called.id, called.status, said.type) == (waits.id, "completed", "message_creation")
    told = [message for message in served.planner.asked[-1].history if message.parts[0].kind == "tool_result"]
    assert [message.parts[0].content["output"] for message in told] == ["call_a says 25 °C", "call_b says 25 °C"]
    with pytest.raises(openai.BadRequestError, match='Runs in status "completed" do not accept tool outputs'):
        submit(run.id, thread_id=thread.id, tool_outputs=outputs("call_a", "call_b"))


def test_functions_are_streamed_and_so_is_what_comes_after_them(served, client):
    threads = client.beta.threads
    assistant = client.beta.assistants.create(model="m", tools=[*CODE, *WEATHER])
    # A model that gives every call the same name, and is made to call: once, and not for ever.
    served.plays(
        calls("weather", '{"city":', ' "Rome"}'), calls("weather", "{}"), python("print(1)"), says("Warm."),
    )  # fmt: skip
    first = Handler()
    thread = a_thread(client)
    with threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, tool_choice="required", event_handler=first
    ) as stream:
        stream.until_done()
    run = stream.get_final_run()
    (step,) = stream.get_final_run_steps()
    kinds = []
    for _ in range(2):
        handler = Handler()
        with threads.runs.submit_tool_outputs_stream(
            run_id=run.id, thread_id=thread.id, tool_outputs=outputs("call_1"), event_handler=handler
        ) as stream:
            stream.until_done()
        kinds.append(handler.kinds)
    over = stream.get_final_run()

    asked = [*STEP, "thread.run.step.delta", "thread.run.requires_action"]
    assert first.kinds == [*BEGUN, *asked]
    assert run.required_action.submit_tool_outputs.tool_calls[0].function.arguments == '{"city": "Rome"}'
    assert step.step_details.tool_calls[0].function.arguments == '{"city": "Rome"}'
    on = ["thread.run.step.completed", "thread.run.queued", "thread.run.in_progress"]
    assert kinds == [[*on, *asked], [*on, *CALL, *SAID, "thread.run.completed"]]
    assert over.status == "completed"
    assert [turn.tool_choice for turn in served.planner.asked[-4:]] == ["required", "auto", "auto", "auto"]
    kept = threads.runs.steps.list(run_id=run.id, thread_id=thread.id, order="asc").data
    assert [each.status for each in kept] == ["completed"] * 4
    assert [each.step_details.type for each in kept] == ["tool_calls"] * 3 + ["message_creation"]


def test_create_and_run_answers_by_polls_and_leaves_no_thread_where_it_is_refused(served, client, assistant):
    served.plays(says("Hello."))
    run = client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": "hi"}], "metadata": {"a": "b"}}
    )
    thread = client.beta.threads.retrieve(run.thread_id)

    assert (run.status, thread.metadata) == ("completed", {"a": "b"})
    assert [each.role for each in client.beta.threads.messages.list(thread.id)] == ["assistant", "user"]
    with pytest.raises(openai.NotFoundError, match="No assistant found"):
        client.beta.threads.create_and_run(assistant_id="asst_x", thread={})


def test_while_a_run_goes_on_its_thread_takes_nothing_else_and_it_can_be_cancelled(served, client, assistant):
    served.plays(python("print('begun', flush=True)\nimport time\ntime.sleep(60)"))
    threads = client.beta.threads
    thread = a_thread(client)
    run = threads.runs.create(thread_id=thread.id, assistant_id=assistant.id)
    refused = (
        (lambda: threads.runs.create(thread_id=thread.id, assistant_id=assistant.id), "already has an active run"),
        (lambda: threads.messages.create(thread.id, role="user", content="x"), "Can't add messages to"),
        (lambda: threads.runs.submit_tool_outputs(run.id, thread_id=thread.id, tool_outputs=[]), "do not accept"),
    )
    for attempt, told in refused:
        with pytest.raises(openai.BadRequestError, match=told):
            attempt()
    while not threads.runs.steps.list(run_id=run.id, thread_id=thread.id).data:
        pass  # it has not come so far
    ended = threads.runs.cancel(run.id, thread_id=thread.id)
    over = threads.runs.poll(run.id, thread_id=thread.id)
    (step,) = threads.runs.steps.list(run_id=run.id, thread_id=thread.id).data

    assert ended.status in ("cancelling", "cancelled")
    assert (over.status, step.status) == ("cancelled", "cancelled")
    assert over.cancelled_at is not None
    assert step.cancelled_at is not None
    assert over.usage is not None
    with pytest.raises(openai.BadRequestError, match="Cannot cancel run with status 'cancelled'"):
        threads.runs.cancel(run.id, thread_id=thread.id)
    served.plays(says("on"))
    assert threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id).status == "completed"


def test_a_run_that_waits_is_cancelled_at_once(served, client):
    assistant = client.beta.assistants.create(model="m", tools=WEATHER)
    served.plays(calls("weather", "{}"))
    thread, run = ask(client, assistant)
    over = client.beta.threads.runs.cancel(run.id, thread_id=thread.id)
    (step,) = client.beta.threads.runs.steps.list(run_id=run.id, thread_id=thread.id).data

    assert (over.status, over.required_action, step.status) == ("cancelled", None, "cancelled")
    with pytest.raises(openai.BadRequestError, match='status "cancelled" do not accept'):
        client.beta.threads.runs.submit_tool_outputs(run.id, thread_id=thread.id, tool_outputs=outputs("call_1"))


def test_a_stream_that_is_cancelled_says_so(served, client, assistant):
    served.plays([TextDelta("so far"), anyio.sleep_forever])
    threads, kinds = client.beta.threads, []
    thread = a_thread(client)
    with threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
        for event in stream:
            kinds.append(event.event)
            if event.event == "thread.message.delta":
                threads.runs.cancel(event_run(stream), thread_id=thread.id)
    (message,) = stream.get_final_messages()

    assert kinds[-4:] == [
        "thread.run.cancelling", "thread.message.incomplete", "thread.run.step.cancelled", "thread.run.cancelled",
    ]  # fmt: skip
    assert (message.status, message.incomplete_details.reason) == ("incomplete", "run_cancelled")
    assert message.content[0].text.value == "so far"
    assert threads.messages.retrieve(message.id, thread_id=thread.id) == message


def event_run(stream) -> str:
    return stream.current_run.id


def test_a_run_expires_in_its_time_and_says_so(served, client, assistant, monkeypatch):
    monkeypatch.setattr(run_requests, "LIVES_S", 1.0)
    served.plays([TextDelta("so far"), anyio.sleep_forever])
    thread, handler = a_thread(client), Handler()
    with client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, event_handler=handler
    ) as stream:
        stream.until_done()
    run = stream.get_final_run()
    (message,) = stream.get_final_messages()
    (step,) = client.beta.threads.runs.steps.list(run_id=run.id, thread_id=thread.id).data

    assert handler.kinds[-3:] == ["thread.message.incomplete", "thread.run.step.expired", "thread.run.expired"]
    assert (run.status, run.expires_at, message.incomplete_details.reason) == ("expired", None, "run_expired")
    assert (step.status, step.expired_at is not None) == ("expired", True)


def test_what_fails_says_why_and_code_that_raises_is_no_failure(served, client, assistant):
    served.plays([PlannerError("slow down", reason="rate_limited")])
    _, run = ask(client, assistant)
    assert (run.status, run.last_error.to_dict()) == (
        "failed", {"code": "rate_limit_exceeded", "message": "slow down"},
    )  # fmt: skip
    served.plays([TextDelta("half"), PlannerError("gone", reason="cut_off")])
    thread, handler = a_thread(client), Handler()
    with client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, event_handler=handler
    ) as stream:
        stream.until_done()
    assert handler.kinds[-4:] == [
        "thread.message.incomplete", "thread.run.step.failed", "error", "thread.run.failed",
    ]  # fmt: skip
    prose = client.beta.assistants.create(model="local-python", tools=CODE)
    _, told = ask(client, prose, "What is the total?")
    assert (told.status, told.last_error.code) == ("failed", "invalid_prompt")
    _, raised = ask(client, prose, "1 / 0")
    assert raised.status == "completed"


def test_an_answer_that_comes_to_its_limit_is_incomplete(served, client, assistant):
    served.plays([TextDelta("half of"), TurnEnded("length", input_tokens=1, output_tokens=5)])
    thread, run = ask(client, assistant, max_completion_tokens=5)
    served.plays(python("print(1)"))
    _, other = ask(client, assistant, max_prompt_tokens=5)

    assert (run.status, run.incomplete_details.reason) == ("incomplete", "max_completion_tokens")
    answer = client.beta.threads.messages.list(thread.id).data[0]
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_tokens")
    assert (other.status, other.incomplete_details.reason) == ("incomplete", "max_prompt_tokens")


def test_a_client_that_asks_again_for_want_of_an_answer_is_given_the_run_that_it_made(client):
    made = client.beta.assistants.create(model="local-python", tools=CODE)
    threads = client.beta.threads
    said: Any = [{"role": "user", "content": "print(open('n', 'a').write('x'), open('n').read())"}]
    retry = {"x-stainless-retry-count": "1"}
    asked: Any = {"thread_id": threads.create().id, "assistant_id": made.id, "additional_messages": said}
    streamed: Any = {**asked, "thread_id": threads.create().id, "stream": True}
    first = threads.runs.create(**asked)
    again = threads.runs.create(**asked, extra_headers=retry)
    over = threads.runs.poll(first.id, thread_id=first.thread_id)
    other = threads.runs.create_and_poll(**asked)
    later = threads.runs.create(**asked | {"instructions": "otherwise"}, extra_headers=retry)
    streams = []
    for headers in ({}, retry):
        with threads.runs.create(**streamed, extra_headers=headers) as stream:
            streams.append([event.event for event in stream])

    assert (again.id, over.status) == (first.id, "completed")
    assert streams[0][-1] == streams[1][-1] == "thread.run.completed"
    assert len(threads.runs.list(streamed["thread_id"]).data) == 1
    assert len({first.id, other.id, later.id}) == 3
    assert threads.messages.list(first.thread_id, run_id=other.id).data[0].content[0].text.value.startswith("1 xx\n")


def test_outputs_that_are_submitted_again_for_want_of_an_answer_are_taken_once(served, client):
    threads = client.beta.threads
    assistant = client.beta.assistants.create(model="m", tools=[*CODE, *WEATHER])
    served.plays(calls("weather", "{}"), says("Warm."))
    thread, run = ask(client, assistant)
    retry = {"x-stainless-retry-count": "1"}
    submit = threads.runs.submit_tool_outputs
    asked: Any = {"run_id": run.id, "thread_id": thread.id, "tool_outputs": outputs("call_1")}
    first = submit(**asked)
    again = submit(**asked, extra_headers=retry)
    with submit(**asked, stream=True, extra_headers=retry) as stream:
        events = [event.event for event in stream]

    assert first.id == again.id == run.id
    on = ["thread.run.step.completed", "thread.run.queued", "thread.run.in_progress"]
    assert list(dict.fromkeys(events)) == list(dict.fromkeys([*on, *SAID, "thread.run.completed"]))
    assert len(threads.runs.steps.list(run_id=run.id, thread_id=thread.id).data) == 2
    with pytest.raises(openai.BadRequestError, match="do not accept"):
        submit(**asked | {"tool_outputs": [{"tool_call_id": "call_1", "output": "other"}]}, extra_headers=retry)


def test_a_stream_that_its_reader_leaves_goes_on_without_him(served, client, assistant):
    served.plays(python("open('a.txt', 'w').write('a')"), says("done"))
    thread = a_thread(client)
    with client.beta.threads.runs.create(thread_id=thread.id, assistant_id=assistant.id, stream=True) as stream:
        first = next(iter(stream))
    over = client.beta.threads.runs.poll(first.data.id, thread_id=thread.id)

    assert over.status == "completed"


def test_azures_client_does_it_all_under_its_own_address(served):
    served.plays(python("print(2)"), says("two"))
    azure: Any = AzureOpenAI(
        azure_endpoint=served.url.removesuffix("/v1"),
        api_key=served.key("acme"),
        api_version="2024-05-01-preview",
        max_retries=0,
        timeout=30,
        _strict_response_validation=True,
    )
    with azure as client:
        file = client.files.create(file=("a.csv", b"1"), purpose="assistants")
        assistant = client.beta.assistants.create(
            model="m", tools=CODE, tool_resources={"code_interpreter": {"file_ids": [file.id]}}
        )
        thread, run = ask(client, assistant)

        assert run.status == "completed"
        assert client.beta.threads.messages.list(thread.id).data[0].content[0].text.value == "two"
        assert client.files.content(file.id).read() == b"1"


def test_what_is_not_served_is_taken_and_said_to_be_ignored(served, client):
    file = client.files.create(file=("a.txt", b"x"), purpose="assistants")
    store = client.vector_stores.create(name="docs", file_ids=[file.id])
    made = client.beta.assistants.create(
        model="m",
        tools=[*CODE, {"type": "file_search"}],
        tool_resources={"file_search": {"vector_store_ids": [store.id]}},
    )
    served.plays(says("hi"))
    _, run = ask(client, made)
    batch = client.vector_stores.file_batches.create_and_poll(store.id, file_ids=[file.id])

    assert (run.status, list(run.metadata)) == ("completed", ["bichat.file_search"])
    assert "ignored" in run.metadata["bichat.file_search"]
    assert made.tool_resources.file_search.vector_store_ids == [store.id]
    assert (store.status, store.name, store.file_counts.total) == ("completed", "docs", 1)
    assert (batch.status, batch.file_counts.completed) == ("completed", 1)
    assert [each.id for each in client.vector_stores.files.list(store.id)] == [file.id]
    assert client.vector_stores.files.retrieve(file.id, vector_store_id=store.id).status == "completed"
    assert client.vector_stores.update(store.id, name="other").name == "other"
    assert store.id in [each.id for each in client.vector_stores.list()]
    client.vector_stores.files.delete(file.id, vector_store_id=store.id)
    assert client.vector_stores.retrieve(store.id).file_counts.total == 0
    with pytest.raises(openai.BadRequestError, match="not served"):
        client.vector_stores.search(store.id, query="x")
    assert client.vector_stores.delete(store.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.retrieve(store.id)


def test_what_the_first_version_sent_is_taken(served, client):
    file = client.files.create(file=("a.csv", b"7"), purpose="assistants")
    made = client.beta.assistants.create(
        model="local-python", tools=[*CODE, {"type": "retrieval"}], extra_body={"file_ids": [file.id]}
    )
    thread = client.beta.threads.create()
    other = client.files.create(file=("b.csv", b"8"), purpose="assistants")
    sent = client.beta.threads.messages.create(
        thread.id,
        role="user",
        content=f"print(open('/mnt/data/{file.id}').read(), open('/mnt/data/b.csv').read())",
        extra_body={"file_ids": [other.id]},
        extra_headers={"OpenAI-Beta": "assistants=v1"},
    )
    run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=made.id)
    threads, old = client.beta.threads, {"OpenAI-Beta": "assistants=v1"}
    described = client.beta.assistants.update(made.id, description="d", extra_headers=old)
    looked = client.beta.assistants.retrieve(made.id, extra_headers=old)
    listed = client.beta.assistants.list(extra_headers=old, limit=1).data[0]
    changed = threads.messages.update(sent.id, thread_id=thread.id, metadata={"a": "b"}, extra_headers=old)
    asked = threads.messages.list(thread.id, extra_headers=old, order="asc", limit=1).data[0]

    assert [each.file_ids for each in (described, looked, listed)] == [[file.id]] * 3
    assert [each.file_ids for each in (sent, changed, asked)] == [[other.id]] * 3
    assert "file_ids" not in made.to_dict() | threads.messages.retrieve(sent.id, thread_id=thread.id).to_dict()
    assert run.instructions == ""
    assert [tool.type for tool in made.tools] == ["code_interpreter", "file_search"]
    assert made.tool_resources.code_interpreter.file_ids == [file.id]
    assert sent.attachments[0].file_id == other.id
    assert run.status == "completed"
    assert client.beta.threads.messages.list(thread.id).data[0].content[0].text.value == "7 8\n"


def test_a_file_that_is_deleted_while_a_thread_uses_it_is_left_out_and_the_thread_goes_on(served, client, assistant):
    file = client.files.create(file=("a.csv", b"7"), purpose="assistants")
    threads = client.beta.threads
    thread = threads.create(
        messages=[{"role": "user", "content": "go", "attachments": [{"file_id": file.id, "tools": CODE}]}],
        tool_resources={"code_interpreter": {"file_ids": [file.id]}},
    )
    client.files.delete(file.id)
    served.plays(python("import os\nprint(os.listdir())"), says("none"))
    run = threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
    _, ran = threads.runs.steps.list(run_id=run.id, thread_id=thread.id).data

    assert run.status == "completed"
    assert ran.step_details.tool_calls[0].code_interpreter.outputs[0].logs == "[]\n"


def test_a_deleted_assistant_answers_nothing_new_and_one_without_a_model_is_refused(served, client, assistant):
    served.plays([*says("hello")])
    thread, run = ask(client, assistant)
    client.beta.assistants.delete(assistant.id)

    with pytest.raises(openai.NotFoundError, match="No assistant found"):
        client.beta.threads.runs.create(thread_id=thread.id, assistant_id=assistant.id)
    assert client.beta.threads.runs.retrieve(run.id, thread_id=thread.id).assistant_id == assistant.id


def test_nobody_elses_assistants_threads_and_runs_are_there(served, client, assistant):
    served.plays(says("mine"))
    thread, run = ask(client, assistant)
    (message, *_) = client.beta.threads.messages.list(thread.id).data
    (step,) = client.beta.threads.runs.steps.list(run_id=run.id, thread_id=thread.id).data
    store = client.vector_stores.create(name="mine")
    file = client.files.create(file=("a.csv", b"7"), purpose="assistants")
    other = served.client("other")
    threads, own = other.beta.threads, other.beta.threads.create()
    attempts = [
        lambda: other.beta.assistants.retrieve(assistant.id),
        lambda: other.beta.assistants.update(assistant.id, name="x"),
        lambda: other.beta.assistants.delete(assistant.id),
        lambda: threads.retrieve(thread.id),
        lambda: threads.update(thread.id, metadata={}),
        lambda: threads.delete(thread.id),
        lambda: threads.messages.list(thread.id),
        lambda: threads.messages.create(thread.id, role="user", content="x"),
        lambda: threads.messages.retrieve(message.id, thread_id=thread.id),
        lambda: threads.messages.retrieve(message.id, thread_id=own.id),
        lambda: threads.runs.list(thread.id),
        lambda: threads.runs.create(thread.id, assistant_id=assistant.id),
        lambda: threads.runs.create(own.id, assistant_id=assistant.id),
        lambda: threads.runs.retrieve(run.id, thread_id=thread.id),
        lambda: threads.runs.retrieve(run.id, thread_id=own.id),
        lambda: threads.runs.cancel(run.id, thread_id=own.id),
        lambda: threads.runs.submit_tool_outputs(run.id, thread_id=own.id, tool_outputs=[]),
        lambda: threads.runs.steps.list(run.id, thread_id=thread.id),
        lambda: threads.runs.steps.retrieve(step.id, run_id=run.id, thread_id=own.id),
        lambda: threads.create(tool_resources={"code_interpreter": {"file_ids": [file.id]}}),
        lambda: threads.messages.create(
            own.id, role="user", content="x", attachments=[{"file_id": file.id, "tools": CODE}]
        ),
        lambda: other.vector_stores.retrieve(store.id),
        lambda: other.vector_stores.delete(store.id),
    ]
    for attempt in attempts:
        with pytest.raises(openai.NotFoundError):
            attempt()
    assert other.beta.assistants.list().data == []
    assert client.beta.threads.messages.list(thread.id).data[0] == message


@pytest.mark.parametrize(
    "path, body, param",
    [
        ("/assistants", {}, "model"),
        ("/assistants", {"model": 1}, "model"),
        ("/assistants", {"model": "m", "name": "n" * 257}, "name"),
        ("/assistants", {"model": "m", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ("/assistants", {"model": "m", "tools": [*CODE, *CODE]}, "tools"),
        ("/assistants", {"model": "m", "tools": [*CODE] * 129}, "tools"),
        (
            "/assistants",
            {"model": "m", "tools": [{"type": "function", "function": {"name": "python"}}, *CODE]},
            "tools",
        ),
        ("/assistants", {"model": "m", "metadata": {"k": 1}}, "metadata.k"),
        ("/assistants", {"model": "m", "unknown": 1}, "unknown"),
        (
            "/assistants",
            {"model": "m", "tool_resources": {"code_interpreter": {"file_ids": [f"file-{n:032x}" for n in range(21)]}}},
            "tool_resources.code_interpreter.file_ids",
        ),
        ("/threads", {"messages": [{"role": "system", "content": "x"}]}, "messages[0].role"),
        ("/threads", {"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
        ("{thread}/messages", {"role": "user"}, "content"),
        ("{thread}/messages", {"role": "user", "content": [{"type": "video"}]}, "content[0].type"),
        ("{thread}/messages", {"role": "user", "content": "x", "attachments": [{}] * 21}, "attachments"),
        ("{thread}/runs", {}, "assistant_id"),
        ("{thread}/runs", {"assistant_id": "{assistant}", "temperature": 3}, "temperature"),
        ("{thread}/runs", {"assistant_id": "{assistant}", "tool_choice": {"type": "function"}}, "tool_choice.function"),
        (
            "{thread}/runs",
            {"assistant_id": "{assistant}", "truncation_strategy": {"type": "last_messages"}},
            "truncation_strategy.last_messages",
        ),
        ("/threads/runs", {"assistant_id": "{assistant}", "thread": {"messages": 1}}, "thread.messages"),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_its_field(client, path, body, param):
    assistant = client.beta.assistants.create(model="m")
    thread = client.beta.threads.create()
    text = json.dumps(body).replace("{assistant}", assistant.id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.post(path.format(thread=f"/threads/{thread.id}"), body=json.loads(text), cast_to=object)

    assert refused.value.param == param


async def test_fifty_threads_at_a_time_lose_mix_and_double_nothing(served):
    served.planner.by_text = {f"{number}": says(*(f"{number}:{piece} " for piece in range(10))) for number in range(50)}
    answers: dict[int, str] = {}
    async with served.async_client() as client:
        made = await client.beta.assistants.create(model="m")

        async def talk(number: int) -> None:
            async with client.beta.threads.create_and_run_stream(
                assistant_id=made.id, thread={"messages": [{"role": "user", "content": f"{number}"}]}
            ) as stream:
                await stream.until_done()
                (message,) = await stream.get_final_messages()
            answers[number] = message.content[0].text.value

        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(talk, number)

    assert answers == {number: "".join(f"{number}:{piece} " for piece in range(10)) for number in range(50)}


@pytest.mark.slow
async def test_fifty_threads_at_a_time_run_their_own_code_in_sessions_of_their_own(served):
    results: dict[int, str] = {}
    async with served.async_client() as client:
        made = await client.beta.assistants.create(model="local-python", tools=CODE)

        async def talk(number: int) -> None:
            thread: Any = {"messages": [{"role": "user", "content": f"x = {number}\nopen('x', 'w').write(str(x))"}]}
            first = await client.beta.threads.create_and_run_poll(assistant_id=made.id, thread=thread)
            more = "print(x, open('x').read())"
            await client.beta.threads.messages.create(first.thread_id, role="user", content=more)
            run = await client.beta.threads.runs.create_and_poll(thread_id=first.thread_id, assistant_id=made.id)
            (newest,) = (await client.beta.threads.messages.list(run.thread_id, limit=1)).data
            results[number] = f"{first.status} {run.status} {newest.content[0].text.value}"

        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(talk, number)

    assert results == {number: f"completed completed {number} {number}\n" for number in range(50)}


def test_a_thread_that_is_deleted_ends_its_run_and_its_session(served, client, assistant):
    served.plays(python("open('a.txt', 'w').write('a')"), says("there"), [anyio.sleep_forever])
    thread, _ = ask(client, assistant)
    session = next(iter(client.containers.list()))
    run = client.beta.threads.runs.create(thread_id=thread.id, assistant_id=assistant.id)
    client.beta.threads.delete(thread.id)

    with pytest.raises(openai.NotFoundError):
        client.containers.retrieve(session.id)
    with pytest.raises(openai.NotFoundError), suppress(openai.BadRequestError):
        client.beta.threads.runs.retrieve(run.id, thread_id=thread.id)
